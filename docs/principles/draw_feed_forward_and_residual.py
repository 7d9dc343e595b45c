"""Numbers and picture of feed-forward-and-residual.md: `python docs/principles/draw_feed_forward_and_residual.py` draws it anew."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
from drawing import BLUE, GOLD, GREY, RED, RULE, arrow, box, curve, label, number, picture, rule
from torch import Tensor

from bimo.models.layers import FeedForward, make_norm

PICTURE = Path(__file__).with_name("feed-forward-and-residual.svg")
X = torch.tensor([1.0, 2.0], dtype=torch.float64)
W1, B1 = [[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]], [0.0, -1.0, 0.5]  # [D, F], [F]
W2, B2 = [[1.0, 0.0], [0.0, -1.0], [2.0, 1.0]], [0.1, 0.2]  # [F, D], [D]
Form = Literal["right", "normalised", "whole"]  # what the printed layer adds a second time: nothing, its own input, the stream
DEPTH, WIDTH = 12, 32


@torch.no_grad()
def example(bias: bool = True) -> FeedForward:
    """The layer of the worked example."""
    layer = FeedForward(2, 3, "relu", bias=True).double()
    layer.inner.weight.copy_(torch.tensor(W1).T)
    layer.outer.weight.copy_(torch.tensor(W2).T)
    layer.inner.bias.copy_(torch.tensor(B1) if bias else torch.zeros(3))
    layer.outer.bias.copy_(torch.tensor(B2) if bias else torch.zeros(2))
    return layer.requires_grad_(False)


@torch.no_grad()
def stream(form: Form) -> tuple[list[float], float]:
    """Standard deviation of the residual stream before and after each of twelve fresh layers; cosine of the last with the first."""
    torch.manual_seed(0)
    x = first = torch.randn(1, 16, WIDTH, dtype=torch.float64)
    spread = [float(x.std())]
    for _ in range(DEPTH):
        layer, norm = FeedForward(WIDTH, 4 * WIDTH, "relu", bias=True).double(), make_norm("layer", WIDTH, 1e-5).double()
        again = {"right": 0.0, "normalised": norm(x), "whole": x}[form]
        x = x + layer(norm(x)) + again
        spread.append(float(x.std()))
    return spread, float(torch.cosine_similarity(x.flatten(), first.flatten(), 0))


def first_gradient(residual: bool) -> float:
    """Norm of the gradient in the first of twelve feed-forward layers, with a residual around each or none."""
    torch.manual_seed(0)
    layers = [FeedForward(WIDTH, 4 * WIDTH, "relu", bias=True).double() for _ in range(DEPTH)]
    x: Tensor = torch.randn(16, WIDTH, dtype=torch.float64)
    for layer in layers:
        x = x + layer(x) if residual else layer(x)
    x.square().mean().sqrt().backward()
    found = layers[0].inner.weight.grad
    assert found is not None
    return float(found.norm())


def _flow(x: float, title: str, printed: bool) -> list[str]:
    """A block: the residual goes around the layer; in the printed form it goes through the layer too."""
    centre, colour = x + 60, RED if printed else BLUE
    parts = [label(x, 24, title, fill=GREY), label(centre, 232, "x", anchor="middle"), arrow(centre, 216, centre, 160)]
    parts += [box(x, 118, 120, 40, "max(0, xW₁)W₂"), arrow(centre, 118, centre, 72)]
    parts += [box(centre - 14, 44, 28, 28, "+"), arrow(centre, 44, centre, 30)]
    side = x + 142
    parts += [rule(centre, 206, side, 206, stroke=BLUE, width=2), rule(side, 206, side, 58, stroke=BLUE, width=2)]
    parts.append(arrow(side, 58, centre + 14, 58, stroke=BLUE))
    if printed:
        parts += [rule(centre, 190, x - 12, 190, stroke=colour, width=2), rule(x - 12, 190, x - 12, 96, stroke=colour, width=2)]
        parts += [arrow(x - 12, 96, centre - 14, 96, stroke=colour), box(centre - 14, 82, 28, 28, "+")]
    return parts


def draw() -> str:
    """Left, the block as it is and as it is printed; right, how large the stream grows over twelve layers."""
    found = {form: stream(form)[0] for form in ("right", "normalised", "whole")}
    title = "Spread of the residual stream after twelve layers: " + ", ".join(f"{k} {number(v[-1], 2)}" for k, v in found.items())
    parts = [
        *_flow(24, "the block", False),
        *_flow(226, "x added twice", True),
        label(420, 24, "spread of the stream, layer by layer", fill=GREY),
    ]
    for power in range(4):
        y = 204 - 44 * power
        parts += [rule(452, y, 690, y, stroke=RULE), label(446, y + 4, f"{10**power:,}", anchor="end", fill=GREY, size=11)]
    for form, colour in (("right", BLUE), ("normalised", GOLD), ("whole", RED)):
        parts.append(curve([(452 + 19.8 * n, 204 - 44 * math.log10(v)) for n, v in enumerate(found[form])], stroke=colour))
    parts += [label(694, 204 - 44 * math.log10(found[form][-1]) + 4, number(found[form][-1], n), size=11)
              for form, n in (("right", 2), ("normalised", 1), ("whole", 0))]  # fmt: skip
    parts += [label(452, 226, "0", anchor="middle", fill=GREY, size=11), label(690, 226, "12 layers", anchor="middle", fill=GREY, size=11)]
    return picture(740, 246, title, parts)


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
