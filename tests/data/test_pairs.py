"""Pairs: two files side by side, records with what they are given, and what becomes of them in a corpus."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from bimo.core.errors import CorpusError, RecipeError, SourceError
from bimo.data import formats
from bimo.data.corpus import Corpus, prepare
from bimo.data.documents import ReadReport
from bimo.data.rows import DocumentBatches, given_of
from bimo.data.sources import read_documents

ENGLISH = ["a dog runs", "two men", "", "a child sings", "red car"]
GERMAN = ["ein Hund läuft", "zwei Männer", "leer", "ein Kind singt", "rotes Auto"]


def side_by_side(folder: Path, given: list[str] = ENGLISH, text: list[str] = GERMAN) -> str:
    (folder / "a.en").write_text("\n".join(given) + "\n", encoding="utf-8")
    with gzip.open(folder / "a.de.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(text) + "\n")
    return f"{folder / 'a.en'}::{folder / 'a.de.gz'}"


def test_two_files_side_by_side_stay_aligned(tmp_path: Path) -> None:
    report = ReadReport()
    found = list(read_documents(side_by_side(tmp_path), "file", report))
    assert [(d.given, d.text) for d in found] == [(e, g) for e, g in zip(ENGLISH, GERMAN, strict=True) if e]
    assert found[0].bytes == len("ein Hund läuft\n".encode())
    assert report.dropped_documents == 1
    assert report.files[0].name.endswith("a.de.gz")


@pytest.mark.parametrize(("given", "text", "short"), [(ENGLISH[:3], GERMAN, "a.en"), (ENGLISH, GERMAN[:2], "a.de.gz")])
def test_sides_of_different_length_are_refused(tmp_path: Path, given: list[str], text: list[str], short: str) -> None:
    with pytest.raises(SourceError, match=f"{short} ends after {min(len(given), len(text))} lines"):
        list(read_documents(side_by_side(tmp_path, given, text)))


def test_a_side_is_one_text_file(tmp_path: Path) -> None:
    side_by_side(tmp_path)
    (tmp_path / "b.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(SourceError, match="found a jsonl file"):
        list(read_documents(f"{tmp_path / 'a.en'}::{tmp_path / 'b.jsonl'}"))
    with pytest.raises(SourceError, match="no such file"):
        list(read_documents(f"{tmp_path / 'a.en'}::{tmp_path / 'none'}"))
    with pytest.raises(RecipeError, match="line by line"):
        list(read_documents(f"{tmp_path / 'a.en'}::{tmp_path / 'a.de.gz'}", "stream"))


@pytest.mark.parametrize(
    ("content", "said"), [(bytes(range(256)) * 9, "binary"), (b"%PDF-1.7", "a PDF"), (None, "cannot be read"), (b"\x1f\x8bcut", "damaged")]
)
@pytest.mark.parametrize("side", ["given", "text"])
def test_a_side_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, said: str, side: str
) -> None:
    good, bad = tmp_path / "a.en", tmp_path / ("b.gz" if said == "damaged" else "b")
    side_by_side(tmp_path)
    bad.write_bytes(content or b"text\n")

    def denied(path: Path, *rest: str) -> object:
        if content is None and path == bad:
            raise PermissionError(13, "Permission denied")
        return open(path, *rest)

    monkeypatch.setattr(formats, "open", denied, raising=False)
    with pytest.raises(SourceError, match=f"{bad}: .*{said}"):
        list(read_documents(f"{bad}::{good}" if side == "given" else f"{good}::{bad}"))


@pytest.mark.parametrize("fields", [("prompt", "completion"), ("source", "target"), ("given", "text"), ("src", "tgt")])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_records_are_pairs(tmp_path: Path, fields: tuple[str, str], kind: str) -> None:
    rows = [dict(zip((*fields, "id"), (e, g, str(i)), strict=True)) for i, (e, g) in enumerate(zip(ENGLISH, GERMAN, strict=True)) if e]
    path = tmp_path / f"p.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        mark = "," if kind == "csv" else "\t"
        lines = [mark.join([*fields, "id"]), *(mark.join(row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = list(read_documents(path))
    assert [(d.given, d.text) for d in found] == [(e, g) for e, g in zip(ENGLISH, GERMAN, strict=True) if e]


def test_a_record_with_a_text_of_its_own_is_no_pair(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"source": "a newspaper", "target": "x", "text": "the text"}) + "\n")
    assert [(d.given, d.text) for d in read_documents(path)] == [(None, "the text")]


def test_a_corpus_of_pairs(tmp_path: Path) -> None:
    english = [f"word{i} and {i % 7}" for i in range(300)]
    german = [f"wort{i} und {i % 7}" for i in range(300)]
    corpus = prepare(side_by_side(tmp_path, english, german), tmp_path / "out", tokenizer="word", vocab_size=2000)
    assert corpus.documents == "line"
    again = Corpus.open(tmp_path / "out")
    met = 0
    for split in again.splits.values():
        assert split.given is not None
        assert split.given.documents == split.documents
        for i in range(split.documents):
            text, given = (again.tokenizer.decode(s.document(i).tolist()) for s in (split, split.given))
            assert given == text.replace("wort", "word").replace("und", "and")
            met += 1
    assert met == 300
    train = again.splits["train"]
    assert train.bytes == sum(int(b) for b in train.document_bytes)
    chosen = train.only(np.array([5, 2]))
    assert chosen.given is not None
    assert chosen.given.document(1).tolist() == train.given.document(2).tolist()  # type: ignore[union-attr]


def test_batches_of_pairs(tmp_path: Path) -> None:
    english = ["x " * (i % 9 + 1) + str(i) for i in range(250)]
    corpus = prepare(side_by_side(tmp_path, english, english), tmp_path / "out", tokenizer="word")
    split = corpus.splits["train"]
    batches = DocumentBatches(split, 8, None, seed=3)
    met: list[int] = []
    for index in range(batches.steps_per_epoch):
        batch = batches.batch(1, index)
        assert batch.given is not None
        for row in range(8):
            length = int(batch.lengths[row])
            assert batch.tokens[row, :length].tolist() == batch.given.tokens[row, : batch.given.lengths[row]].tolist()
        met += batches.rows(1, index).tolist()
        widths = batch.lengths
        assert int(widths.max() - widths.min()) <= 6, "like lengths stand together"
    assert set(met) == set(range(split.documents))
    same = DocumentBatches(split, 8, None, seed=3).batch(1, 4)
    assert same.tokens.tolist() == batches.batch(1, 4).tokens.tolist()
    assert batches.batch(2, 4).tokens.tolist() != same.tokens.tolist()
    assert given_of(split, np.array([0])) is not None


def test_long_documents_are_cut_and_counted(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("\n".join("w " * n for n in (3, 30, 50, *[4] * 300)) + "\n")
    corpus = prepare(
        tmp_path / "t.txt", tmp_path / "out", documents="line", tokenizer="word", valid=tmp_path / "t.txt", test=tmp_path / "t.txt"
    )
    batches = DocumentBatches(corpus.splits["train"], 4, 10, seed=0)
    assert "2 of 303 documents are longer than 10 tokens and were cut there: 62 tokens" in batches.notes[0]
    assert all(batches.batch(0, i).tokens.shape[1] <= 11 for i in range(batches.steps_per_epoch))


def test_long_sources_are_cut_and_counted_and_like_ones_stand_together(tmp_path: Path) -> None:
    english = ["s " * (i % 7 + 1) for i in range(299)] + ["s " * 40]
    corpus = prepare(side_by_side(tmp_path, english, [f"t {i}" for i in range(300)]), tmp_path / "out", tokenizer="word")
    split = corpus.splits["train"]
    batches = DocumentBatches(split, 4, 12, seed=0)
    given = [batches.batch(0, i).given for i in range(batches.steps_per_epoch)]
    assert all(g is not None and int(g.lengths.max()) <= 12 for g in given)
    assert np.mean([int(g.lengths.min()) == int(g.lengths.max()) for g in given if g is not None]) > 0.8, "no padding but at the edges"
    cut = [note for note in batches.notes if "texts that are given are longer than 12 tokens" in note]
    longest = int(np.diff(split.given.starts, append=split.given.tokens).max()) if split.given is not None else 0
    assert bool(cut) == (longest > 12)
    assert not DocumentBatches(split, 4, None, seed=0).notes


def test_pairs_and_texts_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("\n".join(f"line {i}" for i in range(300)))
    with pytest.raises(CorpusError, match="some documents are given another text"):
        prepare([side_by_side(tmp_path), tmp_path / "t.txt"], tmp_path / "out", documents="line", tokenizer="word")


def test_a_stray_carriage_return_does_not_shift_the_pairs(tmp_path: Path) -> None:
    (tmp_path / "f.en").write_bytes(b"one\ntwo\rand more\nthree\nfour\n")
    (tmp_path / "f.de").write_bytes(b"eins\r\nzwei\r\ndrei\r\nvier\rund mehr\r\n")
    found = [(d.given, d.text) for d in read_documents(f"{tmp_path / 'f.en'}::{tmp_path / 'f.de'}")]
    assert found == [("one", "eins"), ("two and more", "zwei"), ("three", "drei"), ("four", "vier und mehr")]
