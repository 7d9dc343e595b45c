"""Rotary positions (Su 2021), and the ways of stretching them over longer texts than a model first learned from."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor


class RopeScaling(BaseModel):
    """How rotary angles are slowed for texts beyond the `original_context` that a model first learned from.

    linear: all by `factor` (Chen 2023). llama3: those by `factor` that turn less than `low_freq_factor` times within the original
    context, none that turn more than `high_freq_factor` times, by steps between (Llama 3.1). yarn: likewise between `beta_slow` and
    `beta_fast` turns, by dimension, and all cosines and sines times `attention_factor` (Peng 2023).
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    type: Literal["linear", "llama3", "yarn"] = Field(description="linear, llama3 or yarn")
    factor: float = Field(ge=1, description="how many times longer the text may be")
    original_context: int | None = Field(None, ge=1, description="tokens that the model first learned from (llama3, yarn)")
    low_freq_factor: float = Field(1.0, gt=0, description="llama3: turns below which an angle is slowed by the whole factor")
    high_freq_factor: float = Field(4.0, gt=0, description="llama3: turns above which an angle is left as it is")
    beta_slow: float = Field(1.0, gt=0, description="yarn: as low_freq_factor")
    beta_fast: float = Field(32.0, gt=0, description="yarn: as high_freq_factor")
    attention_factor: float | None = Field(None, gt=0, description="yarn: of cosines and sines; 0.1 ln(factor) + 1, if not said")

    @model_validator(mode="after")
    def _complete(self) -> RopeScaling:
        if self.type != "linear" and self.original_context is None:
            raise ValueError(f"{self.type} needs original_context")
        if self.high_freq_factor <= self.low_freq_factor or self.beta_fast <= self.beta_slow:
            raise ValueError("high_freq_factor must be more than low_freq_factor, and beta_fast more than beta_slow")
        return self

    @property
    def amplitude(self) -> float:
        """What cosines and sines are multiplied by."""
        if self.type != "yarn":
            return 1.0
        return 0.1 * math.log(self.factor) + 1.0 if self.attention_factor is None else self.attention_factor

    def slowed(self, powers: Tensor, theta: float) -> Tensor:
        """Angles a token, float32 [E/2], where without scaling they are 1 / `powers`, θ^(2i/E)."""
        inverse = 1.0 / powers
        if self.type == "linear":
            return inverse / self.factor
        original = float(self.original_context or 1)
        if self.type == "llama3":
            turns = original / (2 * math.pi / inverse)
            low, high = self.low_freq_factor, self.high_freq_factor
            kept = ((turns - low) / (high - low)).clamp(0.0, 1.0)  # the share that is left as it is
            return (1 - kept) * inverse / self.factor + kept * inverse
        first, last = (self._dimension(turns, 2 * len(inverse), theta, original) for turns in (self.beta_fast, self.beta_slow))
        low, high = max(math.floor(first), 0), min(math.ceil(last), 2 * len(inverse) - 1)
        ramp = ((torch.arange(len(inverse), dtype=torch.float32) - low) / (high - low if high != low else 0.001)).clamp(0.0, 1.0)
        return 1.0 / (self.factor * powers) * ramp + inverse * (1 - ramp)

    @staticmethod
    def _dimension(turns: float, width: int, theta: float, context: float) -> float:
        """The dimension whose angle turns so many times within the context."""
        return width * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))


def rotary_tables(context: int, width: int, theta: float, scaling: RopeScaling | None = None) -> tuple[Tensor, Tensor]:
    """cos and ∓sin of position · θ^(−2i/E), float32 [context, 1, E] each, for `rotate` (Su 2021; halves, not pairs, are rotated).

    >>> cos, _ = rotary_tables(3, 2, 10000.0, RopeScaling(type="linear", factor=2.0))
    >>> cos[:, 0, 0].tolist()  # cos 0, cos ½, cos 1
    [1.0, 0.8775..., 0.5403...]
    """
    powers = theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    inverse, amplitude = (1.0 / powers, 1.0) if scaling is None else (scaling.slowed(powers, theta), scaling.amplitude)
    angles = torch.arange(context, dtype=torch.float32)[:, None] * inverse
    cos, sin = angles.cos()[:, None] * amplitude, angles.sin()[:, None] * amplitude
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the halves of x [B, T, H, E] by the angles of the tables [T, 1, E] or [B, T, 1, E].

    >>> x, (cos, sin) = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2), rotary_tables(2, 2, 10000.0)
    >>> rotate(x, cos[1:], sin[1:]).flatten().tolist()  # position 1: one radian
    [0.5403..., 0.8414...]
    """
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)
