"""One layer of an RNN, LSTM or GRU over a window, with states that are reset where documents begin.

Shapes: T steps, B rows, I inputs, H units, G gates (1, 4 or 3). Gates stand in torch's order: LSTM i, f, g, o; GRU r, z, n.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Cell = Literal["rnn", "lstm", "gru"]
GATES: dict[Cell, int] = {"rnn": 1, "lstm": 4, "gru": 3}


def step(cell: Cell, gates: Tensor, recurrent: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """One step: gates [B, G·H] from the input, recurrent [B, G·H] from h [B, H]; the new h and c.

    RNN (Elman 1990): h = tanh(a). LSTM (Hochreiter & Schmidhuber 1997, forget gate of Gers 2000): c = σ(f) c + σ(i) tanh(g),
    h = σ(o) tanh(c). GRU in torch's form, n = tanh(a_n + r ⊙ (W h + b)), which applies the reset gate after the matrix
    product (Cho 2014 applies it to h before): h = (1 − z) n + z h.
    """
    if cell == "rnn":
        return torch.tanh(gates + recurrent), None
    if cell == "lstm":
        assert c is not None
        i, f, g, o = (gates + recurrent).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c
    a_r, a_z, a_n = gates.chunk(3, dim=1)
    u_r, u_z, u_n = recurrent.chunk(3, dim=1)
    r, z = torch.sigmoid(a_r + u_r), torch.sigmoid(a_z + u_z)
    n = torch.tanh(a_n + r * u_n)
    return n + z * (h - n), None


def plain_layer(
    cell: Cell,
    x: Tensor,
    h: Tensor,
    c: Tensor | None,
    weight_input: Tensor,
    weight_hidden: Tensor,
    bias_input: Tensor,
    bias_hidden: Tensor | None,
    keep: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """All h [T, B, H] and, with LSTM, all c of inputs x [T, B, I] from the states h, c [B, H]; by torch's own gradient.

    weight_input [G·H, I], weight_hidden [G·H, H], bias_input [G·H], bias_hidden [G·H] (GRU) or None; keep [T, B, 1] is 0 where
    the state is forgotten before the step and 1 elsewhere (None: never forgotten).
    """
    projected = F.linear(x, weight_input, bias_input)  # [T, B, G·H]
    states, cells = [], []
    for t in range(len(x)):
        if keep is not None:
            h, c = h * keep[t], None if c is None else c * keep[t]
        h, c = step(cell, projected[t], F.linear(h, weight_hidden, bias_hidden), h, c)
        states.append(h)
        if c is not None:
            cells.append(c)
    return torch.stack(states), torch.stack(cells) if cells else None
