"""The passage: the same held-out prose for every model, whole characters, scored after what stands before it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import bimo
from bimo.data.corpus import Corpus
from bimo.evaluation import passage, runs
from bimo.evaluation.results import Comparison
from bimo.models.base import Kind
from bimo.models.bundle import Bundle
from bimo.models.scoring import token_nats
from tests.fakes import FakeConfig, FakeModel

CHINESE = "原劳亚大陆意为最初的劳亚大陆，是个史前大陆。它曾先后是罗迪尼亚大陆、潘诺西亚大陆的一部分，后来与别的大陆相连。"
ENGLISH = "It was a quiet evening and the river carried the sound of the bells across the fields. Nobody spoke of the war. "


def corpus(folder: Path, text: str, tokenizer: str, documents: str = "file", **more: object) -> Corpus:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text(text, encoding="utf-8")
    return bimo.prepare(folder / "text.txt", folder / "corpus", tokenizer=tokenizer, documents=documents, **more)  # type: ignore[arg-type]


def fake(of: Corpus, context: int | None = None, order: int = 3) -> Bundle:
    return Bundle.of(FakeModel(FakeConfig(order=order, context=context), of.tokenizer.vocabulary), of, context)


@pytest.mark.parametrize("tokenizer", ["byte", "bpe", "char"])
def test_characters_are_never_broken(tokenizer: str, tmp_path: Path) -> None:
    made = corpus(tmp_path, "\n".join(f"第{i}篇{CHINESE}" for i in range(60)), tokenizer, "line")
    place = passage.choose(made)
    assert place is not None
    found = passage.shown(made, place)
    assert found.split == "test"
    assert not any("\ufffd" in piece for piece in found.pieces)
    assert "".join(found.pieces) in (tmp_path / "text.txt").read_text(encoding="utf-8").replace("\n", "")
    if tokenizer == "byte":
        assert any(piece.stop - piece.start == 3 for piece in place.pieces)
    bits = passage.surprise(fake(made), made, place)
    assert bits is not None
    assert len(bits) == len(found.pieces)


def test_each_piece_costs_what_its_tokens_cost_where_the_whole_text_is_scored(tmp_path: Path) -> None:
    made = corpus(tmp_path, ENGLISH * 40 + "\n" + ENGLISH * 40, "byte")
    place = passage.choose(made)
    assert place is not None
    bundle = fake(made, order=6)
    nats = token_nats(bundle.model, made.splits["test"], None)
    bits = passage.surprise(bundle, made, place)
    assert bits == pytest.approx([nats[p.start : p.stop].sum() / math.log(2) for p in place.pieces])
    for one, next_ in zip(place.pieces, place.pieces[1:], strict=False):
        assert next_.start == one.stop


def test_a_model_with_a_context_has_half_of_it_in_sight_at_least(tmp_path: Path) -> None:
    """A model that remembers less than half its context says the same as one without any limit; short windows would cut it off."""
    made = corpus(tmp_path, ENGLISH * 80, "byte")
    place = passage.choose(made)
    assert place is not None
    assert len(place.pieces) > 60
    for context in (16, 17, 40, 1000):
        order = min(context // 2, 12)
        assert passage.surprise(fake(made, context, order), made, place) == pytest.approx(
            passage.surprise(fake(made, None, order), made, place)
        )


def test_short_documents_follow_one_another_and_their_ends_are_pieces(tmp_path: Path) -> None:
    made = corpus(tmp_path, "".join(f"{a}n{b}ra{c}\n" for a in "bcdfgklm" for b in "aeiou" for c in "hlnstvwxyz"), "char", "line")
    place = passage.choose(made)
    assert place is not None
    found = passage.shown(made, place)
    assert found.pieces.count("") > 5
    assert found.pieces[-1] == "", "it ends with a document"
    assert "<" not in "".join(found.pieces), "special tokens that stand for no text are left out"
    assert len(place.pieces) <= 120
    bits = passage.surprise(fake(made, order=2), made, place)
    assert bits is not None
    assert len(bits) == len(found.pieces)


def test_prose_is_found_beside_tables_and_begins_with_a_line(tmp_path: Path) -> None:
    table = "".join(f"| {i} | {i * 7} | --- | +++ |\n" for i in range(12))
    made = corpus(tmp_path, (table + ENGLISH + "\n") * 40, "char")
    place = passage.choose(made)
    assert place is not None
    found = passage.shown(made, place)
    assert "".join(found.pieces).startswith("It was a quiet")
    assert found.pieces[-1] == "."
    assert found.before.startswith("…")
    assert found.before.endswith("|")


def test_of_pairs_it_is_one_text_with_what_it_is_given(tmp_path: Path) -> None:
    for side, words in (("en", "one two"), ("de", "zwei eins")):
        (tmp_path / f"text.{side}").write_text("".join(f"{words} {i}\n" for i in range(300)))
    made = bimo.prepare(f"{tmp_path / 'text.en'}::{tmp_path / 'text.de'}", tmp_path / "corpus", tokenizer="char")
    place = passage.choose(made)
    assert place is not None
    found = passage.shown(made, place)
    assert found.given.startswith("one two ")
    assert "".join(found.pieces).startswith("zwei eins ")
    assert found.pieces.count("") == 1
    whole = fake(made)
    whole.model.whole_documents = True  # type: ignore[misc]  # of this one
    assert passage.surprise(whole, made, place) == pytest.approx(passage.surprise(fake(made), made, place))


def test_what_has_no_probabilities_is_not_asked(tmp_path: Path) -> None:
    made = corpus(tmp_path, ENGLISH * 40, "byte")
    place = passage.choose(made)
    assert place is not None
    bundle = fake(made)
    bundle.model.kind = Kind.UNNORMALISED
    assert passage.surprise(bundle, made, place) is None


def test_nothing_held_out_is_no_passage(tmp_path: Path) -> None:
    made = corpus(tmp_path, ENGLISH * 40, "byte")
    for name in ("test", "valid"):
        made.splits.pop(name)
    assert passage.choose(made) is None


def test_runs_of_one_corpus_tell_of_one_passage(place: Path) -> None:
    results = [runs.resume(place / family).result for family in ("ngram", "lstm", "decoder")]
    assert results[0].passage is not None
    assert all(result.passage == results[0].passage for result in results)
    for result in results:
        (row,) = result.rows
        bits = result.surprise_of(row)
        assert bits is not None
        assert all(value is not None and value >= 0 for value in bits)
        assert Comparison.from_dict(result.to_dict()).surprise_of(row) == bits
        assert "surprise" not in runs.Run(place, result).to_dict()


def test_an_lstm_has_read_the_document_from_its_beginning(place: Path) -> None:
    made = Corpus.open(place / "corpus")
    at = passage.choose(made)
    assert at is not None
    bundle = Bundle.load(place / "lstm")
    split, first, last = made.splits[at.split], at.pieces[0], at.pieces[-1]
    read = torch.from_numpy(split.read(int(split.starts[first.document]), last.stop))[None]
    with torch.no_grad():
        nats = bundle.model.score(read).nats[0]
    before = first.start - int(split.starts[first.document])
    bits = passage.surprise(bundle, made, at)
    assert bits is not None
    assert sum(b or 0 for b in bits) == pytest.approx(float(nats[before:].sum()) / math.log(2), rel=1e-4)
