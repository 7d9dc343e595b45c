"""One layer of an RNN, LSTM or GRU over a window, with states that are reset where documents begin.

Shapes: T steps, B rows, I inputs, H units, G gates (1, 4 or 3). Gates stand in torch's order: LSTM i, f, g, o; GRU r, z, n.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import (
    _VF,  # what nn.LSTM itself calls
    Tensor,
)
from torch.nn import functional as F

from bimo.core import runtime

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
    every: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """As `plain_layer`, by the fastest way this device has; bias_candidate [H] is the GRU's bias inside r ⊙ (W h + b).

    With every=False the c that come back are [1, B, H], the last alone, or all. They carry no gradient on the CPU.
    Measured on two AVX2 cores: where nothing is forgotten oneDNN's LSTM is up to a third faster than ours; our GRU and RNN are up to a
    half faster than torch's. On the CPU inputs and states are in the precision of the weights, also under autocast: no kernel takes two.
    """
    vendor = keep is None and not every and x.dtype != torch.float64
    if x.device.type == "cpu":
        low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") and runtime.bf16_is_native(x.device) else None
        with torch.autocast("cpu", enabled=False):
            x, h, c = x.to(weight_hidden.dtype), h.to(weight_hidden.dtype), None if c is None else c.to(weight_hidden.dtype)
            if vendor and cell == "lstm" and torch.backends.mkldnn.is_available():
                return _vendor_layer(cell, x, h, c, weight_input, weight_hidden, bias_input, None)
            return _Fused.apply(cell, low, keep, x, h, c, weight_input, weight_hidden, bias_input, bias_candidate)
    bias_hidden = None if bias_candidate is None else torch.cat([bias_candidate.new_zeros(2 * h.shape[1]), bias_candidate])
    run = _vendor_layer if vendor else partial(plain_layer, keep=keep)
    return run(cell, x, h, c, weight_input, weight_hidden, bias_input, bias_hidden)


# cuDNN packs the weights anew at each call, which is a copy of them beside all products of the call; torch says so every time.
warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk of memory")


def _vendor_layer(
    cell: Cell,
    x: Tensor,
    h: Tensor,
    c: Tensor | None,
    weight_input: Tensor,
    weight_hidden: Tensor,
    bias_input: Tensor,
    bias_hidden: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """cuDNN's or oneDNN's layer: all h [T, B, H] and the last c [1, B, H]; it cannot forget inside a window."""
    weights = [weight_input, weight_hidden, bias_input, torch.zeros_like(bias_input) if bias_hidden is None else bias_hidden]
    train = torch.is_grad_enabled()
    if cell == "lstm":
        assert c is not None
        output, _, last = _VF.lstm(x, (h[None], c[None]), weights, True, 1, 0.0, train, False, False)
        return output, last
    run = _VF.gru if cell == "gru" else _VF.rnn_tanh
    return run(x, h[None], weights, True, 1, 0.0, train, False, False)[0], None


def _product(weight: Tensor, rows: int, steps: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A function (x [B, I], into [B, O]) → x weightᵀ; a large matrix [O, I] that is used often is put in order once."""
    large = weight.dtype == torch.float32 and weight.numel() >= 300_000 and steps >= 8
    if large and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled:
        operators: Any = torch.ops.mkldnn
        try:
            packed = operators._reorder_linear_weight(weight, rows)
            return lambda x, into: operators._linear_pointwise(x, packed, None, "none", [], "")
        except (AttributeError, RuntimeError):  # another build of torch
            pass
    transposed = weight.t()
    return lambda x, into: torch.mm(x, transposed, out=into)


def _matrix_product(a: Tensor, b: Tensor, low: torch.dtype | None) -> Tensor:
    return a @ b if low is None else (a.to(low) @ b.to(low)).to(a.dtype)


class _Fused(torch.autograd.Function):
    """One layer on the CPU: the products with the input and the gradients of the weights are one matrix product each for all steps."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, low: torch.dtype | None, keep: Tensor | None, *inputs: Any) -> tuple[Tensor, Tensor | None]:
        """See `layer`; `low` is the precision of the large products."""
        from bimo.models.kernels import recurrent_gates as gates

        x, h0, c0, weight_input, weight_hidden, bias_input, bias_candidate = inputs
        T, B, I = x.shape
        H = h0.shape[1]
        pre = _matrix_product(x.reshape(T * B, I), weight_input.t(), low).add_(bias_input).view(T, B, -1)
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
        ctx.cell, ctx.low, ctx.reset = cell, low, keep is not None
        ctx.save_for_backward(x, weight_input, weight_hidden, pre, h, c, extra, kept)
        cells = c[1:] if cell == "lstm" else None
        if cells is not None:
            ctx.mark_non_differentiable(cells)
        return h[1:], cells

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, h0, c0 and the parameters."""
        x, weight_input, weight_hidden, pre, h, c, extra, kept = ctx.saved_tensors
        T, B, H = extra.shape
        dpre, drec, later, direct = _backward_steps(ctx.cell, gradients[0].contiguous(), weight_hidden, pre, h, c, extra, kept)
        by_input, by_state = dpre.view(T * B, -1), drec.view(T * B, -1)
        dx = _matrix_product(by_input, weight_input, ctx.low).view(x.shape) if ctx.needs_input_grad[3] else None
        dweight_input = _matrix_product(by_input.t(), x.reshape(T * B, -1), ctx.low)
        dbias_candidate = by_state[:, 2 * H :].sum(0) if ctx.cell == "gru" else None
        if ctx.reset:  # what was forgotten had no part in the product
            by_state = by_state.masked_fill(kept.view(T * B, 1) == 0, 0)
        dweight_hidden = _matrix_product(by_state.t(), h[:-1].view(T * B, H), ctx.low)
        dh0, dc0 = later * kept[0][:, None], None
        if ctx.cell == "lstm":
            dc0 = direct
        elif ctx.cell == "gru":
            dh0 = dh0 + direct
        return None, None, None, dx, dh0, dc0, dweight_input, dweight_hidden, by_input.sum(0), dbias_candidate


def _backward_steps(
    cell: Cell, grad: Tensor, weight_hidden: Tensor, pre: Tensor, h: Tensor, c: Tensor, extra: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """From the last step to the first: dpre, drec [T, B, G·H] and what is left for the states before the window (`recurrent_gates`)."""
    from bimo.models.kernels import recurrent_gates as gates

    T, B, H = grad.shape
    dpre = torch.empty_like(pre)
    drec = torch.empty_like(pre) if cell == "gru" else dpre
    later, direct = grad.new_zeros(B, H), grad.new_zeros(B, H)
    run, product = getattr(gates, f"{cell}_backward"), _product(weight_hidden.t(), B, T)
    arrays = [tensor.numpy() for tensor in (grad, later, direct, pre, h, c, extra, kept, dpre, drec)]
    for t in range(T - 1, -1, -1):
        run(t, *arrays)
        found = product(drec[t], later)
        if found is not later:
            later, arrays[1] = found, found.numpy()
    return dpre, drec, later, direct
