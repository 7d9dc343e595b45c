"""Batches for learning: a pure function of (seed, epoch, index), so that two integers are the whole position."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bimo.core.errors import CorpusError
from bimo.data.split import Split


@dataclass(frozen=True)
class Given:
    """What each row is given before its text: tokens int64 [B, S], padded on the right; lengths int64 [B], each at least 1."""

    tokens: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: Tensor | slice) -> Given:
        """The rows int64 [B'], in that order."""
        return Given(self.tokens[rows], self.lengths[rows])

    def to(self, device: torch.device) -> Given:
        """The same, there."""
        return Given(self.tokens.to(device), self.lengths.to(device))


@dataclass(frozen=True)
class Batch:
    """Inputs are tokens[:, :-1], targets tokens[:, 1:].

    tokens: int64 [B, T+1]; boundaries: bool [B, T], True where tokens[b, t] is the first of a document; targets_scored: bool [B, T],
    False where the target is the first token of a document or padding; fresh: nothing is carried into it; given: what rows
    that are whole documents are given, or None; shared: so many tokens at the beginning of each row are that of every document in it.
    """

    tokens: Tensor
    boundaries: Tensor
    targets_scored: Tensor
    fresh: bool = False
    given: Given | None = None
    shared: int = 0
    count: int = -1  # targets that are scored; counted where not said
    read: int = -1  # tokens that are fed, padding left out; as many as are scored where not said

    def __post_init__(self) -> None:
        if self.count < 0:
            object.__setattr__(self, "count", int(self.targets_scored.sum()))
        if self.read < 0:
            object.__setattr__(self, "read", self.count)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each row, int64 [B], where rows are whole documents, padded on the right."""
        return self.targets_scored.sum(1) + 1

    def to(self, device: torch.device) -> Batch:
        """The same, there."""
        given = None if self.given is None else self.given.to(device)
        return replace(self, tokens=self.tokens.to(device), boundaries=self.boundaries.to(device),
                       targets_scored=self.targets_scored.to(device), given=given)  # fmt: skip


def epoch_generator(seed: int, epoch: int) -> np.random.Generator:
    """The generator of one epoch's order: the same whenever it is asked for."""
    return np.random.Generator(np.random.Philox(key=[seed & (2**64 - 1), epoch]))


class _Batches:
    """What both orders share: the split is read as a circle, so that every token is met and every batch is full."""

    def __init__(self, split: Split, batch_size: int, context: int, seed: int) -> None:
        if batch_size < 1 or context < 1:
            raise CorpusError(f"batches: batch_size and context must be at least 1, found {batch_size} and {context}")
        if split.scored_tokens < 1:
            raise CorpusError(f"{split.name}: no tokens to learn from")
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.notes: list[str] = []
        self.context = min(context, split.tokens)
        if self.context < context:
            self.notes.append(f"context reduced from {context} to {self.context}: the text has only {split.tokens} tokens")
        self.windows = -(-split.tokens // self.context)
        self.steps_per_epoch = -(-self.windows // batch_size)
        self._epoch: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None

    @property
    def tokens_per_epoch(self) -> int:
        """Tokens fed in one epoch, B · T a step."""
        return self.steps_per_epoch * self.batch_size * self.context

    def _check(self, epoch: int, index: int) -> None:
        if epoch < 0 or not 0 <= index < self.steps_per_epoch:
            raise CorpusError(f"batches: epoch {epoch}, index {index} is outside 0…{self.steps_per_epoch - 1}")

    def _batch(self, positions: NDArray[np.int64], fresh: bool = False) -> Batch:
        begins, learned = (torch.from_numpy(found(positions)) for found in (self.split.begins, self.split.counts))
        tokens = torch.from_numpy(self.split.take(positions))
        return Batch(tokens, begins[:, :-1].contiguous(), learned[:, 1:].contiguous(), fresh, read=positions[:, 1:].size)


class WindowBatches(_Batches):
    """Shuffled windows of `context` tokens, documents end to end.

    Each epoch turns the text by a random offset and lays windows evenly over it: every token is fed once an epoch (fewer than
    `context` of them twice), and over epochs a window begins anywhere. Where windows do not fill the last batch, rows
    of the epoch's beginning come again.
    """

    def __init__(self, split: Split, batch_size: int, context: int, seed: int = 0) -> None:
        super().__init__(split, batch_size, context, seed)
        if self.windows < batch_size:
            self.notes.append(f"rows repeat within a batch: {self.windows} windows of {self.context} tokens for {batch_size} rows")

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch `index` of `epoch`."""
        self._check(epoch, index)
        if self._epoch is None or self._epoch[0] != epoch:
            generator = epoch_generator(self.seed, epoch)
            offset = generator.integers(self.split.tokens)
            starts = offset + np.arange(self.windows, dtype=np.int64) * self.split.tokens // self.windows
            self._epoch = (epoch, generator.permutation(starts), starts)
        rows = np.arange(index * self.batch_size, (index + 1) * self.batch_size) % self.windows
        positions = self._epoch[1][rows, None] + np.arange(self.context + 1)
        return self._batch(positions % self.split.tokens)


class CarriedBatches(_Batches):
    """B parallel contiguous rows for truncated back-propagation: what row b remembers of batch t is true for batch t+1.

    The documents of an epoch are laid end to end in a shuffled order and cut into B rows (a single document, a stream,
    as Zaremba et al. 2014). At index 0 of each epoch nothing is carried. Rows are a multiple of `context` long and begin
    evenly spaced, so a row's last tokens can be the next row's first.
    """

    def __init__(self, split: Split, batch_size: int, context: int, seed: int = 0) -> None:
        super().__init__(split, batch_size, context, seed)
        if split.tokens < batch_size * self.context:
            self.notes.append(f"rows overlap: {split.tokens} tokens for {batch_size} rows of {self.context}")

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch `index` of `epoch`; its rows go on where those of `index - 1` ended."""
        self._check(epoch, index)
        total, starts = self.split.tokens, self.split.starts
        if self._epoch is None or self._epoch[0] != epoch:
            order = epoch_generator(self.seed, epoch).permutation(len(starts)) if len(starts) > 1 else np.zeros(1, np.int64)
            lengths = np.diff(starts, append=total)
            self._epoch = (epoch, order, np.concatenate([[0], np.cumsum(lengths[order])]))
        _, order, ends = self._epoch
        rows = np.arange(self.batch_size, dtype=np.int64) * total // self.batch_size
        places = (rows[:, None] + index * self.context + np.arange(self.context + 1)) % total
        which = np.searchsorted(ends, places, side="right") - 1
        return self._batch(starts[order[which]] + places - ends[which], fresh=index == 0)
