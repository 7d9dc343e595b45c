"""Numbers and picture of vae.md: `python docs/principles/draw_vae.py` draws it anew."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from drawing import BLUE, GREY, INK, RED, RULE, curve, label, number, picture, rule
from torch import Tensor

from bimo.models.latent import drawn, kl_to_prior

PICTURE = Path(__file__).with_name("vae.svg")


def d(values: Any) -> Tensor:
    """Numbers in double precision."""
    return torch.tensor(values, dtype=torch.float64)


MU, SIGMA, NOISE = d([0.5, 0.6]), d([0.2, 0.3]), d([0.1, 0.2])
W, B = d([[0.1, 0.2], [0.3, 0.4]]), d([0.5, 0.6])
SEEN = 2.0  # the observed x of the model whose likelihood is known


def decoded(z: Tensor) -> tuple[Tensor, Tensor]:
    """The article's decoder: W z + b, and its sigmoid."""
    return W @ z + B, (W @ z + B).sigmoid()


def log_likelihood() -> float:
    """log p(x) where z ~ N(0, 1) and x ~ N(z, 1), so that x ~ N(0, 2)."""
    return -0.5 * math.log(2 * math.pi * 2) - SEEN**2 / 4


def bound(mean: float, log_variance: float, *, printed: bool = False) -> float:
    """The ELBO of that model with q = N(mean, exp(log_variance)); printed: the noise is multiplied by the log-variance itself.

    The mean over ε is exact: what is averaged is a square of ε, and ±1 have mean 0 and variance 1, as ε has.
    """
    mu, spread, noise = d([mean, mean]), d([log_variance] * 2), d([-1.0, 1.0])
    z = mu + spread * noise if printed else drawn(mu, spread, noise)
    reconstruction = -0.5 * math.log(2 * math.pi) - 0.5 * (SEEN - z).square().mean()
    return float(reconstruction - kl_to_prior(mu[:1], spread[:1]).sum())


def draw() -> str:
    """The bound over log σ² at μ = 1: with σ = exp(½ log σ²) it never passes log p(x); with "σ = log σ²" it does."""
    truth, best = log_likelihood(), bound(1, math.log(0.5))
    lowest, highest = -4.0, -1.6

    def place(log_variance: float, value: float) -> tuple[float, float]:
        return 64 + 84 * (log_variance + 3), 40 + 160 * (highest - value) / (highest - lowest)

    wrong = number(bound(1, 0, printed=True))
    title = f"log p(x) = {number(truth)}; at log σ² = −0.69 the bound is {number(best)}; as printed it is {wrong} at 0"
    parts = [label(16, 22, "the bound on log p(x), over log σ² (μ = 1)", fill=GREY)]
    for tick in (-4.0, -3.0, -2.0):
        y = place(0, tick)[1]
        parts += [rule(64, y, 484, y, stroke=RULE), label(56, y + 4, number(tick, 0), anchor="end", fill=GREY)]
    y = place(0, truth)[1]
    parts += [rule(64, y, 484, y, stroke=INK, width=1.5), label(492, y + 4, f"log p(x) = {number(truth)}")]
    for printed, colour in ((False, BLUE), (True, RED)):
        values = [(v / 20, bound(1, v / 20, printed=printed)) for v in range(-60, 41)]
        parts.append(curve([place(x, value) for x, value in values if value >= lowest], stroke=colour))
    x, top = place(0, bound(1, 0, printed=True))
    parts += [
        f'<circle cx="{x:.1f}" cy="{top:.1f}" r="4" fill="{RED}"/>',
        label(492, top + 4, f'"σ = log σ²": {wrong}', fill=RED),
    ]
    x, low = place(math.log(0.5), best)
    parts += [
        f'<circle cx="{x:.1f}" cy="{low:.1f}" r="4" fill="{BLUE}"/>',
        label(492, low + 26, f"σ = exp(½ log σ²): {number(best)}", fill=BLUE),
    ]
    parts += [label(place(v, -4)[0], 222, number(v, 0), anchor="middle", fill=GREY) for v in range(-3, 3)]
    return picture(690, 236, title, parts)


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
