"""Numbers and picture of recurrent-networks.md: `python docs/principles/draw_recurrent_networks.py` draws it anew."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, cast

import torch
from drawing import BLUE, GOLD, GREY, RED, RULE, curve, label, picture, rule
from torch import Tensor

from bimo.models.kernels.recurrent import Cell, layer, plain_layer
from bimo.models.recurrent import Recurrent, RecurrentConfig, RecurrentLayer
from bimo.text.vocabulary import Vocabulary

PICTURE = Path(__file__).with_name("recurrent-networks.svg")
Form = Literal["torch", "cho", "flipped"]


def d(values: Any) -> Tensor:
    """Numbers in double precision."""
    return torch.tensor(values, dtype=torch.float64)


# The textbook's numbers.
W_Y, B_Y, H_1 = d([[0.1, 0.2], [0.3, 0.4]]), d([0.5, 0.6]), d([0.6, 0.7])
W_X = W_H = d([[0.1, 0.2], [0.3, 0.4]])
X_1, H_0, B_H = d([0.7, 0.8]), d([0.1, 0.2]), d([0.5, 0.6])

# One LSTM unit: weights of the input, of h and biases, of the gates i, f, g, o.
LSTM = {"w": [1.0, 0.0, 2.0, 1.0], "u": [0.0, 1.0, -1.0, 1.0], "b": [0.0, 1.0, 0.0, -0.5]}

# Two GRU units: weights of the input and of h, two rows each for r, z, n; b inside the candidate.
GRU_X, GRU_H = d([1.0, -0.5]), d([0.6, -0.4])
GRU_W = d([[0.5, 0.0], [0.0, 0.5], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
GRU_U = d([[1.0, 0.0], [0.0, 1.0], [0.5, 0.0], [0.0, 0.5], [1.0, 1.0], [-1.0, 1.0]])
GRU_B = d([0.5, -0.5])


def rnn_state() -> Tensor:
    """h₁ of the textbook's RNN, by Bimo's layer."""
    return layer("rnn", X_1.view(1, 1, 2), H_0.view(1, 2), None, W_X, W_H, B_H, None, None)[0].flatten()


def lstm_step(x: float, h: float, c: float) -> tuple[float, float]:
    """The new h and c of the one LSTM unit, by Bimo's layer."""
    w, u, b = (d(LSTM[name]) for name in "wub")
    found, cells = layer("lstm", d([[[x]]]), d([[h]]), d([[c]]), w.view(4, 1), u.view(4, 1), b, None, None)
    assert cells is not None
    return float(found), float(cells)


def gru_parts() -> dict[str, Tensor]:
    """Gates and candidates of the two GRU units, written out."""
    r, z = (GRU_W[:2] @ GRU_X + GRU_U[:2] @ GRU_H).sigmoid(), (GRU_W[2:4] @ GRU_X + GRU_U[2:4] @ GRU_H).sigmoid()
    inner = GRU_W[4:] @ GRU_X
    after, before = inner + r * (GRU_U[4:] @ GRU_H + GRU_B), inner + GRU_U[4:] @ (r * GRU_H) + GRU_B
    return {"r": r, "z": z, "after": after.tanh(), "before": before.tanh()}


def gru_step(form: Form) -> Tensor:
    """The new h of the two GRU units; torch's form by Bimo's layer."""
    if form == "torch":
        return layer("gru", GRU_X.view(1, 1, 2), GRU_H.view(1, 2), None, GRU_W, GRU_U, d([0.0] * 6), GRU_B, None)[0].flatten()
    part = gru_parts()
    z, n = part["z"], part["before" if form == "cho" else "after"]
    return z * n + (1 - z) * GRU_H if form == "flipped" else (1 - z) * n + z * GRU_H


def misread(steps: int = 80) -> dict[str, float]:
    """Nats a character of a small GRU that learned the poems, when its weights are read in each form."""
    from poems import ROWS, fresh, learn

    model = cast(Recurrent, fresh("gru", layers=1, width=64))
    learn(model, ROWS[:, :-1], ROWS[:, 1:], steps)
    return {"bimo": float(model.score(ROWS).nats.sum()) / ROWS[:, 1:].numel()} | {
        form: _read(model, ROWS, form) for form in ("torch", "cho", "flipped")
    }


