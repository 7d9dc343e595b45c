"""One layer of an RNN, LSTM or GRU over a window, with states that are reset where documents begin.

Shapes: T steps, B rows, I inputs, H units, G gates (1, 4 or 3). Gates stand in torch's order: LSTM i, f, g, o; GRU r, z, n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

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


def layer(
    cell: Cell,
    x: Tensor,
    h: Tensor,
    c: Tensor | None,
    weight_input: Tensor,
    weight_hidden: Tensor,
    bias_input: Tensor,
    bias_candidate: Tensor | None,
    keep: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """As `plain_layer`, by the fastest way this device has; bias_candidate [H] is the GRU's bias inside r ⊙ (W h + b).

    On the CPU, c carries no gradient.
    """
    if x.device.type == "cpu" and x.dtype == weight_hidden.dtype and x.dtype in (torch.float32, torch.float64):
        h_all, c_all = _Fused.apply(cell, x, h, c, weight_input, weight_hidden, bias_input, bias_candidate, keep)
        return h_all, c_all
    bias_hidden = None if bias_candidate is None else torch.cat([bias_candidate.new_zeros(2 * h.shape[1]), bias_candidate])
    return plain_layer(cell, x, h, c, weight_input, weight_hidden, bias_input, bias_hidden, keep)


def _product(weight: Tensor, rows: int, steps: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A function (x [B, I], into [B, O]) → x weightᵀ; the matrix [O, I] is put in order once if it will be used often."""
    if weight.dtype == torch.float32 and steps >= 8 and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled:
        operators: Any = torch.ops.mkldnn
        try:
            packed = operators._reorder_linear_weight(weight.contiguous(), rows)
            return lambda x, into: operators._linear_pointwise(x, packed, None, "none", [], "")
        except (AttributeError, RuntimeError):  # another build of torch
            pass
    transposed = weight.t()
    return lambda x, into: torch.mm(x, transposed, out=into)


class _Fused(torch.autograd.Function):
    """One layer on the CPU: the products with the input and the gradients of the weights are one matrix product each for all steps."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, x: Tensor, h0: Tensor, c0: Tensor | None, *parameters: Any) -> tuple[Tensor, Tensor | None]:
        """See `layer`."""
        from bimo.models.kernels import recurrent_gates as gates

        weight_input, weight_hidden, bias_input, bias_candidate, keep = parameters
        T, B, _ = x.shape
        H = h0.shape[1]
        pre = torch.addmm(bias_input, x.reshape(T * B, -1), weight_input.t()).view(T, B, -1)
        kept = x.new_ones(T, B) if keep is None else keep.reshape(T, B).to(x.dtype).contiguous()
        h, extra = x.new_empty(T + 1, B, H), x.new_empty(T, B, H)
        h[0] = h0
        if cell == "lstm":
            c = x.new_empty(T + 1, B, H)
            c[0] = c0
        else:
            c = x.new_zeros(1, 1, H) if bias_candidate is None else bias_candidate.detach().view(1, 1, H)
        run = getattr(gates, f"{cell}_forward")
        product, rec = _product(weight_hidden, B, T), x.new_empty(B, pre.shape[2])
        arrays = [tensor.numpy() for tensor in (pre, rec, h, c, extra, kept)]
        for t in range(T):
            found = product(h[t], rec)
            if found is not rec:
                arrays[1] = found.numpy()
            run(t, *arrays)
        ctx.cell, ctx.reset = cell, keep is not None
        ctx.save_for_backward(x, weight_input, weight_hidden, pre, h, c, extra, kept)
        cells = c[1:] if cell == "lstm" else None
        if cells is not None:
            ctx.mark_non_differentiable(cells)
        return h[1:], cells

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, h0, c0 and the parameters."""
        from bimo.models.kernels import recurrent_gates as gates

        x, weight_input, weight_hidden, pre, h, c, extra, kept = ctx.saved_tensors
        cell, grad = ctx.cell, gradients[0].contiguous()
        T, B, H = grad.shape
        dpre = torch.empty_like(pre)
        drec = torch.empty_like(pre) if cell == "gru" else dpre
        later, direct = x.new_zeros(B, H), x.new_zeros(B, H)
        run = getattr(gates, f"{cell}_backward")
        product = _product(weight_hidden.t(), B, T)
        arrays = [tensor.numpy() for tensor in (grad, later, direct, pre, h, c, extra, kept, dpre, drec)]
        for t in range(T - 1, -1, -1):
            run(t, *arrays)
            found = product(drec[t], later)
            if found is not later:
                later, arrays[1] = found, found.numpy()
        flat = dpre.view(T * B, -1)
        dx = (flat @ weight_input).view(x.shape) if ctx.needs_input_grad[1] else None
        dweight_input, dbias = flat.t() @ x.reshape(T * B, -1), flat.sum(0)
        by_state = drec.view(T * B, -1)
        dbias_candidate = by_state[:, 2 * H :].sum(0) if cell == "gru" else None
        if ctx.reset:  # what was forgotten had no part in the product
            by_state = by_state.masked_fill(kept.view(T * B, 1) == 0, 0)
        dweight_hidden = by_state.t() @ h[:-1].view(T * B, H)
        dh0 = later * kept[0][:, None]
        dc0 = None
        if cell == "lstm":
            dc0 = direct
        elif cell == "gru":
            dh0 = dh0 + direct
        return None, dx, dh0, dc0, dweight_input, dweight_hidden, dbias, dbias_candidate, None
