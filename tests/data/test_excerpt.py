"""Parts of a text: each round is evenly drawn, and all of them together are the text."""

from __future__ import annotations

import numpy as np
import pytest

from bimo.data.excerpt import excerpt, rounds
from bimo.data.split import Split


def text(*lengths: int) -> Split:
    """Documents whose tokens are their places in the text."""
    starts = np.cumsum([0, *lengths[:-1]])
    return Split("train", [np.arange(sum(lengths))], starts, np.asarray(lengths))


def places(split: Split) -> list[int]:
    return split.read(0, split.tokens).tolist()


def test_an_excerpt_is_as_long_as_asked_whatever_the_documents_are() -> None:
    for split in (text(100_000), text(*[10_000] * 100), text(*[100] * 1000)):
        part = excerpt(split, 2000)
        assert 1800 <= part.tokens <= 2000
        shares = np.histogram(places(part), bins=4, range=(0, split.tokens))[0] / part.tokens
        assert shares == pytest.approx([1 / 4] * 4, abs=0.05)
    assert excerpt(text(*[10_000] * 100), 2000, whole=True).tokens == 10_000
    few = excerpt(text(100_000), 16_000, rows=2)
    assert [few.document(i)[0] for i in range(few.documents)] == [0, 50_000]
    assert few.document(1)[-1] == 57_999


@pytest.mark.parametrize("split", [text(100_000), text(40_000, 3, 59_997), text(*[100] * 1000)], ids=["one", "three", "many"])
def test_rounds_are_all_of_the_text_and_any_first_few_are_spread_over_it(split: Split) -> None:
    parts = list(rounds(split, 5000))
    assert len(parts) == 20
    found = sorted(place for part in parts for place in places(part))
    assert len(set(found)) == len(found) > 99_990, "a piece of a single token has none that is scored, and is left out"
    for first in (1, 2, 5):
        read = np.array([place for part in parts[:first] for place in places(part)])
        shares = np.histogram(read, bins=8, range=(0, 100_000))[0] / len(read)
        assert shares == pytest.approx([1 / 8] * 8, abs=0.02)


def test_a_piece_ends_where_a_document_does() -> None:
    split = text(1000, 1000, 1000)
    for part in rounds(split, 1000):
        for number in range(part.documents):
            held = part.document(number)
            assert held[0] // 1000 == held[-1] // 1000
            assert held.tolist() == list(range(held[0], held[0] + len(held)))


def test_whole_documents_stay_whole_where_they_must() -> None:
    parts = list(rounds(text(300, 300, 300), 200, whole=True))
    assert sorted(places(part)[0] for part in parts) == [0, 300, 600]
