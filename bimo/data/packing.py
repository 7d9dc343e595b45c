"""Whole documents packed into rows: none is cut, none sees another, and little of a row is padding."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bimo.core.errors import CorpusError
from bimo.data.batches import Batch, epoch_generator
from bimo.data.split import Split

_POOL = 64  # rows whose documents are packed together


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


class PackedBatches:
    """Rows of whole documents, in a new order each epoch; padding is a text of its own, from which nothing is learned.

    Documents are shuffled once and packed some 64 rows' worth at a time. Where rows do not fill an epoch's last batch, those of its
    beginning come again. A document of more than `context` + 1 tokens is a `CorpusError`: what becomes of it is decided before.
    """

    def __init__(self, split: Split, batch_size: int, context: int, seed: int = 0) -> None:
        if batch_size < 1 or context < 1:
            raise CorpusError(f"batches: batch_size and context must be at least 1, found {batch_size} and {context}")
        self._edges = [*split.starts.tolist(), split.tokens]
        lengths = np.diff(split.starts, append=split.tokens)
        if int(lengths.max(initial=0)) < 2:
            raise CorpusError(f"{split.name}: no documents to learn from")
        if int(lengths.max()) > context + 1:
            raise CorpusError(f"{split.name}: a document has {int(lengths.max()):,} tokens, a row {context + 1:,}; raise training.context")
        self.split, self.batch_size, self.context, self.seed = split, batch_size, context, seed
        shuffled = epoch_generator(seed, 0).permutation(np.flatnonzero(lengths > 1))
        pool = _POOL * max(1, int((context + 1) / lengths[shuffled].mean()))
        parts = (shuffled[at : at + pool] for at in range(0, len(shuffled), pool))
        self.rows = [part[row] for part in parts for row in pack(lengths[part], context + 1)]
        self.steps_per_epoch = -(-len(self.rows) // batch_size)
        self.tokens_per_epoch = int((lengths[shuffled] - 1).sum())  # fed, padding left out
        filled = lengths[shuffled].sum() / (len(self.rows) * (context + 1))
        self.notes = [f"{len(shuffled):,} texts packed into {len(self.rows):,} rows of {context:,} tokens, {filled:.0%} filled"]

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch `index` of `epoch`."""
        if epoch < 0 or not 0 <= index < self.steps_per_epoch:
            raise CorpusError(f"batches: epoch {epoch}, index {index} is outside 0…{self.steps_per_epoch - 1}")
        order = epoch_generator(self.seed, epoch).permutation(len(self.rows))
        chosen = order[np.arange(index * self.batch_size, (index + 1) * self.batch_size) % len(order)]
        rows = [self.rows[i].tolist() for i in chosen.tolist()]
        read = sum(self._edges[d + 1] - self._edges[d] - 1 for row in rows for d in row)
        places = [np.concatenate([np.arange(self._edges[d], self._edges[d + 1]) for d in row]) for row in rows]
        width = max(map(len, places))
        tokens = np.zeros((len(places), width), np.int64)
        begins, learned = np.zeros((2, len(places), width), np.bool_)
        for row, here in enumerate(places):
            tokens[row, : len(here)] = self.split.take(here)
            begins[row, : len(here)] = self.split.begins(here)
            begins[row, len(here) : len(here) + 1] = True
            learned[row, : len(here)] = self.split.counts(here)
        boundaries, targets = (torch.from_numpy(np.ascontiguousarray(part)) for part in (begins[:, :-1], learned[:, 1:]))
        return Batch(torch.from_numpy(tokens), boundaries, targets, read=read)
