"""How far a student's next-token distributions lie from a teacher's, and from the text: without the logits [N, V] of either at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_LEAST = -1e30  # stands for the logarithm of nothing, so that nothing times it is nothing


class _ChunkedDivergence(torch.autograd.Function):
    """Gradients are computed in the forward pass, piece by piece: of w T² KL(p ‖ q_T) + (1 - w) CE with respect to the logits they are
    w T (q_T - p) + (1 - w) (q - one-hot)."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, suppressed: Tensor,
        pieces: Iterator[tuple[Tensor, Tensor]], temperature: float, share: float,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        with torch.autocast(kind, enabled=False):
            matrix = weight.to(dtype)
            grad_hidden = torch.zeros_like(hidden)
            grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
            grad_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
            kl, entropy = torch.zeros(2, dtype=torch.float64, device=hidden.device).unbind()
            for places, told in pieces:
                x, y = hidden[places].to(dtype), targets[places, None]
                logits = torch.nn.functional.linear(x, matrix).float()  # [n, V]
                if bias is not None:
                    logits += bias
                if suppressed.numel():
                    logits[:, suppressed] = told[:, suppressed] = float("-inf")
                gradient, here, missed = _of_piece(logits, told, y, temperature, share)
                kl, entropy = kl + here, entropy + missed
                if grad_bias is not None:
                    grad_bias += gradient.sum(0)
                gradient = gradient.to(dtype)
                grad_hidden[places] = (gradient @ matrix).to(grad_hidden.dtype)
                if dtype == torch.float32:
                    grad_weight.addmm_(gradient.t(), x)
                else:
                    grad_weight += gradient.t() @ x
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.mark_non_differentiable(kl, entropy)
        return share * temperature**2 * kl + (1 - share) * entropy, kl, entropy

    @staticmethod
    def backward(ctx: Any, scale: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return *(None if g is None else g.mul_(scale.to(g.dtype)) for g in ctx.saved_tensors), *(None,) * 5


def _of_piece(logits: Tensor, told: Tensor, y: Tensor, temperature: float, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient [n, V] of the student's logits, the sum of KL(p ‖ q_T), and that of the cross-entropy of targets y [n, 1].

    logits: the student's; told: the teacher's, both [n, V].
    """
    log_q = logits.log_softmax(1)
    entropy = -log_q.gather(1, y).sum(dtype=torch.float64)
    log_soft = log_q if temperature == 1 else (logits / temperature).log_softmax(1)
    log_p = (told if temperature == 1 else told / temperature).log_softmax(1).clamp_(min=_LEAST)
    p = log_p.exp()
    kl = log_p.sub_(log_soft.clamp(min=_LEAST)).mul_(p).sum(dtype=torch.float64)
    if temperature == 1:
        gradient = log_q.exp_().sub_(p, alpha=share)
    else:
        gradient = log_soft.exp_().sub_(p).mul_(share * temperature).add_(log_q.exp_(), alpha=1 - share)
    gradient.scatter_add_(1, y, gradient.new_full((1, 1), share - 1.0).expand_as(y))
    return gradient, kl, entropy


def chunked_divergence(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, pieces: Iterator[tuple[Tensor, Tensor]],
    temperature: float, share: float, suppressed: tuple[int, ...] = (),
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Summed over places, float64 scalars: share · T² · KL(p ‖ q_T) + (1 − share) · CE, which can be differentiated once; KL; CE.

    q = softmax(hidden W' + b) of hidden [N, D], W [V, D], b [V] or None, is the student's; q_T is softened by the temperature T (its
    logits are divided by it), and so is the teacher's p. CE is the cross-entropy of `targets` int64 [N] under q. pieces: places
    int64 [n] of 0 … N − 1, each once, and the teacher's logits there [n, V], which are written to; places in no piece count nothing.
    Ids that are `suppressed` have no part in either. Source: Hinton, Vinyals & Dean 2015, section 2: T² keeps the gradient's size.

    >>> x, w, told = torch.zeros(1, 2), torch.zeros(2, 2), torch.tensor([[3.0, 1.0]]).log()
    >>> [round(part.item(), 4) for part in chunked_divergence(x, w, None, torch.tensor([0]), iter([(torch.tensor([0]), told)]), 1.0, 0.5)]
    [0.412, 0.1308, 0.6931]
    """
    ids = torch.tensor(suppressed, dtype=torch.int64, device=hidden.device)
    return _ChunkedDivergence.apply(hidden, weight, bias, targets, ids, pieces, temperature, share)  # type: ignore[no-any-return]
