"""Weights in one file or several: what is written reads back, and what does not belong is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bimo.core import store
from bimo.core.errors import ModelError, UserError
from bimo.models.base import load_model
from bimo.models.bundle import Bundle
from bimo.models.decoder import Decoder, DecoderConfig
from bimo.models.folders import INDEX, WEIGHTS, holds_weights
from bimo.models.ngram import NGram, NGramConfig
from bimo.models.saved import read_weights, write_weights
from bimo.text.tokenizer import Tokenizer
from bimo.text.vocabulary import Vocabulary

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(5), "c": torch.zeros(1), "d": torch.full((2,), 7.0)}


@pytest.mark.parametrize(("most", "files"), [(None, 1), (1 << 20, 1), (24, 3), (1, 4), (44, 2)])
def test_what_is_written_reads_back(tmp_path: Path, most: int | None, files: int) -> None:
    assert not holds_weights(tmp_path)
    write_weights(tmp_path, TENSORS, most)
    assert holds_weights(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == files
    found = read_weights(tmp_path)
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())
    assert set(found) == set(TENSORS)


def test_files_of_an_earlier_model_go(tmp_path: Path) -> None:
    other = {name: tensor + 1 for name, tensor in TENSORS.items()}
    for most, tensors, files in ((None, TENSORS, 1), (24, other, 3), (44, TENSORS, 2), (None, other, 1), (1, TENSORS, 4)):
        write_weights(tmp_path, tensors, most)
        assert len(list(tmp_path.glob("*.safetensors"))) == files
        assert (tmp_path / INDEX).exists() == (files > 1)
        assert all(torch.equal(read_weights(tmp_path)[name], tensor) for name, tensor in tensors.items())


def test_counts_are_not_rounded(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train("char", ["abcde"])
    model = NGram.build(NGramConfig(order=2), tokenizer.vocabulary)
    with pytest.raises(UserError, match="leave dtype out"):
        Bundle(model, tokenizer).save(tmp_path, "bf16")
    assert not list(tmp_path.iterdir()), "nothing is written over"


def test_transformers_opens_several_files(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = Decoder.build(DecoderConfig(layers=2, width=16, heads=2, qk_norm=False, context=32), Vocabulary(40))
    store.write_json(tmp_path / "config.json", model.config_dict())
    write_weights(tmp_path, model.tensors(), 4000)
    assert (tmp_path / INDEX).exists()
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)(tokens).logits
    ours = load_model(tmp_path)
    assert torch.allclose(ours.advance(ours.start(1), tokens)[0], theirs, atol=1e-5)


def test_half_precision_is_widened_in_a_model_and_kept_elsewhere(tmp_path: Path) -> None:
    model = Decoder.build(DecoderConfig(layers=1, width=8, heads=1), Vocabulary(9))
    model.save(tmp_path, "bf16")
    assert {t.dtype for t in read_weights(tmp_path).values()} == {torch.bfloat16}
    opened = load_model(tmp_path)
    assert isinstance(opened, Decoder)
    assert opened.embedding.weight.dtype == torch.float32
    assert torch.equal(opened.embedding.weight, model.embedding.weight.bfloat16().float())


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "model.bin", "", 3, None])
def test_an_index_names_files_of_its_folder_alone(tmp_path: Path, name: object) -> None:
    store.write_tensors(tmp_path.parent / "outside.safetensors", {"a": torch.ones(1)})
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelError, match="weight_map names"):
        read_weights(tmp_path)


@pytest.mark.parametrize("told", [[], {}, {"weight_map": []}, {"weight_map": {}}])
def test_an_index_that_is_none(tmp_path: Path, told: object) -> None:
    (tmp_path / INDEX).write_text(json.dumps(told))
    with pytest.raises(ModelError, match="expected weight_map"):
        read_weights(tmp_path)


def test_a_tensor_or_a_file_that_the_index_promises_and_is_not_there(tmp_path: Path) -> None:
    write_weights(tmp_path, TENSORS, 24)
    told = json.loads((tmp_path / INDEX).read_text())
    told["weight_map"]["e"] = told["weight_map"]["a"]
    (tmp_path / INDEX).write_text(json.dumps(told))
    with pytest.raises(ModelError, match="tensor e is missing"):
        read_weights(tmp_path)
    (tmp_path / told["weight_map"]["a"]).unlink()
    with pytest.raises(ModelError, match="no such file"):
        read_weights(tmp_path)


def test_a_pickle_is_named_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"not opened")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: a pickle"):
        read_weights(tmp_path)


def test_a_precision_that_is_not_ours(tmp_path: Path) -> None:
    store.write_tensors(tmp_path / WEIGHTS, {"a": torch.ones(2).to(torch.float8_e4m3fn)})
    with pytest.raises(ModelError, match=r"tensor a is torch\.float8"):
        read_weights(tmp_path)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_names_of_a_wrapped_module_are_those_of_the_module(prefix: str, tmp_path: Path) -> None:
    store.write_tensors(tmp_path / "model.safetensors", {f"{prefix}{name}": torch.ones(2) for name in ("a.weight", "b.weight")})
    assert sorted(read_weights(tmp_path)) == ["a.weight", "b.weight"]
    store.write_tensors(tmp_path / "model.safetensors", {f"{prefix}a": torch.ones(2), "b": torch.ones(2)})
    assert sorted(read_weights(tmp_path)) == sorted([f"{prefix}a", "b"])
