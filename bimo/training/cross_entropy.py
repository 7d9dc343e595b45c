"""The cross-entropy of many targets that never holds their logits [N, V] at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CHUNK = 1 << 23  # most logits held at a time: 32 MiB in fp32; with few, the head's gradient is read and written too often


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of -log softmax(x W' + b)[target] over rows, with the gradients computed in the forward pass, chunk by chunk.

    The logits of a chunk of rows are turned into their own gradient (softmax minus one-hot) in place, so that the three
    matrix products of the plain form remain and the [N, V] intermediate goes.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, suppressed: Tensor, smoothing: float
    ) -> Tensor:
        rows, vocab = hidden.shape[0], weight.shape[0]
        possible = torch.ones(vocab, dtype=torch.float32, device=hidden.device).index_fill_(0, suppressed, 0.0)
        share = smoothing / float(possible.sum()) if smoothing else 0.0  # of each possible id
        dtype = torch.get_autocast_dtype(hidden.device.type) if torch.is_autocast_enabled(hidden.device.type) else hidden.dtype
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(dtype)
            most = max(16, (_CHUNK if hidden.device.type == "cpu" else _CHUNK * 8) // vocab)
            size = max(1, -(-rows // max(1, -(-rows // most))))  # chunks of one size
            learn = ctx.needs_input_grad
            grad_hidden = torch.empty_like(hidden) if learn[0] else None
            grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if learn[1] else None
            grad_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and learn[2] else None
            total = torch.zeros((), dtype=torch.float64, device=hidden.device)
            for start in range(0, rows, size):
                x, y = hidden[start : start + size].to(dtype), targets[start : start + size, None]
                logits = torch.nn.functional.linear(x, matrix).float()  # [size, V]
                if bias is not None:
                    logits += bias
                if suppressed.numel():
                    logits[:, suppressed] = float("-inf")
                peak = logits.amax(dim=1, keepdim=True)
                found = logits.gather(1, y) - peak
                if share:
                    total -= share * (logits - peak).masked_fill_(possible == 0, 0.0).sum(dtype=torch.float64)
                gradient = torch.softmax(logits, dim=1, out=logits)
                log_normaliser = -gradient.amax(dim=1, keepdim=True).log()  # the likeliest id's share is 1 / normaliser
                total += (log_normaliser - (1 - smoothing) * found).sum(dtype=torch.float64)
                if not any(learn[:3]):
                    continue
                gradient.scatter_add_(1, y, gradient.new_full((1, 1), smoothing - 1.0).expand_as(y))
                if share:
                    gradient.sub_(possible, alpha=share)
                if grad_bias is not None:
                    grad_bias += gradient.sum(dim=0)
                gradient = gradient.to(dtype)
                if grad_hidden is not None:
                    torch.mm(gradient, matrix, out=grad_hidden[start : start + size]) if grad_hidden.dtype == dtype else grad_hidden[
                        start : start + size
                    ].copy_(gradient @ matrix)
                if grad_weight is not None:
                    if dtype == torch.float32:
                        grad_weight.addmm_(gradient.t(), x)
                    else:
                        grad_weight += gradient.t() @ x
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return *(None if g is None else g.mul_(scale.to(g.dtype)) for g in ctx.saved_tensors), None, None, None


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, suppressed: tuple[int, ...] = (), label_smoothing: float = 0.0
) -> Tensor:
    """Summed nats (float64 scalar) of `targets` int64 [N] given hidden states [N, D] and a head W [V, D], b [V] or None.

    Equal to `F.cross_entropy(hidden @ W.T + b, targets, reduction="sum")` with the suppressed ids at -inf; holds
    at most 32 MiB of logits (256 MiB on a GPU). Can be differentiated once. label_smoothing: the share of each target that is spread evenly
    over all ids that are not suppressed (Szegedy 2016; Vaswani 2017, section 5.4).

    >>> x, w = torch.eye(2), torch.zeros(4, 2)
    >>> round(chunked_cross_entropy(x, w, None, torch.tensor([0, 1])).item(), 4)  # 2 ln 4
    2.7726
    """
    ids = torch.tensor(suppressed, dtype=torch.int64, device=hidden.device)
    return _ChunkedCrossEntropy.apply(hidden, weight, bias, targets, ids, label_smoothing)  # type: ignore[no-any-return]
