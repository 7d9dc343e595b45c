"""Dealing by fingerprint, and cutting at the tail."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimo.core.errors import CorpusError
from bimo.data.documents import Document, utf8_length
from bimo.data.splits import Dealer, cut_tail, deal, fingerprint

BOTH = ("valid", "test")


def document(text: str) -> Document:
    return Document(text, "a.txt", utf8_length(text))


def dealt(texts: list[str], mode: str, names: tuple[str, ...] = BOTH, seed: int = 0) -> dict[str, list[str]]:
    dealer = Dealer(mode, names, seed)  # type: ignore[arg-type]
    documents = [document(t) for t in texts]
    dealer.plan(len(documents), documents)
    out: dict[str, list[str]] = {}
    for name, piece in dealer.deal_all(documents):
        out.setdefault(name, []).append(piece.text)
    return out


def test_fingerprints_do_not_change() -> None:
    assert (fingerprint("中文 text"), fingerprint("中文 text", 7)) == (10189535104964140102, 2198591019942852461)
    assert deal("中文 text", 0, BOTH) in ("train", "valid", "test")


def test_many_documents_are_dealt_by_their_text() -> None:
    texts = [f"document {i}" for i in range(4000)]
    found = dealt(texts, "line")
    assert len(found["train"]) + len(found["valid"]) + len(found["test"]) == 4000
    assert 150 < len(found["valid"]) < 250
    assert 150 < len(found["test"]) < 250
    assert dealt(texts[::-1], "file")["test"] == found["test"][::-1]  # not by order, not by mode
    assert dealt(texts, "line", seed=1)["test"] != found["test"]
    twice = dealt(texts + texts, "line")
    assert set(twice["train"]) & set(twice["test"]) == set()
    assert "test" not in dealt(texts, "line", ("valid",))
    assert dealt(texts, "line", ()) == {"train": texts}


def test_dealing_that_leaves_nothing_is_an_error() -> None:
    with pytest.raises(CorpusError, match="most documents are the same"):
        dealt(["the same"] * 300, "line")


@given(st.text(alphabet="ab .。中\n\u0301🙂👩\u200d", min_size=1, max_size=400), st.sampled_from([BOTH, ("valid",), ("test",)]))
def test_cut_pieces_are_the_whole(text: str, names: tuple[str, ...]) -> None:
    whole = document(text)
    try:
        pieces = cut_tail(whole, names)
    except CorpusError:
        return
    assert list(pieces) == ["train", *names]
    assert "".join(p.text for p in pieces.values()) == text
    assert sum(p.bytes for p in pieces.values()) == whole.bytes
    assert all(p.text.strip() for p in pieces.values())


def test_cuts_fall_where_a_reader_would_cut() -> None:
    lines = "\n".join(f"line number {i} of the text" for i in range(1000)) + "\n"
    assert all(p.text.endswith("\n") for p in cut_tail(document(lines), BOTH).values())
    chinese = "今天天气很好。我们去公园看花，花很多。" * 200
    assert all(p.text.endswith("。") for p in cut_tail(document(chinese), BOTH).values())
    words = "word " * 3000
    assert all(p.text.endswith(" ") for p in cut_tail(document(words), BOTH).values())
    marks = "e\u0301" * 1000
    for piece in cut_tail(document(marks), BOTH).values():
        assert not unicodedata.combining(piece.text[0])
    family = "👩\u200d👩\u200d👧" * 301
    assert all(not p.text.startswith("\u200d") for p in cut_tail(document(family), BOTH).values())
    sizes = [len(p.text) / len(lines) for p in cut_tail(document(lines), BOTH).values()]
    assert sizes == pytest.approx([0.9, 0.05, 0.05], abs=0.01)


def test_streams_are_cut_at_line_ends_only() -> None:
    text = "a line. another sentence of it " * 40 + "\n" + "b " * 30 + "\n" + "c " * 30 + "\n"
    assert all(p.text.endswith("\n") for p in cut_tail(document(text), BOTH, lines_only=True).values())
    assert len(cut_tail(document(text[:-70]), BOTH, lines_only=True)) == 3  # too few lines near the tail: cut within one


def test_cleaned_documents_share_their_bytes() -> None:
    text = "a line of text\n" * 100
    pieces = cut_tail(Document(text, "a.txt", len(text) + 100), BOTH)  # it had CRLF
    assert sum(p.bytes for p in pieces.values()) == len(text) + 100
    assert pieces["train"].bytes == 16 * 90


def test_few_documents() -> None:
    books = ["a sentence of a book. " * 100] * 5
    found = dealt(books, "file")
    assert {name: len(pieces) for name, pieces in found.items()} == {"train": 5, "valid": 5, "test": 5}
    lines = [f"line {i}" for i in range(100)]
    found = dealt(lines, "line")
    assert found["train"] + found["valid"] + found["test"] == lines
    assert (len(found["valid"]), len(found["test"])) == (5, 5)
    assert dealt(["a", "b", "c"], "line") == {"train": ["a"], "valid": ["b"], "test": ["c"]}
    mixed = dealt(["short", "a sentence of a book. " * 100], "file")
    assert (len(mixed["train"]), len(mixed["valid"])) == (2, 1)


@pytest.mark.parametrize("text", ["a", "ab", "中", "a\n"])
@pytest.mark.parametrize("mode", ["file", "line", "stream"])
def test_a_text_too_short_to_cut(text: str, mode: str) -> None:
    with pytest.raises(CorpusError, match=r"too short .* to be cut"):
        dealt([text], mode)
    assert dealt([text], mode, ()) == {"train": [text]}
