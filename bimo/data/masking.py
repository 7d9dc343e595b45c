"""Batches in which tokens are hidden, for models that learn to tell them: Devlin et al. 2019, section 3.1."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bimo.core.errors import CorpusError, UserError
from bimo.data.batches import Batch

Ids = NDArray[np.int64]
Starts = Callable[[Ids], NDArray[np.bool_]]  # of a row of ids [n]: which of them begin a word


@dataclass(frozen=True)
class MaskedBatch:
    """Rows in which some tokens are hidden.

    tokens: int64 [B, T], as they are to be read; boundaries: bool [B, T], True where tokens[b, t] is the first of a document, and at each
    place of the padding; places: int64 [N], which of the B · T places are to be told; targets: int64 [N], what stood there.
    """

    tokens: Tensor
    boundaries: Tensor
    places: Tensor
    targets: Tensor
    read: int  # tokens that are fed, padding left out
    fresh: bool = True

    @property
    def count(self) -> int:
        """Tokens to be told."""
        return len(self.targets)

    def to(self, device: torch.device) -> MaskedBatch:
        """The same, there."""
        return replace(self, tokens=self.tokens.to(device), boundaries=self.boundaries.to(device), places=self.places.to(device),
                       targets=self.targets.to(device))  # fmt: skip


def masking_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of one batch's hidden tokens: the same whenever it is asked for, and never that of an epoch's order."""
    return np.random.Generator(np.random.Philox(key=[seed & (2**64 - 1), epoch], counter=[0, 0, index, 1]))


def choose_words(may: NDArray[np.bool_], starts: NDArray[np.bool_], share: float, generator: np.random.Generator) -> Ids:
    """Places, int64 [N] ascending, that hold `share` of all that `may` be chosen [n], drawn as whole words.

    A word goes from one of `starts` [n] to the next; only those of its tokens that may be chosen are. Words are drawn until the next one
    would be too much; there is one at least, where there is one.

    >>> may, starts = np.ones(8, bool), np.array([1, 0, 1, 0, 1, 0, 1, 0], bool)
    >>> choose_words(may, starts, 0.5, np.random.default_rng(0)).tolist()
    [0, 1, 4, 5]
    """
    words = np.cumsum(starts)[may]  # the word of each token that may be chosen
    if not len(words):
        return np.empty(0, np.int64)
    _, words, sizes = np.unique(words, return_inverse=True, return_counts=True)
    order = generator.permutation(len(sizes))
    wanted = max(1, round(share * len(words)))
    held = np.cumsum(sizes[order]) <= wanted
    held[0] = True
    chosen = np.zeros(len(sizes), bool)
    chosen[order[held]] = True
    return np.flatnonzero(may)[chosen[words]]


class MaskedBatches:
    """The batches of `inner` with tokens hidden, a pure function of (seed, epoch, index).

    Of the tokens that a model would be scored on (each document's first is not) and that are not in `untouched`, `share` are chosen:
    of them `masked` are replaced by `mask_id`, `random` by an ordinary id, the rest are left as they are (80, 10 and 10 % in Devlin et
    al. 2019). Ordinary: all ids of the vocabulary but special and suppressed ones and `untouched`. starts: which ids of a row begin a word,
    where words are to be hidden whole; None: token by token.
    """

    def __init__(
        self,
        inner: Any,
        vocab_size: int,
        mask_id: int,
        untouched: Collection[int],
        never_written: Collection[int] = (),
        share: float = 0.15,
        masked: float = 0.8,
        random: float = 0.1,
        starts: Starts | None = None,
    ) -> None:
        if masked + random > 1 + 1e-9:
            raise UserError(f"masked and random: shares of the hidden tokens, found {masked} and {random}, which are more than 1 together")
        self.inner, self.mask_id, self.share, self.masked, self.random, self.starts = inner, mask_id, share, masked, random, starts
        self.context, self.steps_per_epoch = inner.context, inner.steps_per_epoch
        self.notes: list[str] = list(inner.notes)
        self._untouched = np.array(sorted({*untouched, mask_id}), dtype=np.int64)
        self._ordinary = np.setdiff1d(np.arange(vocab_size), np.array(sorted({*untouched, *never_written, mask_id})))
        if not len(self._ordinary):
            raise CorpusError("vocabulary: there are no ordinary tokens, only special ones")

    @property
    def tokens_per_epoch(self) -> int:
        """Tokens read in one epoch."""
        return self.inner.tokens_per_epoch

    def batch(self, epoch: int, index: int) -> MaskedBatch:
        """Batch `index` of `epoch`."""
        plain: Batch = self.inner.batch(epoch, index)
        generator = masking_generator(self.inner.seed, epoch, index)
        tokens = plain.tokens.numpy()
        scored = np.concatenate([np.zeros((len(tokens), 1), bool), plain.targets_scored.numpy()], axis=1)
        begins = np.concatenate([plain.boundaries[:, :1].numpy(), ~scored[:, 1:]], axis=1)
        may = scored & ~np.isin(tokens, self._untouched)
        starts = np.ones_like(may) if self.starts is None else np.stack([self.starts(row) for row in tokens]) | begins
        starts[:, 0] = True
        places = choose_words(may.reshape(-1), starts.reshape(-1), self.share, generator)
        seen = self._hidden(tokens.reshape(-1), places, generator).reshape(tokens.shape)
        targets = tokens.reshape(-1)[places]
        told = (torch.from_numpy(part) for part in (seen, begins, places, targets))
        return MaskedBatch(*told, read=plain.read)

    def _hidden(self, tokens: Ids, places: Ids, generator: np.random.Generator) -> Ids:
        """Tokens [n] as they are to be read."""
        seen, fate = tokens.copy(), generator.random(len(places))
        others = self._ordinary[generator.integers(len(self._ordinary), size=len(places))]
        seen[places] = np.where(fate < self.masked, self.mask_id, np.where(fate < self.masked + self.random, others, seen[places]))
        return seen
