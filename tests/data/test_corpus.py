"""A prepared corpus: splits, bytes, tokens, what is on disk, and what happens when things go wrong."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bimo.core import store
from bimo.core.errors import CorpusError, SourceError
from bimo.data import corpus as module
from bimo.data import writing
from bimo.data.corpus import Corpus, encode_documents, prepare
from bimo.data.documents import Document
from bimo.data.sources import read_documents
from bimo.text.tokenizer import Tokenizer

BOOK = "".join(f"This is sentence {i} of a book, and it says something.\n" for i in range(500))


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(BOOK)
    return path


def test_penn_treebank_scores_82430_tokens(data_folder: Path, tmp_path: Path) -> None:
    ptb = data_folder / "lm-ptb"
    tokenizer = Tokenizer.train("word", (d.text for d in read_documents(ptb / "ptb.valid.txt", "line")))
    for mode, documents in (("line", 3761), ("stream", 1)):
        c = prepare(ptb / "ptb.valid.txt", tmp_path / mode, test=ptb / "ptb.test.txt", valid=ptb / "ptb.valid.txt",
                    tokenizer=tokenizer, documents=mode)  # fmt: skip
        test = c.splits["test"]
        assert (test.documents, test.scored_tokens, test.bytes) == (documents, 82_430, 449_945)
        assert c.splits["valid"].scored_tokens == 73_760
        assert c.manifest["overlap"]["valid"]["in_training"] == c.manifest["overlap"]["valid"]["of"]
        assert test.unknown_tokens > 0
    held = encode_documents(read_documents(ptb / "ptb.test.txt", "line"), tokenizer, "line")
    assert held.scored_tokens == 82_430
    assert held.tokens == 82_430 + 3761


@pytest.mark.parametrize("kind", ["char", "bpe", "word"])
def test_chinese(data_folder: Path, tmp_path: Path, kind: str) -> None:
    wiki = data_folder / "lm-zh-wiki"
    c = prepare(wiki / "valid.txt", tmp_path / "c", tokenizer=kind, documents="line")
    assert set(c.splits) == {"train", "valid", "test"}
    assert sum(s.bytes for s in c.splits.values()) == (wiki / "valid.txt").stat().st_size
    first = c.tokenizer.decode(c.splits["train"].document(0))
    line = next(iter(read_documents(wiki / "valid.txt", "line"))).text
    assert first == line or kind == "word"
    assert c.splits["train"].lost_bytes == 0
    if kind == "char":
        assert 0 < c.splits["test"].unknown_tokens < c.splits["test"].lost_bytes <= 3 * c.splits["test"].unknown_tokens
    if kind == "bpe":
        assert c.splits["test"].lost_bytes == c.splits["test"].unknown_tokens == 0


def test_a_single_book_is_cut_at_its_tail(book: Path, tmp_path: Path) -> None:
    c = prepare(book, tmp_path / "c", tokenizer="char")
    t = c.tokenizer
    pieces = [t.decode(c.splits[name].document(0)) for name in ("train", "valid", "test")]
    assert "".join(pieces) == BOOK
    assert sum(s.bytes for s in c.splits.values()) == len(BOOK)
    for split in c.splits.values():
        ids = split.document(0)
        assert (ids[0], ids[-1], split.scored_tokens) == (t.vocabulary.bos, t.vocabulary.eos, len(ids) - 1)
    assert "9" not in Tokenizer.train("char", ["abc"]).decode([4, 5, 6])


def test_the_tokenizer_learns_from_training_text_only(book: Path, tmp_path: Path) -> None:
    held = tmp_path / "held.txt"
    held.write_text("Ω book\n")
    c = prepare(book, tmp_path / "c", valid=held, test=held, tokenizer="char")
    assert c.splits["test"].unknown_tokens == 1
    assert c.splits["test"].lost_bytes == 2
    assert c.splits["train"].bytes == len(BOOK)


def test_given_texts_are_not_altered_and_no_others_are_dealt(book: Path, tmp_path: Path) -> None:
    held = tmp_path / "held.txt"
    held.write_text(BOOK[:2750] + "Something new that the training text does not say.\n")
    c = prepare(book, tmp_path / "c", test=held, tokenizer="byte", documents="file")
    assert set(c.splits) == {"train", "valid", "test"}
    assert c.tokenizer.decode(c.splits["test"].document(0)) == held.read_text()
    overlap = c.manifest["overlap"]["test"]
    assert overlap["unit"] == "lines"
    assert overlap["in_training"] == overlap["of"] - 1
    assert any("also stand in the training text" in line for line in c.manifest["summary"])


def test_opened_equals_prepared(book: Path, tmp_path: Path) -> None:
    made = prepare(book, tmp_path / "c", tokenizer="bpe", vocab_size=300, documents="line")
    again = Corpus.open(tmp_path / "c")
    assert again.manifest == made.manifest
    assert again.tokenizer.fingerprint == made.tokenizer.fingerprint
    for name, split in made.splits.items():
        assert np.array_equal(split.read(0, split.tokens), again.splits[name].read(0, split.tokens))
        assert split.fingerprint == again.splits[name].fingerprint
    twin = prepare(book, tmp_path / "d", tokenizer="bpe", vocab_size=300, documents="line")
    assert twin.manifest == made.manifest
    assert prepare(book, tmp_path / "d", tokenizer="bpe", vocab_size=300, documents="line", seed=1).manifest != made.manifest


def test_shards(book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepare(book, tmp_path / "whole", tokenizer="byte", documents="line").splits["train"]
    monkeypatch.setattr(writing, "SHARD_TOKENS", 1000)
    monkeypatch.setattr(writing, "_BATCH_CHARACTERS", 777)
    split = prepare(book, tmp_path / "parts", tokenizer="byte", documents="line").splits["train"]
    assert len(split.shards) == -(-split.tokens // 1000)
    assert split.fingerprint == whole.fingerprint
    assert np.array_equal(split.read(0, split.tokens), whole.read(0, whole.tokens))
    assert np.array_equal(np.concatenate(list(split.chunks(999))), whole.read(0, whole.tokens))
    for i in range(split.documents):
        assert np.array_equal(split.document(i), whole.document(i))
    places = np.random.default_rng(0).integers(0, split.tokens, (7, 11))
    assert np.array_equal(split.take(places), whole.take(places))
    assert split.begins(split.starts).all()
    assert not split.begins(split.starts + 1).any()
    with pytest.raises(IndexError):
        split.document(split.documents)


def test_texts_larger_than_memory_are_read_twice(book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = prepare(book, tmp_path / "held", tokenizer="word", documents="line")
    monkeypatch.setattr(module, "_MEMORY_CHARACTERS", 1000)
    streamed = prepare(book, tmp_path / "streamed", tokenizer="word", documents="line")
    assert streamed.manifest == held.manifest
    monkeypatch.setattr(module, "_TRAINING_CHARACTERS", 5000)
    assert prepare(book, tmp_path / "words", tokenizer="word", documents="line").manifest == held.manifest
    sampled = prepare(book, tmp_path / "sampled", tokenizer="bpe", vocab_size=300, documents="line")
    assert any("every" in line for line in sampled.manifest["summary"])
    assert sampled.splits["train"].documents == held.splits["train"].documents


def test_records_of_many_formats(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rows = [{"text": f"record {i}\nwith two lines"} for i in range(300)]
    (tmp_path / "in/a.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    (tmp_path / "in/b.bin").write_bytes(bytes(100))
    c = prepare(tmp_path / "in", tmp_path / "c", tokenizer="byte", documents="line")
    assert sum(s.documents for s in c.splits.values()) == 300
    assert c.manifest["reading"]["train"]["files_skipped"] == 1


def test_a_vocabulary_smaller_than_asked_is_told(book: Path, tmp_path: Path) -> None:
    c = prepare(book, tmp_path / "c", tokenizer="bpe", vocab_size=60_000)
    assert c.tokenizer.vocabulary.size < 60_000
    assert any("60000" in line for line in c.manifest["summary"])


def test_uint32_where_ids_need_it(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\n".join(" ".join(f"w{i * 100 + k}" for k in range(100)) for i in range(700)))
    c = prepare(path, tmp_path / "c", tokenizer="word", documents="line")
    assert c.tokenizer.vocabulary.size > 1 << 16 or c.splits["train"].shards[0].dtype == np.uint16
    wide = encode_documents([Document("x y", "", 3)], c.tokenizer)
    assert wide.shards[0].dtype.itemsize == (4 if c.tokenizer.vocabulary.size > 1 << 16 else 2)


@pytest.mark.parametrize("content", ["a", "中", "\n"])
def test_tiny_texts(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tiny.txt"
    path.write_text(content)
    with pytest.raises((CorpusError, SourceError), match=r"tiny\.txt"):
        prepare(path, tmp_path / "c")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.txt"]


def test_folders_that_are_in_the_way(book: Path, tmp_path: Path) -> None:
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy/thesis.doc").write_text("do not touch")
    with pytest.raises(CorpusError, match="not a prepared corpus"):
        prepare(book, tmp_path / "busy")
    with pytest.raises(CorpusError, match="a file is in the way"):
        prepare(book, book)
    assert (tmp_path / "busy/thesis.doc").read_text() == "do not touch"


def test_damaged_folders(book: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="bimo prepare"):
        Corpus.open(tmp_path / "none")
    out = tmp_path / "c"
    prepare(book, out, tokenizer="byte")

    def broken(name: str, content: bytes | None) -> None:
        before = (out / name).read_bytes()
        (out / name).unlink()
        if content is not None:
            (out / name).write_bytes(content)
        with pytest.raises(CorpusError, match=r"prepare|corpus\.json|no such file"):
            Corpus.open(out)
        (out / name).write_bytes(before)

    broken("train-00000.tokens", None)
    broken("train-00000.tokens", b"xx")
    broken("valid-starts.npy", b"xx")
    broken("corpus.json", b"{")
    broken("corpus.json", b"[]")
    broken("corpus.json", b'{"format": 99}')
    broken("corpus.json", b'{"format": 1}')
    Tokenizer.train("char", [BOOK]).save(out)
    with pytest.raises(CorpusError, match="not the tokenizer"):
        Corpus.open(out)


def test_a_failed_prepare_leaves_the_old_corpus(book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "c"
    before = prepare(book, out, tokenizer="byte").manifest

    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        prepare(book, out, tokenizer="char")
    monkeypatch.undo()
    assert Corpus.open(out).manifest == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["book.txt", "c"]


@pytest.mark.parametrize("stage", ["write", "rename", "renamed"])
def test_a_killed_prepare_leaves_nothing_half_written(book: Path, tmp_path: Path, stage: str) -> None:
    out = tmp_path / "c"
    code = f"""
