"""Counting n-grams of all orders in one pass over blocks of tokens.

A table per order, sorted by (prefix, word): row i of order k is the k-gram whose first k-1 words are row `prefix[i]` of
order k-1 and whose last word is `word[i]`. No n-gram goes over the end of a document.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bimo.core.errors import CorpusError
from bimo.models.ngram import kernels
from bimo.text.vocabulary import Vocabulary

BLOCK = 1 << 22  # tokens counted at a time: about 150 MiB of work space


@dataclass
class Table:
    """The k-grams of one order k ≥ 2, N rows sorted by key.

    keys: int64 [N], prefix * V + word; counts: int64 [N]; suffix: int32 [N], the row in order k-1 of the k-gram without its
    first word.
    """

    keys: np.ndarray
    counts: np.ndarray
    suffix: np.ndarray

    @classmethod
    def empty(cls) -> Table:
        """No n-grams."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int32))

    def __len__(self) -> int:
        return len(self.keys)


class Counts:
    """Counts of all n-grams up to `order`.

    unigrams: int64 [V], how often each word was predicted (document starts are not); starts: how many documents began.
    tables[k - 2]: the `Table` of order k.
    """

    def __init__(self, order: int, vocabulary: Vocabulary) -> None:
        self.order = order
        self.vocabulary = vocabulary
        self.unigrams = np.zeros(vocabulary.size, np.int64)
        self.tables = [Table.empty() for _ in range(order - 1)]
        self._bos = -1 if vocabulary.bos is None else vocabulary.bos
        self._eos = -1 if vocabulary.eos is None else vocabulary.eos
        self._skip = (~predictable(vocabulary)).astype(np.uint8)

    @property
    def tokens(self) -> int:
        """How many tokens were predicted."""
        return int(self.unigrams.sum())

    def add(self, chunk: np.ndarray, block: int = BLOCK) -> None:
        """Count the n-grams of one chunk of whole documents, ids int [N] of any width (a memory map is read block by block)."""
        if chunk.ndim != 1 or chunk.dtype.kind not in "iu":
            raise CorpusError(f"chunk: expected a row of integer ids, found {chunk.dtype} of shape {list(chunk.shape)}")
        inside = 0
        for begin in range(0, len(chunk), block):
            piece = chunk[begin : begin + block + self.order - 1]
            low, high = int(piece.min()), int(piece.max())
            if low < 0 or high >= self.vocabulary.size:
                raise CorpusError(f"chunk: ids must lie in 0…{self.vocabulary.size - 1}, found {low}…{high}")
            inside = self._add_block(np.ascontiguousarray(piece, dtype=np.int32), min(block, len(chunk) - begin), inside)

    def _add_block(self, tokens: np.ndarray, limit: int, inside: int) -> int:
        """Count n-grams that start in tokens[:limit]; what follows is only looked ahead at."""
        words, last = np.empty(2 * len(tokens), np.int32), np.zeros(2 * len(tokens), np.uint8)
        n, counted, inside = kernels.mark(tokens, limit, self._bos, self._eos, self._skip, inside, words, last)
        words, last = words[:n], last[:n]
        predicted = words[:counted]
        if self._bos >= 0 and self._bos != self._eos:
            predicted = predicted[predicted != self._bos]
        unigrams = np.bincount(predicted, minlength=len(self.unigrams))
        if self._bos >= 0 and self._bos == self._eos:  # one token both begins and ends: only the ends are predicted
            unigrams[self._bos] = np.count_nonzero(last[:counted][predicted == self._bos])
        self.unigrams += unigrams
        tables = _tables(words, last, counted, self.order, self.vocabulary.size)
        self.tables = _merged(self.tables, tables, self.vocabulary.size) if any(map(len, self.tables)) else tables
        return inside


def predictable(vocabulary: Vocabulary) -> np.ndarray:
    """bool [V]: the ids that a counted model can predict: all but `<s>`, padding and what else is suppressed.

    >>> predictable(Vocabulary(5, bos=0, eos=1, pad=2, unk=3, suppressed=(0, 2))).tolist()
    [False, True, False, True, True]
    """
    allowed = np.ones(vocabulary.size, bool)
    for id in (*vocabulary.suppressed, vocabulary.bos, vocabulary.pad):
        if id is not None and id not in (vocabulary.eos, vocabulary.unk):
            allowed[id] = False
    return allowed


def _tables(words: np.ndarray, last: np.ndarray, counted: int, order: int, size: int) -> list[Table]:
    """The tables of orders 2 … `order` of one block."""
    tables: list[Table] = []
    node, new_node = words.copy(), np.empty_like(words)
    keys, spare_keys = np.empty(len(words), np.int64), np.empty(len(words), np.int64)
    places, spare_places = np.empty(len(words), np.int32), np.empty(len(words), np.int32)
    rows = size  # of the order below
    for k in range(2, order + 1):
        found = kernels.gather(words, last, node, k, size, keys, places) if len(words) >= k else 0
        if not found:
            return tables + [Table.empty() for _ in range(k, order + 1)]
        kernels.radix_sort(keys, places, spare_keys, spare_places, found, int(rows * size - 1).bit_length())
        counts, suffix = np.empty(found, np.int64), np.empty(found, np.int32)
        rows = kernels.number(keys, places, found, counted, node, new_node, spare_keys, counts, suffix)
        tables.append(Table(spare_keys[:rows].copy(), counts[:rows].copy(), suffix[:rows].copy()))
        node, new_node = new_node, node
    return tables


def _merged(old: list[Table], new: list[Table], size: int) -> list[Table]:
    """The tables of both texts together."""
    merged: list[Table] = []
    map_a = map_b = np.arange(size, dtype=np.int32)
    for a, b in zip(old, new, strict=True):
        most = len(a) + len(b)
        keys, counts, suffix = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int32)
        next_a, next_b = np.empty(len(a), np.int32), np.empty(len(b), np.int32)
        rows = kernels.merge(
            map_a[a.keys // size] * np.int64(size) + a.keys % size, a.counts, map_a[a.suffix],
            map_b[b.keys // size] * np.int64(size) + b.keys % size, b.counts, map_b[b.suffix],
            keys, counts, suffix, next_a, next_b,
        )  # fmt: skip
        merged.append(Table(keys[:rows].copy(), counts[:rows].copy(), suffix[:rows].copy()))
        map_a, map_b = next_a, next_b
    return merged
