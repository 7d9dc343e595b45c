"""Who said what: the word of each part of a hybrid on each token, and what that rests on.

Shapes: B rows, T tokens, K parts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from bimo.models.base import NeuralLanguageModel, State
from bimo.models.grounds import NOTHING_TOLD, Grounds, PartSaid
from bimo.models.hybrid.memory import Memory

if TYPE_CHECKING:
    from bimo.models.hybrid.model import Hybrid


@torch.no_grad()
def told_by_parts(hybrid: Hybrid, tokens: Tensor, lengths: Tensor, given: Any, state: State) -> list[list[Grounds]]:
    """`LanguageModel.grounds` of a hybrid, for checked tokens [B, T]; parts that are hybrids tell theirs likewise."""
    every = torch.arange(len(tokens), device=tokens.device)
    copies = [None if state is None else hybrid.select(state, every) for _ in range(2)]
    weights, logs, _ = hybrid.shares(tokens, lengths, given, copies[0])  # [B, T, K]
    shares = (weights + logs).softmax(-1).tolist()
    weights, logs = weights.exp().tolist(), logs.tolist()
    rests = [*zip(*_rests(hybrid, tokens, lengths, given, copies[1], state), strict=True)]  # [B][K][T]
    told = [[NOTHING_TOLD] * tokens.shape[1] for _ in range(len(tokens))]
    for row, length in enumerate(lengths.tolist()):
        for t in range(1, length):
            parts = []
            for k, voice in enumerate(hybrid.voices):
                rest, share = rests[row][k][t], shares[row][t][k]
                silent = voice.memory is not None and not rest.recalled
                nats = None if silent else 0.0 - logs[row][t][k]
                summed = hybrid.mixture != "product" and not math.isnan(share)
                parts.append(PartSaid(voice.name, weights[row][t][k], nats, share if summed else None, rest))
            told[row][t] = Grounds(parts=tuple(parts))
    return told


def _rests(hybrid: Hybrid, tokens: Tensor, lengths: Tensor, given: Any, state: State, again: State) -> list[list[list[Grounds]]]:
    """What each part's word rests on, [K][B][T]; state and again: the same twice, since reading consumes one."""
    found: list[list[list[Grounds]]] = []
    read: dict[int, Tensor] = {}
    owns = None if state is None else hybrid.states_of(state)
    for number, voice in enumerate(hybrid.voices):
        if voice.model is not None:
            source = hybrid.given_to(voice.model, given) if owns is None else None
            found.append(voice.model.grounds(tokens, lengths, source, None if owns is None else owns[number]))
            continue
        again = hybrid.start(len(tokens), given) if again is None else again
        of, parts, fed = cast(int, voice.of), hybrid.states_of(again), tokens[:, : max(1, tokens.shape[1] - 1)]
        if of not in read:
            read[of], _ = cast(NeuralLanguageModel, hybrid.voices[of].model).extend(parts[of], fed, (lengths - 1).clamp(min=1))
        places = cast(Memory, voice.memory).recalled(parts[number], read[of], fed, lengths - 1)
        found.append([[Grounds(recalled=told) for told in [(), *row][: tokens.shape[1]]] for row in places])
    return found
