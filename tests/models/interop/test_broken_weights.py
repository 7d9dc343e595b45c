"""Files that hold no numbers: NaN and infinity among the weights, and what Git LFS leaves in place of a file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import bimo
from bimo.core.errors import ModelError
from bimo.models.bundle import Bundle
from bimo.models.decoder import Decoder, DecoderConfig
from bimo.models.encoder import Encoder, EncoderConfig
from bimo.text.tokenizer import Tokenizer

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d7a' * 16}\nsize 12345\n"


def broken(family: str, number: float) -> bimo.Model:
    tokenizer = Tokenizer.train("byte", ["x"])
    shape = {"layers": 1, "heads": 1, "width": 8, "feed_forward": 8, "context": 32}
    model = (
        Decoder.build(DecoderConfig(**shape), tokenizer.vocabulary)
        if family == "decoder"
        else Encoder.build(EncoderConfig(**shape), tokenizer.vocabulary)
    )
    with torch.no_grad():
        model.blocks[0].feed_forward.outer.weight[0, 0] = number
    return bimo.Model(Bundle(model.eval(), tokenizer))


USES = {
    "decoder": {
        "generate": lambda model, text: model.generate("a", max_new_tokens=2, seed=1),
        "greedy": lambda model, text: model.generate("a", max_new_tokens=2, temperature=0),
        "stream": lambda model, text: list(model.stream("a", max_new_tokens=2, seed=1)),
        "beams": lambda model, text: model.generate("a", max_new_tokens=2, num_beams=2),
        "chat": lambda model, text: list(model.chat().ask("a", max_new_tokens=2)),
        "score": lambda model, text: model.score("ab"),
        "explain": lambda model, text: model.explain("ab"),
        "evaluate": lambda model, text: model.evaluate(text),
    },
    "encoder": {
        "embed": lambda model, text: model.embed("ab"),
        "similarity": lambda model, text: model.similarity("ab", "b"),
        "fill": lambda model, text: model.fill("a<mask>"),
        "score": lambda model, text: model.score("ab"),
        "evaluate": lambda model, text: model.evaluate(text),
    },
}


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize(("family", "use"), [(family, use) for family, uses in USES.items() for use in uses])
def test_weights_that_are_no_numbers_are_named(family, use, number, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("some words\n")
    with pytest.raises(ModelError, match=r"NaN or infinity, as the weights blocks\.0\.feed_forward\.outer\.weight do"):
        USES[family][use](broken(family, number), str(text))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_a_pointer_of_git_lfs_is_called_one(name, tmp_path):
    broken("decoder", 0.0).save(tmp_path)
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(ModelError, match=rf"{name}: a Git LFS pointer.*git lfs pull"):
        bimo.load(tmp_path)


@pytest.mark.parametrize("name", ["model.gguf", "model.arpa", "tokenizer.model", "vocab.txt"])
def test_so_is_one_in_place_of_a_file_by_itself(name, tmp_path: Path):
    path = tmp_path / name
    path.write_text(POINTER)
    with pytest.raises(ModelError, match=rf"{name}: a Git LFS pointer.*git lfs pull"):
        bimo.load(path) if name.startswith("model.") else Tokenizer.load(tmp_path)
