"""Adapters: low-rank maps beside the linear maps of a model that stays as it is (LoRA, Hu et al. 2021).

A map W [rows, D] becomes W + s·B·A with A [r, D] and B [rows, r]; A and B alone are learned. Where a linear map of ours stacks several of
other programs (queries, keys and values, say), each of these has a pair of its own, under its own name, so that adapters pass to and from
other programs (`interop/peft`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bimo.core.errors import CapabilityError, ModelError, did_you_mean
from bimo.core.recipe import AdapterSection
from bimo.models.base import NeuralLanguageModel

_FEW = 64  # rows of an input below which adding the matrices up first does not pay


class AdaptedLinear(nn.Linear):
    """W x + b, which stays, and s·B·(A x) of some of its rows, which is learned.

    weight [rows, D], bias [rows] or None, as they were; down and up: A [r, D] and B [part's rows, r] by the name of the part.

    >>> base = nn.Linear(3, 4)
    >>> layer = AdaptedLinear(base, {"q": slice(0, 2), "v": slice(2, 4)}, ("v",), rank=1, scale=2.0)
    >>> x = torch.randn(5, 3)
    >>> torch.equal(layer(x), base(x)), [name for name, p in layer.named_parameters() if p.requires_grad]  # B begins at zero
    (True, ['down.v', 'up.v'])
    """

    def __init__(
        self, base: nn.Linear, parts: Mapping[str, slice], chosen: Sequence[str], rank: int, scale: float, dropout: float = 0.0
    ) -> None:
        nn.Module.__init__(self)  # its weight is the base's, none is made
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.base = (base,)  # a tuple: not a module of this one
        self.rows = {name: parts[name] for name in chosen}
        self.scale, self.dropout, self.merged = scale, dropout, False
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        for name, rows in self.rows.items():
            bound = 1 / math.sqrt(base.in_features)
            self.down[name] = nn.Parameter(base.weight.new_empty(rank, base.in_features).uniform_(-bound, bound))
            self.up[name] = nn.Parameter(base.weight.new_zeros(rows.stop - rows.start, rank))
        self.weight.requires_grad_(False)
        if self.bias is not None:
            self.bias.requires_grad_(False)
        self.register_state_dict_post_hook(_as_it_acts)

    def forward(self, input: Tensor) -> Tensor:
        """x [..., D] → [..., rows]."""
        x = input  # as nn.Linear calls it
        if self.merged:
            return F.linear(x, self.weight, self.bias)
        if (self.dropout and self.training) or x.numel() // x.shape[-1] < _FEW:
            y = F.linear(x, self.weight, self.bias)
            dropped = F.dropout(x, self.dropout, self.training)
            return y + torch.cat([part.to(y.dtype) for part in self._added(dropped)], dim=-1)
        pairs = [tensor for name in self.rows for tensor in (self.down[name], self.up[name])]
        return _LowRank.apply(x, self.weight, self.bias, self.scale, tuple(self.rows.values()), *pairs)  # type: ignore[no-any-return]

    def _added(self, x: Tensor) -> Iterator[Tensor]:
        """What the adapters add, part by part, zeros where there is none."""
        at = 0
        for name, rows in self.rows.items():
            if rows.start > at:
                yield x.new_zeros(*x.shape[:-1], rows.start - at)
            yield F.linear(F.linear(x, self.down[name]), self.up[name]) * self.scale
            at = rows.stop
        if at < len(self.weight):
            yield x.new_zeros(*x.shape[:-1], len(self.weight) - at)

    @torch.no_grad()
    def add(self, sign: float) -> None:
        """Add the adapters into the weight, or take them out of it (`sign` −1)."""
        for name, rows in self.rows.items():
            self.weight[rows].addmm_(self.up[name], self.down[name], alpha=sign * self.scale)


def _as_it_acts(layer: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    """Of a map whose adapters are merged, the state is that of a plain one."""
    assert isinstance(layer, AdaptedLinear)
    if layer.merged:
        for name in [name for name in state if name.startswith((f"{prefix}down.", f"{prefix}up."))]:
            del state[name]


class _LowRank(torch.autograd.Function):
    """x (W + s·Σ B A)ᵀ + b as one product; its gradient goes to x and to the pairs A, B, never to W.

    The sum is made anew in the backward pass: it is cheap beside the product, and keeping it for every layer is not.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, scale: float, rows: tuple[slice, ...], *pairs: Tensor) -> Tensor:
        kind = x.device.type
        ctx.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        ctx.scale, ctx.rows = scale, rows
        ctx.save_for_backward(x, weight, *pairs)
        with torch.autocast(kind, enabled=False):
            added = None if bias is None else bias.to(ctx.dtype)
            return F.linear(x.to(ctx.dtype), _sum(weight, scale, rows, pairs).to(ctx.dtype), added)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, *pairs = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):
            flat, given = grad.reshape(-1, grad.shape[-1]).to(ctx.dtype), x.reshape(-1, x.shape[-1]).to(ctx.dtype)
            back = None
            if ctx.needs_input_grad[0]:
                back = (flat @ _sum(weight, ctx.scale, ctx.rows, pairs).to(ctx.dtype)).view(x.shape).to(x.dtype)
            found: list[Tensor] = []
            for rows, down, up in zip(ctx.rows, pairs[::2], pairs[1::2], strict=True):
                part = flat[:, rows]
                inner = part @ up.to(ctx.dtype)  # [N, r]
                found.append((inner.t() @ given).to(down.dtype) * ctx.scale)
                found.append((part.t() @ (given @ down.to(ctx.dtype).t())).to(up.dtype) * ctx.scale)
        return back, None, None, None, None, *found


