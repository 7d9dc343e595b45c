"""Numbers and picture of rlhf-update.md: `python docs/principles/draw_rlhf_update.py` draws it anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from drawing import BLUE, GOLD, GREY, RED, RULE, curve, label, number, picture, rule
from torch import Tensor

PICTURE = Path(__file__).with_name("rlhf-update.svg")


def d(values: Any) -> Tensor:
    """Numbers in double precision."""
    return torch.tensor(values, dtype=torch.float64)


REWARD = d([1.0, 0.0])  # of the two answers
EVEN = d([0.5, 0.5])  # the reference
JUDGED, TRUE, REFERENCE = d([1.0, 0.0, 2.0]), d([1.0, 0.0, 0.0]), d([0.60, 0.39, 0.01])  # three answers; the judge errs on the third


def expected(policy: Tensor, reward: Tensor, reference: Tensor, beta: float) -> Tensor:
    """J = E r − β KL(π ‖ reference), exactly."""
    return (policy * reward).sum() - beta * (policy * (policy / reference).log()).sum()


def climb(
    steps: int, rate: float = 1.0, beta: float = 0.0, reward: Tensor = REWARD, reference: Tensor = EVEN, start: Tensor | None = None
) -> tuple[list[float], Tensor]:
    """Probability of the first answer before and after each step θ ← θ + rate · ∇J; the last policy.

    It starts from the reference, or from `start`. A negative rate descends, as a "loss" would be; a negative beta rewards distance.
    """
    logits = (reference if start is None else start).log()
    path = [float(logits.softmax(0)[0])]
    for _ in range(steps):
        logits = logits.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(expected(logits.softmax(0), reward, reference, beta), logits)
        logits = logits.detach() + rate * gradient
        path.append(float(logits.softmax(0)[0]))
    return path, logits.softmax(0)


def best(reward: Tensor, reference: Tensor, beta: float) -> Tensor:
    """The policy of highest J: reference · exp(r / β), normalised."""
    return (reference.log() + reward / beta).softmax(0)


def clipped(ratio: Tensor, advantage: Tensor, epsilon: float = 0.2) -> Tensor:
    """PPO's objective of one answer: min(ρA, clip(ρ, 1 − ε, 1 + ε)A)."""
    return torch.minimum(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)


def clip_alone(ratio: Tensor, advantage: Tensor, epsilon: float = 0.2) -> Tensor:
    """What is left of it without the min."""
    return ratio.clamp(1 - epsilon, 1 + epsilon) * advantage


Rule = Callable[[Tensor, Tensor], Tensor]


def slope(rule_of: Rule, ratio: float, advantage: float) -> tuple[float, float]:
    """The objective and its gradient in the ratio."""
    r = d(ratio).requires_grad_()
    value = rule_of(r, d(advantage))
    (gradient,) = torch.autograd.grad(value, r)
    return float(value.detach()), float(gradient)


def inner_steps(rule_of: Rule, steps: int, first: float = 0.5) -> list[float]:
    """Probability of the first answer, now `first`, when one batch drawn at even odds is used for many steps; A = r − mean."""
    advantage, logits = REWARD - REWARD.mean(), d([first, 1 - first]).log()
    path = [first]
    for _ in range(steps):
        logits = logits.detach().requires_grad_()
        objective = (EVEN * rule_of(logits.softmax(0) / EVEN, advantage)).sum()
        (gradient,) = torch.autograd.grad(objective, logits)
        logits = logits.detach() + gradient
        path.append(float(logits.softmax(0)[0]))
    return path


def unclipped(ratio: Tensor, advantage: Tensor) -> Tensor:
    """ρA."""
    return ratio * advantage


def draw() -> str:
    """Probability of the better answer over the steps: ascending, with a KL penalty, descending."""
    steps = 30
    shown = [
        ("θ + α∇J", climb(steps)[0], BLUE),
        ("θ + α∇J with a KL penalty, β = 1", climb(steps, beta=1.0)[0], GOLD),
        ("θ − α∇J, J taken for a loss", climb(steps, rate=-1.0)[0], RED),
    ]
    title = "Probability of the better answer after thirty steps: " + ", ".join(f"{name} {number(path[-1])}" for name, path, _ in shown)
    parts = [label(16, 22, "probability of the better of two answers", fill=GREY)]
    for tick in (0.0, 0.5, 1.0):
        y = 200 - 150 * tick
        parts += [rule(56, y, 416, y, stroke=RULE), label(48, y + 4, f"{tick:g}", anchor="end", fill=GREY)]
    for name, path, colour in shown:
        parts.append(curve([(56 + 12 * k, 200 - 150 * p) for k, p in enumerate(path)], stroke=colour))
        parts.append(label(424, 204 - 150 * path[-1], f"{name}: {number(path[-1])}", fill=colour))
    parts += [label(56 + 12 * k, 222, str(k) if k else "0 steps", anchor="middle", fill=GREY) for k in (0, 10, 20, 30)]
    return picture(720, 236, title, parts)


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
