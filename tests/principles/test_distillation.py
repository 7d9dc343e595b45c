"""Recomputes every number of docs/principles/distillation.md by the code that the page names."""

from __future__ import annotations

import math

import pytest
import torch

from tests.principles.pages import missing, page, script

numbers = script("draw_distillation")
PAGE = page("distillation")


def row(values: torch.Tensor) -> str:
    return " | ".join(f"{v:.4f}".replace("-", "−") for v in values.tolist())


def test_the_distributions() -> None:
    said = [f"| teacher, T = {t} | {row(numbers.soft(numbers.TEACHER, t))} |" for t in (1, 2)]
    said += [f"| student, T = {t} | {row(numbers.soft(numbers.STUDENT, t))} |" for t in (1, 2)]
    one_hot = torch.eye(4)[numbers.NEXT]
    said.append(f"| the text | {row(one_hot)} |")
    logits = [", ".join(f"{v:g}".replace("-", "−") for v in x.tolist()) for x in (numbers.TEACHER, numbers.STUDENT)]
    said.append(f"for mat, rug, sofa and moon are {logits[0]}; the student's are {logits[1]}.")
    assert missing(PAGE, said) == []


def test_the_loss() -> None:
    loss, soft, entropy, _ = numbers.parts(2, 0.5)
    _, hard, _, _ = numbers.parts(1, 0.5)
    assert entropy == pytest.approx(-math.log(float(numbers.soft(numbers.STUDENT)[0])), rel=1e-6)
    said = [
        f"CE is −ln {float(numbers.soft(numbers.STUDENT)[0]):.4f} = {entropy:.4f}; KL is {hard:.4f} at T = 1 and {soft:.4f} at T = 2.",
        f"the loss is 0.5 · 4 · {soft:.4f} + 0.5 · {entropy:.4f} = {loss:.4f}.",
    ]
    assert missing(PAGE, said) == []
    assert loss == pytest.approx(2 * soft + 0.5 * entropy, rel=1e-9)


def test_the_gradients() -> None:
    said = [
        f"| the text alone (w = 0) | {row(numbers.parts(1, 0.0)[3])} |",
        f"| the teacher alone (w = 1), T = 1 | {row(numbers.parts(1, 1.0)[3])} |",
        f"| both (w = 0.5), T = 2 | {row(numbers.parts(2, 0.5)[3])} |",
    ]
    assert missing(PAGE, said) == []
    q, p = (numbers.soft(x, 2) for x in (numbers.STUDENT, numbers.TEACHER))
    formula = 0.5 * 2 * (q - p) + 0.5 * (numbers.soft(numbers.STUDENT) - torch.eye(4)[numbers.NEXT])
    assert torch.allclose(numbers.parts(2, 0.5)[3], formula, atol=1e-6)


def test_the_student_that_counts() -> None:
    (aa, ab), (ba, bb) = numbers.shares().tolist()
    after, mean = numbers.counted(), numbers.AFTER.mean(0)
    said = [
        f"shares of {aa:.4f}, {ab:.4f}, {ba:.4f} and {bb:.4f}.",
        f"P(a) = {after[0]:.4f} after a and {after[1]:.4f} after b, {numbers.apart(after):.4f} nats a letter away from the teacher.",
        f"rows, {mean[0]:.4f} and {mean[1]:.4f}, is {numbers.apart(mean):.4f} away.",
        "P(a) is 0.9 after aa, 0.2 after ab, 0.6 after ba, 0.1 after bb.",
    ]
    assert missing(PAGE, said) == []
    assert numbers.AFTER.tolist() == [[0.9, 0.2], [0.6, 0.1]]
    for step in (-0.01, 0.01):  # no other student is nearer
        for place in (0, 1):
            other = after.clone()
            other[place] += step
            assert numbers.apart(other) > numbers.apart(after)


def test_what_is_printed_wrongly() -> None:
    strongest = {t: float(numbers.parts(t, 1.0)[3].abs().max()) for t in (1, 4, 16)}
    (forward_broad, forward_narrow), (back_broad, back_narrow) = numbers.reversed_kl()
    summed, mean = numbers.as_torch_takes_it()
    kl = numbers.parts(1, 0.5)[1]
    said = [
        f"is {strongest[1]:.4f} at T = 1, but {strongest[4] / 16:.4f} at T = 4 and {strongest[16] / 256:.4f} at T = 16",
        f"With T² it is {strongest[1]:.4f}, {strongest[4]:.4f} and {strongest[16]:.4f} |",
        f'it gives "moon" {numbers.softened_alone()[3]:.4f} where the teacher gives {numbers.soft(numbers.TEACHER)[3]:.4f} |',
        f"is {back_narrow:.4f} away by KL(q ‖ p), one that keeps half of the teacher and spreads the rest evenly {back_broad:.4f}.",
        f"By KL(p ‖ q) it is {forward_narrow:.4f} against {forward_broad:.4f}:",
        f"it gives −{-summed:.4f} nats here, and a KL is never below 0 (right: {kl:.4f}) |",
        f"{mean:.4f} instead of {kl:.4f}; with 10,000 words",
    ]
    assert missing(PAGE, said) == []
    assert mean * 4 == pytest.approx(kl, rel=1e-6)


def test_a_student_softened_alone_ends_at_the_softened_distribution() -> None:
    """The mistake, learned: the student's logits at T = 1 against the teacher's at T = 4."""
    student = numbers.STUDENT.clone()
    for _ in range(400):
        gradient = numbers.parts(1, 1.0, student, numbers.TEACHER / 4)[3]
        student -= 2 * gradient
    assert torch.allclose(numbers.soft(student), numbers.softened_alone(), atol=1e-4)


def test_the_picture_is_what_the_script_draws() -> None:
    assert numbers.PICTURE.read_text(encoding="utf-8") == numbers.draw()
