"""What `tokenizer.json` tells other programs to put before and behind a text: what our own models are given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bimo.models.bundle import Bundle
from bimo.models.decoder import Decoder, DecoderConfig
from bimo.models.encoder import Encoder
from bimo.text import trainers
from bimo.text.tokenizer import Tokenizer

TEXTS = ["the cat sat on the mat. 白日依山尽", 'a special "post_processor":null word', "黄河入海流"] * 20


def saved(kind: str, family: str, folder: Path) -> Bundle:
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(kind, TEXTS, 400)
    model = (
        Decoder.build(DecoderConfig(layers=1, width=16, heads=2), tokenizer.vocabulary)
        if family == "decoder"
        else Encoder.build(Encoder.Config(layers=1, width=16, heads=2), tokenizer.vocabulary)
    )
    bundle = Bundle(model, tokenizer)
    bundle.save(folder)
    return bundle


@pytest.mark.parametrize("kind", trainers.KINDS)
@pytest.mark.parametrize("family", ["decoder", "encoder"])
def test_transformers_gives_a_text_what_we_give_it(kind: str, family: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = saved(kind, family, tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    for text in ["the cat sat on"] if kind == "word" else TEXTS[:3]:  # words of other scripts are parted before the tokenizer sees them
        wanted = ours.prompt(text) if family == "decoder" else ours.tokenizer.encode_document(text).tolist()
        assert theirs(text)["input_ids"] == wanted
        assert theirs(text, add_special_tokens=False)["input_ids"] == ours.tokenizer.encode(text)


@pytest.mark.parametrize("kind", trainers.KINDS)
def test_the_tokenizer_itself_is_the_same(kind: str, tmp_path: Path) -> None:
    before = Tokenizer.train(kind, TEXTS, 400)
    for ends in (False, True):
        before.save(tmp_path, ends)
        again = Tokenizer.load(tmp_path)
        assert again.fingerprint == before.fingerprint
        assert again.encode(TEXTS[1]) == before.encode(TEXTS[1])
        assert json.loads((tmp_path / "tokenizer.json").read_text())["post_processor"]["type"] == "TemplateProcessing"
        written = (tmp_path / "tokenizer.json").read_bytes()
        again.save(tmp_path, ends)
        assert (tmp_path / "tokenizer.json").read_bytes() == written
