"""RMSNorm and the heads of attention by compiled loops, for processors with few cores.

torch has no kernel of its own for RMSNorm or rotary positions on a CPU: each is five to ten passes over the memory, and more for
the gradient. One pass on one thread is as fast as these on about eight.

Shapes: B rows, T tokens, D width, Q query heads, K key heads (and as many of values), E width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_MOST_THREADS = 8
_FEWEST = 1 << 15  # numbers; below, torch's passes cost less than the way into the loops


def fits(x: Tensor) -> bool:
    """Whether the loops are the faster way for this tensor: large, float32, on a CPU with few threads, outside torch.compile."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling()
    return plain and x.numel() >= _FEWEST and torch.get_num_threads() <= _MOST_THREADS


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x / √(mean(x²) + ε) · weight over the last dimension of x [..., D]."""
    return _Norm.apply(x, weight, epsilon)  # type: ignore[no-any-return]


def heads(
    qkv: Tensor, parts: tuple[int, int], norms: tuple[Tensor, Tensor] | None, epsilon: float, angles: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [B, Q, T, E], keys and values [B, K, T, E] of qkv [B, T, Q + 2K, E]; parts: (Q, K).

    norms: weights [E] of the RMSNorm of each query and of each key, or None; angles: cos and sin [T, 1, E] or [B, T, 1, E], or None.
    """
    E = qkv.shape[3]
    plain = [qkv.new_ones(E)] * 2
    weights = torch.cat([weight.expand(count, E) for weight, count in zip(norms or plain, parts, strict=True)])
    cos, sin = (qkv.new_empty(1, E),) * 2 if angles is None else (table.reshape(-1, E).contiguous() for table in angles)
    q, k, v = _Heads.apply(qkv, weights, parts[0], norms is not None, epsilon, cos, sin, angles is not None)
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        from bimo.models.kernels import transformer_loops as loops

        rows = x.contiguous().view(-1, x.shape[-1])
        y, inverse = torch.empty_like(rows), rows.new_empty(len(rows))
        loops.norm_forward(*_arrays(rows, weight), epsilon, *_arrays(y, inverse))
        ctx.save_for_backward(rows, weight, inverse)
        return y.view(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of x and the weight."""
        from bimo.models.kernels import transformer_loops as loops

        rows, weight, inverse = ctx.saved_tensors
        dx, dweight = torch.empty_like(rows), torch.zeros_like(weight)
        loops.norm_backward(*_arrays(grad.contiguous().view(rows.shape), rows, weight, inverse, dx, dweight))
        return dx.view(grad.shape), dweight, None


class _Heads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, weights: Tensor, queries: int, normed: bool, epsilon: float, cos: Tensor, sin: Tensor, turned: bool
    ) -> tuple[Tensor, ...]:
        """See `heads`; q [B, T, Q, E], k and v [B, T, K, E]."""
        from bimo.models.kernels import transformer_loops as loops

        (B, T, N, E), H = qkv.shape, len(weights)
        rows = qkv.contiguous().view(B * T, N, E)
        outer = [rows.new_empty(B * T, count, E) for count in (queries, H - queries, N - H)]
        inverse = rows.new_empty(B * T, H)
        loops.heads_forward(*_arrays(rows, weights), normed, epsilon, *_arrays(cos, sin), turned, *_arrays(*outer, inverse))
        ctx.save_for_backward(rows, weights, cos, sin, inverse)
        ctx.done = normed, turned
        return tuple(part.view(B, T, -1, E) for part in outer)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of qkv and the weights."""
        from bimo.models.kernels import transformer_loops as loops

        rows, weights, cos, sin, inverse = ctx.saved_tensors
        normed, turned = ctx.done
        dqkv, dweights = torch.empty_like(rows), torch.zeros_like(weights)
        outer = (grad.contiguous().flatten(0, 1) for grad in grads)
        loops.heads_backward(*_arrays(*outer, rows, weights), normed, *_arrays(cos, sin), turned, *_arrays(inverse, dqkv, dweights))
        return dqkv.view(*grads[0].shape[:2], *rows.shape[1:]), dweights if normed else None, *(None,) * 6


def _arrays(*tensors: Tensor) -> list[Any]:
    return [tensor.detach().numpy() for tensor in tensors]
