"""Rotary positions (Su 2021), and the ways of stretching them over longer texts than a model first learned from."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from bimo.core.errors import ModelError
from bimo.core.validation import Section

_FIRST = 4096  # places of a table at first


class RopeScaling(Section):
    """How rotary angles are slowed for texts beyond the `original_context` that a model first learned from.

    linear: all by `factor` (Chen 2023). llama3: those by `factor` that turn less than `low_freq_factor` times within the original
    context, none that turn more than `high_freq_factor` times, by steps between (Llama 3.1). yarn: likewise between `beta_slow` and
    `beta_fast` turns, by dimension, and all cosines and sines times `attention_factor` (Peng 2023). dynamic: beyond the context alone,
    which Bimo's models do not read beyond. longrope: each by a factor of its own, `short_factors` within the original context (Ding 2024);
    longer texts, for which `long_factors` are, Bimo does not read.
    """

    type: Literal["linear", "llama3", "yarn", "dynamic", "longrope"] = Field(description="linear, llama3, yarn, dynamic or longrope")
    factor: float = Field(ge=1, description="how many times longer the text may be")
    original_context: int | None = Field(None, ge=1, description="tokens that the model first learned from (llama3, yarn, longrope)")
    low_freq_factor: float = Field(1.0, gt=0, description="llama3: turns below which an angle is slowed by the whole factor")
    high_freq_factor: float = Field(4.0, gt=0, description="llama3: turns above which an angle is left as it is")
    beta_slow: float = Field(1.0, gt=0, description="yarn: as low_freq_factor")
    beta_fast: float = Field(32.0, gt=0, description="yarn: as high_freq_factor")
    attention_factor: float | None = Field(
        None, gt=0, description="yarn, longrope: of cosines and sines; 0.1 ln(factor) + 1 for yarn, if not said"
    )
    truncate: bool = Field(True, description="yarn: the dimensions between which the ramp lies are whole numbers")
    short_factors: list[float] | None = Field(None, description="longrope: what each angle is divided by")
    long_factors: list[float] | None = Field(None, description="longrope: kept for other programs")

    @model_validator(mode="after")
    def _complete(self) -> RopeScaling:
        if self.type in ("llama3", "yarn", "longrope") and self.original_context is None:
            raise ValueError(f"{self.type} needs original_context")
        if self.type == "longrope" and (not self.short_factors or min(self.short_factors) <= 0):
            raise ValueError("longrope needs short_factors, numbers above 0")
        if self.high_freq_factor <= self.low_freq_factor or self.beta_fast <= self.beta_slow:
            raise ValueError("high_freq_factor must be more than low_freq_factor, and beta_fast more than beta_slow")
        return self

    @property
    def amplitude(self) -> float:
        """What cosines and sines are multiplied by."""
        if self.attention_factor is not None and self.type in ("yarn", "longrope"):
            return self.attention_factor
        return 0.1 * math.log(self.factor) + 1.0 if self.type == "yarn" else 1.0

    def slowed(self, powers: Tensor, theta: float) -> Tensor:
        """Angles a token, float32 [E/2], where without scaling they are 1 / `powers`, θ^(2i/E)."""
        inverse = 1.0 / powers
        if self.type == "linear":
            return inverse / self.factor
        if self.type == "dynamic":
            return inverse
        if self.type == "longrope":
            if len(self.short_factors or ()) != len(powers):
                raise ModelError(f"rope_scaling: short_factors must be {len(powers)} numbers, found {len(self.short_factors or ())}")
            return 1.0 / (torch.tensor(self.short_factors, dtype=torch.float32, device="cpu") * powers)
        original = float(self.original_context or 1)
        if self.type == "llama3":
            turns = original / (2 * math.pi / inverse)
            low, high = self.low_freq_factor, self.high_freq_factor
            kept = ((turns - low) / (high - low)).clamp(0.0, 1.0)  # the share that is left as it is
            return (1 - kept) * inverse / self.factor + kept * inverse
        first, last = (self._dimension(turns, 2 * len(inverse), theta, original) for turns in (self.beta_fast, self.beta_slow))
        first, last = (math.floor(first), math.ceil(last)) if self.truncate else (first, last)
        low, high = max(first, 0), min(last, 2 * len(inverse) - 1)
        ramp = ((torch.arange(len(inverse), dtype=torch.float32, device="cpu") - low) / (high - low if high != low else 0.001)).clamp(
            0.0, 1.0
        )
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
    powers = theta ** (torch.arange(0, width, 2, dtype=torch.float32, device="cpu") / width)
    inverse, amplitude = (1.0 / powers, 1.0) if scaling is None else (scaling.slowed(powers, theta), scaling.amplitude)
    angles = torch.arange(context, dtype=torch.float32, device="cpu")[:, None] * inverse
    cos, sin = angles.cos()[:, None] * amplitude, angles.sin()[:, None] * amplitude
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


class Rotary(nn.Module):
    """The angles of a model's positions: tables as long as was asked for so far, since a context may be far longer than any text.

    >>> rotary = Rotary(1 << 40, 2, 10000.0)
    >>> cos, sin = rotary.at(torch.tensor([[0, 1]]), length=2)
    >>> cos.shape, len(rotary.cos) < 10_000  # of a trillion places
    (torch.Size([2, 1, 2]), True)
    """

    cos: Tensor | None
    sin: Tensor | None

    def __init__(self, context: int, width: int, theta: float, scaling: RopeScaling | None = None) -> None:
        super().__init__()
        self.context, self.settings = context, (width, theta, scaling)
        for name in ("cos", "sin"):
            self.register_buffer(name, None, persistent=False)  # [so far, 1, E]
        if torch.get_default_device().type != "meta":
            self._make(min(context, _FIRST), None)

    def _make(self, length: int, device: torch.device | None) -> tuple[Tensor, Tensor]:
        cos, sin = (table.to(device) for table in rotary_tables(length, *self.settings))
        self.cos, self.sin = cos, sin
        return cos, sin

    def at(self, positions: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """cos and sin of positions [B, T] or [1, T], all below `length`, for `rotate`: [B, T, 1, E] or [T, 1, E]."""
        cos, sin = self.cos, self.sin
        if cos is None or sin is None or len(cos) < length:
            least = _FIRST if cos is None else 2 * len(cos)
            cos, sin = self._make(min(self.context, max(length, least)), positions.device)
        where = positions[0] if positions.shape[0] == 1 else positions
        return cos[where], sin[where]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the halves of x [B, T, H, E] by the angles of the tables [T, 1, E] or [B, T, 1, E].

    >>> x, (cos, sin) = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2), rotary_tables(2, 2, 10000.0)
    >>> rotate(x, cos[1:], sin[1:]).flatten().tolist()  # position 1: one radian
    [0.5403..., 0.8414...]
    """
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)
