"""Which tokens begin a word: known for every kind of tokenizer from its decoding alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bimo.text.runners import Ids
from bimo.text.tokenizer import Tokenizer
from bimo.text.words import is_tight, split_words

_PART = re.compile(r"\w+|[^\w\s]")
_BY_ITSELF = ("char", "wordpiece", "unigram")  # kinds whose ids look the same after any other id
_SPACED = ("wordpiece", "loaded")  # kinds that may put a space between any two ids


class WordStarts:
    """Which ids of a row begin a word: `starts(ids)`, bool [n] for int64 [n].

    The row is decoded and its text parted into words: by white space and punctuation, runs of Han characters by rjieba. A token
    begins a word where it holds a word's first character; white space by itself and special tokens begin one too; whatever else
    goes on with the word before it.

    >>> t = Tokenizer.train("char", ["ab cd, e"])
    >>> WordStarts(t)(t.encode_document("ab, cd")).astype(int).tolist()  # <s> a b , ␣ c d </s>
    [1, 1, 0, 1, 1, 1, 0, 1]
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        v = tokenizer.vocabulary
        self._special = [i for i in (v.bos, v.eos, v.pad) if i is not None]
        self._looks: dict[int, str] = {}

    def __call__(self, ids: Ids) -> NDArray[np.bool_]:
        """bool [n], True where ids[i] begins a word or is special."""
        begins = np.isin(ids, self._special)
        if self.tokenizer.kind == "word":
            return np.ones_like(begins)
        edges = np.flatnonzero(np.diff(begins, prepend=True, append=True))  # runs of ordinary ids: [first, stop) pairs
        for first, stop in edges.reshape(-1, 2).tolist():
            begins[first:stop] = self._in_run(ids[first:stop].tolist())
        return begins

    def _in_run(self, run: Sequence[int]) -> NDArray[np.bool_]:
        looks = self._looks_of(run)
        if self.tokenizer.kind in _SPACED:
            looks = _closed(looks)
        ends = np.cumsum([len(look) for look in looks])
        first = np.zeros(int(ends[-1]) + 1, np.int64)  # how many words begin before each character
        first[[at + 1 for at in _word_places("".join(looks))]] = 1
        counted = np.cumsum(first)
        begins = counted[ends] > counted[np.concatenate([[0], ends[:-1]])]
        begins |= np.array([look.isspace() for look in looks])
        begins[0] = True
        return begins

    def _looks_of(self, run: Sequence[int]) -> list[str]:
        """What each id adds to the text; "" where it holds a part of a character that a later one completes."""
        if self.tokenizer.kind not in _BY_ITSELF:
            decoder = self.tokenizer.stream_decoder()
            return _moved([decoder.push(i) for i in run])
        for i in set(run) - self._looks.keys():
            self._looks[i] = self.tokenizer.stream_decoder(after=[i]).push(i)
        return [self._looks[i] for i in run]


def _moved(looks: list[str]) -> list[str]:
    """The characters that several ids make together are put to the first of those ids.

    >>> _moved(["a", "", "", "中", "b"])
    ['a', '中', '', '', 'b']
    """
    moved, waiting = list(looks), -1
    for i, look in enumerate(looks):
        if not look and waiting < 0:
            waiting = i
        elif look and waiting >= 0:
            moved[waiting], moved[i], waiting = look, "", -1
    return moved


def _closed(looks: list[str]) -> list[str]:
    """Without the spaces that stand between Chinese characters.

    >>> _closed(["今", " 天", " day"])
    ['今', '天', ' day']
    """
    closed, tight = [], False
    for look in looks:
        if tight and len(look) > 1 and look[0] == " " and is_tight(look[1]):
            look = look[1:]
        closed.append(look)
        tight = is_tight(look[-1]) if look else tight
    return closed


def _word_places(text: str) -> Iterator[int]:
    """Where each word of a text begins; punctuation is a word by itself.

    >>> list(_word_places(" the cat, 3"))
    [1, 5, 8, 10]
    """
    at = 0
    for word in split_words(text):
        at = text.index(word, at)
        for part in _PART.finditer(word):
            yield at + part.start()
        at += len(word)
