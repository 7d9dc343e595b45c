"""The conformance test sees what it is there to see: each mutant is caught by the property meant for it."""

from __future__ import annotations

import pytest
import torch

from bimo.core.errors import BimoError
from tests.conformance.mutants import MUTANTS
from tests.conformance.mutants_of_states import GivenATextFirst, ReadsInPlace
from tests.conformance.properties import PROPERTIES
from tests.fakes import FakeModel, FakeNeural

SIZE, CONTEXT = 8, 7


class InSlices(FakeModel):
    """Scores two steps at a time, as a long text is scored."""

    def _slice(self, batch: int) -> int:
        return 2


class NeuralInSlices(FakeNeural):
    """The same with hidden states."""

    def _slice(self, batch: int) -> int:
        return 2


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
@pytest.mark.parametrize("fake", [FakeModel, FakeNeural, ReadsInPlace, InSlices, NeuralInSlices])
@pytest.mark.parametrize("context", [None, CONTEXT])
def test_whole_models_pass(check, fake, context):
    check(fake.of(SIZE, context=context))


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
def test_a_whole_model_that_is_given_a_text_passes(check):
    check(GivenATextFirst.of(SIZE))


@pytest.mark.parametrize(("mutant", "check"), MUTANTS, ids=lambda value: value.__name__)
def test_a_mutant_is_caught(mutant, check):
    model = mutant.of(SIZE, context=CONTEXT if check.__name__ == "the_context_is_its_limit" or "Context" in mutant.__name__ else None)
    torch.manual_seed(0)
    with pytest.raises((AssertionError, pytest.fail.Exception, BimoError, IndexError)):
        check(model)


def test_every_property_has_a_mutant():
    assert {check for _, check in MUTANTS} == set(PROPERTIES)
