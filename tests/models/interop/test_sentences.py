"""How a text's vector is made travels with the model: in folders as sentence-transformers says it, in GGUF, out of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import bimo
from bimo.core.errors import UserError
from bimo.model import Model
from bimo.models.bundle import Bundle
from bimo.models.encoder import Encoder, EncoderConfig
from bimo.models.interop import opening
from bimo.models.interop.sentences import CONFIG, MODULES, read_pooling
from bimo.text.tokenizer import Tokenizer

BERT = {"layers": 1, "heads": 2, "width": 32, "feed_forward": 48, "context": 32, "norm": "layer", "norm_first": False,
        "embedding_norm": True, "positions": "learned", "token_types": 2, "activation": "gelu", "bias": True}  # fmt: skip
TEXTS = ["the cat sat", "on a mat it is"]


@pytest.fixture
def model() -> Model:
    torch.manual_seed(3)
    tokenizer = Tokenizer.train("wordpiece", ["the cat sat on a mat, it is"] * 9, 60)
    return Model(Bundle(Encoder.build(EncoderConfig(**BERT), tokenizer.vocabulary).eval(), tokenizer))


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_it_travels_with_folders_and_gguf(model: Model, pooling: str, tmp_path: Path) -> None:
    model.bundle.pooling = pooling
    vectors = model.embed(TEXTS)
    assert torch.equal(vectors, model.embed(TEXTS, pooling))  # type: ignore[arg-type]
    model.save(tmp_path / "folder")
    names = [module["type"].rpartition(".")[2] for module in json.loads((tmp_path / "folder" / "modules.json").read_text())]
    assert names == ["Transformer", "Pooling"]
    assert torch.allclose(bimo.load(tmp_path / "folder").embed(TEXTS), vectors, atol=1e-6)
    pytest.importorskip("gguf")
    model.export(tmp_path / "model.gguf", "f32")
    again = bimo.load(tmp_path / "model.gguf")
    assert again.bundle.pooling == pooling
    assert torch.allclose(again.embed(TEXTS), vectors, atol=1e-5)


def test_a_way_that_is_not_ours_is_told_and_kept(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    told = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**told, "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}))
    opened = bimo.load(tmp_path)
    with pytest.raises(UserError, match="made by pooling_mode_max_tokens, which is not supported; name one: mean, first, last"):
        opened.embed(TEXTS)
    assert torch.allclose(opened.embed(TEXTS, "mean"), model.embed(TEXTS), atol=1e-6)
    with pytest.raises(UserError, match="unknown name 'frist'; did you mean first"):
        opened.embed(TEXTS, "frist")  # type: ignore[arg-type]
    opened.save(tmp_path / "again")
    assert read_pooling(tmp_path / "again") == "pooling_mode_max_tokens"


def test_the_width_is_told_whatever_the_settings_call_it(model: Model, tmp_path: Path) -> None:
    modern = Encoder.build(EncoderConfig(layers=1, heads=2, width=48, context=16), model.bundle.tokenizer.vocabulary)
    for encoder, width in ((model.bundle.model, 32), (modern, 48)):
        folder = tmp_path / str(width)
        Bundle(encoder, model.bundle.tokenizer, pooling="last").save(folder)
        assert Bundle.load(folder).pooling == "last"
        assert json.loads((folder / CONFIG).read_text())["word_embedding_dimension"] == width


@pytest.mark.parametrize("content", ["{}", "[]", '{"pooling_mode_mean_tokens": 1, "word_embedding_dimension": 3}'])
def test_a_folder_that_says_nothing_of_it_means_the_mean(model: Model, content: str, tmp_path: Path) -> None:
    model.save(tmp_path)
    (tmp_path / CONFIG).write_text(content)
    assert bimo.load(tmp_path).bundle.pooling == "mean"


def test_a_run_keeps_what_its_contrast_learned(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("".join(f"the {a} is {b} {i}\n" for i in range(60) for a, b in (("cat", "big"), ("dog", "old"))))
    words = ["objective.name=contrastive", "objective.pooling=first", "model.dropout=0.1", "model.layers=1", "model.width=16",
             "model.heads=2", "training.batch_size=8"]  # fmt: skip
    run = bimo.train(tmp_path / "lines.txt", family="encoder", documents="line", tokenizer="char", budget="2steps",
                     out=tmp_path / "run", overrides=words)  # fmt: skip
    assert bimo.load(run.folder).bundle.pooling == "first"
    more = bimo.train(tmp_path / "lines.txt", documents="line", budget="2steps", out=tmp_path / "more",
                      overrides=[f"start={run.folder}", "training.batch_size=8"])  # fmt: skip
    assert bimo.load(more.folder).bundle.pooling == "first", "of what it went on from"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (MODULES, [{"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"}], "a module Dense"),
        ("sentence_bert_config.json", {"max_seq_length": 128, "do_lower_case": True}, "texts in lower case"),
        (
            "config_sentence_transformers.json",
            {"prompts": {"query": "Find, quickly: ", "document": ""}, "default_prompt_name": "query"},
            "a prompt 'Find, quickly: ' before each text",
        ),
    ],
)
def test_what_else_makes_a_vector_is_refused_by_name(model: Model, tmp_path: Path, name: str, content: Any, said: str) -> None:
    for folder in (tmp_path / "theirs", tmp_path / "again"):
        if folder.name == "theirs":
            model.save(folder)
            (folder / name).write_text(json.dumps([*json.loads((folder / name).read_text()), *content] if name == MODULES else content))
        else:
            bimo.load(tmp_path / "theirs").save(folder)
        opened = bimo.load(folder)
        with pytest.raises(UserError, match=f"made by mean, {said}.*, which is not supported; name one"):
            opened.embed(TEXTS)
        assert torch.equal(opened.embed(TEXTS, "mean"), model.embed(TEXTS, "mean"))


def test_prompts_that_are_not_used_by_default_change_nothing(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    prompts = {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": None}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": False}))
    assert torch.equal(bimo.load(tmp_path).embed(TEXTS), model.embed(TEXTS))


def test_vectors_have_length_1_where_the_folder_says_so(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    normalize = {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
    (tmp_path / MODULES).write_text(json.dumps([*json.loads((tmp_path / MODULES).read_text()), normalize]))
    opened = bimo.load(tmp_path)
    assert torch.allclose(opened.embed(TEXTS), torch.nn.functional.normalize(model.embed(TEXTS), dim=-1))
    opened.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / MODULES).read_text())[2]["type"] == normalize["type"]
    assert torch.equal(bimo.load(tmp_path / "again").embed(TEXTS), opened.embed(TEXTS))


def test_a_way_of_pooling_that_a_gguf_file_has_alone_is_refused(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(opening._POOLINGS, "mean", 4)  # llama.cpp's rank, of rerankers
        model.export(tmp_path / "m.gguf")
    with pytest.raises(UserError, match="made by pooling_type 4, which is not supported"):
        bimo.load(tmp_path / "m.gguf").embed(TEXTS)
