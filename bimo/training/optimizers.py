"""Optimizers, learning-rate schedules, and which parameter is learned by what."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bimo.core.recipe import TrainingSection
from bimo.models.layers import StackedLinear


def orthogonalised(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Matrices [N, R, C] pushed towards the nearest semi-orthogonal ones by a quintic Newton–Schulz iteration.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". All singular values end near 1
    (between about 0.7 and 1.2, which is enough for Muon).

    >>> torch.manual_seed(0) and None
    >>> s = torch.linalg.svdvals(orthogonalised(torch.randn(1, 4, 8)))
    >>> bool((s > 0.5).all() and (s < 1.5).all())
    True
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: for the hidden matrices of a network.

    `torch.optim.Muon` does the same one matrix at a time and always in bf16, which a processor without bf16 products
    does some thirty times slower; here matrices of one shape go together, in fp32 on a CPU (see docs/decisions.md).
    A parameter that stacks several matrices (queries, keys and values, say) is taken apart: `parts` maps its id to
    their row counts.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        parts: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._parts = parts or {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)  # of (matrix, its raw update)
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                moment = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(moment, group["momentum"])  # Nesterov's look ahead
                rows = list(self._parts.get(id(p), (p.shape[0],)))
                for matrix, raw in zip(p.split(rows), update.split(rows), strict=True):
                    shapes[tuple(matrix.shape)].append((matrix, raw))
            for (rows, columns), same in shapes.items():
                stacked = torch.stack([raw for _, raw in same])
                stacked = orthogonalised(stacked.bfloat16() if stacked.is_cuda else stacked).to(stacked.dtype)
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for (matrix, _), update in zip(same, stacked, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-scale)


def make_optimizers(model: nn.Module, training: TrainingSection) -> list[torch.optim.Optimizer]:
    """The optimizers of a model: weight decay on matrices only; under muon, hidden matrices by Muon and the rest by AdamW.

    Hidden matrices are the two-dimensional weights that are not embeddings or heads (those whose rows are tokens or
    positions). Every group keeps its peak rate in "peak", from which `set_learning_rate` works.
    """
    by_token = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    head = getattr(model, "head", None)
    if head is not None:
        by_token |= {id(t) for t in head() if t is not None}
    hidden, matrices, vectors = [], [], []
    for p in (p for p in model.parameters() if p.requires_grad):
        (vectors if p.dim() < 2 else matrices if id(p) in by_token or p.dim() > 2 else hidden).append(p)
    adam = [
        {"params": matrices, "weight_decay": training.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = []
    if training.optimizer == "muon":
        if hidden:
            parts = {id(m.weight): m.parts for m in model.modules() if isinstance(m, StackedLinear)}
            optimizers.append(Muon(hidden, training.matrix_learning_rate, training.momentum, training.weight_decay, parts))
    else:
        adam[0]["params"] = hidden + matrices
    groups = [g for g in adam if g["params"]]
    if training.optimizer == "sgd":
        optimizers.append(torch.optim.SGD(groups, lr=training.learning_rate, momentum=training.momentum))
    elif training.optimizer == "adam":
        optimizers.append(torch.optim.Adam(groups, lr=training.learning_rate, betas=training.betas, fused=True))
    else:
        optimizers.append(torch.optim.AdamW(groups, lr=training.learning_rate, betas=training.betas, fused=True))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def schedule_factor(training: TrainingSection, step: int, steps: int) -> float:
    """The learning rate of step `step` (0 … steps − 1) as a share of the peak.

    >>> t = TrainingSection(schedule="linear", warmup=0.5, final=0.0)
    >>> [schedule_factor(t, s, 4) for s in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    warm = math.ceil(training.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if training.schedule == "constant":
        return 1.0
    start = warm if training.schedule != "wsd" else max(warm, steps - math.ceil(training.cooldown * steps))
    done = 0.0 if step < start else (step - start) / max(1, steps - start)
    if training.schedule == "cosine":
        return training.final + (1 - training.final) * 0.5 * (1 + math.cos(math.pi * done))
    return 1 - (1 - training.final) * done


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's rate to `factor` of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
