"""Whole documents packed into rows: none is cut, none sees another, and little of a row is padding."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bimo.core.errors import CorpusError
from bimo.data.batches import Batch, epoch_generator
from bimo.data.split import Split

_POOL = 64  # rows whose documents are packed together
_WORTH = 8  # tokens that all documents begin with, from which reading them once a row pays
_STEPS = 8  # of an epoch at least, where there are so many documents: from few examples many small steps learn more than one large one
_AT_ONCE = 1 << 20  # tokens that are compared at a time


def pack(lengths: NDArray[np.int64], width: int) -> list[list[int]]:
    """Which documents go into which row of `width` tokens: each, the longest first, into the fullest row that has room for it.

    >>> pack(np.array([3, 7, 5, 2]), 10)
    [[1, 0], [2, 3]]
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for i in np.argsort(-lengths, kind="stable").tolist():
        size = int(lengths[i])
        fits = [(left, row) for row, left in enumerate(room) if left >= size]
        if fits:
            row = min(fits)[1]
            rows[row].append(i)
            room[row] -= size
        else:
            rows.append([i])
            room.append(width - size)
    return rows


def shared_beginning(split: Split) -> int:
    """How many tokens all documents of more than one begin with, before any is learned: a chat template's system turn, say.

    The token behind them is not learned either, since it is another in each document. 0 where they are too few to matter.
    """
    lengths = np.diff(split.starts, append=split.tokens)
    starts, most = split.starts[lengths > 1], int(lengths[lengths > 1].min(initial=1 << 10)) - 1
    if split.answers is None or len(starts) < 2 or most < _WORTH:
        return 0
    first = split.take(starts[0] + np.arange(most))
    for at in range(0, len(starts), size := max(1, _AT_ONCE // most)):
        places = starts[at : at + size, None] + np.arange(most + 1)
        others = (split.take(places[:, :-1]) != first[:most]).any(axis=0)
        ends = np.flatnonzero(others | split.counts(places)[:, 1:].any(axis=0))
        most = int(ends[0]) if len(ends) else most
        if most < _WORTH:
            return 0
    return most


class PackedBatches:
    """Rows of whole documents, in a new order each epoch; padding is a text of its own, from which nothing is learned.

    share: what all documents begin with stands once, at the beginning of each row (`shared`, see `Batch`); for a model that reads it so.
    Documents are shuffled once and packed some 64 rows' worth at a time; rows are narrower than `context` where an epoch would otherwise
    have fewer than eight batches. Where rows do not fill an epoch's last batch, those of its
    beginning come again. A document of more than `context` + 1 tokens is a `CorpusError`: what becomes of it is decided before.
    """

    def __init__(self, split: Split, batch_size: int, context: int, seed: int = 0, share: bool = False) -> None:
        if batch_size < 1 or context < 1:
            raise CorpusError(f"batches: batch_size and context must be at least 1, found {batch_size} and {context}")
        self._edges = [*split.starts.tolist(), split.tokens]
        lengths = np.diff(split.starts, append=split.tokens)
        if int(lengths.max(initial=0)) < 2:
            raise CorpusError(f"{split.name}: no documents to learn from")
        if int(lengths.max()) > context + 1:
            raise CorpusError(f"{split.name}: a document has {int(lengths.max()):,} tokens, a row {context + 1:,}; raise training.context")
        self.split, self.batch_size, self.context, self.seed = split, batch_size, context, seed
        self.shared = shared_beginning(split) if share else 0
        shuffled = epoch_generator(seed, 0).permutation(np.flatnonzero(lengths > 1))
        read, longest = int(lengths[shuffled].sum()), int(lengths[shuffled].max())
        width = min(context + 1, max(longest, -(-read // (_STEPS * batch_size))))  # tokens of a row: fewer where there is little to read
        pool = _POOL * max(1, int(width / lengths[shuffled].mean()))
        parts = (shuffled[at : at + pool] for at in range(0, len(shuffled), pool))
        self.rows = [part[row] for part in parts for row in pack(lengths[part] - self.shared, width - self.shared)]
        self.steps_per_epoch = -(-len(self.rows) // batch_size)
        self.tokens_per_epoch = sum(map(self._read, self.rows))
        filled = (self.tokens_per_epoch + len(shuffled)) / (len(self.rows) * width)
        once = f"; the {self.shared} tokens that all begin with are read once a row" if self.shared else ""
        self.notes = [f"{len(shuffled):,} texts packed into {len(self.rows):,} rows of {width - 1:,} tokens, {filled:.0%} filled{once}"]

    def _read(self, row: NDArray[np.int64]) -> int:
        """Tokens of a row that are fed, padding left out."""
        own = sum(self._edges[d + 1] - self._edges[d] - 1 - self.shared for d in row.tolist())
        return self.shared + own

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch `index` of `epoch`."""
        if epoch < 0 or not 0 <= index < self.steps_per_epoch:
            raise CorpusError(f"batches: epoch {epoch}, index {index} is outside 0…{self.steps_per_epoch - 1}")
        order = epoch_generator(self.seed, epoch).permutation(len(self.rows))
        chosen = order[np.arange(index * self.batch_size, (index + 1) * self.batch_size) % len(order)]
        rows = [self.rows[i] for i in chosen.tolist()]
        places = [np.concatenate([self._edges[row[0]] + np.arange(self.shared), *map(self._own, row.tolist())]) for row in rows]
        width = max(map(len, places))
        tokens = np.zeros((len(places), width), np.int64)
        begins, learned = np.zeros((2, len(places), width), np.bool_)
        for row, here in enumerate(places):
            tokens[row, : len(here)] = self.split.take(here)
            begins[row, : len(here)] = self.split.begins(here - self.shared)
            begins[row, : self.shared] = self.split.begins(here[: self.shared])
            begins[row, len(here) : len(here) + 1] = True
            learned[row, : len(here)] = self.split.counts(here)
        boundaries, targets = (torch.from_numpy(np.ascontiguousarray(part)) for part in (begins[:, :-1], learned[:, 1:]))
        return Batch(torch.from_numpy(tokens), boundaries, targets, shared=self.shared, read=sum(map(self._read, rows)))

    def _own(self, document: int) -> NDArray[np.int64]:
        """Places of a document's tokens behind those that all begin with."""
        return np.arange(self._edges[document] + self.shared, self._edges[document + 1])
