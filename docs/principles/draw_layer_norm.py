"""Numbers and picture of layer-norm.md: `python docs/principles/draw_layer_norm.py` draws it anew."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from drawing import BLUE, GOLD, GREY, INK, RED, bar, label, number, picture, rule, vector
from torch import Tensor

from bimo.models.layers import Norm, make_norm

PICTURE = Path(__file__).with_name("layer-norm.svg")
X = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
GAMMA, BETA = [2.0, 1.0, 1.0, 0.5], [0.0, 1.0, 0.0, -1.0]
EPSILON = 1e-5


@torch.no_grad()
def norm(x: Tensor, kind: Norm = "layer", *, gain: bool = False) -> Tensor:
    """What Bimo's layer gives; with γ and β of the example where asked."""
    layer = make_norm(kind, x.shape[-1], EPSILON).double()
    if gain:
        for parameter, values in zip(layer.parameters(), (GAMMA, BETA), strict=True):
            parameter.copy_(torch.tensor(values))
    return layer(x)


def printed(x: Tensor, g: float | Tensor = 1.0) -> Tensor:
    """The article's form without the LN inside it: x + g · (1 − 1/√d) · Σx."""
    return x + g * (1 - 1 / math.sqrt(x.shape[-1])) * x.sum(-1, keepdim=True)


def gradient_of_g() -> float:
    """The gradient of g where the article's LN is the true one, for a loss that weighs the four numbers unlike."""
    g = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    layer = make_norm("layer", 4, EPSILON).double()
    (layer(printed(X, g)) * torch.tensor([0.1, -0.2, 0.3, 0.7])).sum().backward()
    assert g.grad is not None
    return float(g.grad)


def over_tokens(rows: Tensor) -> Tensor:
    """The first row normalised over the tokens that stand beside it, place by place, and not over its own numbers."""
    return ((rows - rows.mean(0)) / (rows.var(0, unbiased=False) + EPSILON).sqrt())[0]


def draw() -> str:
    """Four numbers: as they come, normalised, and in the printed form; the line is the mean."""
    shown = [("x", X, GREY), ("LayerNorm", norm(X), BLUE), ("RMSNorm", norm(X, "rms"), GOLD), ("as printed", printed(X), RED)]
    parts = [rule(16, 170, 624, 170, stroke=INK)]
    for place, (name, values, colour) in enumerate(shown):
        x, mean = 24 + 154 * place, float(values.mean())
        parts.append(label(x, 24, name, fill=GREY))
        parts += [bar(x + 32 * i, 170, 26, 10 * v, fill=colour, value=v) for i, v in enumerate(values.tolist())]
        parts.append(rule(x - 4, 170 - 10 * mean, x + 126, 170 - 10 * mean, stroke=INK, width=1.5))
        told = f"mean {number(mean, 2)}, variance {number(float(values.var(unbiased=False)), 2)}"
        parts.append(label(x - 4, 208, told, size=11))
    title = f"x {vector(X, 0)}, LayerNorm {vector(norm(X), 2)}, RMSNorm {vector(norm(X, 'rms'), 2)}, as printed {vector(printed(X), 0)}"
    return picture(640, 222, title, parts)


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
