"""All mutants: models with one thing broken each, and the property that must see it."""

from __future__ import annotations

from tests.conformance import mutants_of_reading, mutants_of_states
from tests.conformance.broken import MUTANTS

__all__ = ["MUTANTS", "mutants_of_reading", "mutants_of_states"]
