"""Rows that are whole documents: batches for learning from lines, sentences and pairs, and the sources of rows to score."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bimo.core.errors import CorpusError
from bimo.data.batches import Batch, Given, epoch_generator
from bimo.data.split import Split

_POOL = 64  # batches whose documents are put in order of length together


def gather_documents(split: Split, documents: NDArray[np.int64], limit: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens int64 [B, T], padded on the right with 0, and lengths int64 [B] of these documents, cut to `limit` tokens."""
    starts = split.starts[documents]
    stops = np.append(split.starts[1:], split.tokens)[documents]
    lengths = stops - starts if limit is None else np.minimum(stops - starts, limit)
    places = np.arange(int(lengths.max()), dtype=np.int64)
    inside = places[None, :] < lengths[:, None]
    tokens = np.where(inside, split.take(np.where(inside, starts[:, None] + places, 0)), 0)
    return torch.from_numpy(tokens), torch.from_numpy(lengths)


def given_of(split: Split, documents: NDArray[np.int64], limit: int | None = None) -> Given | None:
    """What these documents are given, cut to `limit` tokens; None where the split is no pairs."""
    return None if split.given is None else Given(*gather_documents(split.given, documents, limit))


def _lengths(split: Split) -> NDArray[np.int64]:
    return np.diff(split.starts, append=split.tokens)


def _cut(lengths: NDArray[np.int64], limit: int, what: str) -> list[str]:
    """What is lost of documents that are longer than `limit`, in words; nothing if none is."""
    over = lengths[lengths > limit] - limit
    return (
        [f"{len(over):,} of {len(lengths):,} {what} and were cut there: {int(over.sum()):,} tokens of them are not learned from"]
        if len(over)
        else []
    )


class DocumentBatches:
    """Shuffled batches of whole documents, those of like length together, so that little is padding.

    Each epoch shuffles the documents, puts every 64 batches of them in order of length (of like ones, in that of what they are given),
    and shuffles the batches. A document of more than `context` fed tokens is cut there, and so is what it is given; `notes` says how many
    were. Where documents do not fill the last batch, those of the epoch's beginning come again.
    """

    def __init__(self, split: Split, batch_size: int, context: int | None, seed: int = 0) -> None:
        if batch_size < 1:
            raise CorpusError(f"batches: batch_size must be at least 1, found {batch_size}")
        lengths = _lengths(split)
        self._documents = np.flatnonzero(lengths > 1)
        if not len(self._documents):
            raise CorpusError(f"{split.name}: no documents to learn from")
        self._lengths = lengths[self._documents]
        self._sources = np.zeros(1, np.int64) if split.given is None else _lengths(split.given)[self._documents]
        longest = int(self._lengths.max()) - 1
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.context = longest if context is None else min(context, longest)
        self.source_context = int(self._sources.max()) if context is None else context
        self.notes = [
            *_cut(lengths, self.context + 1, f"documents are longer than {self.context} tokens"),
            *_cut(self._sources, self.source_context, f"texts that are given are longer than {self.source_context} tokens"),
        ]
        self.steps_per_epoch = -(-len(self._documents) // batch_size)
        self._epoch: tuple[int, NDArray[np.int64]] | None = None

    @property
    def tokens_per_epoch(self) -> int:
        """Tokens fed in one epoch, padding left out."""
        fed = np.minimum(self._lengths - 1, self.context).mean()
        return round(float(fed) * self.steps_per_epoch * self.batch_size)

    def rows(self, epoch: int, index: int) -> NDArray[np.int64]:
        """The documents of batch `index` of `epoch`, int64 [B]."""
        if epoch < 0 or not 0 <= index < self.steps_per_epoch:
            raise CorpusError(f"batches: epoch {epoch}, index {index} is outside 0…{self.steps_per_epoch - 1}")
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._order(epoch))
        return self._documents[self._epoch[1][index]]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Places of the documents, int64 [steps, B]."""
        generator = epoch_generator(self.seed, epoch)
        size = self.steps_per_epoch * self.batch_size
        shuffled = np.resize(generator.permutation(len(self._documents)), size)
        pool = _POOL * self.batch_size
        parts = [shuffled[at : at + pool] for at in range(0, size, pool)]
        sources = np.broadcast_to(self._sources, self._lengths.shape)
        ordered = np.concatenate([part[np.lexsort((sources[part], self._lengths[part]))] for part in parts])
        return ordered.reshape(self.steps_per_epoch, self.batch_size)[generator.permutation(self.steps_per_epoch)]

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch `index` of `epoch`; every row begins with its document."""
        documents = self.rows(epoch, index)
        tokens, lengths = gather_documents(self.split, documents, self.context + 1)
        inside = torch.arange(tokens.shape[1])[None, :] < lengths[:, None]
        boundaries = torch.zeros(tokens[:, :-1].shape, dtype=torch.bool)
        boundaries[:, 0] = True
        return Batch(tokens, boundaries, inside[:, 1:], fresh=True, given=given_of(self.split, documents, self.source_context))
