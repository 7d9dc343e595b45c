"""Weights in four bits: NF4, and its scales in eight (QLoRA, Dettmers et al. 2023, section 3 and appendix E).

64 weights share a scale, the largest of their sizes; a weight is the nearest of sixteen levels times it. The levels are quantiles of the
normal distribution, as trained weights are about normal. 256 scales are kept in eight bits each, in even steps from the least of them to
the largest (the paper's are numbers with a floating point, less their mean): 4.13 bits a weight in all. What is quantised learns no more;
adapters beside it do.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bimo.core.errors import ModelError

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
    """A matrix of any size in four bits a weight. It has no state to save: `dense` is the matrix, for a moment.

    >>> weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    >>> float((FourBit(weight).dense() - weight).abs().mean()) < 0.1
    True
    """

    codes: Tensor  # uint8 [⌈n / 64⌉ · 32]: two weights each, the first in the upper half
    scales: Tensor  # uint8 [⌈n / 64⌉]
    least: Tensor  # float32 [⌈blocks / 256⌉]: of 256 scales the least …
    steps: Tensor  # … and the steps upwards from it
    both: Tensor  # float32 [256, 2]: the two levels of each code

    def __init__(self, weight: Tensor) -> None:
        """weight [rows, D], in any precision. Raises `ModelError` where a number of it is not finite."""
        super().__init__()
        self.shape = weight.shape
        with torch.no_grad():
            blocks = F.pad(weight.detach().flatten(), (0, -weight.numel() % BLOCK)).view(-1, BLOCK).float()
            largest = blocks.abs().amax(dim=1)
            if not bool(torch.isfinite(largest).all()):
                raise ModelError("a weight is infinite or not a number, and cannot be kept in four bits")
            groups = torch.cat((largest, largest[-1:].expand(-len(largest) % SCALES))).view(-1, SCALES)
            least = groups.amin(dim=1)
            steps = (groups.amax(dim=1) - least) / 255
            scales = ((groups - least[:, None]) / _not_0(steps)[:, None]).round().to(torch.uint8).flatten()[: len(largest)]
            table = levels().to(weight.device)
            self._keep(scales=scales, least=least, steps=steps, both=torch.cartesian_prod(table, table))
            blocks /= _not_0(self._scales())[:, None]
            nearest = torch.bucketize(blocks, (table[1:] + table[:-1]) / 2).to(torch.uint8).view(-1, 2)
            self._keep(codes=(nearest[:, 0] << 4) | nearest[:, 1])

    def _keep(self, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)

    def _scales(self) -> Tensor:
        """float32 [⌈n / 64⌉]."""
        least, steps = (each.repeat_interleave(SCALES)[: len(self.scales)] for each in (self.least, self.steps))
        return least + self.scales * steps

    @torch.no_grad()
    def dense(self) -> Tensor:
        """The matrix as float32, a copy of one's own."""
        found = F.embedding(self.codes.int(), self.both).view(-1, BLOCK)
        found *= self._scales()[:, None]
        return found.view(-1)[: math.prod(self.shape)].view(self.shape)


def _not_0(scales: Tensor) -> Tensor:
    return scales.clamp(min=torch.finfo(torch.float32).tiny)


def four_bit_numbers(model: nn.Module) -> int:
    """How many weights of a model are in four bits."""
    return sum(math.prod(module.shape) for module in model.modules() if isinstance(module, FourBit))
