"""Which tokens begin a word, in every kind of tokenizer, English and Chinese."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import tokenizers
from tokenizers import models

from bimo.text.tokenizer import Tokenizer
from bimo.text.word_starts import WordStarts

ENGLISH = "The foxes don't jump over unbelievably lazy dogs, naïve café."
CHINESE = "今天天气很好，由韩国开发与发行的游戏 good day。"
SPLIT = "The| foxes| don|'|t| jump| over| unbelievably| lazy| dogs|,| naïve| café|."
CUT = "今天天气|很|好|，|由|韩国|开发|与|发行|的|游戏| good| day|。"


@cache
def trained(kind: str) -> Tokenizer:
    size = {"bpe": 400, "wordpiece": 200, "unigram": 420}.get(kind)
    return Tokenizer.train(kind, [ENGLISH, CHINESE] * 3, size)


def parted(tokenizer: Tokenizer, text: str) -> list[str]:
    """The text of each word, the special tokens left out."""
    ids = tokenizer.encode_document(text)
    starts = WordStarts(tokenizer)(ids)
    assert starts.dtype == bool
    assert starts.shape == ids.shape
    return [tokenizer.decode(part.tolist()) for part in np.split(ids, np.flatnonzero(starts))[2:-1]]


def joined(parts: list[str]) -> str:
    return "|".join(part for part in parts if not part.isspace()).replace(" ", "")


@pytest.mark.parametrize("kind", ["byte", "char", "bpe", "wordpiece", "unigram"])
def test_words_and_punctuation_are_parted(kind):
    parts = parted(trained(kind), ENGLISH)
    expected = SPLIT.replace(" ", "")
    # One token of a small vocabulary may hold the end of a word and its full stop, or an apostrophe and what follows it.
    assert joined(parts).replace("|", "") == expected.replace("|", "")
    assert {w for w in expected.split("|") if len(w) > 3} - {"café"} <= set(joined(parts).split("|"))


@pytest.mark.parametrize("kind", ["byte", "char", "wordpiece"])
def test_chinese_words_are_found_by_segmentation(kind):
    assert joined(parted(trained(kind), CHINESE)) == CUT.replace(" ", "")


@pytest.mark.parametrize(
    ("pieces", "begins"),
    [
        (["今天", "天气", "很", " good"], [1, 0, 1, 1]),  # inside a word of four characters
        (["今天天", "气很好，", "由韩", "国"], [1, 1, 1, 0]),  # a piece with the end of a word and two words more
        (["don", "'t", " ", "ju", "mp"], [1, 1, 1, 1, 0]),
        (["韩", " 国", " day"], [1, 0, 1]),  # as wordpiece prints Chinese
        (["unbe", "liev", "ably."], [1, 0, 1]),  # the full stop begins in it
    ],
)
def test_pieces_that_hold_parts_of_words_or_several(pieces, begins):
    hub = tokenizers.Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
    hub.decoder = tokenizers.decoders.Fuse()
    loaded = Tokenizer(hub, "loaded")
    assert WordStarts(loaded)(np.arange(len(pieces))).astype(int).tolist() == begins


def test_each_id_of_the_word_tokenizer_is_a_word():
    tokenizer = trained("word")
    assert WordStarts(tokenizer)(tokenizer.encode_document(ENGLISH)).all()


def test_special_tokens_and_white_space_are_words_of_their_own():
    tokenizer = trained("char")
    v = tokenizer.vocabulary
    ids = np.array([v.bos, *tokenizer.encode("fox dog"), v.eos, v.bos, *tokenizer.encode("es"), v.eos, v.pad, v.pad])
    assert WordStarts(tokenizer)(ids).astype(int).tolist() == [1, *[1, 0, 0, 1, 1, 0, 0], 1, 1, 1, 0, 1, 1, 1]


def test_a_row_that_begins_inside_a_character_is_read():
    tokenizer = trained("byte")
    ids = np.array(tokenizer.encode("中文")[1:])
    starts = WordStarts(tokenizer)(ids)
    assert starts[0]
    assert len(starts) == 5


def test_it_is_a_function_of_the_row_alone():
    tokenizer = trained("unigram")
    rows = [tokenizer.encode_document(text) for text in (ENGLISH, CHINESE)]
    both = WordStarts(tokenizer)
    first = [both(row) for row in rows]
    assert all(np.array_equal(both(row), found) for row, found in zip(reversed(rows), reversed(first), strict=True))
    assert all(np.array_equal(WordStarts(tokenizer)(row), found) for row, found in zip(rows, first, strict=True))
