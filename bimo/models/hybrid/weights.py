"""How much each part of a hybrid counts, and what it makes of their distributions.

Shapes: K parts, V vocabulary, D width of the hidden states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from bimo.core.errors import ModelError


@dataclass(frozen=True)
class Weights:
    """values: float64 [K], shares that sum to one, or the exponents of a product.

    gate: matrix [K, D] and bias [K] of what makes the shares depend on the hidden states of the part `of`: softmax(A h + b).

    >>> halves = Weights(torch.tensor([0.5, 0.5], dtype=torch.float64))
    >>> one, other = torch.tensor([0.9, 0.1]).double().log(), torch.tensor([0.5, 0.5]).double().log()
    >>> halves.mixed([one, other], None).exp().round(decimals=3).tolist()
    [0.7, 0.3]
    """

    values: Tensor
    gate: tuple[Tensor, Tensor] | None = None
    of: int | None = None

    def logs(self, silent: Tensor, hidden: Tensor | None) -> Tensor:
        """Logarithms of the shares, float64 [..., K]; a part that is silent there (bool [..., K]) leaves its share to the others."""
        if self.gate is None:
            logs = self.values.to(silent.device).log().expand(silent.shape)
        else:
            assert hidden is not None
            matrix, bias = (tensor.to(hidden.device, torch.float64) for tensor in self.gate)
            logs = torch.nn.functional.linear(hidden.double(), matrix, bias)
        logs = logs.masked_fill(silent, float("-inf"))
        alone = (logs == float("-inf")).all(-1, keepdim=True)  # only parts without a share speak
        return torch.where(alone, torch.zeros_like(logs).masked_fill(silent, float("-inf")), logs).log_softmax(-1)

    def of_targets(self, told: Tensor, hidden: Tensor | None) -> Tensor:
        """Log-probabilities of tokens, float64 [...], from each part's, [..., K]."""
        silent = told.isnan()
        return (self.logs(silent, hidden) + told.masked_fill(silent, float("-inf"))).logsumexp(-1)

    def mixed(self, told: Sequence[Tensor], hidden: Tensor | None) -> Tensor:
        """Log-probabilities [..., V] from each part's."""
        silent = torch.stack([logs[..., 0].isnan() for logs in told], -1)
        shares = self.logs(silent, hidden).exp()
        mixture = torch.zeros_like(told[0])
        for part, logs in enumerate(told):
            mixture += shares[..., part, None].to(logs.dtype) * logs.exp().masked_fill(silent[..., part, None], 0.0)
        return mixture.log()

    def tensors(self) -> dict[str, Tensor]:
        """By name, as `model.safetensors` holds them."""
        return {"weights": self.values, **({} if self.gate is None else {"gate.weight": self.gate[0], "gate.bias": self.gate[1]})}

    @classmethod
    def take(cls, tensors: dict[str, Tensor], parts: int, of: Any) -> Self:
        """The weights of so many parts, taken out of `tensors`; `ModelError` where they do not fit."""
        values = tensors.pop("weights")
        fit = values.shape == (parts,) and values.dtype == torch.float64 and bool(((values >= 0) & values.isfinite()).all())
        if not fit or not bool(values.sum() > 0):
            found = values.flatten()[:8].tolist()
            raise ModelError(f"model.safetensors: weights must be {parts} finite numbers that are not negative, not all 0, found {found}")
        gate = (tensors.pop("gate.weight"), tensors.pop("gate.bias")) if of is not None else None
        return cls(values, gate, of)

    def check(self, width: int) -> None:
        """`ModelError` where a gate's shapes are not those of K parts and hidden states of this width, or its numbers not finite."""
        if self.gate is not None and (self.gate[0].shape != (len(self.values), width) or self.gate[1].shape != self.values.shape):
            raise ModelError(f"model.safetensors: the gate has shape {list(self.gate[0].shape)}, not {[len(self.values), width]}")
        if self.gate is not None and not all(bool(tensor.isfinite().all()) for tensor in self.gate):
            raise ModelError("model.safetensors: the gate holds numbers that are not finite; the file is damaged")

    def count(self) -> int:
        """Learned numbers."""
        return len(self.values) if self.gate is None else sum(tensor.numel() for tensor in self.gate)


def multiplied(told: Sequence[Tensor], exponents: Tensor) -> Tensor:
    """Log-probabilities [..., V] of the product of experts; where they exclude each other's tokens altogether, of their mean.

    >>> one, other = torch.tensor([0.9, 0.1]).double().log(), torch.tensor([0.9, 0.1]).double().log()
    >>> multiplied([one, other], torch.ones(2)).exp().round(decimals=3).tolist()
    [0.988, 0.012]
    """
    counted = [(logs, float(w)) for logs, w in zip(told, exponents, strict=True) if w > 0]
    logits = sum(torch.where(logs[..., :1].isnan(), 0.0, logs) * w for logs, w in counted)
    dead = (logits.amax(-1, keepdim=True) == float("-inf")) if isinstance(logits, Tensor) else torch.tensor(False)
    assert isinstance(logits, Tensor)
    if bool(dead.any()):
        mean = torch.stack([logs.nan_to_num(nan=float("-inf")).exp() for logs, _ in counted]).mean(0).log()
        logits = torch.where(dead, mean, logits)
    return logits.log_softmax(-1)
