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
from bimo.models import low_rank
from bimo.models.base import NeuralLanguageModel
from bimo.models.quantized import FourBit
from bimo.models.saved import HALVES

_FEW = 64  # rows of an input below which adding the matrices up first does not pay


class AdaptedLinear(nn.Linear):
    """W x + b, which stays, and s·B·(A x) of some of its rows, which is learned.

    weight [rows, D], bias [rows] or None, as they were; chosen: the rank r of each part that is adapted; down and up: A [r, D] and
    B [part's rows, r] by the name of the part. quantized: in place of the weight stands `held`, which keeps it in four bits (QLoRA); it may
    then have no part that is learned, and is no weight that a checkpoint would hold.

    >>> base = nn.Linear(3, 4)
    >>> layer = AdaptedLinear(base, {"q": slice(0, 2), "v": slice(2, 4)}, {"v": 1}, scale=2.0)
    >>> x = torch.randn(5, 3)
    >>> torch.equal(layer(x), base(x)), [name for name, p in layer.named_parameters() if p.requires_grad]  # B begins at zero
    (True, ['down.v', 'up.v'])
    """

    def __init__(
        self, base: nn.Linear, parts: Mapping[str, slice], chosen: Mapping[str, int], scale: float, dropout: float = 0.0,
        quantized: bool = False,
    ) -> None:  # fmt: skip
        nn.Module.__init__(self)  # its weight is the base's, none is made
        self.in_features, self.out_features, self.bias = base.in_features, base.out_features, base.bias
        self.base = (base,)  # a tuple: not a module of this one
        self.rows = {name: parts[name] for name in chosen}
        self.scale, self.dropout, self.merged = scale, dropout, False
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        like = base.weight.new_empty(0, dtype=torch.float32 if base.weight.dtype in HALVES else None)
        for name, rows in self.rows.items():
            bound = 1 / math.sqrt(base.in_features)
            self.down[name] = nn.Parameter(like.new_empty(chosen[name], base.in_features).uniform_(-bound, bound))
            self.up[name] = nn.Parameter(like.new_zeros(rows.stop - rows.start, chosen[name]))
        self.held = FourBit(base.weight) if quantized else None
        if self.held is None:
            self.weight = base.weight
            self.weight.requires_grad_(False)
        else:
            base.weight = nn.Parameter(base.weight.detach().to("meta"), requires_grad=False)
        if self.bias is not None:
            self.bias.requires_grad_(False)
        self.register_state_dict_post_hook(_as_it_acts)

    def forward(self, input: Tensor) -> Tensor:
        """x [..., D] → [..., rows]."""
        x = input  # as nn.Linear calls it
        if self.merged and self.held is None:
            return F.linear(x, self.weight, self.bias)
        if (self.rows and self.dropout and self.training) or (self.held is None and x.numel() // x.shape[-1] < _FEW):
            y = F.linear(x, self.weight, self.bias) if self.held is None else low_rank.linear(x, self.held.dense, self.bias)
            dropped = F.dropout(x, self.dropout, self.training)
            return y + torch.cat([part.to(y.dtype) for part in self._added(dropped)], dim=-1)
        return low_rank.linear(x, self._copy, self.bias, self.scale, tuple(self.rows.values()), self._pairs())

    def _copy(self) -> Tensor:
        return self.weight.clone() if self.held is None else self.held.dense()

    def _pairs(self) -> list[Tensor]:
        """A, B, A, B … of the parts, in the order of `rows`."""
        return [tensor for name in self.rows for tensor in (self.down[name], self.up[name])]

    def _added(self, x: Tensor) -> Iterator[Tensor]:
        """What the adapters add, part by part, zeros where there is none."""
        at = 0
        for name, rows in self.rows.items():
            if rows.start > at:
                yield x.new_zeros(*x.shape[:-1], rows.start - at)
            yield F.linear(F.linear(x, self.down[name]), self.up[name]) * self.scale
            at = rows.stop
        if at < self.out_features:
            yield x.new_zeros(*x.shape[:-1], self.out_features - at)

    def merge(self) -> None:
        """Add the adapters into the weight; where it is in four bits they go on to work beside it, and are in what is written."""
        self._add(1.0)
        self.merged = True

    def unmerge(self) -> None:
        """Take them out of it: it is what it was, but for rounding."""
        self._add(-1.0)
        self.merged = False

    @torch.no_grad()
    def _add(self, sign: float) -> None:
        if self.held is None:
            low_rank.add_pairs(self.weight, sign * self.scale, tuple(self.rows.values()), self._pairs())

    @torch.no_grad()
    def whole(self) -> Tensor:
        """The weight of a plain map that does the same, or, where adapters are not merged, of the one that they stand beside."""
        if self.held is None:
            return self.weight
        weight = self.held.dense()
        return low_rank.add_pairs(weight, self.scale, tuple(self.rows.values()), self._pairs()) if self.merged else weight

    def plain(self) -> nn.Linear:
        """The plain map again, with the adapters in it where they were merged."""
        (base,) = self.base
        if self.held is not None:
            base.weight = nn.Parameter(self.whole())
        return base


def _as_it_acts(layer: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    """Of a map whose adapters are merged, the state is that of a plain one."""
    assert isinstance(layer, AdaptedLinear)
    if layer.merged:
        for name in [name for name in state if name.startswith((f"{prefix}down.", f"{prefix}up."))]:
            del state[name]
        if layer.held is not None:
            state[f"{prefix}weight"] = layer.whole().cpu()


# -- on a model -------------------------------------------------------------------------------------------------------


def adapt(model: NeuralLanguageModel, config: AdapterSection, ranks: Mapping[str, int] | None = None) -> None:
    """Put adapters beside the linear maps that `config.targets` names; everything else of the model is frozen.

    ranks: of the maps by their names in other programs' files, in place of `config.targets` and `config.rank`.
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
    if ranks is None:
        ranks = {part: config.rank for parts in names.values() for part in parts if short(part) in wanted}
    model.requires_grad_(False)
    for name, parts in names.items():
        chosen = {short(part): ranks[part] for part in parts if part in ranks}
        if chosen or config.quantized is not None:
            _replace(model, name, lambda base, name=name, chosen=chosen: _beside(base, name, names[name], chosen, config))


def _beside(base: nn.Module, name: str, parts: Sequence[str], chosen: Mapping[str, int], config: AdapterSection) -> AdaptedLinear:
    assert isinstance(base, nn.Linear)
    sizes = [base.out_features] if len(parts) == 1 else list(base.parts)  # type: ignore[arg-type]
    ends = itertools.accumulate(sizes)
    places = {short(part): slice(end - size, end) for part, size, end in zip(parts, sizes, ends, strict=True)}
    try:
        return AdaptedLinear(base, places, chosen, config.scale, config.dropout, config.quantized is not None)
    except ModelError as cause:
        raise ModelError(f"adapter.quantized: {name}: {cause}") from None


def short(name: str) -> str:
    """The last word of a map's name, which `targets` go by.

    >>> short("model.layers.0.self_attn.q_proj")
    'q_proj'
    """
    return name.rpartition(".")[2]


def adapted(model: nn.Module) -> Iterator[tuple[str, AdaptedLinear]]:
    """The maps with adapters beside them, by name; those too that have none and are in four bits."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, AdaptedLinear))


def merge(model: nn.Module) -> None:
    """Add all adapters into the weights: the model is as fast as it was before it had any. `unmerge` takes them out again."""
    for _, layer in adapted(model):
        if not layer.merged:
            layer.merge()


def unmerge(model: nn.Module) -> None:
    """Take merged adapters out of the weights, which are then what they were but for rounding."""
    for _, layer in adapted(model):
        if layer.merged:
            layer.unmerge()


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """The model with all its adapters merged, so that it is written as a plain one; afterwards it is what it was, to the bit."""
    apart = [(layer, None if layer.held else layer.weight.detach().clone()) for _, layer in adapted(model) if not layer.merged]
    merge(model)
    try:
        yield
    finally:
        for layer, weight in apart:
            if weight is None:
                layer.unmerge()
            else:
                layer.weight.data.copy_(weight)
                layer.merged = False


def strip(model: nn.Module) -> None:
    """Put the plain linear maps back, with the adapters added into them where they were merged."""
    for name, layer in list(adapted(model)):
        _replace(model, name, lambda _, layer=layer: layer.plain())
    model.requires_grad_(True)


def _replace(model: nn.Module, name: str, make: Any) -> None:
    above, _, leaf = name.rpartition(".")
    parent = model.get_submodule(above)
    setattr(parent, leaf, make(getattr(parent, leaf)))
