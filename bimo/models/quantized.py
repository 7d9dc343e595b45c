"""Weights in four bits: NF4, and its scales in eight (QLoRA, Dettmers et al. 2023, section 3 and appendix E).

64 weights share a scale, the largest of their sizes; a weight is the nearest of sixteen levels times it. The levels are quantiles of the
normal distribution, as trained weights are about normal. The scales less their mean are kept in eight bits, 256 of them by one step: 4.13
bits a weight in all. What is quantised learns no more; adapters beside it do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bimo.core.errors import ModelError
from bimo.models import low_rank

BLOCK, SCALES = 64, 256  # weights to a scale, scales to a step of theirs
_TAIL = 0.9677083  # of the normal distribution, where the outermost levels lie (appendix E: the mean of 1 − 1/30 and 1 − 1/32)


def levels() -> Tensor:
    """The sixteen levels of NF4, float32, from −1 to 1: eight of the lower half, 0 once, and eight of the upper.

    >>> [round(x, 4) for x in levels().tolist()][6:10]
    [-0.091, 0.0, 0.0796, 0.1609]
    """
    quantile = NormalDist().inv_cdf
    upper = [quantile(_TAIL + (0.5 - _TAIL) * i / 8) for i in range(8)]
    lower = [-quantile(_TAIL + (0.5 - _TAIL) * i / 7) for i in range(7)]
    found = torch.tensor(sorted((*lower, 0.0, *upper)), dtype=torch.float64)
    return (found / found.max()).float()


class FourBit(nn.Module):
    """A matrix of any size in four bits a weight, and low-rank maps that were added to it. It has no state to save: `dense` is the matrix.

    >>> weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    >>> held = FourBit(weight)
    >>> held.nbytes * 8 / weight.numel() < 4.2, float((held.dense() - weight).abs().mean()) < 0.1
    (True, True)
    """

    codes: Tensor  # uint8 [⌈n / 64⌉ · 32]: two weights each, the first in the upper half
    scales: Tensor  # int8 [⌈n / 64⌉]
    steps: Tensor  # float32 [⌈blocks / 256⌉]
    middle: Tensor  # float32 []: the mean of the scales
    pairs: Tensor  # float32 [256, 2]: the two levels of each code

    def __init__(self, weight: Tensor) -> None:
        """weight [rows, D], in any precision. Raises `ModelError` where a number of it is not finite."""
        super().__init__()
        self.shape = weight.shape
        with torch.no_grad():
            blocks = F.pad(weight.detach().flatten(), (0, -weight.numel() % BLOCK)).view(-1, BLOCK).float()
            largest = blocks.abs().amax(dim=1)
            if not bool(torch.isfinite(largest).all()):
                raise ModelError("a weight is infinite or not a number, and cannot be kept in four bits")
            middle = largest.mean()
            rest = F.pad(largest - middle, (0, -len(largest) % SCALES)).view(-1, SCALES)
            steps = rest.abs().amax(dim=1) / 127
            scales = (rest / steps.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).round().flatten()[: len(largest)].to(torch.int8)
            table = levels().to(weight.device)
            self._keep(scales=scales, steps=steps, middle=middle, pairs=torch.cartesian_prod(table, table))
            blocks /= self._scales().clamp(min=torch.finfo(torch.float32).tiny)[:, None]
            nearest = torch.bucketize(blocks, (table[1:] + table[:-1]) / 2).to(torch.uint8).view(-1, 2)
            self._keep(codes=(nearest[:, 0] << 4) | nearest[:, 1])
        self.added: list[tuple[float, tuple[slice, ...], tuple[Tensor, ...]]] = []

    def _keep(self, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)

    def _scales(self) -> Tensor:
        """float32 [⌈n / 64⌉]."""
        return self.middle + self.scales * self.steps.repeat_interleave(SCALES)[: len(self.scales)]

    @torch.no_grad()
    def dense(self) -> Tensor:
        """The matrix as float32, a copy of one's own, with all that was added."""
        found = F.embedding(self.codes.int(), self.pairs).view(-1, BLOCK)
        found *= self._scales()[:, None]
        weight = found.view(-1)[: math.prod(self.shape)].view(self.shape)
        for scale, rows, pairs in self.added:
            low_rank.add_pairs(weight, scale, rows, [pair.to(weight.device) for pair in pairs])
        return weight

    def add(self, scale: float, rows: Sequence[slice], pairs: Sequence[Tensor]) -> None:
        """From now on s·B·A is added to the rows of each pair A, B; `added` holds what was, and may be emptied."""
        self.added.append((scale, tuple(rows), tuple(pair.detach() for pair in pairs)))

    @property
    def nbytes(self) -> int:
        """What it takes in memory, but for the table of levels and what was added."""
        return sum(t.nbytes for t in (self.codes, self.scales, self.steps, self.middle))


class QuantizedLinear(nn.Linear):
    """W x + b, W in four bits; in a state dictionary it is a plain map, whose `weight` [rows, D] is made for it.

    >>> torch.manual_seed(0)
    <...>
    >>> plain = nn.Linear(128, 2)
    >>> map = QuantizedLinear(plain)
    >>> list(map.state_dict()), bool((map(torch.ones(128)) - plain(torch.ones(128))).abs().max() < 0.2)
    (['bias', 'weight'], True)
    """

    def __init__(self, plain: nn.Linear) -> None:
        """plain: the map, which is left as it is; its bias is shared."""
        nn.Module.__init__(self)  # it has no weight
        self.in_features, self.out_features, self.bias = plain.in_features, plain.out_features, plain.bias
        self.parts = getattr(plain, "parts", (plain.out_features,))  # as StackedLinear's
        self.held = FourBit(plain.weight)
        self.register_state_dict_post_hook(_whole)

    def forward(self, input: Tensor) -> Tensor:
        """x [..., D] → [..., rows]."""
        return low_rank.linear(input, self.held.dense, self.bias)


def _whole(layer: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    assert isinstance(layer, QuantizedLinear)
    state[f"{prefix}weight"] = layer.held.dense().cpu()


def numbers(model: nn.Module) -> int:
    """How many weights of a model are in four bits."""
    return sum(math.prod(module.shape) for module in model.modules() if isinstance(module, FourBit))
