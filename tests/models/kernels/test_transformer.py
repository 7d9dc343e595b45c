"""RMSNorm and the heads of attention by loops: what torch's own passes give, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from bimo.models import layers, rotary
from bimo.models.kernels import transformer


def agree(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5), (ours - theirs).abs().max()


@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 32), (1, 1)])
@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_rms_norm_and_its_gradient_are_torchs(shape: tuple[int, ...], size: float) -> None:
    torch.manual_seed(0)
    x, weight, grad = (size * torch.randn(shape)).requires_grad_(), torch.randn(shape[-1]).requires_grad_(), torch.randn(shape)
    ours, theirs = transformer.rms_norm(x, weight, 1e-6), F.rms_norm(x, shape[-1:], weight, 1e-6)
    agree(ours, theirs)
    for a, b in zip(torch.autograd.grad(ours, (x, weight), grad), torch.autograd.grad(theirs, (x, weight), grad), strict=True):
        agree(a * size, b * size)


def test_rms_norm_takes_what_is_not_contiguous_and_passes_nan_on() -> None:
    x, weight = torch.randn(4, 6).t(), torch.ones(4)
    agree(transformer.rms_norm(x, weight, 1e-6), F.rms_norm(x, (4,), weight, 1e-6))
    broken = torch.ones(2, 3)
    broken[1, 1] = float("nan")
    assert transformer.rms_norm(broken, torch.ones(3), 1e-6).isnan().any(1).tolist() == [False, True]


@pytest.mark.parametrize(("normed", "angles"), [(False, "shared"), (False, "a row"), (True, "none"), (True, "shared"), (True, "a row")])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_heads_and_their_gradients_are_those_of_the_passes(
    normed: bool, angles: str, kv_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    B, T, H, E = 3, 5, 4, 6
    attention = layers.Attention(24, H, kv_heads, E, qk_norm=normed)
    for name, parameter in attention.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter)
    tables = rotary.rotary_tables(9, E, 100.0)
    places = {"none": None, "shared": slice(2, 2 + T), "a row": torch.randint(9, (B, T))}[angles]
    sight = layers.Sight() if places is None else layers.Sight(*(table[places] for table in tables))
    qkv = torch.randn(B, T, H + 2 * kv_heads, E, requires_grad=True)
    wanted = [qkv, *(p for name, p in attention.named_parameters() if "norm" in name)]
    found = []
    for way in (True, False):
        monkeypatch.setattr(transformer, "fits", lambda x, way=way: way)
        parts = attention._heads(qkv, sight)
        torch.manual_seed(1)
        found.append((*parts, *torch.autograd.grad(parts, wanted, [torch.randn_like(part) for part in parts])))
    assert [tuple(part.shape) for part in found[0][:3]] == [(B, H, T, E), (B, kv_heads, T, E), (B, kv_heads, T, E)]
    for ours, theirs in zip(*found, strict=True):
        agree(ours, theirs)


def test_loops_are_for_large_float32_on_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    large = torch.zeros(1 << 15)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert transformer.fits(large)
    assert not transformer.fits(large[1:])
    assert not transformer.fits(large.double())
    assert not transformer.fits(large.bfloat16())
    assert not transformer.fits(large.to("meta"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert not transformer.fits(large)


def test_compilation_takes_torchs_own_passes() -> None:
    norm = layers.RMSNorm(32)
    seen: list[bool] = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(transformer.fits(x))
        return norm(x)

    x = torch.randn(1 << 10, 32)
    agree(torch.compile(look, backend="eager", fullgraph=True)(x), F.rms_norm(x, (32,), norm.weight, norm.epsilon))
    assert seen == [False]