def _sum(weight: Tensor, scale: float, rows: tuple[slice, ...], pairs: Sequence[Tensor]) -> Tensor:
    total = weight.clone()
    for places, down, up in zip(rows, pairs[::2], pairs[1::2], strict=True):
        total[places].addmm_(up, down, alpha=scale)
    return total


# -- on a model -------------------------------------------------------------------------------------------------------


def adapt(model: NeuralLanguageModel, config: AdapterSection) -> None:
    """Put adapters beside the linear maps that `config.targets` names; everything else of the model is frozen.

    Raises `CapabilityError` for a model without linear maps, `ModelError` for a target that it does not have.
    """
    if any(adapted(model)):
        raise ModelError("adapter: the model has adapters already; take them away first (unload_adapter)")
    names = model.linear_names()
    if not names:
        raise CapabilityError(f"adapter: {type(model).__name__} has no linear maps to put adapters beside; fine-tune it whole")
    known = sorted({short(part) for parts in names.values() for part in parts})
    wanted = known if config.targets is None else config.targets
    if unknown := [name for name in wanted if name not in known]:
        raise ModelError(f"adapter.targets: {unknown[0]} is no linear map of this model; {did_you_mean(unknown[0], known)}")
    model.requires_grad_(False)
    for name, parts in names.items():
        chosen = [short(part) for part in parts if short(part) in wanted]
        if chosen:
            _replace(model, name, lambda base, parts=parts, chosen=chosen: _beside(base, parts, chosen, config))


def _beside(base: nn.Module, parts: Sequence[str], chosen: Sequence[str], config: AdapterSection) -> AdaptedLinear:
    assert isinstance(base, nn.Linear)
    sizes = [base.out_features] if len(parts) == 1 else list(base.parts)  # type: ignore[arg-type]
    ends = itertools.accumulate(sizes)
    places = {short(part): slice(end - size, end) for part, size, end in zip(parts, sizes, ends, strict=True)}
    return AdaptedLinear(base, places, chosen, config.rank, config.scale, config.dropout)


def short(name: str) -> str:
    """The last word of a map's name, which `targets` go by.

    >>> short("model.layers.0.self_attn.q_proj")
    'q_proj'
    """
    return name.rpartition(".")[2]


def adapted(model: nn.Module) -> Iterator[tuple[str, AdaptedLinear]]:
    """The maps with adapters beside them, by name."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, AdaptedLinear))


def merge(model: nn.Module) -> None:
    """Add all adapters into the weights: the model is as fast as it was before it had any. `unmerge` takes them out again."""
    for _, layer in adapted(model):
        if not layer.merged:
            layer.add(1.0)
            layer.merged = True


def unmerge(model: nn.Module) -> None:
    """Take merged adapters out of the weights, which are then what they were but for rounding."""
    for _, layer in adapted(model):
        if layer.merged:
            layer.add(-1.0)
            layer.merged = False


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """The model with all its adapters merged, so that it is written as a plain one; afterwards it is what it was, to the bit."""
    apart = [(layer, layer.weight.detach().clone()) for _, layer in adapted(model) if not layer.merged]
    merge(model)
    try:
        yield
    finally:
        for layer, weight in apart:
            layer.weight.data.copy_(weight)
            layer.merged = False


def strip(model: nn.Module) -> None:
    """Put the plain linear maps back, with the adapters added into them where they were merged."""
    for name, layer in list(adapted(model)):
        _replace(model, name, lambda _, layer=layer: layer.base[0])
    model.requires_grad_(True)


def _replace(model: nn.Module, name: str, make: Any) -> None:
    above, _, leaf = name.rpartition(".")
    parent = model.get_submodule(above)
    setattr(parent, leaf, make(getattr(parent, leaf)))
