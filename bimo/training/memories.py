"""What memories learn: entries from the training text, temperatures on held-out text.

Shapes: n tokens, D width of the hidden states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bimo.data.excerpt import excerpt, rounds, rows_for
from bimo.data.split import Split
from bimo.models.base import NeuralLanguageModel
from bimo.models.hybrid import Hybrid
from bimo.models.hybrid.memory import Memory
from bimo.models.hybrid.model import Voice
from bimo.models.hybrid.weights import Weights
from bimo.models.scoring import readings
from bimo.training.mixing import linear_weights, logs_by_parts

TUNED = 16_000  # tokens that a temperature is tried on
TRIED = 8  # values of it, at most
_ROUND = 1 << 14  # tokens of the training text that are remembered together, evenly drawn


@torch.no_grad()
def remember(
    model: NeuralLanguageModel, memory: Memory, train: Split, context: int | None, late: Callable[[], bool] | None = None
) -> list[str]:
    """Read the training text once more and keep tokens of it under the hidden state before each; what was left or is not found, in words.

    Where not all are wanted, or there may be no time for all, the text is read in rounds, each evenly drawn from the whole of it.
    late: asked after each batch whether there is no time for more.
    """
    wanted = min(memory.config.entries, train.scored_tokens)
    whole = late is None and wanted == train.scored_tokens
    texts = [train] if whole else rounds(train, min(_ROUND, max(1024, wanted)), whole=model.whole_documents)
    keys, values, count, over = [], [], 0, False
    for text in texts:
        for states, tokens in _states(model, text, context):
            keys.append(states.to(torch.float16))
            values.append(tokens.to(torch.int32))
            count += len(tokens)
            if over := late is not None and late():
                break
        if over or count >= wanted:
            break
    drawn = torch.arange(min(count, wanted)) * count // min(count, wanted)
    told = memory.keep(torch.cat(keys)[drawn], torch.cat(values)[drawn])
    notices = [] if told is None else [told]
    if over and count < wanted:
        notices.append(f"{count:,} of {wanted:,} tokens are remembered, drawn from all of the training text; there was no time for more")
    return notices


def tune(model: NeuralLanguageModel, memory: Memory, text: Split, context: int | None) -> Hybrid:
    """The model beside its memory, whose temperature, where its config leaves it open, is the best of some on a part of `text`."""
    pair = Hybrid("linear", [Voice("model", model), Voice("memory", memory=memory, of=0)], Weights(torch.ones(2, dtype=torch.float64) / 2))
    name, best, chosen = memory.open_field, math.inf, None
    if name is None:
        return pair
    few = excerpt(text, TUNED, rows=min(4, rows_for(TUNED, memory.reach)))
    with torch.no_grad():
        states = next(iter(_states(model, few, context)))[0][:512].float()
    with memory.reading_again():
        for value in memory.to_try(states):
            setattr(memory.config, name, value)
            logs, _ = logs_by_parts(pair, few, context)
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
