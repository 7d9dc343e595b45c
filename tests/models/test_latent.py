"""The arithmetic of latents: worked numbers, torch's distributions, bounds, noise that belongs to its text."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from bimo.core.errors import CapabilityError, UserError
from bimo.models.latent import arc, drawn, fixed_noise, importance_bound, kl_to_prior, line, log_ratio, with_latent
from tests.fakes import FakeModel


def test_the_worked_example():
    """μ = [.5, .6], σ = [.2, .3], ε = [.1, .2] → z = [.52, .66], and the decoder's σ([.684, 1.020]) = [.6646, .7350]."""
    mean, spread, noise = (torch.tensor(v, dtype=torch.float64) for v in ([0.5, 0.6], [0.2, 0.3], [0.1, 0.2]))
    z = drawn(mean, 2 * spread.log(), noise)
    torch.testing.assert_close(z, torch.tensor([0.52, 0.66]).double())
    weight, bias = torch.tensor([[0.1, 0.2], [0.3, 0.4]]).double(), torch.tensor([0.5, 0.6]).double()
    before = weight @ z + bias
    torch.testing.assert_close(before, torch.tensor([0.684, 1.020]).double())
    torch.testing.assert_close(before.sigmoid(), torch.tensor([0.6646, 0.7350]).double(), atol=5e-5, rtol=0)


def test_a_log_variance_is_not_a_spread():
    """At σ = 1 the logarithm is 0: taken for the spread itself, the noise vanishes."""
    mean, noise = torch.tensor([0.5, 0.6]).double(), torch.tensor([0.1, 0.2]).double()
    spread = torch.tensor([0.2, 0.3]).double()
    torch.testing.assert_close((0.5 * spread).exp(), torch.tensor([1.1052, 1.1618]).double(), atol=5e-5, rtol=0)
    torch.testing.assert_close(drawn(mean, spread, noise), torch.tensor([0.6105, 0.8324]).double(), atol=5e-5, rtol=0)
    torch.testing.assert_close(drawn(mean, torch.zeros(2).double(), noise), mean + noise)


def test_the_kl_is_that_of_torch():
    mean, log_variance = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    torch.testing.assert_close(kl_to_prior(mean, log_variance), kl_divergence(posterior, Normal(torch.zeros(3).double(), 1.0)))


def test_the_log_ratio_is_that_of_torch():
    mean, log_variance, noise = (torch.randn(4, 3, dtype=torch.float64) for _ in range(3))
    z = drawn(mean, log_variance, noise)
    expected = Normal(0.0, 1.0).log_prob(z) - Normal(mean, (0.5 * log_variance).exp()).log_prob(z)
    torch.testing.assert_close(log_ratio(z, noise, log_variance), expected.sum(1))


def test_the_booked_nats_add_up_to_the_bound():
    nats, ratios = torch.rand(7, 3, 5, dtype=torch.float64) * 4, torch.randn(7, 3, dtype=torch.float64)
    ends = torch.tensor([4, 2, 3])
    nats = nats * (torch.arange(5) <= ends[:, None])
    booked = importance_bound(nats, ratios, ends)
    expected = -((ratios - nats.sum(2)).exp().mean(0)).log()
    torch.testing.assert_close(booked.sum(1), expected)
    weights = (ratios - nats.sum(2)).softmax(0)
    for row, end in enumerate(ends.tolist()):
        torch.testing.assert_close(booked[row, :end], weights[:, row] @ nats[:, row, :end])
        assert (booked[row, end + 1 :] == 0).all()


def test_what_no_latent_makes_possible_is_infinite_and_nothing_else_is():
    nats = torch.ones(3, 1, 4, dtype=torch.float64)
    nats[:, 0, 1] = math.inf
    booked = importance_bound(nats, torch.randn(3, 1, dtype=torch.float64), torch.tensor([3]))
    assert booked.isinf().tolist() == [[False, True, False, False]]
    assert not booked.isnan().any()


def test_noise_belongs_to_its_text():
    tokens = torch.randint(0, 50, (4, 6))
    lengths = torch.tensor([6, 3, 1, 4])
    torch.manual_seed(1)
    before = torch.get_rng_state()
    noise = fixed_noise(tokens, lengths, 5, 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert noise.shape == (4, 5, 3)
    other = torch.where(torch.arange(6) < lengths[:, None], tokens, 7)  # other padding, other order, other company
    assert torch.equal(fixed_noise(other[[3, 1]], lengths[[3, 1]], 5, 3), noise[[3, 1]])
    assert torch.equal(fixed_noise(tokens[:2, :3], torch.tensor([3, 3]), 5, 3)[1], noise[1])
    assert torch.equal(fixed_noise(tokens, lengths, 2, 3), noise[:, :2]), "the first samples of many are those of few"
    assert len({tuple(row.flatten().tolist()) for row in noise}) == 4


def test_noise_is_standard_normal():
    noise = fixed_noise(torch.arange(2000)[:, None], torch.ones(2000, dtype=torch.int64), 1, 4)[:, 0]
    assert noise.mean(0).abs().max() < 0.1
    assert (noise.var(0) - 1).abs().max() < 0.15
    assert (torch.corrcoef(noise.T) - torch.eye(4)).abs().max() < 0.1


def test_ways_between_latents():
    first, last = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    for way in (line(first, last, 5), arc(first, last, 5)):
        torch.testing.assert_close(way[[0, -1]], torch.stack([first, last]))
    torch.testing.assert_close(line(first, last, 5)[2], torch.tensor([1.5, 0.5, 0.0]))
    torch.testing.assert_close(arc(first, last, 5).norm(dim=1), torch.linspace(3, 1, 5))
    torch.testing.assert_close(arc(first, last, 3)[1], torch.tensor([1.0, 1.0, 0.0]) * math.sqrt(2))
    for end in (first, -first, torch.zeros(3)):  # where no arc is the shortest, the line
        torch.testing.assert_close(arc(first, end, 3), line(first, end, 3))
    with pytest.raises(UserError, match="steps"):
        line(first, last, 1)


def test_a_model_without_a_latent_is_refused():
    with pytest.raises(CapabilityError, match="no latent"):
        with_latent(FakeModel.of())
