"""Rotary angles that are slowed one by one, as Llama 3.1's are: a tensor of divisors in GGUF, four numbers in `config.json`.

llama.cpp writes `rope_freqs.weight` and none of the numbers. Those that made it are found by trying: Meta's models from Llama 3.1 on
differ in `factor` alone, which is the largest of the divisors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from bimo.core.errors import UserError
from bimo.models.rotary import RopeScaling

TENSOR = "rope_freqs.weight"
_NUMBERS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
_METAS = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def divisors(rope: Mapping[str, Any], width: int) -> Tensor:
    """What each angle of a head of `width` is divided by, float32 [width/2], for `rope_parameters` of the type llama3.

    Raises `UserError` where one of its four numbers is not told.

    >>> divisors({"rope_theta": 500000.0, "factor": 8.0, **_METAS}, 8)
    tensor([1.0000, 1.0000, 2.6945, 8.0000])
    """
    for name in _NUMBERS:
        if not isinstance(rope.get(name), int | float) or not math.isfinite(rope[name]):
            raise UserError(f"config.json: rope_parameters of type 'llama3' must tell {name}, found {rope.get(name)!r}")
    factor, low, high, original = (rope[name] for name in _NUMBERS)
    fields = {"type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high, "original_context": int(original)}
    try:
        scaling = RopeScaling.model_validate(fields)
    except ValidationError as cause:
        raise UserError(f"config.json: rope_parameters: {cause.errors()[0]['msg']}") from None
    theta = float(rope.get("rope_theta", 10000.0))
    powers = theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    return 1.0 / powers / scaling.slowed(powers, theta)


def is_known(rope: Mapping[str, Any]) -> bool:
    """Whether these `rope_parameters` can be found again by `numbers`."""
    return all(rope.get(name) == value for name, value in _METAS.items())


def without_numbers(rope: Mapping[str, Any]) -> dict[str, Any]:
    """What else `rope_parameters` tell."""
    return {key: value for key, value in rope.items() if key not in _NUMBERS}


def numbers(found: Tensor, theta: float) -> dict[str, Any] | None:
    """The `rope_parameters` that make the divisors `found`; None where none of the known ones does.

    >>> made = divisors({"rope_theta": 500000.0, "factor": 32.0, **_METAS}, 64)
    >>> numbers(made, 500000.0)["factor"], numbers(made * 2, 500000.0)
    (32.0, None)
    """
    largest = float(found.max())
    if not 1 <= largest < math.inf:
        return None
    rope = {"rope_type": "llama3", "rope_theta": theta, "factor": round(largest, 4), **_METAS}
    return rope if torch.allclose(divisors(rope, 2 * len(found)), found, rtol=1e-4) else None
