"""Models that read or score wrongly, in one thing each."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from bimo.models.base import Keep, Kind
from tests.conformance import reading
from tests.conformance.broken import seen_by
from tests.fakes import FakeModel, FakeNeural, FakeState


def rescored(result: Any, nats: Tensor, **changes: Any) -> Any:
    return dataclasses.replace(result, nats=nats, **changes)


@seen_by(reading.probabilities_sum_to_one)
class ScoreIsTooKind(FakeModel):
    def score(self, *args: Any, **named: Any) -> Any:
        result = super().score(*args, **named)
        return rescored(result, result.nats * 0.99)


@seen_by(reading.probabilities_sum_to_one)
class UnnormalisedByTheToken(FakeModel):
    kind = Kind.UNNORMALISED

    def score(self, tokens: Tensor, *args: Any, **named: Any) -> Any:
        result = super().score(tokens, *args, **named)
        return rescored(result, result.nats + result.scored * tokens * 0.1)


@seen_by(reading.probabilities_sum_to_one)
class UnnormalisedPossibilities(FakeModel):
    kind = Kind.UNNORMALISED

    def score(self, *args: Any, **named: Any) -> Any:
        result = super().score(*args, **named)
        return rescored(result, result.nats.clamp(max=50.0))


@seen_by(reading.score_is_advance)
class ScoreOffByOne(FakeModel):
    def score(self, *args: Any, **named: Any) -> Any:
        result = super().score(*args, **named)
        return rescored(result, torch.where(result.scored, result.nats.roll(-1, 1), 0.0))


@seen_by(reading.score_is_advance)
class FirstTokenIsScored(FakeModel):
    def score(self, *args: Any, **named: Any) -> Any:
        result = super().score(*args, **named)
        return rescored(result, torch.cat([torch.ones_like(result.nats[:, :1]), result.nats[:, 1:]], 1))


@seen_by(reading.score_is_advance)
class PaddingIsScored(FakeModel):
    def score(self, *args: Any, **named: Any) -> Any:
        result = super().score(*args, **named)
        nats = torch.where(result.scored, result.nats, 1.0)
        nats[:, 0] = 0
        return rescored(result, nats)


@seen_by(reading.score_is_advance)
class MaskForgetsLengths(FakeModel):
    def score(self, *args: Any, **named: Any) -> Any:
        result = super().score(*args, **named)
        scored = torch.ones_like(result.scored)
        scored[:, 0] = False
        return rescored(result, result.nats, scored=scored)


@seen_by(reading.score_is_advance)
class ScoreInSinglePrecision(FakeModel):
    def score(self, *args: Any, **named: Any) -> Any:
        result = super().score(*args, **named)
        return rescored(result, result.nats.float())


@seen_by(reading.score_continues)
class ScoreIgnoresItsState(FakeModel):
    def score(self, tokens: Tensor, lengths: Any = None, given: Any = None, state: Any = None) -> Any:
        return super().score(tokens, lengths, given, None)


@seen_by(reading.score_continues)
class ScoreFeedsTheLastToken(FakeModel):
    def score(self, tokens: Tensor, lengths: Any = None, given: Any = None, state: Any = None) -> Any:
        result = super().score(tokens, lengths, given, state)
        ends = torch.full((len(tokens),), tokens.shape[1]) if lengths is None else lengths
        return rescored(result, result.nats, state=self.advance(result.state, tokens[torch.arange(len(tokens)), ends - 1][:, None])[1])


@seen_by(reading.score_continues)
class ScoreStateForgetsLengths(FakeModel):
    def score(self, tokens: Tensor, lengths: Any = None, given: Any = None, state: Any = None) -> Any:
        result = super().score(tokens, lengths, given, state)
        return rescored(result, result.nats, state=super().score(tokens, None, given).state)


@seen_by(reading.steps_equal_bulk)
class ForgetsBetweenCalls(FakeModel):
    def advance(self, state: Any, *args: Any, **named: Any) -> Any:
        logits, new = super().advance(state, *args, **named)
        return logits, FakeState([row[-1:] for row in new.rows])


@seen_by(reading.steps_equal_bulk)
class LooksAhead(FakeModel):
    def advance(self, state: Any, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> Any:
        logits, new = super().advance(state, tokens, lengths, keep)
        if logits.shape[1] > 1:
            logits[:, :-1].scatter_add_(2, tokens[:, 1:, None], torch.full_like(logits[:, 1:, :1], 0.01))
        return logits, new


@seen_by(reading.rows_and_padding_are_independent)
class PaddingIsRead(FakeModel):
    def advance(self, state: Any, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> Any:
        old = [list(row) for row in state.rows]
        logits, _ = super().advance(state, tokens, lengths, keep)
        return logits, FakeState([row + tokens[b].tolist() for b, row in enumerate(old)])


@seen_by(reading.rows_and_padding_are_independent)
class PaddingIsSeen(FakeModel):
    def advance(self, state: Any, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> Any:
        logits, new = super().advance(state, tokens, lengths, keep)
        if lengths is not None:
            past = torch.arange(tokens.shape[1]) >= lengths[:, None]
            logits[:, 0, 3] += 0.01 * (past * tokens).sum(1)
        return logits, new


@seen_by(reading.rows_and_padding_are_independent)
class RowsSeeEachOther(FakeModel):
    def advance(self, state: Any, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> Any:
        logits, new = super().advance(state, tokens, lengths, keep)
        logits[..., 3] += 0.01 * (len(tokens) - 1)
        return logits, new


@seen_by(reading.rows_and_padding_are_independent)
class AllRowsAsLongAsTheFirst(FakeModel):
    def advance(self, state: Any, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> Any:
        logits, new = super().advance(state, tokens, lengths, keep)
        return logits, FakeState([row[: len(new.rows[0])] for row in new.rows])


@seen_by(reading.last_is_the_last_of_all)
class LastIgnoresLengths(FakeModel):
    def advance(self, state: Any, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> Any:
        logits, new = super().advance(state, tokens, lengths)
        return (logits[:, -1:] if keep == "last" else logits), new


@seen_by(reading.last_is_the_last_of_all)
class LastForgetsToRead(FakeModel):
    def advance(self, state: Any, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> Any:
        old = [list(row) for row in state.rows]
        logits, new = super().advance(state, tokens, lengths, keep)
        return logits, FakeState(old) if keep == "last" else new


@seen_by(reading.suppressed_ids_are_never_predicted)
class PredictsSuppressed(FakeModel):
    def advance(self, *args: Any, **named: Any) -> Any:
        logits, new = super().advance(*args, **named)
        return logits.nan_to_num(neginf=-20.0), new


@seen_by(reading.suppressed_ids_are_never_predicted)
class PredictsNothing(FakeModel):
    def advance(self, *args: Any, **named: Any) -> Any:
        logits, new = super().advance(*args, **named)
        return torch.full_like(logits, float("-inf")), new


@seen_by(reading.nothing_is_dropped_out)
class DropsOut(FakeNeural):
    def advance(self, *args: Any, **named: Any) -> Any:
        logits, new = super().advance(*args, **named)
        return torch.nn.functional.dropout(logits, 0.5, self.training).nan_to_num(nan=0.0, neginf=float("-inf")), new


@seen_by(reading.hidden_and_head_are_advance)
class HiddenIgnoresBoundaries(FakeNeural):
    def hidden(self, tokens: Tensor, carry: Any = None, boundaries: Tensor | None = None) -> Any:
        return super().hidden(tokens, carry, None)


@seen_by(reading.hidden_and_head_are_advance)
class BoundariesComeLate(FakeNeural):
    def hidden(self, tokens: Tensor, carry: Any = None, boundaries: Tensor | None = None) -> Any:
        return super().hidden(tokens, carry, None if boundaries is None else boundaries.roll(1, 1))


@seen_by(reading.hidden_and_head_are_advance)
class BoundariesOfTheFirstRow(FakeNeural):
    def hidden(self, tokens: Tensor, carry: Any = None, boundaries: Tensor | None = None) -> Any:
        return super().hidden(tokens, carry, None if boundaries is None else boundaries[:1].expand_as(boundaries))


@seen_by(reading.hidden_and_head_are_advance)
class FirstBoundaryKeepsTheCarry(FakeNeural):
    def hidden(self, tokens: Tensor, carry: Any = None, boundaries: Tensor | None = None) -> Any:
        if boundaries is not None:
            boundaries = boundaries.clone()
            boundaries[:, 0] = False
        return super().hidden(tokens, carry, boundaries)


@seen_by(reading.hidden_and_head_are_advance)
class CarryIsLost(FakeNeural):
    def hidden(self, tokens: Tensor, carry: Any = None, boundaries: Tensor | None = None) -> Any:
        return super().hidden(tokens, None, boundaries)


@seen_by(reading.hidden_and_head_are_advance)
class HeadIsAnother(FakeNeural):
    def head(self) -> Any:
        return self.weight * 1.01, None
