"""Recomputes every number of docs/principles/gan.md by the code that the page names."""

from __future__ import annotations

import math

import pytest
import torch

from bimo.training.game import discriminator_loss, policy_gradient
from tests.principles.pages import missing, page, script

numbers = script("draw_gan")
vector, number = script("drawing").vector, script("drawing").number
PAGE = page("gan")
WRITTEN = numbers.W_G @ numbers.Z


def test_the_worked_example() -> None:
    real, drawn = numbers.judged(numbers.REAL)[None], numbers.judged(WRITTEN)[None]
    d_real, d_drawn = float(real.sigmoid()), float(drawn.sigmoid())
    loss = float(discriminator_loss(real, drawn))
    said = [
        f"G(z) = {vector(WRITTEN)}.",
        f"| real x | {number(float(real))} | {d_real:.4f} |",
        f"| G(z) | {number(float(drawn))} | {d_drawn:.4f} |",
        f"D's loss: −ln {d_real:.4f} − ln(1 − {d_drawn:.4f}) = **{loss:.4f}** nats.",
        f"knows nothing has 2 ln 2 = {float(discriminator_loss(torch.zeros(4), torch.zeros(4))):.4f}.",
        f"G's loss: −ln {d_drawn:.4f} = {-math.log(d_drawn):.4f}.",
        f"the game's value is −ln 4 = {number(-math.log(4))}",
    ]
    assert missing(PAGE, said) == []
    assert loss == pytest.approx(-math.log(d_real) - math.log(1 - d_drawn))


def test_which_loss() -> None:
    weak, strong = (numbers.pull(0.01, saturating=saturating) for saturating in (True, False))
    assert f"minimising log(1 − D) pulls at the logit with {weak:.2f}, minimising −log D with {strong:.2f}." in PAGE
    assert f"{strong / weak:.0f} times more slowly: {weak:.2f} for {strong:.2f} |" in PAGE


def test_words() -> None:
    p, believed = numbers.d([0.6, 0.4]), numbers.d([0.3, 0.9])
    logits = p.log().requires_grad_()
    loss = sum(p[k] * policy_gradient(logits.log_softmax(0)[k : k + 1], believed[k : k + 1]) for k in (0, 1))
    (gradient,) = torch.autograd.grad(torch.as_tensor(loss), logits)
    mean = float(p @ believed)
    assert f"The mean is {mean:.4f}." in PAGE
    assert f"pulls the logits by {vector(-gradient)}:" in PAGE
    assert torch.allclose(-gradient, p * (believed - mean))
    mixture = float(-(p * believed.log()).sum())
    assert f"gives −ln 0.9 = {-math.log(0.9):.4f}, the mixture {mixture:.4f} |" in PAGE
    assert not logits.argmax().is_floating_point()  # a drawn word is a whole number: no gradient passes


def test_both_at_once() -> None:
    (loss, right), (pairs_loss, pairs_right) = (numbers.judges()[name] for name in ("alone", "both"))
    said = [
        f"gets to {pairs_right:.0%} and a loss of {pairs_loss:.4f}, by its bias".replace("%", " %"),
        f"stays at {right:.0%} and {loss:.4f}, as it must".replace("%", " %"),
    ]
    assert missing(PAGE, said) == []


def test_the_textbooks_two_numbers() -> None:
    before = numbers.W_G @ WRITTEN + numbers.B_D
    assert f"{vector(before)} before the sigmoid, {vector(before.sigmoid())} after it." in PAGE
    assert f"| {vector(before, 3)} | arithmetic |" in PAGE


def test_the_picture_is_what_the_script_draws() -> None:
    assert numbers.PICTURE.read_text(encoding="utf-8") == numbers.draw()
