"""What a teacher writes to be counted: its own distribution, documents with their ends, the same for the same seed."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from bimo.core.errors import RecipeError
from bimo.data.split import Split
from bimo.models.bundle import Bundle
from bimo.models.decoder import Decoder, DecoderConfig
from bimo.models.ngram import NGram, NGramConfig
from bimo.text.tokenizer import Tokenizer
from bimo.training.dictation import Dictation, tokens_to_write
from bimo.training.plan import CountedPlan
from bimo.training.teacher import Teacher

TOKENIZER = Tokenizer.train("char", ["abcd"])
BEGIN, END = 0, 1


def split_of(lines: list[str]) -> Split:
    ids, offsets = TOKENIZER.encode_documents(lines)
    return Split("train", [ids.astype(np.uint16)], offsets[:-1], np.array([len(line) for line in lines]))


def lines(number: int = 200) -> list[str]:
    """The next letter depends on the last one alone."""
    generator, found = np.random.default_rng(0), []
    follows = {"": "ab", "a": "bbc", "b": "ccda", "c": "da", "d": "d."}
    for _ in range(number):
        line, last = "", ""
        while len(line) < 30 and last != ".":
            last = str(generator.choice(list(follows[last])))
            line += "" if last == "." else last
        found.append(line)
    return found


def ngram(split: Split) -> Teacher:
    model = NGram.build(NGramConfig(order=2, smoothing="witten-bell"), TOKENIZER.vocabulary)
    model.count(split.chunks())
    model.estimate()
    return Teacher(Bundle(model, TOKENIZER, "line"), Path("teacher"), "", torch.device("cpu"))


def test_counts_of_what_is_written_give_the_teacher_back() -> None:
    split = split_of(lines())
    teacher = ngram(split)
    dictation = Dictation(teacher, split, share=0.95, seed=0, stream=False)
    written = dictation.write()
    assert 0 <= len(written) - dictation.wanted < 32
    assert dictation.written == len(written)
    found = NGram.build(NGramConfig(order=2, smoothing="mle"), TOKENIZER.vocabulary)
    found.count([written])
    found.estimate()
    for id in (BEGIN, *range(4, 8)):
        read = torch.tensor([[BEGIN]] if id == BEGIN else [[BEGIN, id]])
        there, here = (m.advance(m.start(1), read, keep="last")[0][0, 0].softmax(0) for m in (teacher.model, found))
        assert torch.allclose(there, here, atol=0.03), id


def test_documents_begin_and_end_as_the_text_does() -> None:
    split = split_of(lines())
    written = Dictation(ngram(split), split, 0.5, seed=1, stream=False).write()
    begins, ends = np.flatnonzero(written == BEGIN), np.flatnonzero(written == END)
    assert begins[0] == 0
    assert len(begins) > 50
    after = np.append(begins[1:], len(written))  # a document without its end is one that grew too long
    longest = int(np.diff(split.starts, append=split.tokens).max())
    for begin, stop in zip(begins, after, strict=True):
        assert (written[stop - 1] == END) or (stop - begin == longest)
    assert len(ends) > 0.9 * len(begins)
    assert all(written[end + 1] == BEGIN for end in ends if end + 1 < len(written))


def test_the_same_seed_writes_the_same() -> None:
    split = split_of(lines())
    teacher = ngram(split)
    one, again, other = (Dictation(teacher, split, 0.5, seed, False) for seed in (3, 3, 4))
    one.speed()
    assert np.array_equal(one.write(), again.write())
    assert not np.array_equal(one.write(), other.write())


def test_a_long_text_goes_on_beyond_the_teachers_context() -> None:
    split = split_of(["abcd" * 100])
    torch.manual_seed(0)
    model = Decoder.build(DecoderConfig(layers=1, heads=2, width=8, context=8), TOKENIZER.vocabulary).eval()
    teacher = Teacher(Bundle(model, TOKENIZER, "stream", 8), Path("teacher"), "", torch.device("cpu"))
    written = Dictation(teacher, split, 0.5, 0, stream=True).write()
    assert len(written) >= split.tokens
    assert np.count_nonzero(written == BEGIN) < len(written) / 60
    assert np.count_nonzero(written == END) > 0  # a line's, in a stream; nothing ends there


def test_the_budget_ends_it() -> None:
    split = split_of(lines())
    dictation = Dictation(ngram(split), split, 0.99, 0, False)
    assert len(dictation.write(until=time.perf_counter())) == dictation.written == 0
    assert "wrote 0 of" in dictation.notices[0]


def test_how_much_is_written() -> None:
    split = split_of(lines())
    teacher = ngram(split)
    assert tokens_to_write(0.75, 100) == 300
    whole, half = Dictation(teacher, split, 1.0, 0, False), Dictation(teacher, split, 0.5, 0, False)
    assert (whole.wanted, whole.keeps_text, half.keeps_text) == (split.tokens, False, True)
    plan = CountedPlan(10, 20, 30, split.tokens, 1.0, split.tokens, 1, 100)
    planned = half.in_plan(plan)
    assert (planned.parameters, planned.memory_bytes, planned.disk_bytes, planned.tokens) == (20, 40, 60, 2 * split.tokens)
    assert planned.seconds > 2
    assert planned.tokens_per_second == pytest.approx(planned.tokens / planned.seconds)


def test_a_text_needs_a_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    split = split_of(lines())
    teacher = ngram(split)
    monkeypatch.setattr(Tokenizer, "encode_document", lambda self, text, stream=False: np.zeros(0, np.int64))
    with pytest.raises(RecipeError, match="begins with <s>"):
        Dictation(teacher, split, 0.5, 0, False)
