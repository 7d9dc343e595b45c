"""Budgets as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimo.core.budget import Budget
from bimo.core.errors import RecipeError


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [("30s", 30, "seconds"), ("10m", 600, "seconds"), ("1.5h", 5400, "seconds"), (" 2 min ", 120, "seconds"), ("300steps", 300, "steps"),
     ("2epochs", 2, "epochs"), ("0.5epoch", 0.5, "epochs"), ("5Mtokens", 5e6, "tokens"), ("10KTOKENS", 1e4, "tokens")],
)  # fmt: skip
def test_units(text: str, amount: float, unit: str) -> None:
    budget = Budget.parse(text)
    assert (budget.amount, budget.unit) == (amount, unit)
    assert budget.seconds == (amount if unit == "seconds" else None)


@pytest.mark.parametrize("text", ["0s", "0steps", "-3s", "", "s", "10", "10x", "1.5steps", "nan s", "infs", "1e3s", "10 m 5 s", "soon"])
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"^budget: "):
        Budget.parse(text)


@given(st.integers(1, 10**9), st.sampled_from(["s", "m", "h", "steps", "epochs", "tokens", "ktokens"]))
def test_what_is_written_reads_back(amount: int, unit: str) -> None:
    budget = Budget.parse(f"{amount}{unit}")
    assert Budget.parse(str(budget)) == budget


@given(st.text(max_size=12))
def test_any_text_is_a_budget_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(RecipeError):
        assert Budget.parse(text).amount > 0
