"""What is fed and what is scored when a split is measured: each scored token of each document exactly once.

A model with a context C is measured by `evaluation_windows`; one whose state has no end (an n-gram, a recurrent net)
by `evaluation_streams`, or by `evaluation_windows` with context=None where documents are short (lines). With `score` as
in `bimo.models.base`, whose `tokens[:, 0]` is fed and never scored:

    for w in evaluation_windows(split, model.context, batch_size=32):
        s = model.score(w.tokens, w.lengths)
        kept = s.scored & w.scored()             # all of `s.scored` unless windows overlap
        nats += s.nats[kept].sum()

    for group in evaluation_streams(split, chunk=256, batch_size=32):
        state = None
        for w in group:
            state = None if state is None else model.select(state, w.rows)
            s = model.score(w.tokens, w.lengths, state=state)
            nats, state = nats + s.nats.sum(), s.state
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bimo.core.errors import UserError
from bimo.data.split import Split

_SORTED_TOGETHER = 1 << 16  # documents whose windows are put in order of length at a time


@dataclass(frozen=True)
class EvaluationBatch:
    """Rows to score.

    tokens: int64 [B, T], padded on the right with 0; lengths: int64 [B]; first_scored: int64 [B], the first place of each row
    that counts (1 unless windows overlap); documents: int64 [B], whose rows these are; rows: int64 [B], which rows of the
    batch before these go on from (streams; in windows every row begins anew and `rows` is empty); starts: int64 [B], the
    position in the split of each row's first token; answers: bool [B, T], which tokens are of answers, where these alone count.
    """

    tokens: Tensor
    lengths: Tensor
    first_scored: Tensor
    documents: Tensor
    rows: Tensor
    starts: Tensor
    answers: Tensor | None = None

    def scored(self) -> Tensor:
        """bool [B, T]: the tokens that count."""
        places = torch.arange(self.tokens.shape[1])[None, :]
        inside = (places >= self.first_scored[:, None]) & (places < self.lengths[:, None])
        return inside if self.answers is None else inside & self.answers


def _lay_windows(length: int, context: int, stride: int) -> NDArray[np.int64]:
    """Windows [start, stop, first_scored] of a document of `length` tokens, int64 [n, 3].

    >>> _lay_windows(8, 3, 3).tolist()
    [[0, 4, 1], [3, 7, 4], [6, 8, 7]]
    >>> _lay_windows(8, 3, 2).tolist()
    [[0, 4, 1], [2, 6, 4], [4, 8, 6]]
    """
    stops = np.arange(context + 1, length + stride, stride, dtype=np.int64) if length > context + 1 else np.array([length])
    firsts = np.concatenate([[1], stops[:-1]])
    stops = np.minimum(stops, length)
    starts = np.maximum(0, firsts - 1) if stride == context else np.maximum(0, stops - context - 1)
    return np.stack([starts, stops, firsts], axis=1)


def evaluation_windows(
    split: Split, context: int | None, stride: int | None = None, batch_size: int = 32, max_tokens: int = 1 << 18
) -> Iterator[EvaluationBatch]:
    """Windows that score each token of each document once, those of like length together.

    context: tokens that are fed at most, so T ≤ context + 1 (None: whole documents). Without `stride` windows do not overlap: each
    begins with the last token of the one before it, which was scored but not yet fed. With `stride` S < context each
    window after the first scores S tokens and sees context - S before them again. `max_tokens` bounds B · T.
    """
    if context is not None and context < 1:
        raise UserError(f"context: must be at least 1, found {context}")
    if stride is not None and (context is None or not 1 <= stride <= context):
        raise UserError(f"stride: must lie in 1…{context if context is not None else 0} (the context), found {stride}")
    step = stride or context or 1
    ends = np.append(split.starts[1:], split.tokens)
    for low in range(0, split.documents, _SORTED_TOGETHER):
        documents = np.arange(low, min(low + _SORTED_TOGETHER, split.documents))
        starts, stops = split.starts[documents], ends[documents]
        lengths = stops - starts
        short = (lengths >= 2) & (lengths <= (np.inf if context is None else context + 1))
        windows = [np.stack([documents, starts, stops, starts + 1], axis=1)[short]]  # document, start, stop, first scored
        for i in np.flatnonzero(lengths > context + 1) if context is not None else ():
            laid = _lay_windows(int(lengths[i]), context or 0, step) + starts[i]
            windows.append(np.concatenate([np.full((len(laid), 1), documents[i]), laid], axis=1))
        yield from _batched(split, np.concatenate(windows), batch_size, max_tokens)


def _batched(split: Split, windows: NDArray[np.int64], batch_size: int, max_tokens: int) -> Iterator[EvaluationBatch]:
    lengths = windows[:, 2] - windows[:, 1]
    order = np.argsort(-lengths, kind="stable")
    at = 0
    while at < len(order):
        widest = int(lengths[order[at]])
        rows = windows[order[at : at + max(1, min(batch_size, max_tokens // widest))]]
        yield _gather(split, rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3] - rows[:, 1], np.empty(0, np.int64))
        at += len(rows)


def _gather(
    split: Split, documents: NDArray[np.int64], starts: NDArray[np.int64], stops: NDArray[np.int64],
    first: NDArray[np.int64], rows: NDArray[np.int64],
) -> EvaluationBatch:  # fmt: skip
    lengths = stops - starts
    places = np.arange(int(lengths.max()), dtype=np.int64)
    inside = places[None, :] < lengths[:, None]
    positions = np.where(inside, starts[:, None] + places, 0)
    tokens = np.where(inside, split.take(positions), 0)
    answers = None if split.answers is None else torch.from_numpy(split.answers[positions])
    of_rows = [torch.from_numpy(found) for found in (lengths, first, documents, rows, starts)]
    return EvaluationBatch(torch.from_numpy(tokens), *of_rows, answers=answers)


def evaluation_streams(split: Split, chunk: int, batch_size: int = 32) -> Iterator[Iterator[EvaluationBatch]]:
    """Documents whole, in groups of `batch_size`, each group as successive chunks of `chunk` fed tokens (T ≤ chunk + 1).

    Longer documents stand first in a group, so the rows that go on (`rows`, to be selected from the state) are the
    first ones. A chunk's first token is the last one of the chunk before it, scored but not yet fed. Groups are made of
    documents of like length, among 65,536 at a time; the order within a split does not change the result.
    """
    if chunk < 1 or batch_size < 1:
        raise UserError(f"chunk and batch_size must be at least 1, found {chunk} and {batch_size}")
    ends = np.append(split.starts[1:], split.tokens)
    lengths = ends - split.starts
    for low in range(0, split.documents, _SORTED_TOGETHER):
        order = low + np.argsort(-lengths[low : low + _SORTED_TOGETHER], kind="stable")
        order = order[lengths[order] > 1]
        for at in range(0, len(order), batch_size):
            yield _chunks(split, order[at : at + batch_size], ends, chunk)


def _chunks(split: Split, documents: NDArray[np.int64], ends: NDArray[np.int64], chunk: int) -> Iterator[EvaluationBatch]:
    starts = split.starts[documents]
    stops = ends[documents]
    while len(starts):
        first = np.ones(len(starts), np.int64)
        yield _gather(split, documents, starts, np.minimum(stops, starts + chunk + 1), first, np.arange(len(starts)))
        going_on = starts + chunk + 1 < stops
        documents, starts, stops = documents[going_on], starts[going_on] + chunk, stops[going_on]
