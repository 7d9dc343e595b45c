"""Weights in four bits: the levels, what a weight becomes, sizes and extremes, and a map of them in place of a plain one."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bimo.core.errors import ModelError
from bimo.models.quantized import BLOCK, SCALES, FourBit, QuantizedLinear, levels, numbers

# appendix E of the paper
PUBLISHED = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip


def drawn(*shape: int, scale: float = 0.05) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * scale


def test_the_levels_are_the_papers() -> None:
    assert np.allclose(levels().numpy(), PUBLISHED, atol=1e-6)


def by_hand(weight: np.ndarray) -> np.ndarray:
    """The paper's section 3, number by number."""
    flat = weight.astype(np.float64).ravel()
    blocks = [flat[i : i + BLOCK] for i in range(0, len(flat), BLOCK)]
    largest = np.array([np.abs(block).max() for block in blocks])
    middle = largest.mean()
    kept = []
    for i in range(0, len(largest), SCALES):
        rest = largest[i : i + SCALES] - middle
        step = np.abs(rest).max() / 127 or 1.0
        kept += [middle + round(r / step) * step for r in rest]
    pairs = [(x, scale) for block, scale in zip(blocks, kept, strict=True) for x in block]
    found = [min(PUBLISHED, key=lambda level: abs(x / scale - level)) * scale for x, scale in pairs]
    return np.array(found).reshape(weight.shape)


@pytest.mark.parametrize("shape", [(64, 64), (37, 29), (3, 5), (20, 1000)])
def test_each_weight_is_the_nearest_level_of_its_block(shape: tuple[int, int]) -> None:
    weight = drawn(*shape)
    wanted, found = by_hand(weight.numpy()), FourBit(weight).dense().numpy()
    close = np.isclose(found, wanted, atol=1e-5)
    assert close.mean() > 0.999  # one on the border of two levels may fall to either
    assert found.shape == shape


def test_four_bits_a_weight() -> None:
    held = FourBit(drawn(1024, 512))
    assert held.nbytes * 8 / (1024 * 512) == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), abs=1e-3)
    assert not held.state_dict()


def test_extremes() -> None:
    zeros = torch.zeros(4, 64)
    assert torch.equal(FourBit(zeros).dense(), zeros)
    mixed = drawn(8, 64)
    mixed[3] = 0.0  # a block of zeros among others
    mixed[5, 7] = 100.0
    found = FourBit(mixed).dense()
    assert torch.equal(found[3], zeros[3])
    assert found[5, 7] == pytest.approx(100.0, rel=0.01)
    for half in (torch.bfloat16, torch.float16):
        assert torch.equal(FourBit(mixed.to(half)).dense(), FourBit(mixed.to(half).float()).dense())
    for wrong in (float("nan"), float("inf")):
        mixed[0, 0] = wrong
        with pytest.raises(ModelError, match="infinite or not a number"):
            FourBit(mixed)


def test_a_map_in_place_of_a_plain_one() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(70, 9)
    layer = QuantizedLinear(plain)
    dense = layer.held.dense()
    x = torch.randn(4, 6, 70, requires_grad=True)
    again = x.detach().clone().requires_grad_()
    found, wanted = layer(x), F.linear(again, dense, plain.bias)
    assert torch.allclose(found, wanted, atol=1e-6)
    up = torch.randn_like(found)
    found.backward(up)
    wanted.backward(up)
    assert torch.allclose(x.grad, again.grad, atol=1e-6)
    assert torch.equal(layer.state_dict()["weight"], dense)
    assert numbers(nn.Sequential(layer, plain)) == 630
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


def test_what_is_added_is_in_the_matrix() -> None:
    held = FourBit(drawn(6, 64))
    before = held.dense()
    down, up = drawn(2, 64, scale=1.0), drawn(3, 2, scale=1.0)
    held.add(0.5, (slice(1, 4),), (down, up))
    wanted = before.clone()
    wanted[1:4] += 0.5 * up @ down
    assert torch.allclose(held.dense(), wanted, atol=1e-6)
    held.added.pop()
    assert torch.equal(held.dense(), before)
