"""A `Split`: the tokens of many documents end to end, in memory or in memory-mapped shards."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


@dataclass
class Split:
    """The documents of one split, `<s> … </s>` each, end to end.

    documents: how many; tokens: all ids, special ones included; scored_tokens: all but each document's first, or the answers' alone;
    bytes: UTF-8 bytes of the user's text before cleaning; unknown_tokens: `<unk>` that the text did not hold;
    lost_bytes: bytes of text that decoding would not give back (at least). What documents are given counts in none of these.
    """

    name: str
    shards: Sequence[NDArray[Any]]  # uint16 or uint32 [n] each
    starts: Ids  # [documents]
    document_bytes: Ids  # [documents]
    unknown_tokens: int = 0
    lost_bytes: int = 0
    fingerprint: str = ""
    given: Split | None = None  # where documents are pairs: what each of them is given, as documents in the same order
    answers: NDArray[np.bool_] | None = None  # [tokens]: those that are learned and scored, where it is not all but each document's first
    _ends: Ids = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._ends = np.cumsum([0, *map(len, self.shards)], dtype=np.int64)

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self.starts)

    @property
    def tokens(self) -> int:
        """Number of tokens, special ones included."""
        return int(self._ends[-1])

    @property
    def scored_tokens(self) -> int:
        """Tokens that are scored: all but the first of each document, or those of answers alone."""
        return self.tokens - self.documents if self.answers is None else int(np.count_nonzero(self.answers))

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the user's text before cleaning."""
        return int(self.document_bytes.sum())

    def document(self, i: int) -> Ids:
        """Ids of document `i`, int64 [n], its first token (`<s>`) included."""
        if not 0 <= i < self.documents:
            raise IndexError(f"document {i} of {self.documents}")
        stop = self.tokens if i + 1 == self.documents else int(self.starts[i + 1])
        return self.read(int(self.starts[i]), stop)

    def only(self, documents: Ids) -> Split:
        """A split, in memory, of these documents, int64 [n], and what they are given."""
        chosen = [self.document(i) for i in documents.tolist()]
        starts = np.cumsum([0, *map(len, chosen)])[:-1]
        given = None if self.given is None else self.given.only(documents)
        answers = None
        if self.answers is not None:
            answers = np.concatenate(
                [self.answers[start : start + len(ids)] for start, ids in zip(self.starts[documents], chosen, strict=True)]
            )
        return Split(self.name, [np.concatenate(chosen)], starts, self.document_bytes[documents], given=given, answers=answers)

    def read(self, start: int, stop: int) -> Ids:
        """Tokens at the global positions start … stop-1, int64."""
        start, stop = max(0, start), min(stop, self.tokens)
        first = int(np.searchsorted(self._ends, start, side="right")) - 1
        parts = []
        while start < stop:
            offset = int(self._ends[first])
            end = min(stop, int(self._ends[first + 1]))
            parts.append(self.shards[first][start - offset : end - offset])
            start, first = end, first + 1
        return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)

    def take(self, positions: Ids) -> Ids:
        """Tokens at global positions of any shape, int64 of that shape."""
        if len(self.shards) == 1:
            return self.shards[0][positions].astype(np.int64)
        found = np.empty(positions.shape, np.int64)
        shard = np.searchsorted(self._ends, positions, side="right") - 1
        for i in np.unique(shard):
            here = shard == i
            found[here] = self.shards[i][positions[here] - self._ends[i]]
        return found

    def chunks(self, size: int = 1 << 24) -> Iterator[NDArray[Any]]:
        """All tokens in order, in chunks of whole documents: a single shard as it lies, several as about `size` ids at a time."""
        if len(self.shards) == 1:
            yield self.shards[0]
            return
        edges = self.starts[np.unique(np.searchsorted(self.starts, np.arange(0, self.tokens, size)).clip(max=self.documents - 1))]
        for low, high in itertools.pairwise([0, *edges[edges > 0].tolist(), self.tokens]):
            yield self.read(low, high)

    def frequencies(self, vocab_size: int, sample: int = 1 << 24) -> NDArray[np.float64]:
        """Each id's share of the tokens, float64 [V], half a token added to every count; of the first `sample` tokens."""
        counts = np.bincount(self.read(0, sample), minlength=vocab_size) + 0.5
        return counts / counts.sum()

    def begins(self, positions: Ids) -> NDArray[np.bool_]:
        """True where a global position is a document's first token."""
        nearest = np.searchsorted(self.starts, positions, side="right") - 1
        return self.starts[np.maximum(nearest, 0)] == positions

    def counts(self, positions: Ids) -> NDArray[np.bool_]:
        """True where the token at a global position is learned and scored: no document's first, and where there are answers one of them."""
        return ~self.begins(positions) if self.answers is None else self.answers[positions]
