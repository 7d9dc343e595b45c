"""Numbers and picture of distillation.md: `python docs/principles/draw_distillation.py` draws it anew."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from drawing import BLUE, GOLD, GREY, RULE, bar, label, number, picture, rule
from torch import Tensor
from torch.nn import functional as F

from bimo.training.divergence import chunked_divergence

PICTURE = Path(__file__).with_name("distillation.svg")
WORDS = ("mat", "rug", "sofa", "moon")
TEACHER = torch.tensor([4.0, 3.0, 1.0, -2.0], dtype=torch.float64)  # logits after "the cat sat on the"
STUDENT = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
NEXT = 0  # the text goes on with "mat"


def soft(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Probabilities [V] at a temperature."""
    return (logits / temperature).softmax(0)


def parts(temperature: float, share: float, student: Tensor = STUDENT, teacher: Tensor = TEACHER) -> tuple[float, float, float, Tensor]:
    """Loss, KL and cross-entropy of one place, and the loss's gradient in the student's logits [V], by the function that learning uses."""
    hidden = student[None].clone().requires_grad_()
    piece = iter([(torch.tensor([0]), teacher[None].float())])
    eye = torch.eye(len(student), dtype=torch.float64)
    loss, kl, entropy = chunked_divergence(hidden, eye, None, torch.tensor([NEXT]), piece, temperature, share)
    loss.backward()
    assert hidden.grad is not None
    return float(loss.detach()), float(kl), float(entropy), hidden.grad[0]


def reversed_kl() -> tuple[list[float], list[float]]:
    """KL(teacher ‖ student) and KL(student ‖ teacher) of two students: one like the teacher but for a little mass everywhere, one that
    gives all to the likeliest word."""
    p = soft(TEACHER)
    broad, narrow = 0.5 * p + 0.125, torch.tensor([0.9999, 0.0001 / 3, 0.0001 / 3, 0.0001 / 3], dtype=torch.float64)
    kl = lambda a, b: float((a * (a / b).log()).sum())  # noqa: E731
    return [kl(p, broad), kl(p, narrow)], [kl(broad, p), kl(narrow, p)]


def softened_alone(temperature: float = 4.0) -> Tensor:
    """Where a student ends whose own logits are not divided by the temperature: its probabilities are the softened ones."""
    return soft(TEACHER, temperature)


# A teacher that remembers two letters, and a student that remembers one: P(a after the two letters before), by the two letters.
AFTER = torch.tensor([[0.9, 0.2], [0.6, 0.1]], dtype=torch.float64)  # [last but one, last], a and b


def shares() -> Tensor:
    """How often the teacher's own text has each two letters, [last but one, last]: where its chain comes to rest."""
    held = torch.full((2, 2), 0.25, dtype=torch.float64)
    for _ in range(2000):
        held = torch.stack([(held * AFTER).sum(0), (held * (1 - AFTER)).sum(0)], 1)  # [last, next]
    return held


def counted() -> Tensor:
    """P(a after one letter) [2] as the teacher's text has it: its expected counts."""
    return (shares() * AFTER).sum(0) / shares().sum(0)


def apart(student: Tensor) -> float:
    """KL(teacher ‖ student) in nats a letter of the teacher's text; student: P(a after one letter) [2]."""
    kl = AFTER * (AFTER / student).log() + (1 - AFTER) * ((1 - AFTER) / (1 - student)).log()
    return float((shares() * kl).sum())


def as_torch_takes_it() -> tuple[float, float]:
    """`kl_div` with probabilities where it takes logarithms, and its mean over all numbers instead of places; nats, at T = 1."""
    p, q = soft(TEACHER)[None], soft(STUDENT)[None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of this mean
        return float(F.kl_div(q, p, reduction="sum")), float(F.kl_div(q.log(), p, reduction="mean"))


def draw() -> str:
    """The text's word, and the teacher at three temperatures, as bars."""
    shown = [("the text", torch.tensor([1.0, 0, 0, 0])), *((f"teacher, T = {t}", soft(TEACHER, t)) for t in (1, 2, 4))]
    drawn = []
    for place, (title, values) in enumerate(shown):
        x, ground = 20 + 152 * place, 150
        drawn += [label(x, 22, title, fill=GREY), rule(x, ground, x + 132, ground, stroke=RULE)]
        for i, value in enumerate(values.tolist()):
            left = x + 4 + 32 * i
            drawn.append(bar(left, ground, 26, 100 * value, fill=GOLD if place == 0 else BLUE, value=value))
            drawn.append(label(left + 13, ground - 100 * value - 5, number(value, 2), anchor="middle", size=10))
            drawn.append(label(left + 13, ground + 15, WORDS[i], anchor="middle", size=11))
    title = "The text says one word, the teacher how likely each is; the higher the temperature, the more is seen of the unlikely"
    return picture(626, 176, title, drawn)


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
