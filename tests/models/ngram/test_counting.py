"""Counting: the same tables whatever the blocks, the widths and the chunks; n-grams never leave their document."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bimo.core.errors import CorpusError
from bimo.models.ngram.counting import Counts, predictable
from bimo.text.vocabulary import Vocabulary
from tests.models.ngram.reference import BOS, EOS, PAD, chunk, vocabulary

documents = st.lists(st.lists(st.integers(3, 7), max_size=8), max_size=8)


def grams(counts: Counts) -> dict[tuple[int, ...], int]:
    """Every n-gram of two words or more with its count, from the sorted tables."""
    size = counts.vocabulary.size
    below = [(id,) for id in range(size)]
    found = {}
    for table in counts.tables:
        below = [(*below[key // size], key % size) for key in table.keys.tolist()]
        assert below == sorted(set(below))
        found |= dict(zip(below, table.counts.tolist(), strict=True))
    return found


def plain(texts: list[list[int]], order: int) -> dict[tuple[int, ...], int]:
    """The same by a dictionary."""
    found: Counter[tuple[int, ...]] = Counter()
    for text in texts:
        for n in range(2, order + 1):
            found.update(tuple(text[i : i + n]) for i in range(len(text) - n + 1))
    return found


@settings(max_examples=60, deadline=None)
@given(texts=documents, order=st.integers(1, 5), block=st.integers(1, 20))
def test_blocks_count_what_one_pass_counts(texts: list[list[int]], order: int, block: int) -> None:
    counts = Counts(order, vocabulary(4))
    counts.add(chunk(texts), block=block)
    assert grams(counts) == plain([[BOS, *text, EOS] for text in texts], order)
    assert counts.tokens == sum(len(text) + 1 for text in texts)


@settings(max_examples=30, deadline=None)
@given(texts=documents, order=st.integers(1, 4), block=st.integers(1, 9))
def test_a_stream_counts_what_its_lines_count(texts: list[list[int]], order: int, block: int) -> None:
    # one document, each newline is </s>: after it all begins anew, as if after <s>
    stream = np.array([BOS, *(id for text in texts for id in (*text, EOS))])
    ours, lines = Counts(order, vocabulary(4)), Counts(order, vocabulary(4))
    ours.add(stream, block=block)
    lines.add(chunk(texts))
    assert grams(ours) == grams(lines)
    assert ours.unigrams.tolist() == lines.unigrams.tolist()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint32, np.int64])
def test_widths_and_memory_maps(dtype: type, tmp_path: Path) -> None:
    ids = chunk([[4, 5, 6], [6, 5]], dtype)
    ids.tofile(tmp_path / "ids.bin")
    counts = Counts(3, vocabulary(4))
    counts.add(np.memmap(tmp_path / "ids.bin", dtype=dtype, mode="r"))
    assert grams(counts) == plain([[BOS, 4, 5, 6, EOS], [BOS, 6, 5, EOS]], 3)


def test_chunks_add_up() -> None:
    counts = Counts(3, vocabulary(4))
    for texts in ([[4, 5]], [[5, 5, 4], [7]], [[4, 5, 6]]):
        counts.add(chunk(texts))
    whole = Counts(3, vocabulary(4))
    whole.add(chunk([[4, 5], [5, 5, 4], [7], [4, 5, 6]]))
    assert grams(counts) == grams(whole)


def test_wide_ids() -> None:
    size = 300_000
    counts = Counts(4, Vocabulary(size, bos=0, eos=1, suppressed=(0,)))
    counts.add(np.array([0, size - 1, size - 2, size - 1, 1]))
    assert grams(counts) == plain([[0, size - 1, size - 2, size - 1, 1]], 4)


def test_padding_is_never_counted() -> None:
    counts = Counts(2, vocabulary(4))
    counts.add(np.array([BOS, 4, EOS, PAD, PAD, BOS, 5, PAD, 6, EOS]))
    assert grams(counts) == {(BOS, 4): 1, (4, EOS): 1, (BOS, 5): 1, (6, EOS): 1}
    assert counts.unigrams[PAD] == 0


def test_vocabularies_without_or_with_one_special_token() -> None:
    bare = Counts(2, Vocabulary(4))
    bare.add(np.array([1, 2, 3, 1]))
    assert grams(bare) == {(1, 2): 1, (2, 3): 1, (3, 1): 1}
    single = Counts(2, Vocabulary(4, bos=0, eos=0))  # as GPT-2's: one token begins and ends
    single.add(np.array([0, 1, 2, 0, 0, 1, 0]))
    assert grams(single) == {(0, 1): 2, (1, 2): 1, (2, 0): 1, (1, 0): 1}
    assert single.unigrams.tolist() == [2, 2, 1, 0]
    assert predictable(single.vocabulary).all()


@pytest.mark.parametrize("ids", [[0, 99, 1], [0, -1, 1]])
def test_ids_outside_the_vocabulary(ids: list[int]) -> None:
    with pytest.raises(CorpusError, match=r"0…7"):
        Counts(2, vocabulary(4)).add(np.array(ids))


def test_chunks_of_the_wrong_shape() -> None:
    with pytest.raises(CorpusError, match="integer ids"):
        Counts(2, vocabulary(4)).add(np.zeros(3))