@torch.no_grad()
def _read(model: Recurrent, rows: Tensor, form: str) -> float:
    part = cast(RecurrentLayer, model.layers[0])
    assert part.bias_hidden is not None
    width, states = model.config.width, []
    h = torch.zeros(len(rows), width)
    for x in model.embedding(rows[:, :-1]).unbind(1):
        of_x, of_h = (x @ part.weight_input.T + part.bias_input).chunk(3, 1), (h @ part.weight_hidden.T).chunk(3, 1)
        r, z = (of_x[0] + of_h[0]).sigmoid(), (of_x[1] + of_h[1]).sigmoid()
        inside = (r * h) @ part.weight_hidden[2 * width :].T + part.bias_hidden if form == "cho" else r * (of_h[2] + part.bias_hidden)
        n = (of_x[2] + inside).tanh()
        h = z * n + (1 - z) * h if form == "flipped" else (1 - z) * n + z * h
        states.append(h)
    logits = model.logits(torch.stack(states, 1))
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()))


def still_heard(cell: Cell, forget_bias: float = 1.0, steps: int = 20, *, sigmoid: bool = False) -> list[float]:
    """Gradient of a fresh cell's last state in the input k steps before, as a share of that in its own input; k = 0 … `steps`."""
    torch.manual_seed(0)
    config = RecurrentConfig.model_validate({"cell": cell, "width": 32, "layers": 1, "forget_bias": forget_bias})
    model = Recurrent.build(config, Vocabulary(8, bos=0, eos=1)).double()
    part = cast(RecurrentLayer, model.layers[0])
    x = torch.randn(steps + 1, 1, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss = torch.randn(32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    h = torch.zeros(1, 32, dtype=torch.float64)
    if sigmoid:
        for step in x:
            h = (step @ part.weight_input.T + part.bias_input + h @ part.weight_hidden.T).sigmoid()
    else:
        bias = None if part.bias_hidden is None else torch.cat([part.bias_hidden.new_zeros(64), part.bias_hidden])
        h = plain_layer(cell, x, h, h if cell == "lstm" else None, part.weight_input, part.weight_hidden, part.bias_input, bias, None)[0][
            -1
        ]
    found = torch.autograd.grad((h[0] * loss).sum(), x)[0].norm(dim=(1, 2)).flip(0)
    return (found / found[0]).tolist()


def curves() -> dict[str, list[float]]:
    """What the picture shows."""
    return {
        "LSTM, forget bias 3": still_heard("lstm", 3.0),
        "LSTM, forget bias 1": still_heard("lstm", 1.0),
        "GRU": still_heard("gru"),
        "RNN, tanh": still_heard("rnn"),
        "RNN, σ": still_heard("rnn", sigmoid=True),
    }


def draw() -> str:
    """How much of an input is still heard some steps later, on a logarithmic scale."""
    found = curves()
    title = "Gradient of a state in an input 20 steps before: " + ", ".join(f"{name} {values[-1]:.1e}" for name, values in found.items())
    parts = [label(16, 22, "how much of an input a fresh cell still hears, k steps later", fill=GREY)]
    for power in range(0, -19, -6):
        y = 50 - 10 * power
        parts += [
            rule(64, y, 444, y, stroke=RULE),
            label(56, y + 4, "1" if power == 0 else f"1e{power}".replace("-", "−"), anchor="end", fill=GREY),
        ]
    for (name, values), colour in zip(found.items(), (BLUE, BLUE, GOLD, GREY, RED), strict=True):
        points = [(64 + 19 * k, 50 - 10 * math.log10(value)) for k, value in enumerate(values)]
        parts.append(curve(points, stroke=colour, dashed=name.endswith("bias 1")))
    heights = {"LSTM, forget bias 3": 54, "LSTM, forget bias 1": 76, "GRU": 100, "RNN, tanh": 122, "RNN, σ": 230}
    parts += [label(452, y, f"{name}: {found[name][-1]:.1e}".replace("e-", "e−")) for name, y in heights.items()]
    parts += [label(64, 258, "0", anchor="middle", fill=GREY), label(444, 258, "k = 20", anchor="middle", fill=GREY)]
    return picture(650, 270, title, parts)


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
