"""Weights in four bits: the levels, what a weight becomes, sizes and extremes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bimo.core.errors import ModelError
from bimo.models.quantized import BLOCK, SCALES, FourBit, levels

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
    """Section 3 of the paper, number by number, but for the scales, which lie in even steps from their least to their largest."""
    flat = weight.astype(np.float64).ravel()
    blocks = [flat[i : i + BLOCK] for i in range(0, len(flat), BLOCK)]
    largest = np.array([np.abs(block).max() for block in blocks])
    kept = []
    for i in range(0, len(largest), SCALES):
        some = largest[i : i + SCALES]
        step = (some.max() - some.min()) / 255 or 1.0
        kept += [some.min() + round((each - some.min()) / step) * step for each in some]
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
    taken = sum(buffer.nbytes for name, buffer in held.named_buffers() if name != "both")
    assert taken * 8 / (1024 * 512) == pytest.approx(4 + 8 / 64 + 2 * 32 / (64 * 256), abs=1e-3)
    assert not held.state_dict()


def test_threads_change_no_code() -> None:
    """A run that goes on keeps the weights as they were: sums over so many scales differ by threads in their last bits."""
    weight, threads = drawn(1024, 4096), torch.get_num_threads()
    found = []
    for number in (1, 2):
        torch.set_num_threads(number)
        found.append(FourBit(weight).dense())
    torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_one_large_weight_among_small_ones() -> None:
    weight = drawn(256, 64, scale=0.02)
    plain = (FourBit(weight).dense() - weight).norm() / weight.norm()
    weight[100, 7] = 20.0
    found = FourBit(weight).dense()
    others = torch.ones_like(weight, dtype=torch.bool)
    others[100] = False
    assert (found[others] * weight[others] >= 0).all(), "no sign is turned"
    assert (found - weight)[others].norm() / weight[others].norm() < 3 * plain


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
