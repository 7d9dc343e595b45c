"""Recomputes every number of docs/principles/rlhf-update.md by the script beside it, and the gradient by Bimo's own loss."""

from __future__ import annotations

import math

import pytest
import torch

from bimo.training.game import policy_gradient
from tests.principles.pages import missing, page, script

numbers = script("draw_rlhf_update")
vector, number = script("drawing").vector, script("drawing").number
PAGE = page("rlhf-update")


def test_up_and_down() -> None:
    (up, _), (down, _) = (numbers.climb(100, rate) for rate in (1.0, -1.0))
    said = [f"| {step} | {up[step]:.4f} | {down[step]:.4f} |" for step in (0, 1, 2, 10, 100)]
    said.append(f"after ten steps {down[10]:.4f} for the better answer instead of {up[10]:.4f} |")
    assert missing(PAGE, said) == []


def test_one_step_by_hand_and_by_bimos_loss() -> None:
    """The policy gradient's loss is to be descended: its gradient is minus that of the expected reward."""
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    log_p = logits.log_softmax(0)
    (of_log,) = torch.autograd.grad(log_p[0], logits, retain_graph=True)
    loss = policy_gradient(log_p[:1], torch.tensor([1.0 - 0.5], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (exact,) = torch.autograd.grad(numbers.expected(logits.softmax(0), numbers.REWARD, numbers.EVEN, 0.0), logits)
    assert f"∇ log p = {vector(of_log, 1)} gives the same {vector(-gradient, 2)}." in PAGE
    assert torch.allclose(-gradient, exact)
    assert f"= 0.5 · 0.5 = {float(exact[0]):.2f}, and ∂J/∂θ₂ = {number(float(exact[1]), 2)}." in PAGE


def test_the_penalty() -> None:
    for beta, said in ((1.0, "e/(e + 1) = {:.4f}"), (0.1, "with β = 0.1 at {:.4f}")):
        end = float(numbers.best(numbers.REWARD, numbers.EVEN, beta)[0])
        assert said.format(end) in PAGE
        assert end == pytest.approx(1 / (1 + math.exp(-1 / beta)))
    assert float(numbers.climb(200, beta=1.0)[1][0]) == pytest.approx(1 / (1 + math.exp(-1)))
    away, strayed = numbers.climb(300, beta=-1.0)[0], numbers.climb(300, beta=-1.0, start=numbers.d([0.26, 0.74]))[0]
    assert f"is at {away[-1]:.4f} after 300 steps, and a policy that starts at 0.26 runs to the worse answer, {strayed[-1]:.4f} |" in PAGE


def test_the_judge_errs() -> None:
    def told(policy: torch.Tensor) -> tuple[str, str]:
        return f"{float(policy @ numbers.JUDGED):.4f}", f"{float(policy @ numbers.TRUE):.4f}"

    for beta in (0.1, 0.3, 1, 10):
        policy = numbers.best(numbers.JUDGED, numbers.REFERENCE, beta)
        shares = ", ".join(f"{p:.4f}" for p in policy.tolist())
        assert f"| {beta} | {shares} | {told(policy)[0]} | {told(policy)[1]} |" in PAGE
    _, policy = numbers.climb(3_000, reward=numbers.JUDGED, reference=numbers.REFERENCE)
    assert "judged {}, in truth {} after 3,000 steps".format(*told(policy)) in PAGE
    _, penalised = numbers.climb(3_000, beta=1.0, reward=numbers.JUDGED, reference=numbers.REFERENCE)
    assert torch.allclose(penalised, numbers.best(numbers.JUDGED, numbers.REFERENCE, 1.0), atol=1e-3)


def test_the_clip() -> None:
    for ratio in (1.5, 0.5):
        for advantage, sign in ((1.0, "+1"), (-1.0, "−1")):
            found = [numbers.slope(rule, ratio, advantage) for rule in (numbers.clipped, numbers.clip_alone)]
            cells = [f"{number(value)} | {number(gradient, 0)}" for value, gradient in found]
            assert f"| {ratio} | {sign} | {cells[0]} | {cells[1]} |" in PAGE
    free, held = (numbers.inner_steps(rule, 50)[-1] for rule in (numbers.unclipped, numbers.clipped))
    back, lost = (numbers.inner_steps(rule, 50, 0.2)[-1] for rule in (numbers.clipped, numbers.clip_alone))
    assert f"unclipped to {free:.4f}, clipped to {held:.4f}, just past 1.2 · 0.5." in PAGE
    assert f"back to {back:.4f} with the min, {lost:.4f} for ever without." in PAGE


def test_the_picture_is_what_the_script_draws() -> None:
    assert numbers.PICTURE.read_text(encoding="utf-8") == numbers.draw()
