"""The shared layers against formulas written out."""

from __future__ import annotations

import math

import pytest
import torch

from bimo.models.layers import (
    Attention,
    Block,
    CrossAttention,
    CrossBlock,
    FeedForward,
    RMSNorm,
    Sight,
    attend,
    document_positions,
    make_norm,
    sinusoids,
)
from bimo.models.rotary import rotary_tables, rotate


def test_attention_is_the_softmax_written_out():
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 5, 6), torch.randn(2, 2, 5, 6), torch.randn(2, 2, 5, 6)
    found = attend(q, k, v, Sight())
    for b in range(2):
        for h in range(4):
            for t in range(5):
                scores = (k[b, h // 2, : t + 1] @ q[b, h, t]) / math.sqrt(6)
                wanted = torch.softmax(scores, 0) @ v[b, h // 2, : t + 1]
                assert torch.allclose(found[b, h, t], wanted, atol=1e-6)
    step = attend(q[:, :, 4:], k, v, Sight(causal=False))
    assert torch.allclose(step, found[:, :, 4:], atol=1e-6)


def test_multi_head_projects_splits_and_joins():
    torch.manual_seed(0)
    layer = Attention(8, 2, 2, 4, bias=True)
    x = torch.randn(1, 3, 8)
    q, k, v = (layer.qkv(x)[..., i * 8 : i * 8 + 8] for i in range(3))
    heads = []
    for h in range(2):
        part = slice(4 * h, 4 * h + 4)
        scores = (q[..., part] @ k[..., part].mT / 2).masked_fill(torch.ones(3, 3).triu(1).bool(), -torch.inf)
        heads.append(scores.softmax(-1) @ v[..., part])
    assert torch.allclose(layer(x, Sight()), layer.out(torch.cat(heads, -1)), atol=1e-6)


def test_norms():
    x = torch.tensor([[1.0, 2.0, 3.0, 6.0]])
    layer = make_norm("layer", 4, 0.0)(x)
    assert torch.allclose(layer, (x - 3) / math.sqrt(3.5))
    assert torch.allclose(RMSNorm(4, 0.0)(x), x / math.sqrt(12.5))
    assert torch.allclose(RMSNorm(4, 0.0)(x.double()).float(), x / math.sqrt(12.5))
    assert make_norm("layer", 4, 1e-5, bias=False).bias is None


def test_rotation_depends_on_distance_alone():
    cos, sin = rotary_tables(50, 8, 10000.0)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def product(m: int, n: int) -> float:
        return float((rotate(q, cos[m : m + 1], sin[m : m + 1]) * rotate(k, cos[n : n + 1], sin[n : n + 1])).sum())

    assert product(7, 4) == pytest.approx(product(40, 37), abs=1e-4)
    assert product(7, 4) != pytest.approx(product(7, 5), abs=1e-3)


@pytest.mark.parametrize("activation", ["gelu_tanh", "gelu", "relu", "relu2", "swiglu", "geglu"])
def test_feed_forward(activation):
    layer = FeedForward(3, 5, activation, bias=True)
    x = torch.randn(2, 4, 3)
    inner = layer.inner(x)
    wanted = {
        "gelu_tanh": lambda z: 0.5 * z * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
        "gelu": lambda z: 0.5 * z * (1 + torch.erf(z / math.sqrt(2))),
        "relu": lambda z: z.clamp(min=0),
        "relu2": lambda z: z.clamp(min=0) ** 2,
        "geglu": lambda z: torch.nn.functional.gelu(z[..., :5], approximate="tanh") * z[..., 5:],
        "swiglu": lambda z: z[..., :5] * torch.sigmoid(z[..., :5]) * z[..., 5:],
    }[activation](inner)
    assert torch.allclose(layer(x), layer.outer(wanted), atol=1e-6)


def test_positions_restart_where_documents_begin():
    boundaries = torch.tensor([[True, False, False, True, True], [False, False, True, False, False]])
    positions, documents = document_positions(boundaries)
    assert positions.tolist() == [[0, 1, 2, 0, 0], [0, 1, 0, 1, 2]]
    assert documents.tolist() == [[1, 1, 1, 2, 3], [0, 0, 1, 1, 1]]


def test_sinusoids():
    table = sinusoids(30, 6)
    for position in (0, 1, 29):
        for i in range(3):
            angle = position / 10000 ** (2 * i / 6)
            assert table[position, 2 * i : 2 * i + 2].tolist() == pytest.approx([math.sin(angle), math.cos(angle)], abs=1e-5)


def test_cross_attention_is_the_softmax_written_out():
    torch.manual_seed(0)
    layer = CrossAttention(8, 2, bias=True)
    x, memory = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    q, k, v = layer.query(x), *layer.key_value(memory).chunk(2, dim=-1)
    heads = []
    for h in range(2):
        part = slice(4 * h, 4 * h + 4)
        scores = (q[..., part] @ k[..., part].mT / 2)[..., :4]  # the fifth place is masked
        heads.append(scores.softmax(-1) @ v[:, :4, part])
    mask = torch.tensor([True] * 4 + [False])[None, None, None]
    found = layer(x, layer.read(memory), Sight(mask=mask, causal=False))
    assert torch.allclose(found, layer.out(torch.cat(heads, -1)), atol=1e-6)


@pytest.mark.parametrize("norm_first", [True, False])
def test_blocks_add_in_sequence(norm_first):
    torch.manual_seed(0)
    attention, cross, inner = Attention(8, 2, 2, 4), CrossAttention(8, 2), FeedForward(8, 12, "relu")
    a, b, c = (make_norm("layer", 8, 1e-5) for _ in range(3))
    for norm in (a, b, c):
        torch.nn.init.normal_(norm.weight)
    x, memory = torch.randn(2, 3, 8), cross.read(torch.randn(2, 5, 8))
    everywhere = Sight(causal=False)
    if norm_first:
        one = x + attention(a(x), Sight())
        two = one + cross(b(one), memory, everywhere)
        whole, short = two + inner(c(two)), one + inner(c(one))
    else:
        one = a(x + attention(x, Sight()))
        two = b(one + cross(one, memory, everywhere))
        whole, short = c(two + inner(two)), c(one + inner(one))
    assert torch.allclose(Block(attention, inner, (a, c), norm_first=norm_first)(x, Sight()), short, atol=1e-6)
    block = CrossBlock(attention, cross, inner, (a, b, c), norm_first=norm_first)
    assert torch.allclose(block(x, Sight(), memory, everywhere), whole, atol=1e-6)


def test_a_still_pass_drops_nothing_out():
    torch.manual_seed(0)
    attention, cross = Attention(8, 2, 2, 4, dropout=0.5), CrossAttention(8, 2, dropout=0.5)
    block = CrossBlock(attention, cross, FeedForward(8, 12, "relu"), tuple(make_norm("layer", 8, 1e-5) for _ in range(3)), 0.5).train()
    x, memory = torch.randn(2, 3, 8), cross.read(torch.randn(2, 5, 8))
    still, moving = Sight(causal=False, still=True), Sight(causal=False)
    quiet = [block(x, still, memory, still) for _ in range(2)]
    assert torch.equal(*quiet)
    assert torch.equal(quiet[0], block.eval()(x, moving, memory, moving))
    block.train()
    assert not torch.equal(block(x, moving, memory, moving), block(x, moving, memory, moving))
