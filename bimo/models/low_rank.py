"""A linear map whose matrix is made for each use, with low-rank maps added to some of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Make = Callable[[], Tensor]


def linear(
    x: Tensor, make: Make, bias: Tensor | None, scale: float = 1.0, rows: Sequence[slice] = (), pairs: Sequence[Tensor] = ()
) -> Tensor:
    """x (W + s·Σ B A)ᵀ + b as one product: x [..., D] → [..., rows]. Its gradient goes to x and to the pairs, never to W or b.

    make: a copy of W [rows, D] of one's own; rows: which of them each pair A [r, D], B [its rows, r] of `pairs` (A, B, A, B …) is added to.
    The sum is made anew in the backward pass: it is cheap beside the product, and keeping it for every layer is not.

    >>> x, a, b = torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 1)
    >>> linear(x, lambda: torch.eye(2), None, 0.5, (slice(1, 2),), (a, b)).tolist()  # the second row: (0, 1) + ½ · (1, 1)
    [[1.0, 2.0]]
    """
    return _Linear.apply(x, make, bias, scale, tuple(rows), *pairs)  # type: ignore[no-any-return]


def add_pairs(weight: Tensor, scale: float, rows: Sequence[slice], pairs: Sequence[Tensor]) -> Tensor:
    """`weight`, changed in place: s·B·A added to the rows of each pair."""
    for places, down, up in zip(rows, pairs[::2], pairs[1::2], strict=True):
        weight[places].addmm_(up, down, alpha=scale)
    return weight


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, make: Make, bias: Tensor | None, scale: float, rows: tuple[slice, ...], *pairs: Tensor) -> Tensor:
        """See `linear`."""
        kind = x.device.type
        ctx.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        ctx.make, ctx.scale, ctx.rows = make, scale, rows
        ctx.save_for_backward(x, *pairs)
        with torch.autocast(kind, enabled=False):
            added = None if bias is None else bias.to(ctx.dtype)
            return F.linear(x.to(ctx.dtype), add_pairs(make(), scale, rows, pairs).to(ctx.dtype), added)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of x and of the pairs."""
        x, *pairs = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):
            flat, given = grad.reshape(-1, grad.shape[-1]).to(ctx.dtype), x.reshape(-1, x.shape[-1]).to(ctx.dtype)
            back = None
            if ctx.needs_input_grad[0]:
                back = (flat @ add_pairs(ctx.make(), ctx.scale, ctx.rows, pairs).to(ctx.dtype)).view(x.shape).to(x.dtype)
            found: list[Tensor] = []
            for rows, down, up in zip(ctx.rows, pairs[::2], pairs[1::2], strict=True):
                part = flat[:, rows]
                inner = part @ up.to(ctx.dtype)  # [N, r]
                found.append((inner.t() @ given).to(down.dtype) * ctx.scale)
                found.append((part.t() @ (given @ down.to(ctx.dtype).t())).to(up.dtype) * ctx.scale)
        return back, None, None, None, None, *found
