"""Budgets: how much time, how many steps, epochs or tokens a run may use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from bimo.core.errors import RecipeError

Unit = Literal["seconds", "steps", "epochs", "tokens"]

_SUFFIXES: dict[str, tuple[Unit, float]] = {
    "s": ("seconds", 1), "sec": ("seconds", 1), "m": ("seconds", 60), "min": ("seconds", 60), "h": ("seconds", 3600),
    "steps": ("steps", 1), "step": ("steps", 1), "epochs": ("epochs", 1), "epoch": ("epochs", 1),
    "tokens": ("tokens", 1), "ktokens": ("tokens", 1e3), "mtokens": ("tokens", 1e6), "gtokens": ("tokens", 1e9),
}  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """A cap on learning.

    >>> Budget.parse("10m")
    Budget(amount=600.0, unit='seconds')
    >>> str(Budget.parse("5Mtokens"))
    '5000000tokens'
    """

    amount: float
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read 30s, 10m, 1h, 300steps, 2epochs or 5Mtokens; anything else is a `RecipeError`."""
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]+)\s*", str(text))
        unit = _SUFFIXES.get(match.group(2).lower()) if match else None
        if match is None or unit is None:
            raise RecipeError(f"budget: cannot read {text!r}; write for example 30s, 10m, 1h, 300steps, 2epochs or 5Mtokens")
        amount = float(match.group(1)) * unit[1]
        if amount <= 0:
            raise RecipeError(f"budget: must be more than nothing, found {text!r}")
        if unit[0] in ("steps", "tokens") and amount != int(amount):
            raise RecipeError(f"budget: {unit[0]} must be a whole number, found {text!r}")
        return cls(amount, unit[0])

    @property
    def seconds(self) -> float | None:
        """The cap in seconds, or None where the budget is not one of time."""
        return self.amount if self.unit == "seconds" else None

    def __str__(self) -> str:
        amount = int(self.amount) if self.amount == int(self.amount) else self.amount
        return f"{amount}{'s' if self.unit == 'seconds' else self.unit}"
