"""Numbers and picture of gan.md: `python docs/principles/draw_gan.py` draws it anew."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from drawing import BLUE, GREY, RED, RULE, curve, label, picture, rule
from torch import Tensor
from torch.nn import functional as F

from bimo.training.game import discriminator_loss

PICTURE = Path(__file__).with_name("gan.svg")


def d(values: Any) -> Tensor:
    """Numbers in double precision."""
    return torch.tensor(values, dtype=torch.float64)


W_G, Z, B_D = d([[0.1, 0.2], [0.3, 0.4]]), d([0.5, 0.6]), d([0.5, 0.6])  # the textbook's
REAL, JUDGE, BIAS = d([0.9, 0.1]), d([1.0, -2.0]), 0.5  # a real sample and a discriminator of one number


def judged(sample: Tensor) -> Tensor:
    """The logit of one sample [2]: σ of it is D."""
    return JUDGE @ sample + BIAS


def pull(share: float, *, saturating: bool) -> float:
    """How hard the generator's loss pulls at the logit of a sample that D believes with probability `share`."""
    logit = d(math.log(share / (1 - share))).requires_grad_()
    loss = -F.softplus(logit) if saturating else F.softplus(-logit)  # log(1 − D), or −log D
    loss.backward()
    assert logit.grad is not None
    return -float(logit.grad)


def judges(steps: int = 300) -> dict[str, tuple[float, float]]:
    """Loss and accuracy of a linear judge where generator and data are the same distribution: each sample alone, or both at once.

    "Both at once" is shown pairs whose first half is always the real sample, as printed; its label never changes.
    """
    generator = torch.Generator().manual_seed(0)
    real, drawn = (torch.randn(2_000, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    found = {}
    for name in ("alone", "both"):
        width = 2 if name == "alone" else 4
        weight, bias = torch.zeros(width, dtype=torch.float64, requires_grad=True), torch.zeros(1, dtype=torch.float64, requires_grad=True)
        for step in range(steps + 1):
            if name == "alone":
                told = real @ weight + bias, drawn @ weight + bias
                loss = discriminator_loss(*told)
                right = torch.cat([told[0] > 0, told[1] < 0])
            else:
                logit = torch.cat([real, drawn], dim=1) @ weight + bias
                loss, right = F.softplus(-logit).mean(), logit > 0
            if step == steps:
                found[name] = (float(loss.detach()), float(right.double().mean()))
                break
            for parameter, gradient in zip((weight, bias), torch.autograd.grad(loss, (weight, bias)), strict=True):
                parameter.data -= 0.5 * gradient
    return found


def draw() -> str:
    """How hard each loss pulls at the generator, over what the discriminator thinks of its sample."""
    early = pull(0.01, saturating=True), pull(0.01, saturating=False)
    title = f"The pull on the generator where D(G(z)) = 0.01: log(1 − D) {early[0]:.2f}, −log D {early[1]:.2f}"
    parts = [label(16, 22, "how hard the loss pulls at the generator", fill=GREY)]
    for tick in (0.0, 0.5, 1.0):
        y = 200 - 150 * tick
        parts += [rule(56, y, 416, y, stroke=RULE), label(48, y + 4, f"{tick:g}", anchor="end", fill=GREY)]
        parts.append(label(56 + 360 * tick, 222, f"{tick:g}", anchor="middle", fill=GREY))
    parts.append(label(236, 240, "D(G(z)): how far the sample is believed", anchor="middle", fill=GREY))
    for saturating, colour in ((True, RED), (False, BLUE)):
        shares = [0.001, *(n / 20 for n in range(1, 20)), 0.999]
        parts.append(curve([(56 + 360 * s, 200 - 150 * pull(s, saturating=saturating)) for s in shares], stroke=colour))
    parts += [label(428, 62, "minimise log(1 − D): strong where", fill=RED), label(428, 80, "the sample is believed already", fill=RED)]
    parts += [label(428, 176, "minimise −log D: strong where", fill=BLUE), label(428, 194, "it is not (non-saturating)", fill=BLUE)]
    return picture(660, 254, title, parts)


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
