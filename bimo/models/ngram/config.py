"""What one can choose about an n-gram model."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from bimo.models.base import ModelConfig

Smoothing = Literal["kneser-ney", "witten-bell", "add-k", "mle", "stupid-backoff", "arpa"]


class Rule(IntEnum):
    """What an n-gram that is not in the table costs after its context."""

    BACK_OFF = 0  # the context's back-off weight times the shorter context's probability
    PENALTY = 1  # a fixed factor for each word that the context loses, seen or not
    FLOOR = 2  # one fixed probability per context; uniform where the context is not in the table


class NGramConfig(ModelConfig):
    """The model section of a recipe for counted n-grams.

    >>> NGramConfig(order=3).cutoff(3)
    0
    >>> NGramConfig(order=4, cutoffs=[0, 1]).cutoff(4)
    1
    """

    order: int = Field(default=5, ge=1, le=1000, description="words of an n-gram, the predicted one included")
    smoothing: Smoothing = Field(
        default="kneser-ney",
        description="kneser-ney (interpolated, modified) | witten-bell (interpolated) | add-k | mle (no smoothing: the longest "
        "context seen) | stupid-backoff (not normalised) | arpa (read from a file, cannot count)",
    )
    k: float = Field(default=0.1, gt=0, allow_inf_nan=False, description="what add-k adds to every count")
    alpha: float = Field(default=0.4, gt=0, le=1, description="stupid back-off's factor for each word that the context loses")
    cutoffs: list[Annotated[int, Field(ge=0)]] = Field(
        default_factory=lambda: [0],
        min_length=1,
        description="n-grams of order k seen at most cutoffs[k-1] times are dropped; "
        "the last value holds for higher orders; the first is 0",
    )
    discount_fallback: tuple[float, float, float] = Field(
        default=(0.5, 1.0, 1.5), description="Kneser-Ney discounts of counts 1, 2, 3 and more, where the text is too small to estimate them"
    )

    @model_validator(mode="after")
    def _check(self) -> NGramConfig:
        if self.cutoffs[0] != 0:
            raise ValueError(f"cutoffs: the first value is 0, since words are never dropped; found {self.cutoffs}")
        if any(low > high for low, high in zip(self.cutoffs, self.cutoffs[1:], strict=False)):
            raise ValueError(f"cutoffs: values must not fall from one order to the next; found {self.cutoffs}")
        if not all(0 <= d <= count for count, d in enumerate(self.discount_fallback, start=1)):
            raise ValueError(f"discount_fallback: the discount of count c lies in 0…c; found {list(self.discount_fallback)}")
        return self

    def cutoff(self, order: int) -> int:
        """The highest count of an n-gram of `order` that is dropped."""
        return self.cutoffs[min(order, len(self.cutoffs)) - 1]

    @property
    def rule(self) -> Rule:
        """How this smoothing answers for n-grams that are not in the table."""
        return {"stupid-backoff": Rule.PENALTY, "add-k": Rule.FLOOR}.get(self.smoothing, Rule.BACK_OFF)
