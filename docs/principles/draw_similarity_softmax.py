"""Numbers and picture of similarity-softmax.md: `python docs/principles/draw_similarity_softmax.py` draws it anew."""

from __future__ import annotations

from pathlib import Path

import torch
from drawing import BLUE, GREY, INK, PAPER, RED, RULE, label, number, picture
from torch import Tensor
from torch.nn import functional as F

from bimo.models.layers import Sight, attend
from bimo.training.objectives.contrastive import info_nce

PICTURE = Path(__file__).with_name("similarity-softmax.svg")
NAMES = ("cat", "dog", "bank")
E = torch.tensor([[2.0, 0, 1, 0], [1, 1, 1, 0], [0, 2, 0, 1]], dtype=torch.float64)
OTHER = torch.tensor([[2.0, 1, 1, 0], [1, 2, 2, 0], [0, 1, 0, 1]], dtype=torch.float64)  # the same three, said otherwise


def scores(e: Tensor) -> Tensor:
    """Dot products of all pairs over √d, [N, N]."""
    return e @ e.T / e.shape[1] ** 0.5


def weights(queries: Tensor, keys: Tensor) -> Tensor:
    """Rows of the softmax [N, M]: what Bimo's attention gives where the values are unit vectors."""
    units = torch.eye(len(keys), dtype=keys.dtype)
    return attend(queries[None, None], keys[None, None], units[None, None], Sight(causal=False))[0, 0]


def of_one_pair(e: Tensor) -> Tensor:
    """The softmax of every pair's score by itself, [N, N]."""
    return torch.stack([torch.cat([weights(e[i : i + 1], e[j : j + 1])[0] for j in range(len(e))]) for i in range(len(e))])


def pair_gradient() -> float:
    """The largest gradient in all embeddings of −ln of one pair's softmax."""
    e = E.clone().requires_grad_()
    (-weights(e[:1], e[1:2]).log()).sum().backward()
    assert e.grad is not None
    return float(e.grad.abs().max())


def row_gradient() -> float:
    """The same where the softmax runs over the row."""
    e = E.clone().requires_grad_()
    (-weights(e[:1], e)[0, 1].log()).backward()
    assert e.grad is not None
    return float(e.grad.abs().max())


def contrast(temperature: float) -> tuple[Tensor, float]:
    """Row softmax [N, N] of the cosines of E with OTHER over the temperature, and InfoNCE, the mean nats of the diagonal."""
    a, b = F.normalize(E, dim=1), F.normalize(OTHER, dim=1)
    nats, _ = info_nce(E, OTHER, torch.zeros(3, 3, dtype=torch.bool), temperature)
    return (a @ b.T / temperature).softmax(1), float(nats) / 3


def draw() -> str:
    """Scores, the softmax of each row and of each pair by itself, as squares."""
    shown = [("score e·e / √d", scores(E), 2), ("softmax of each row", weights(E, E), 4), ("softmax of each pair", of_one_pair(E), 4)]
    parts = [label(14, 82 + 44 * n, name) for n, name in enumerate(NAMES)]
    for place, (title, values, digits) in enumerate(shown):
        x = 64 + 182 * place
        parts.append(label(x, 24, title, fill=RED if place == 2 else GREY))
        parts += [label(x + 24 + 48 * j, 46, name, anchor="middle") for j, name in enumerate(NAMES)]
        for i, row in enumerate(values.tolist()):
            for j, value in enumerate(row):
                strong = value / float(values.max())
                colour, ink = (RED if place == 2 else BLUE), (PAPER if strong > 0.6 else INK)
                parts.append(
                    f'<rect class="value" data-value="{value:.4f}" x="{x + 48 * j}" y="{56 + 44 * i}" width="46" height="42" '
                    f'fill="{colour}" fill-opacity="{strong:.4f}" stroke="{RULE}"/>'
                )
                parts.append(label(x + 23 + 48 * j, 81 + 44 * i, number(value, digits), anchor="middle", fill=ink, size=11))
    title = "Scores of three words with each other; the softmax over each row sums to one; the softmax of one pair is 1 everywhere"
    return picture(610, 202, title, parts)


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
