"""Models that remember, save or refuse wrongly, in one thing each."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from bimo.core.errors import CapabilityError, UserError
from bimo.models.base import Keep, Kind
from bimo.text.vocabulary import Vocabulary
from tests.conformance import promises, reading, states
from tests.conformance.broken import seen_by
from tests.fakes import FakeModel, FakeNeural, FakeState


@seen_by(states.rows_are_selected)
class SelectIgnoresOrder(FakeModel):
    def select(self, state: Any, rows: Tensor) -> Any:
        return super().select(state, rows.sort().values)


@seen_by(states.rows_are_selected)
class SelectIgnoresRepetition(FakeModel):
    def select(self, state: Any, rows: Tensor) -> Any:
        return super().select(state, torch.unique(rows))


@seen_by(states.rows_are_selected)
class SelectKeepsAll(FakeModel):
    def select(self, state: Any, rows: Tensor) -> Any:
        return super().select(state, torch.cat([rows, torch.arange(len(state.rows))[len(rows) :]]))


@seen_by(states.rows_are_selected)
class SelectCutsToTheShortest(FakeModel):
    def select(self, state: Any, rows: Tensor) -> Any:
        new = super().select(state, rows)
        return FakeState([row[: min(map(len, new.rows))] for row in new.rows])


class ReadsInPlace(FakeModel):
    """No mutant yet: each row's list grows in place, which is right as long as select and join copy."""

    def advance(self, state: Any, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> Any:
        rows = state.rows
        logits, new = super().advance(FakeState(rows), tokens, lengths, keep)
        for row, grown in zip(rows, new.rows, strict=True):
            row[:] = grown
        return logits, FakeState(rows)


@seen_by(states.branches_are_independent)
class SelectShares(ReadsInPlace):
    def select(self, state: Any, rows: Tensor) -> Any:
        return FakeState([state.rows[row] for row in rows.tolist()])


@seen_by(states.branches_are_independent)
class JoinShares(ReadsInPlace):
    def join(self, states: Any) -> Any:
        return FakeState([row for state in states for row in state.rows])


@seen_by(states.rows_are_joined)
class JoinReverses(FakeModel):
    def join(self, states: Any) -> Any:
        return super().join(states[::-1])


@seen_by(states.rows_are_joined)
class JoinCutsToTheShortest(FakeModel):
    def join(self, states: Any) -> Any:
        rows = super().join(states).rows
        return FakeState([row[: min(map(len, rows))] for row in rows])


@seen_by(states.rows_are_joined)
class JoinDropsTheLast(FakeModel):
    def join(self, states: Any) -> Any:
        return super().join(states[:-1])


@seen_by(states.rewinding_forgets)
class RewindDoesNothing(FakeModel):
    def rewind(self, state: Any, lengths: Tensor) -> Any:
        return state


@seen_by(states.rewinding_forgets)
class RewindIsTheSameForAll(FakeModel):
    def rewind(self, state: Any, lengths: Tensor) -> Any:
        return super().rewind(state, lengths.min().expand_as(lengths))


@seen_by(states.rewinding_forgets)
class RewindOffByOne(FakeModel):
    def rewind(self, state: Any, lengths: Tensor) -> Any:
        return super().rewind(state, lengths + 1)


@seen_by(states.rewinding_forgets)
class RewindsInSecret(FakeModel):
    capabilities = frozenset()


@seen_by(states.rewinding_forgets)
class ClaimsToRewind(FakeModel):
    def rewind(self, state: Any, lengths: Tensor) -> Any:
        return super(FakeModel, self).rewind(state, lengths)


@seen_by(states.states_tell_their_size)
class SizeOfAllRows(FakeModel):
    def state_bytes(self, state: Any) -> int:
        return sum(8 * len(row) for row in state.rows)


@seen_by(states.states_tell_their_size)
class NoSize(FakeModel):
    def state_bytes(self, state: Any) -> int:
        return 0


@seen_by(promises.saving_and_loading_is_identity)
class SavedRounded(FakeNeural):
    def tensors(self) -> Any:
        return {**super().tensors(), "weight": self.weight.detach().float().double()}


@seen_by(promises.saving_and_loading_is_identity)
class SuppressedNotSaved(FakeModel):
    def config_dict(self) -> Any:
        return {**super().config_dict(), "suppress_tokens": []}


@seen_by(promises.saving_and_loading_is_identity)
class EndOfTextNotLoaded(FakeModel):
    @classmethod
    def from_tensors(cls, config: Any, tensors: Any) -> Any:
        model = super().from_tensors(config, tensors)
        model.vocabulary = dataclasses.replace(model.vocabulary, eos=None)
        return model


@seen_by(promises.saving_and_loading_is_identity)
class ContextNotLoaded(FakeModel):
    @classmethod
    def from_tensors(cls, config: Any, tensors: Any) -> Any:
        return super().from_tensors({**config, "context": None}, tensors)


@seen_by(promises.same_seed_same_text)
class HasMoods(FakeModel):
    def __init__(self, config: Any, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        self.calls = 0

    def advance(self, *args: Any, **named: Any) -> Any:
        logits, new = super().advance(*args, **named)
        self.calls += 1
        return (logits.roll(1, -1) if self.calls > 15 else logits), new


@seen_by(promises.the_context_is_its_limit)
class ReadsOnBeyond(FakeModel):
    def check_context(self, length: int) -> None:
        pass


@seen_by(promises.the_context_is_its_limit)
class StopsShort(FakeModel):
    def check_context(self, length: int) -> None:
        super().check_context(length + 1)


@seen_by(promises.the_context_is_its_limit)
class BreaksBeyond(FakeModel):
    def check_context(self, length: int) -> None:
        if self.context is not None and length > self.context:
            raise IndexError("index out of range")


@seen_by(promises.the_context_is_its_limit)
class ForgetsSilently(FakeModel):
    def advance(self, state: Any, tokens: Tensor, *args: Any, **named: Any) -> Any:
        context = self.context or 100
        return super().advance(FakeState([row[: max(0, context - tokens.shape[1])] for row in state.use()]), tokens, *args, **named)


@seen_by(promises.bad_input_is_a_clear_error)
class WrapsIds(FakeModel):
    def checked(self, tokens: Tensor, lengths: Tensor | None) -> Any:
        return super().checked(tokens % self.vocab_size, lengths)


@seen_by(promises.bad_input_is_a_clear_error)
class ForgivesLengths(FakeModel):
    def checked(self, tokens: Tensor, lengths: Tensor | None) -> Any:
        return super().checked(tokens, lengths if lengths is None else lengths.clamp(1, tokens.shape[1]))


@seen_by(promises.bad_input_is_a_clear_error)
class BreaksOnNothing(FakeModel):
    def checked(self, tokens: Tensor, lengths: Tensor | None) -> Any:
        tokens[0, 0]
        return super().checked(tokens, lengths)


@seen_by(promises.it_goes_on_or_says_so)
class RefusesToGoOn(FakeModel):
    def start(self, batch: int, given: Any = None) -> Any:
        raise CapabilityError("this model does not continue texts; it has score")


@seen_by(promises.it_goes_on_or_says_so)
class GoesOnRegardless(FakeModel):
    continues_text = False


@seen_by(promises.it_goes_on_or_says_so)
class RefusesWithoutHelp(FakeModel):
    continues_text = False

    def start(self, batch: int, given: Any = None) -> Any:
        raise CapabilityError("no")

    def advance(self, state: Any, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> Any:
        raise CapabilityError("no")


class GivenATextFirst(FakeModel):
    """No mutant yet: what a row is given stands before its text, and tells what comes next as that does."""

    kind = Kind.CONDITIONAL

    def start(self, batch: int, given: Any = None) -> Any:
        if given is None:
            raise UserError("given: this model is given a source text")
        return FakeState([row[:length].tolist() for row, length in zip(given.tokens, given.lengths.tolist(), strict=True)])

    def rewind(self, state: Any, lengths: Tensor) -> Any:
        return super().rewind(state, lengths + 5)


@seen_by(states.rewinding_forgets)
class RewindsIntoWhatWasGiven(GivenATextFirst):
    def rewind(self, state: Any, lengths: Tensor) -> Any:
        return FakeModel.rewind(self, state, lengths)


@seen_by(reading.score_is_advance)
class ScoreForgetsWhatWasGiven(GivenATextFirst):
    def score(self, tokens: Tensor, lengths: Any = None, given: Any = None, state: Any = None) -> Any:
        other = None if given is None else type(given)(given.tokens.roll(1, 1), given.lengths)
        return super().score(tokens, lengths, other, state)


@seen_by(states.renewing_begins_anew)
class RenewsNoContext(FakeModel):
    def renew(self, state: Any, tokens: Tensor, lengths: Any = None, given: Any = None) -> Any:
        return self.advance(state, tokens, lengths)[1] if tokens.shape[1] else state


@seen_by(states.renewing_begins_anew)
class RenewsItsContextUnread(FakeModel):
    def renew(self, state: Any, tokens: Tensor, lengths: Any = None, given: Any = None) -> Any:
        return self.start(len(tokens), given)