import os, signal
from pathlib import Path
from bimo.core import store
from bimo.data.corpus import prepare
with store.observe_saves(lambda s, p: os.kill(os.getpid(), signal.SIGKILL) if (s, p.name) == ({stage!r}, "corpus.json") else None):
    prepare({str(book)!r}, {str(out)!r}, tokenizer="byte")
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert not out.exists()
    assert any(p.name.endswith(".part") for p in tmp_path.iterdir())
    prepare(book, out, tokenizer="byte")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["book.txt", "c"]


def test_a_corpus_that_was_being_replaced_is_put_back(book: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    before = prepare(book, out, tokenizer="byte").manifest
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    out.rename(tmp_path / f".c.{done.pid}.old")  # killed between the two renames
    (tmp_path / "tiny.txt").write_text("a")
    with pytest.raises(CorpusError):
        prepare(tmp_path / "tiny.txt", out)
    prepare(book, tmp_path / "other", tokenizer="byte")
    with pytest.raises(CorpusError):
        Corpus.open(out)
    prepare(book, out, tokenizer="byte")
    assert Corpus.open(out).manifest == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["book.txt", "c", "other", "tiny.txt"]


def test_standard_input_is_prepared(tmp_path: Path) -> None:
    ask = f"c = prepare('-', {str(tmp_path / 'c')!r}, tokenizer='char')"
    code = f"from bimo.data.corpus import prepare; {ask}; print(c.splits['train'].documents)"
    done = subprocess.run([sys.executable, "-c", code], input=BOOK.encode(), capture_output=True, check=True)
    assert done.stdout.strip() == b"1"
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob("bimo-*/standard-input"))


@pytest.mark.parametrize("kind", ["unigram", "wordpiece"])
def test_a_vocabulary_grows_to_the_alphabet_and_says_so(tmp_path: Path, kind: str) -> None:
    """Of a text with more characters than the size that was asked for."""
    from bimo import api

    characters = [chr(0x4E00 + i) for i in range(700)]
    (tmp_path / "text.txt").write_text("\n".join("".join(characters[i : i + 50]) for i in range(0, 700, 50)) * 3, encoding="utf-8")
    corpus = api.prepare(tmp_path / "text.txt", tmp_path / "corpus", tokenizer=kind, vocab_size=400)
    size = corpus.tokenizer.vocabulary.size
    assert size > 700
    assert f"vocab_size: {size} tokens instead of 400, as each character of the text needs one" in corpus.manifest["summary"]
    assert corpus.splits["train"].unknown_tokens == 0
