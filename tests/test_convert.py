"""Models in other forms: there and back, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import bimo
from bimo.core.errors import ModelError, UserError
from bimo.models.bundle import Bundle
from tests.pretrained import pretrained

TEXT = "what is the colour of the sky? 你好"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("convert") / "model"
    pretrained(folder)
    return folder


def logits(path: Path) -> torch.Tensor:
    bundle = Bundle.load(path)
    return bundle.model.advance(bundle.model.start(1), torch.tensor([bundle.prompt(TEXT)]))[0]


@pytest.mark.parametrize(("dtype", "off"), [("f32", 1e-5), ("f16", 2e-2), ("bf16", 0.2), ("q8_0", 0.2)])
def test_gguf_there_and_back(model: Path, tmp_path: Path, dtype: str, off: float) -> None:
    pytest.importorskip("gguf")
    bimo.convert(model, tmp_path / "m.gguf", dtype=dtype)
    bimo.convert(tmp_path / "m.gguf", tmp_path / "back")
    ours, there, back = Bundle.load(model), Bundle.load(tmp_path / "m.gguf"), Bundle.load(tmp_path / "back")
    for other in (there, back):
        assert other.prompt(TEXT) == ours.prompt(TEXT)
        assert other.chat([{"role": "user", "content": TEXT}]) == ours.chat([{"role": "user", "content": TEXT}])
        assert other.answer_ends == (*ours.answer_ends, 0)  # <|endoftext|>: in GGUF it ends a text by its name, as in llama.cpp
    assert torch.allclose(logits(tmp_path / "m.gguf"), logits(model), atol=off)
    assert torch.equal(logits(tmp_path / "back"), logits(tmp_path / "m.gguf"))


@pytest.mark.parametrize(("dtype", "most", "off"), [(None, None, 1e-5), ("f16", None, 2e-2), ("bf16", "10KB", 0.2)])
def test_folders_open_in_transformers(model: Path, tmp_path: Path, dtype: str | None, most: str | None, off: float) -> None:
    transformers = pytest.importorskip("transformers")
    bimo.convert(model, tmp_path / "out", dtype=dtype, max_shard_size=most)
    assert (len(list((tmp_path / "out").glob("*.safetensors"))) > 1) == (most is not None)
    other = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", local_files_only=True, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)
    bundle = Bundle.load(model)
    assert tokenizer(TEXT)["input_ids"] == bundle.prompt(TEXT)
    turns = [{"role": "user", "content": TEXT}]
    assert list(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)) == bundle.chat(turns)
    with torch.no_grad():
        assert torch.allclose(other(torch.tensor([bundle.prompt(TEXT)])).logits, logits(model), atol=off)
    assert torch.allclose(logits(tmp_path / "out"), logits(model), atol=off)


def test_arpa_there_and_back(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(
        "".join(f"the sky is {w} and the grass is {v}\n" for w in "abcdefghijklmnopqrst" for v in ["blue", "green"] * 8 + [w])
    )
    run = bimo.train(tmp_path / "text.txt", family="ngram", tokenizer="word", documents="line", out=tmp_path / "ngram", budget="10s")
    bimo.convert(run.folder, tmp_path / "m.arpa")
    ours, there = bimo.load(run.folder), bimo.load(tmp_path / "m.arpa")
    for text in ("the sky is green", "unheard of"):
        assert there.score(text) == pytest.approx(ours.score(text), rel=1e-3)
    assert there.generate("the sky", max_new_tokens=3, temperature=0) == ours.generate("the sky", max_new_tokens=3, temperature=0)
    bimo.convert(tmp_path / "m.arpa", tmp_path / "back")
    assert bimo.load(tmp_path / "back").score("the sky is green") == pytest.approx(there.score("the sky is green"))


def test_what_has_no_such_form_is_told(model: Path, place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ARPA holds n-grams"):
        bimo.convert(model, tmp_path / "m.arpa")
    with pytest.raises(UserError, match=r"GGUF"):
        bimo.convert(place / "lstm", tmp_path / "m.gguf")
    with pytest.raises(UserError, match="did you mean"):
        bimo.convert(model, tmp_path / "x", dtype="fp16")
    with pytest.raises(UserError, match="exists already"):
        bimo.convert(model, model)
    with pytest.raises(ModelError, match="not a model"):
        bimo.load(place / "text.txt")
    with pytest.raises(UserError, match="cannot read 'much'"):
        bimo.convert(model, tmp_path / "y", max_shard_size="much")
    assert not list(tmp_path.glob("m.*"))


def test_the_command(model: Path, tmp_path: Path, bimo_cli: Any) -> None:
    ran = bimo_cli("convert", model, tmp_path / "m.gguf", "--dtype", "q8_0")
    assert (ran.code, ran.out) == (0, f"model: {tmp_path / 'm.gguf'}\n")
    ran = bimo_cli("generate", tmp_path / "m.gguf", "what is", "--max-new-tokens", "4", "--temperature", "0")
    assert ran.code == 0
    assert ran.out.startswith("what is")


@pytest.mark.parametrize("name", ["m.onnx", "m.pt", "m.txt", "m.bin", "m.safetensors", "m.GGML", "deep/m.Unknown"])
def test_a_file_that_no_model_is_written_to_is_refused(place: Path, tmp_path: Path, bimo_cli: Any, name: str) -> None:
    ran = bimo_cli("convert", place / "ngram", tmp_path / name)
    assert (ran.code, ran.out) == (2, "")
    for words in (f"no model is written to a {Path(name).suffix} file", ".gguf", ".arpa", f"{name}/"):
        assert words in ran.err
    with pytest.raises(UserError, match="no model is written"):
        bimo.load(place / "ngram").export(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["plain", "smollm2-0.1.2", "Qwen2.5-0.5B", "Llama-3.2-1B-Instruct", "my.model/"])
def test_a_dot_in_a_folders_name(place: Path, tmp_path: Path, name: str) -> None:
    bimo.convert(place / "ngram", f"{tmp_path}/{name}")
    assert (tmp_path / name / "model.safetensors").is_file()
