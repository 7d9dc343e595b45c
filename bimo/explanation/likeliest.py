"""What else was likely: the rank of each token of a text among all, and the likeliest ones. Shapes: T tokens, V vocabulary."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from bimo.models.base import Kind, LanguageModel
from bimo.models.latent import with_latent
from bimo.models.masked import Fills

_LOGITS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Place:
    """rank: of the token that stands there, 1 the likeliest; top: ids and probabilities, the likeliest first."""

    rank: int
    top: list[tuple[int, float]]


@torch.no_grad()
def likeliest(model: LanguageModel, tokens: Tensor, nats: Sequence[float], top_k: int, given: Any = None, state: Any = None) -> list[Place]:
    """A `Place` for each of `tokens` [T] but the first, whose `nats` [T] are known.

    given, state: of this one row, as in `LanguageModel.score`; the state is consumed. A model that fills gaps tells each token with that
    token hidden; one with a latent is asked at the mean of the text's. None at all for a model that does neither.
    """
    if model.continues_text:
        told = _continued(model, tokens.to(model.device), given, state)
    elif "fill" in model.capabilities:
        told = _filled(model, tokens.to(model.device))
    else:
        return []
    found: list[Place] = []
    for logits in told:  # [n, V] at a time
        for row in logits.double():
            token, cost = int(tokens[len(found) + 1]), nats[len(found) + 1]
            found.append(_place(row, token, cost if model.kind is Kind.UNNORMALISED else None, top_k))
    return found


def _continued(model: LanguageModel, tokens: Tensor, given: Any, state: Any) -> Iterator[Tensor]:
    if state is None:
        if given is None and "latent" in model.capabilities:
            given = with_latent(model).encode(tokens[None])[0]
        state = model.start(1, given)
    size = max(1, _LOGITS_AT_ONCE // model.vocab_size)
    for low in range(0, len(tokens) - 1, size):
        logits, state = model.advance(state, tokens[None, low : min(low + size, len(tokens) - 1)])
        yield logits[0]


def _filled(model: LanguageModel, tokens: Tensor) -> Iterator[Tensor]:
    fills = cast(Fills, model)
    size = max(1, _LOGITS_AT_ONCE // (model.vocab_size * len(tokens)))
    for places in torch.arange(1, len(tokens), device=tokens.device).split(size):
        each = torch.arange(len(places), device=tokens.device)
        seen = tokens.repeat(len(places), 1)
        seen[each, places] = cast(int, fills.mask_id)
        yield fills.fill(seen)[each, places]


def _place(logits: Tensor, token: int, cost: float | None, top_k: int) -> Place:
    """cost: nats of the token where scores do not sum to one; all others then are in proportion to it."""
    scores = logits.log_softmax(0)
    if cost is not None and math.isfinite(cost) and math.isfinite(float(logits[token])):
        scores = logits - logits[token] - cost
    values, ids = scores.topk(min(top_k, len(scores)))
    top = [(id, math.exp(value)) for id, value in zip(ids.tolist(), values.tolist(), strict=True) if value > -math.inf]
    return Place(1 + int((logits > logits[token]).sum()), top)
