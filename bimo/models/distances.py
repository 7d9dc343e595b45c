"""Positions as distances: what a key is worth to a query beside its score, learned for ranges of distances (T5, Raffel et al. 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def ranges(distances: Tensor, number: int, farthest: int, both_ways: bool) -> Tensor:
    """The range, 0 … number − 1, that each distance int64 [...] (the key's place less the query's) lies in.

    The first half of the ranges hold one distance each, the others grow in geometric steps up to `farthest`, beyond which all are in the
    last (Raffel et al. 2020, §2.1). both_ways: half of the ranges are for keys behind the query; otherwise such keys count as distance 0.

    >>> ranges(torch.tensor([0, -1, -3, -4, -7, -8, -99, 5]), 8, 16, False).tolist()
    [0, 1, 3, 4, 5, 6, 7, 0]
    >>> ranges(torch.tensor([0, -1, -2, 1, 2, 99]), 8, 16, True).tolist()
    [0, 1, 2, 5, 6, 7]
    """
    first = 0
    if both_ways:
        number //= 2
        first, back = number * (distances > 0), distances.abs()
    else:
        back = -distances.clamp(max=0)
    exact = number // 2
    steps = (back.clamp(min=1) / exact).log() / math.log(farthest / exact) * (number - exact)
    far = (exact + steps.long()).clamp(max=number - 1)
    return first + torch.where(back < exact, back, far)


class Distances(nn.Module):
    """Additions to the scores of H heads by distance, one table for all layers of a stack. They begin at 0: all keys are alike."""

    def __init__(self, number: int, heads: int, farthest: int, both_ways: bool) -> None:
        super().__init__()
        self.table, self.farthest, self.both_ways = nn.Embedding(number, heads), farthest, both_ways

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Additions [B, H, T, S] for queries at the places int64 [B, T] (or [1, T]) and keys at int64 [S]."""
        found = ranges(keys - queries[:, :, None], self.table.num_embeddings, self.farthest, self.both_ways)
        return self.table(found).permute(0, 3, 1, 2)
