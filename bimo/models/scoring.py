"""A text under a model, window after window or as a stream: what every figure of a held-out text is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bimo.core import progress
from bimo.core.errors import UserError
from bimo.data.rows import given_of
from bimo.data.split import Split
from bimo.data.windows import EvaluationBatch, evaluation_streams, evaluation_windows
from bimo.models.base import LanguageModel

_BATCH_TOKENS, _ON_A_CARD = 1 << 12, 1 << 14  # tokens scored together: on a processor more are no faster, and take more memory
_DOCUMENT_ROWS = 64  # whole documents scored together


class Begin:
    """What a row's reading begins with. state: of the rows that go on, or None; given: what each row is given, or None."""

    def __init__(self, given: Any = None, state: Any = None) -> None:
        self.given, self.state = given, state
        self.left: Any = None

    def went_on(self, state: Any) -> None:
        """Keep the state that the rows left, for those that go on from it."""
        self.left = state


def tokens_together(model: LanguageModel) -> int:
    """About how many tokens are scored together where the model lies."""
    return _ON_A_CARD if model.device.type == "cuda" else _BATCH_TOKENS


def readings(
    model: LanguageModel, split: Split, context: int | None = None, stride: int | None = None
) -> Iterator[tuple[EvaluationBatch, Begin]]:
    """Rows of `split` as this model reads them to score it, each with what it is to go on from or is given.

    Yields (batch, begin): `begin.given` and `begin.state` go to `score`, whose state goes to `begin.went_on`. Every token that counts
    is scored once (`EvaluationBatch.scored`): all but each document's first, or those of answers. context, stride: as in `token_nats`.
    """
    context = None if model.context is None else min(context or model.context, model.context)
    if model.whole_documents:
        if stride is not None:
            raise UserError("stride: this model reads each document whole; leave --stride out")
        for batch in evaluation_windows(split, None, batch_size=_DOCUMENT_ROWS, max_tokens=tokens_together(model)):
            given = given_of(split, batch.documents.numpy())
            yield batch, Begin(None if given is None else given.to(model.device))
    elif context is None or model.outlives_context:
        if stride is not None:
            raise UserError("stride: what this model remembers has no limit, and it reads each document whole; leave --stride out")
        yield from _streams(model, split, context)
    else:
        for batch in evaluation_windows(split, context, stride, max(1, tokens_together(model) // context)):
            yield batch, Begin()


def _streams(model: LanguageModel, split: Split, context: int | None) -> Iterator[tuple[EvaluationBatch, Begin]]:
    longest = int(np.diff(split.starts, append=split.tokens).max())
    rows = max(1, min(32, split.documents))
    chunk = min(longest, max(64, tokens_together(model) // rows)) if context is None else context
    for group in evaluation_streams(split, chunk, rows):
        before: Any = None
        for batch in group:
            if before is not None:
                before = model.select(before, batch.rows.to(model.device))
                before = before if context is None else model.renew(before, batch.tokens[:, :0].to(model.device))
            begin = Begin(None, before)
            yield batch, begin
            before = begin.left


@torch.no_grad()
def token_nats(model: LanguageModel, split: Split, context: int | None = None, stride: int | None = None) -> NDArray[np.float64]:
    """Nats of every token of `split`, float64 [tokens]; 0 for each document's first token, and for all but answers where these alone count.

    context: fed tokens of a window (the model's own if None); stride: new tokens a window, where windows overlap.
    """
    nats = np.zeros(split.tokens)
    with progress.task("scoring held-out text", total=split.scored_tokens) as scoring:
        for batch, begin in readings(model, split, context, stride):
            score = model.score(batch.tokens, batch.lengths, begin.given, begin.state)
            begin.went_on(score.state)
            place(nats, batch, score.nats)
            scoring.advance(int(batch.scored().sum()))
    return nats


def document_nats(model: LanguageModel, split: Split, context: int | None = None) -> NDArray[np.float64]:
    """Nats of every document of `split`, float64 [documents]."""
    return np.add.reduceat(token_nats(model, split, context), split.starts) if split.documents else np.zeros(0)


def place(into: NDArray[Any], batch: EvaluationBatch, found: Tensor) -> None:
    """Put what was found of a batch's tokens, [B, T, …], at their places in `into`, [tokens, …] of the split."""
    kept = batch.scored().numpy()
    places = batch.starts.numpy()[:, None] + np.arange(kept.shape[1])
    into[places[kept]] = found.cpu().numpy()[kept]
