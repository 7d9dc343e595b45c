"""Recomputes every number of docs/principles/layer-norm.md by the code that the page names."""

from __future__ import annotations

import math

import torch

from tests.principles.pages import missing, page, script

numbers = script("draw_layer_norm")
vector = script("drawing").vector
PAGE = page("layer-norm")
X = numbers.X
EVEN = torch.full((4,), 3.0, dtype=torch.float64)


def test_the_worked_example() -> None:
    assert (float(X.mean()), float(X.var(unbiased=False)), float(X.square().mean())) == (3, 3.5, 12.5)
    plain = vector(numbers.norm(X))
    said = [
        f"| LayerNorm, γ = 1, β = 0 | {plain} |",
        f"| of 10 · x | {vector(numbers.norm(10 * X))}:",
        f"| with γ = [2, 1, 1, 0.5], β = [0, 1, 0, −1] | {vector(numbers.norm(X, gain=True))} |",
        f"| RMSNorm, √mean(x²) = √12.5 | {vector(numbers.norm(X, 'rms'))} |",
        f"| LayerNorm of [3, 3, 3, 3] | {vector(numbers.norm(EVEN))}:",
    ]
    assert missing(PAGE, said) == []
    assert (numbers.GAMMA, numbers.BETA) == ([2, 1, 1, 0.5], [0, 1, 0, -1])
    assert vector(numbers.norm(10 * X)) == plain


def test_the_printed_form() -> None:
    once, deep = numbers.printed(X), X
    for _ in range(12):
        deep = numbers.printed(deep)
    said = [
        f"x becomes {vector(once, 0)}, mean {once.mean():.0f} and variance {once.var(unbiased=False):.1f}",
        f"10 · x becomes {vector(numbers.printed(10 * X), 0)}",
        f"one after the other: mean {deep.mean():,.0f} |",
        f"LN takes it off again: {vector(numbers.norm(once))} as before. g has the gradient {abs(numbers.gradient_of_g()):.4f}",
    ]
    assert missing(PAGE, said) == []


def test_other_forms() -> None:
    small, rows = X / 1000, torch.tensor([[1.0, 2, 3, 6], [2, 2, 2, 2], [0, 4, 1, 7]], dtype=torch.float64)
    outside = (small - small.mean()) / (small.std(unbiased=False) + numbers.EPSILON)
    said = [
        f"{vector((X - X.mean()) / X.std())}: weights",
        f"at D = 768 it is a factor of {math.sqrt(767 / 768):.4f}",
        f"ε = {numbers.EPSILON:.0e}: {vector(outside)} instead of {vector(numbers.norm(small))}",
        f"[1, 2, 3, 6] becomes {vector(numbers.over_tokens(rows[:2]))}; with [0, 4, 1, 7] there too, {vector(numbers.over_tokens(rows))}.",
        f"[3, 3, 3, 3] becomes {vector(numbers.norm(EVEN, 'rms'))}, not zeros",
    ]
    assert missing(PAGE, said) == []


def test_the_picture_is_what_the_script_draws() -> None:
    assert numbers.PICTURE.read_text(encoding="utf-8") == numbers.draw()
