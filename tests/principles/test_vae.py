"""Recomputes every number of docs/principles/vae.md by the code that the page names."""

from __future__ import annotations

import math

import pytest
import torch

from bimo.models.latent import drawn, kl_to_prior
from tests.principles.pages import missing, page, script

numbers = script("draw_vae")
vector, number = script("drawing").vector, script("drawing").number
PAGE = page("vae")
MU, SIGMA, NOISE = numbers.MU, numbers.SIGMA, numbers.NOISE


def test_the_textbooks_numbers() -> None:
    readings = [2 * SIGMA.log(), SIGMA]  # log σ² where the numbers are σ, and where they are log σ² themselves
    z = [drawn(MU, reading, NOISE) for reading in readings]
    before, after = zip(*(numbers.decoded(value) for value in z), strict=True)
    costs = [kl_to_prior(MU, reading) for reading in readings]
    said = [f"σ = {vector((0.5 * SIGMA).exp())} |"]
    for name, (first, second) in (("z = μ + σ ⊙ ε", z), ("Wz + b", before), ("its sigmoid", after)):
        said.append(f"| {name} | {vector(first)} | {vector(second)} |")
    sums = [f"{cost[0]:.4f} + {cost[1]:.4f} = {cost.sum():.4f}" for cost in costs]
    said += [f"| KL, nats | {sums[0]} | {sums[1]} |", f"of the numbers above {number(-float(costs[0].sum()))}, of μ = [10, 10]"]
    said.append(f"{vector(after[0])} sums to {after[0].sum():.4f};")
    assert missing(PAGE, said) == []
    assert torch.allclose(z[0], MU + SIGMA * NOISE)
    assert vector(z[0], 2) == "[0.52, 0.66]"
    reference = torch.distributions.kl_divergence(torch.distributions.Normal(MU, SIGMA), torch.distributions.Normal(0.0, 1.0))
    assert torch.allclose(costs[0], reference)
    assert f"{number(-float(kl_to_prior(numbers.d([10, 10]), numbers.d([0, 0])).sum()), 1)} and so on" in PAGE


def test_the_bound_where_the_truth_is_known() -> None:
    truth, best, wide = numbers.log_likelihood(), numbers.bound(1, math.log(0.5)), numbers.bound(1, 0)
    wrong = numbers.bound(1, 0, printed=True)
    said = [
        f"log p(2) = {number(truth)}. The best guess",
        f"there the bound is {number(best)}, the truth itself.",
        f"q = N(1, 1) gives {number(wide)}.",
        f"is **{number(wrong)}**: {wrong - truth:.4f} nats (½ ln 2) **above**",
        f'The "bound" passes the truth by {wrong - truth:.4f} nats',
        f"look {truth - wide:.4f} nats worse",
    ]
    assert missing(PAGE, said) == []
    assert wrong - truth == pytest.approx(0.5 * math.log(2))
    guesses = [(m / 10, v / 10) for m in range(-30, 31) for v in range(-40, 41)]
    assert max(numbers.bound(*guess) for guess in guesses) <= truth + 1e-12
    assert max(guesses, key=lambda guess: numbers.bound(*guess, printed=True)) == (1.0, 0.0)  # "since it is the highest"


def test_the_noise() -> None:
    one, zero = numbers.d([1.0]), numbers.d([0.0])
    scale = {v: float(drawn(zero, numbers.d([float(v)]), one)) for v in (-2, 0, 2)}
    said = [
        f"the noise is 0.0 instead of {scale[0]:.4f} at log σ² = 0, and 2.0 instead of {scale[-2]:.4f} at log σ² = −2.",
        f"that is the variance: {math.exp(2):.4f} instead of {scale[2]:.4f} at log σ² = 2",
    ]
    assert missing(PAGE, said) == []


def test_means_and_sums() -> None:
    words, nats, kl = 20, 80, 8
    assert (
        f"{words} words, {nats} nats, a KL of {kl}: {nats + kl}, or {(nats + kl) / words} a word. 80/20 + 8 = {nats // words + kl}" in PAGE
    )


def test_the_picture_is_what_the_script_draws() -> None:
    assert numbers.PICTURE.read_text(encoding="utf-8") == numbers.draw()
