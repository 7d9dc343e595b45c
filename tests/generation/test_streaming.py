"""Streams show whole characters, hold back what may be a stop string, and join to the text of `generate`."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bimo.core.errors import UserError
from bimo.generation.sampling import GenerationConfig
from bimo.generation.search import generate, stream
from bimo.generation.streaming import TextStream, written
from bimo.text.streaming import StreamDecoder
from bimo.text.tokenizer import Tokenizer
from tests.fakes import FakeConfig, FakeModel


class Characters:
    """Ids are code points."""

    def push(self, token: int) -> str:
        return chr(token)

    def flush(self) -> str:
        return ""


class Bytes:
    """Ids are bytes of a small alphabet in which characters have one to three bytes."""

    table = (b"", b"", b"a", b"b", "é".encode()[:1], "é".encode()[1:], *(bytes([b]) for b in "中".encode()), b"\n", b"c", b"d")

    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self.decoder.decode(self.table[token])

    def flush(self) -> str:
        return self.decoder.decode(b"", final=True)


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_stop_strings_cut_at_the_first_one_complete(text, stops):
    """However the text comes in: shown pieces never hold a stop string and never had to be taken back."""
    streamed = TextStream(Characters(), stops)
    shown = [streamed.push(ord(c)) for c in text]
    rest = streamed.finish()
    ends = [(text.find(s) + len(s), text.find(s)) for s in stops if s in text]
    expected = text[: min(ends)[1]] if ends else text
    assert "".join(shown) + rest == streamed.text == expected
    assert streamed.stopped == bool(ends)
    for number, piece in enumerate(shown):
        soon = text[: number + 1]
        held = len(soon) - len("".join(shown[: number + 1]))
        assert streamed.stopped or held < max(map(len, stops), default=1), piece


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("stop", [[], ["a"], ["中", "bc"]])
def test_pieces_join_to_the_text(seed, stop):
    model = FakeModel.of(12, context=7)
    config = GenerationConfig.of(max_new_tokens=40, seed=seed, stop=stop)
    pieces = list(stream(model, [0], config, eos=1, decoder=lambda _: Bytes()))
    (row,) = generate(model, [[0]], config, eos=1, decoder=lambda _: Bytes()).rows
    assert "".join(pieces) == row.text
    assert all(pieces)
    assert not any(s in row.text for s in stop)


def test_a_stream_is_lazy_and_can_be_closed():
    model = FakeModel.of(12)
    told = []

    class Watching(Bytes):
        def push(self, token: int) -> str:
            told.append(token)
            return f"{token} "

    pieces = stream(model, [0], GenerationConfig.of(max_new_tokens=50, seed=1), decoder=lambda _: Watching())
    next(pieces)
    next(pieces)
    assert len(told) == 2
    pieces.close()


def test_a_stream_is_one_text():
    for options in ({"num_beams": 2}, {"num_return_sequences": 2}):
        with pytest.raises(UserError, match="a stream is one text"):
            stream(FakeModel.of(), [0], GenerationConfig.of(**options), decoder=lambda _: Bytes())
    with pytest.raises(UserError, match="empty"):
        stream(FakeModel.of(), [], decoder=lambda _: Bytes())


class Reciting(FakeModel):
    """Writes one text, whatever it reads."""

    def __init__(self, tokenizer: Tokenizer, text: str) -> None:
        super().__init__(FakeConfig(), tokenizer.vocabulary)
        self.script = [*tokenizer.encode(text), tokenizer.vocabulary.eos]

    def table_row(self, text: Sequence[int]) -> torch.Tensor:
        row = torch.full((self.vocab_size,), float("-inf"), dtype=torch.float64)
        row[self.script[len(text) - 1]] = 0.0
        return row


@pytest.mark.parametrize("kind", ["byte", "char", "bpe", "unigram"])
def test_chinese_streams_in_whole_characters(kind):
    """With every tokenizer that keeps the text: no piece is broken, and they join to what was written."""
    text = "笔墨 writes 中文，一字一句。🙂 Ink & brush"
    tokenizer = Tokenizer.train(kind, [text] * 3, 400)
    model = Reciting(tokenizer, text)
    prompt, config = [tokenizer.vocabulary.bos], GenerationConfig.of(max_new_tokens=200)

    def decoder(ids: Sequence[int]) -> StreamDecoder:
        return tokenizer.stream_decoder(after=ids)

    pieces = list(stream(model, prompt, config, eos=tokenizer.vocabulary.eos, decoder=decoder))
    assert "".join(pieces) == text
    assert len(pieces) > 5
    (row,) = generate(model, [prompt], config, eos=tokenizer.vocabulary.eos, decoder=decoder).rows
    assert (row.text, row.finish) == (text, "eos")
    stopping = GenerationConfig.of(max_new_tokens=200, stop=["一句"])
    assert "".join(stream(model, prompt, stopping, decoder=decoder)) == "笔墨 writes 中文，一字"


def test_a_character_that_is_cut_leaves_nothing() -> None:
    tokenizer = Tokenizer.train("byte", ["x"])
    stream = written(tokenizer.encode("好好")[:5], tokenizer.stream_decoder())
    assert stream.text == "好"
    assert written(tokenizer.encode("a\ufffd"), tokenizer.stream_decoder()).text == "a\ufffd"
