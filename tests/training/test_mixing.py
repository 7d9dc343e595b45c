"""Weights between models: what maximises the likelihood, against searches by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bimo.models.hybrid.weights import multiplied
from bimo.training.mixing import gate_weights, linear_weights, product_weights


def _nats(weights: Tensor, logs: Tensor) -> float:
    return float(-(weights.log() + logs.double()).logsumexp(1).mean())


def test_linear_weights_are_the_likeliest() -> None:
    logs = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)).sub(2).clamp(max=-0.01)
    found = linear_weights(logs)
    assert float(found.sum()) == pytest.approx(1)
    best = _nats(found, logs)
    for a in range(21):
        for b in range(21 - a):
            tried = torch.tensor([a, b, 20 - a - b], dtype=torch.float64) / 20
            assert best <= _nats(tried, logs) + 1e-6


def test_places_where_a_part_is_silent_or_nothing_is_possible_teach_nothing() -> None:
    logs = torch.tensor([[-1.0, -2.0], [-2.0, -1.5], [-1.0, -math.inf]])
    more = torch.tensor([[-0.1, math.nan], [-math.inf, -math.inf]])
    torch.testing.assert_close(linear_weights(torch.cat([logs, more])), linear_weights(logs))
    assert linear_weights(more).tolist() == [0.5, 0.5]


def _experts(count: int = 600, words: int = 20) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    true = 2 * torch.randn(count, words, generator=random)
    told = [(true + noise * torch.randn(count, words, generator=random)).log_softmax(1) for noise in (1.0, 2.0)]
    return torch.stack(told, 1), torch.multinomial(true.softmax(1), 1, generator=random)[:, 0]


def _product(weights: Tensor, told: Tensor, targets: Tensor) -> float:
    return float(-multiplied(list(told.unbind(1)), weights)[torch.arange(len(targets)), targets].mean())


def test_product_weights_are_the_likeliest() -> None:
    told, targets = _experts()
    found = product_weights(told, targets)
    best = _product(found, told, targets)
    for first in torch.linspace(0, 1.5, 16):
        for second in torch.linspace(0.05, 1.5, 16):
            assert best <= _product(torch.stack([first, second]), told, targets) + 1e-5


def test_exponents_are_never_negative() -> None:
    told, targets = _experts()
    against = torch.stack([told[:, 0], (-told[:, 0]).log_softmax(1)], 1)
    assert float(product_weights(against, targets).min()) >= 0


def test_exponents_reach_their_best_where_newtons_step_leaves_what_is_allowed() -> None:
    """A sparse part, as sure as it is wrong: from the middle, Newton's step goes far below 0 in every coordinate."""
    random = torch.Generator().manual_seed(1)
    count, words = 300, 30
    good = (2 * torch.randn(count, words, generator=random)).log_softmax(1)
    targets = torch.multinomial(good.exp(), 1, generator=random)[:, 0]
    sparse = torch.full((count, words), -60.0)
    sparse[torch.arange(count), torch.randint(words, (count,), generator=random)] = 0.0
    told = torch.stack([good, sparse], 1)
    found = product_weights(told, targets)
    best = _product(found, told, targets)
    for first in torch.linspace(0.05, 1.5, 16):
        for second in [0.0, 1e-4, 1e-3, 0.01, 0.1, 0.5]:
            assert best <= _product(torch.stack([first, torch.tensor(second)]), told, targets) + 1e-4


def test_exponents_are_learned_of_what_the_product_does_with_excluded_tokens() -> None:
    """A part that rightly excludes tokens counts for it: the learned nats are those of `multiplied`, not of a floor in place of zero."""
    told, targets = _experts()
    excluded = told[:, 1].topk(8, dim=1, largest=False).indices
    told[:, 1] = told[:, 1].scatter(1, excluded, -math.inf)
    kept = ~(excluded == targets[:, None]).any(1)
    told, targets = told[kept], targets[kept]
    found = product_weights(told, targets)
    best = _product(found, told, targets)
    assert math.isfinite(best)
    for first in torch.linspace(0.05, 1.5, 16):
        for second in [0.001, 0.05, 0.2, 0.5, 1.0]:
            assert best <= _product(torch.stack([first, torch.tensor(second)]), told, targets) + 1e-4


def test_a_gate_finds_where_each_part_is_right() -> None:
    states = torch.randn(2000, 6, generator=torch.Generator().manual_seed(0)) * 3 + 1
    first = states[:, 2] > 1
    logs = torch.where(first[:, None], torch.tensor([-0.5, -4.0]), torch.tensor([-4.0, -0.5]))
    gate = gate_weights(logs, states, of=1)
    assert gate.gated < 0.7 < 1.0 < gate.fixed
    assert gate.weights.of == 1
    shares = gate.weights.logs(torch.zeros(2000, 2, dtype=torch.bool), states).exp()
    assert float((shares[:, 0] > 0.5).eq(first).double().mean()) > 0.97


def test_a_gate_that_has_nothing_to_find_says_so() -> None:
    random = torch.Generator().manual_seed(0)
    gate = gate_weights(torch.randn(500, 2, generator=random) - 3, torch.randn(500, 40, generator=random), of=0)
    assert gate.gated >= gate.fixed - 1e-3


def test_exponents_end_where_nothing_is_gained_or_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the optimum no step is better, and each that is tried reads all log-probabilities once more."""
    torch.manual_seed(0)
    told = torch.randn(200, 2, 30).log_softmax(2)
    targets = told.exp().mean(1).multinomial(1)[:, 0]
    calls, plain = [], torch.einsum
    monkeypatch.setattr(torch, "einsum", lambda *given: (calls.append(given[0]), plain(*given))[1])
    weights = product_weights(told, targets)
    assert len(calls) < 40
    assert product_weights(told, targets, late=lambda: True).tolist() == [0.5, 0.5]
    found, near = (
        -torch.einsum("nkv,k->nv", told, w.float()).log_softmax(1)[range(200), targets].mean() for w in (weights, weights + 0.05)
    )
    assert found < near
