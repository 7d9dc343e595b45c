"""What memories learn: entries from the training text, temperatures on held-out text.

Shapes: n tokens, D width of the hidden states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor

from bimo.data.excerpt import excerpt
from bimo.data.split import Split
from bimo.models.base import NeuralLanguageModel
from bimo.models.hybrid import Hybrid
from bimo.models.hybrid.memory import Memory
from bimo.models.hybrid.model import Voice
from bimo.models.hybrid.neighbours import Neighbours
from bimo.models.hybrid.weights import Weights
from bimo.models.scoring import readings
from bimo.training.mixing import linear_weights, told_by_parts

_TUNED = 16_000  # tokens that a temperature is tried on


@torch.no_grad()
def remember(model: NeuralLanguageModel, memory: Neighbours, train: Split, context: int | None, late: Callable[[], bool]) -> str | None:
    """Read the training text once more and keep each token under the hidden state before it; what was left for want of time, in words.

    late: asked after each batch whether there is no time for more.
    """
    wanted = min(memory.config.entries, train.scored_tokens)
    text = excerpt(train, wanted) if wanted < train.scored_tokens else train
    keys, values, count = [], [], 0
    for states, tokens in _states(model, text, context):
        keys.append(states.to(torch.float16))
        values.append(tokens.to(torch.int32))
        count += len(tokens)
        if count >= wanted or late():
            break
    memory.keep(torch.cat(keys), torch.cat(values))
    if count >= min(wanted, text.scored_tokens):
        return None
    return f"knn: {count:,} of {wanted:,} tokens of the training text are remembered; there was no time for more"


def tune(model: NeuralLanguageModel, memory: Memory, text: Split, context: int | None) -> Hybrid:
    """The model beside its memory, whose temperature, where its config leaves it open, is the best of some on a part of `text`."""
    pair = Hybrid("linear", [Voice("model", model), Voice("memory", memory=memory, of=0)], Weights(torch.ones(2, dtype=torch.float64) / 2))
    name, best, chosen = open_field(memory), math.inf, None
    if name is None:
        return pair
    few = excerpt(text, _TUNED, rows=4)
    for value in _values(memory, model, few, context):
        setattr(memory.config, name, value)
        logs, _ = told_by_parts(pair, few, context)
        nats = float(-Weights(linear_weights(logs)).of_targets(logs, None).mean())
        if nats < best:
            best, chosen = nats, value
    setattr(memory.config, name, chosen)
    return pair


def _states(model: NeuralLanguageModel, text: Split, context: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Hidden states [n, D] of `text`, read as it is scored, and the tokens [n] that followed them."""
    for batch, begin in readings(model, text, context if model.context is not None else None):
        fed = batch.lengths - 1
        state = model.start(len(fed), begin.given) if begin.state is None else begin.state
        hidden, state = model.extend(state, batch.tokens[:, :-1].to(model.device), fed.to(model.device))
        begin.went_on(state)
        counted = batch.scored()[:, 1:]
        yield hidden.cpu()[counted], batch.tokens[:, 1:][counted]


def _values(memory: Memory, model: NeuralLanguageModel, text: Split, context: int | None) -> list[float]:
    """Temperatures to try, by how large the hidden states' products, or distances, are."""
    with torch.no_grad():
        states = next(iter(_states(model, text, context)))[0][:512].float()
    if isinstance(memory, Neighbours):
        typical = float(memory.nearest(states)[0].clamp(max=1e30).mean())
        return [typical * factor for factor in (0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0)]
    spread = float((states @ states.t()).flatten().std())
    return [factor / max(spread, 1e-9) for factor in (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)]


def open_field(memory: Memory | None) -> str | None:
    """The field of a memory that is learned on validation text, where the recipe leaves it open."""
    names = [name for name in ("flatness", "temperature") if memory is not None and name in type(memory.config).model_fields]
    return next((name for name in names if getattr(cast(Memory, memory).config, name) is None), None)
