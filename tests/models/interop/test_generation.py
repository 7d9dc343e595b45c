"""Ends of text and defaults of generation in other programs' files: followed, or named in a warning."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

import bimo
from bimo.core.errors import BimoWarning
from bimo.models.decoder import Decoder, DecoderConfig
from bimo.models.interop.generation import read_options, write_options
from bimo.models.interop.settings import Settings
from bimo.text.tokenizer import Tokenizer

A, B, C = 100, 101, 102  # the model writes A after everything else, then B, then C


def folder(path: Path, generation: dict | None = None, **config) -> Path:
    """A folder of a Llama that goes on A B C A B C …; its tokenizer ends texts with id 1."""
    tokenizer = Tokenizer.train("bpe", ["x"])
    settings = {"layers": 1, "heads": 1, "width": 8, "feed_forward": 8, "context": 64, "qk_norm": False, "tied": False}
    model = Decoder.build(DecoderConfig(**settings), tokenizer.vocabulary)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.norm.weight.fill_(1.0)
        model.embedding.weight[:, 0] = 1
        for place, (before, after) in enumerate(((None, A), (A, B), (B, C), (C, A))):
            if before is not None:
                model.embedding.weight[before] = torch.eye(8)[place]
            model.output.weight[after, place] += 4
    model.save(path)
    tokenizer.save(path)
    for name, change in (("config.json", config), ("tokenizer_config.json", {"bimo_kind": None})):  # as other programs' are
        told = json.loads((path / name).read_text())
        (path / name).write_text(json.dumps({**told, **change}))
    if generation is not None:
        (path / "generation_config.json").write_text(json.dumps(generation))
    return path


ENDS = {
    "config.json": ({"eos_token_id": [1, B]}, None),
    "config.json, the second": ({"eos_token_id": [2, 1, B]}, {"eos_token_id": 1}),
    "generation_config.json": ({}, {"eos_token_id": [1, B]}),
    "generation_config.json alone": ({"eos_token_id": None}, {"eos_token_id": B}),
}


@pytest.mark.parametrize("name", ENDS)
def test_every_end_of_text_ends_it_everywhere(name, tmp_path):
    config, generation = ENDS[name]
    model = bimo.load(folder(tmp_path / "model", generation, **config))
    for again in (model, *(_stored(model, tmp_path / where) for where in ("saved", "m.gguf"))):
        greedy = again.write("a", max_new_tokens=8, temperature=0)
        assert (greedy.generated_tokens, greedy.finishes) == (2, ["eos"])
        beams = again.write("a", max_new_tokens=8, num_beams=2)
        assert (beams.generated_tokens, beams.finishes) == (2, ["eos"])
        assert "".join(again.stream("a", max_new_tokens=8, temperature=0)) == greedy.texts[0]
        talk = again.chat()
        list(talk.ask("a", max_new_tokens=8, temperature=0))
        assert talk.reply.tokens == 2
    told = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert B in told["eos_token_id"]


def _stored(model: bimo.Model, path: Path) -> bimo.Model:
    pytest.importorskip("gguf")
    model.export(path)
    return bimo.load(path)


def test_generation_defaults_are_followed_where_nothing_is_given(tmp_path):
    said = {
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.9,
        "do_sample": True,
        "repetition_penalty": 1.2,
        "max_new_tokens": 5,
        "eos_token_id": 1,
    }
    model = bimo.load(folder(tmp_path / "model", said))
    assert model.generation_defaults == {"temperature": 0.5, "top_k": 3, "top_p": 0.9, "repetition_penalty": 1.2, "max_new_tokens": 5}
    plain = bimo.load(folder(tmp_path / "plain"))
    chosen = {"seed": 3, "top_k": 2}
    assert model.write("a", **chosen).texts == plain.write("a", **{**model.generation_defaults, **chosen}).texts
    assert "".join(model.stream("a", **chosen)) == model.write("a", **chosen).texts[0]
    assert model.write("a", num_beams=2).generated_tokens == 5  # what does not go with beam search gives way
    assert _stored(model, tmp_path / "saved").generation_defaults == model.generation_defaults
    kept = {name: model.generation_defaults[name] for name in ("temperature", "top_k", "top_p", "repetition_penalty")}
    assert _stored(model, tmp_path / "m.gguf").generation_defaults == pytest.approx(kept)


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ({}, {}),
        ({"do_sample": False, "temperature": 0.7, "top_p": 0.9}, {"temperature": 0.0}),
        ({"num_beams": 4, "length_penalty": 0.5, "early_stopping": True}, {"num_beams": 4, "length_penalty": 0.5, "early_stopping": True}),
        ({"suppress_tokens": [3, 4], "bad_words_ids": [[7, 8]]}, {"bad_words_ids": [[7, 8], [4]]}),
        ({"stop_strings": "END"}, {"stop": ["END"]}),
        ({"typical_p": 0.9, "no_repeat_ngram_size": 3, "min_new_tokens": 2, "min_p": 0.05},) * 2,
    ],
)
def test_options_of_generation_config_are_read_and_written(said, options):
    found = read_options(Settings(said, "generation_config.json"), suppressed=(3,))
    assert found == options
    assert read_options(Settings(write_options(found), "generation_config.json")) == options


@pytest.mark.parametrize(
    "said", [{"penalty_alpha": 0.6}, {"forced_bos_token_id": 7}, {"sequence_bias": [[[3], 1.0]]}, {"top_k": -1}, {"something_new": 2}]
)
def test_what_cannot_be_followed_is_named(said):
    with pytest.warns(BimoWarning, match=rf"generation_config.json: .*{next(iter(said))}"):
        assert read_options(Settings(said, "generation_config.json")) == {}


def test_every_default_of_transformers_is_known():
    config = pytest.importorskip("transformers").GenerationConfig
    said = {**config().to_dict(), **config._get_default_generation_params()}
    with warnings.catch_warnings():
        warnings.simplefilter("error", BimoWarning)
        found = read_options(Settings(said, "generation_config.json"))
    assert found == {"temperature": 0.0, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "num_beams": 1, "length_penalty": 1.0,
                     "early_stopping": False}  # fmt: skip
