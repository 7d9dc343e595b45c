"""Words to ids as `str.split` and a dictionary give them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bimo.core.errors import UserError
from bimo.text.kernels import WordIndex, thread_count

letters = st.sampled_from(list("abé北京𝒳\0 \t\n\r\x0b\x1c\x1d\x85\xa0\u1680\u2003\u2028\u202f\u205f\u3000\u200b\u30a2Ãã"))
texts = st.lists(st.text(letters, max_size=20) | st.text(max_size=12), min_size=1, max_size=6)
WORDS = ["<s>", "</s>", "a", "b", "ab", "aé", "北京", "北", "abababa", "abababab", "ababababa", "\0a", "a\0"]


def plainly(heard: list[str]) -> list[list[int]]:
    known = {word: id for id, word in enumerate(WORDS)}
    return [[0, *(known.get(word, -1) for word in text.split()), 1] for text in heard]


@settings(max_examples=200, deadline=None)
@given(heard=texts)
@example(heard=["a\nb", "ab\n", "", "\n"])
@example(heard=["ab\u3000", "北京", "\xa0", "a\u2003b abababa abababab ababababa \0a a\0"])
def test_as_split_and_a_dictionary(heard: list[str]) -> None:
    ids, offsets = WordIndex(WORDS).ids(heard, bos=0, eos=1)
    assert [ids[a:b].tolist() for a, b in pairwise(offsets)] == plainly(heard)


def test_bytes_are_read_as_utf8() -> None:
    index = WordIndex(WORDS)
    for heard in (["a 北京", "b"], ["a\nb", ""]):
        assert index.ids([text.encode() for text in heard])[0].tolist() == index.ids(heard)[0].tolist()
    assert index.ids([b"a\xff b", b"\xff", b"a"])[0].tolist() == [-1, 3, -1, 2]  # not UTF-8: an unknown word
    with pytest.raises(UserError, match="0xFF"):
        index.ids([b"\n", b"\xff"])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(threads: int) -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}x" * (1 + i % 4) for i in range(2000)]
    heard = [" ".join(rng.choice(words, rng.integers(0, 40))) for _ in range(6000)]
    ids, offsets = WordIndex(words[:1500]).ids(heard, unknown=7, threads=threads)
    known = {word: id for id, word in enumerate(words[:1500])}
    assert ids.tolist() == [known.get(word, 7) for text in heard for word in text.split()]
    assert np.diff(offsets).tolist() == [len(text.split()) for text in heard]


def test_nothing() -> None:
    ids, offsets = WordIndex(WORDS).ids([])
    assert (ids.tolist(), offsets.tolist()) == ([], [0])
    assert WordIndex([]).ids(["a b"])[0].tolist() == [-1, -1]


def test_a_word_twice() -> None:
    with pytest.raises(UserError, match="twice"):
        WordIndex(["a", "a"])


def test_thread_count_follows_torch() -> None:
    import torch

    assert thread_count() == torch.get_num_threads()
