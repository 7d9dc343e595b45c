"""Tensors of `model.safetensors` into a model that was made without memory: every name and shape is checked first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from bimo.core.errors import ModelError

M = TypeVar("M", bound=nn.Module)


def load_tensors(model: M, tensors: Mapping[str, Tensor]) -> M:
    """Give `model` (made on the meta device) its tensors, without a copy; it comes back ready to use (no dropout).

    Raises `ModelError` that names a tensor which is missing, has another shape, or belongs to nothing.

    >>> load_tensors(nn.Linear(2, 1, bias=False, device="meta"), {"weight": torch.ones(1, 2)})(torch.ones(2)).item()
    2.0
    """
    model.load_state_dict(regrouped(tensors, model.state_dict()), assign=True)
    return model.requires_grad_(True).eval()


def regrouped(
    tensors: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    names: Mapping[str, tuple[str, ...]] | None = None,
    transposed: Callable[[str], bool] = lambda name: False,
) -> dict[str, Tensor]:
    """The state dictionary `wanted` (its shapes count) of tensors that a file names and parts in its own way.

    names: for each of our modules the file's, whose rows are joined (None: the file's names are ours); transposed: which of
    our tensors lie the other way round there.

    >>> halves = {"a.weight": torch.zeros(1, 2), "b.weight": torch.ones(1, 2)}
    >>> regrouped(halves, {"ab.weight": torch.empty(2, 2)}, {"ab": ("a", "b")})["ab.weight"].tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """
    left, found = dict(tensors), {}
    for name, shape in wanted.items():
        module, _, leaf = name.rpartition(".")
        theirs = [name] if names is None else [f"{target}.{leaf}" for target in names[module]]
        if missing := [target for target in theirs if target not in left]:
            raise ModelError(f"model.safetensors: tensor {missing[0]} is missing; the file does not fit config.json")
        parts = [left.pop(target) for target in theirs]
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        tensor = tensor.t() if transposed(name) else tensor
        if tensor.shape != shape.shape:
            gives = theirs[0] if theirs == [name] else f"{theirs[0]} gives {name}, which"
            raise ModelError(f"model.safetensors: {gives} has shape {list(tensor.shape)}, not {list(shape.shape)}")
        found[name] = tensor.contiguous()
    if left:
        raise ModelError(f"model.safetensors: unknown tensors {', '.join(sorted(left)[:5])}; the file does not fit config.json")
    return found
