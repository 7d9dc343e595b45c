"""Activations of feed-forward layers by name: those of one input, and those that one half of the inputs gates the other by."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor
from torch.nn import functional as F

from bimo.core.errors import did_you_mean

_POINTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_clipped": lambda x: F.gelu(x).clip(-10, 10),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "laplace": lambda x: 0.5 * (1.0 + torch.erf((x - 0.707107) / (0.282095 * math.sqrt(2.0)))),  # the numbers of Ma et al. 2022 (MEGA)
    "sqrtsoftplus": lambda x: F.softplus(x).sqrt(),
    "linear": lambda x: x,
}
GATED = {"swiglu": "silu", "geglu": "gelu_tanh"}  # f(gate) ⊙ value (Shazeer 2020): the name of f; geglu is T5 1.1's
GATED |= {f"gated_{name}": name for name in _POINTWISE if name not in GATED.values()}


def _known(name: str) -> str:
    if name not in _POINTWISE and name not in GATED:
        raise ValueError(f"unknown activation {name!r}; {did_you_mean(name, (*_POINTWISE, *GATED))}")
    return name


Activation = Annotated[str, AfterValidator(_known)]


def activate(x: Tensor, activation: str) -> Tensor:
    """The activation of that name; the gated ones halve the last dimension, whose first half is the gate.

    >>> activate(torch.tensor([-1.0, 3.0]), "relu2").tolist(), activate(torch.tensor([3.0, 2.0]), "gated_relu").tolist()
    ([0.0, 9.0], [6.0])
    """
    if (inner := GATED.get(activation)) is not None:
        gate, value = x.chunk(2, dim=-1)
        return _POINTWISE[inner](gate) * value
    return _POINTWISE[activation](x)
