"""The chunked cross-entropy is F.cross_entropy, gradients and all, without [N, V] in memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bimo.training import cross_entropy
from bimo.training.cross_entropy import chunked_cross_entropy


def _case(rows: int, vocab: int, bias: bool, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    torch.manual_seed(rows * vocab)
    hidden = torch.randn(rows, 5, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocab, 5, dtype=dtype, requires_grad=True)
    b = torch.randn(vocab, dtype=dtype, requires_grad=True) if bias else None
    return hidden, weight, b, torch.randint(3, vocab, (rows,))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("suppressed", [(), (0, 2)])
@pytest.mark.parametrize("rows", [1, 16, 133])
def test_it_equals_cross_entropy_and_its_gradients(
    monkeypatch: pytest.MonkeyPatch, rows: int, suppressed: tuple[int, ...], bias: bool
) -> None:
    monkeypatch.setattr(cross_entropy, "_CHUNK", 40 * 16)  # several chunks
    hidden, weight, b, targets = _case(rows, 40, bias, torch.float32)
    given = [t for t in (hidden, weight, b) if t is not None]
    logits = F.linear(hidden, weight, b)
    if suppressed:
        logits = logits.index_fill(1, torch.tensor(suppressed), float("-inf"))
    expected = F.cross_entropy(logits, targets, reduction="sum")
    found = chunked_cross_entropy(hidden, weight, b, targets, suppressed)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    scale = 0.37
    for ours, theirs in zip(torch.autograd.grad(found * scale, given), torch.autograd.grad(expected * scale, given), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    hidden, weight, b, targets = _case(9, 12, True, torch.float32)
    assert b is not None
    loss = chunked_cross_entropy(hidden.detach(), weight, b.detach(), targets)
    loss.backward()
    assert weight.grad is not None
    assert hidden.grad is None


def test_bf16_autocast_stays_near_and_keeps_the_gradients_types() -> None:
    hidden, weight, b, targets = _case(64, 50, True, torch.float32)
    plain = chunked_cross_entropy(hidden, weight, b, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = chunked_cross_entropy(hidden, weight, b, targets)
    assert low.dtype == torch.float64
    assert low.item() == pytest.approx(plain.item(), rel=1e-2)
    assert low.item() != plain.item(), "the products were meant to be in bf16"
    ours = torch.autograd.grad(low, [hidden, weight, b])
    theirs = torch.autograd.grad(plain, [hidden, weight, b])
    for g, h in zip(ours, theirs, strict=True):
        assert g.dtype == torch.float32
        assert torch.cosine_similarity(g.flatten(), h.flatten(), dim=0) > 0.999


def test_bf16_hidden_states_get_bf16_gradients() -> None:
    hidden, weight, _, targets = _case(8, 20, False, torch.float32)
    low = hidden.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        chunked_cross_entropy(low, weight, None, targets).backward()
    assert low.grad is not None
    assert low.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("rows", [3, 133])
def test_label_smoothing_is_torch_s_where_nothing_is_suppressed(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(cross_entropy, "_CHUNK", 40 * 16)
    hidden, weight, bias, targets = _case(rows, 40, True)
    leaves = [t for t in (hidden, weight, bias) if t is not None]
    expected = F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum", label_smoothing=0.1)
    wanted = torch.autograd.grad(expected, leaves)
    found = chunked_cross_entropy(hidden, weight, bias, targets, label_smoothing=0.1)
    torch.testing.assert_close(found, expected.detach().double())
    for a, b in zip(torch.autograd.grad(found, leaves), wanted, strict=True):
        torch.testing.assert_close(a, b, check_dtype=False, rtol=1e-5, atol=1e-6)


def test_label_smoothing_gives_suppressed_ids_nothing() -> None:
    hidden, weight, _, targets = _case(9, 7, False)
    kept = [1, 3, 4, 5, 6]
    found = chunked_cross_entropy(hidden, weight, None, targets, (0, 2), 0.2)
    places = torch.tensor([kept.index(t) for t in targets.tolist()])
    expected = F.cross_entropy(hidden @ weight[kept].T, places, reduction="sum", label_smoothing=0.2)
    torch.testing.assert_close(found, expected.detach().double())
    a, b = torch.autograd.grad(found, weight)[0], torch.autograd.grad(expected, weight)[0]
    torch.testing.assert_close(a, b, check_dtype=False, rtol=1e-5, atol=1e-6)


def test_no_targets_cost_nothing() -> None:
    hidden, weight = torch.zeros(0, 3, requires_grad=True), torch.ones(5, 3, requires_grad=True)
    loss = chunked_cross_entropy(hidden, weight, None, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert not weight.grad.any()
