"""The weights of a model folder, in one file or several, and their way into a model that was made without memory.

Every name and shape is checked before anything is taken over. Nothing that unpickles is opened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bimo.core import store
from bimo.core.errors import ModelError, UserError
from bimo.models.folders import INDEX, WEIGHTS

M = TypeVar("M", bound=nn.Module)

_PART = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
HALVES = (torch.float16, torch.bfloat16)
_PLAIN = (torch.float32, torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


def has_own_head(embedding: Tensor | None, head: Tensor | None) -> bool:
    """Whether a file has an output matrix that is not its embedding matrix: it counts, whatever config.json says, as in transformers."""
    return embedding is not None and head is not None and (embedding.shape != head.shape or not torch.equal(embedding, head))


# -- files ------------------------------------------------------------------------------------------------------------


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a model folder, by name, as they are.

    They lie in `model.safetensors`, or in the files that `model.safetensors.index.json` names, each of which must stand in the folder.
    """
    folder = Path(folder)
    if (folder / WEIGHTS).exists() or not (folder / INDEX).exists():
        _refuse_pickles(folder)
        return _unwrapped(_known(store.read_tensors(folder / WEIGHTS), folder / WEIGHTS))
    places = _index(folder / INDEX)
    found: dict[str, Tensor] = {}
    for name in dict.fromkeys(places.values()):
        held = _known(store.read_tensors(folder / name), folder / name)
        found |= {tensor: held[tensor] for tensor in held if places.get(tensor) == name}
    if missing := [tensor for tensor in places if tensor not in found]:
        raise ModelError(f"{folder / places[missing[0]]}: tensor {missing[0]} is missing, which {INDEX} says is there")
    return _unwrapped(found)


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without what `torch.compile` and data parallelism put before all names of a module that they wrap.

    >>> list(_unwrapped({"module._orig_mod.a.weight": torch.ones(1)})), list(_unwrapped({"module.a": torch.ones(1), "b": torch.ones(1)}))
    (['a.weight'], ['module.a', 'b'])
    """
    while prefix := next((p for p in ("_orig_mod.", "module.") if tensors and all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def write_weights(folder: Path, tensors: Mapping[str, Tensor], most_bytes: int | None = None) -> None:
    """Write the tensors as `model.safetensors`, or in files of at most `most_bytes` with an index, each whole or not at all.

    A tensor that is larger than that has a file of its own. Then comes the index, and last the files of an earlier model go.
    """
    folder = Path(folder)
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if most_bytes is not None and parts[-1] and size + tensor.nbytes > most_bytes:
            parts.append({})
            size = 0
        parts[-1][name] = tensor
        size += tensor.nbytes
    if len(parts) == 1:
        store.write_tensors(folder / WEIGHTS, parts[0])
        _remove_parts(folder, ())
        return
    names = [f"model-{i:05d}-of-{len(parts):05d}.safetensors" for i in range(1, len(parts) + 1)]
    (folder / INDEX).unlink(missing_ok=True)  # its parts may be written over
    for name, part in zip(names, parts, strict=True):
        store.write_tensors(folder / name, part)
    places = {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part}
    total = sum(tensor.nbytes for tensor in tensors.values())
    (folder / WEIGHTS).unlink(missing_ok=True)  # which would win over the index
    store.write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
    _remove_parts(folder, names)


def _remove_parts(folder: Path, kept: Sequence[str]) -> None:
    """Remove the parts of an earlier model, and, where none is kept, their index."""
    for path in folder.glob("model-*-of-*.safetensors"):
        if path.name not in kept and _PART.fullmatch(path.name):
            path.unlink()
    if not kept:
        (folder / INDEX).unlink(missing_ok=True)


DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def narrowed(config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A model's `config.json` and tensors with its floating-point numbers as f32, f16 or bf16.

    Raises `UserError` for a number that f16 cannot hold.
    """
    kind = DTYPES[dtype]
    found = {name: t.to(kind) if t.is_floating_point() else t for name, t in tensors.items()}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and bool(torch.isfinite(tensor).all()) and not bool(torch.isfinite(found[name]).all()):
            raise UserError(f"dtype: {name} holds numbers beyond f16; choose bf16 or f32")
    return {**config, **({"dtype": str(kind).removeprefix("torch.")} if "dtype" in config else {})}, found


def parse_size(text: int | str) -> int:
    """Bytes of a number, or of one with KB, MB, GB or TB behind it, powers of ten as transformers takes them.

    >>> parse_size("2GB"), parse_size("1.5 mb"), parse_size(7)
    (2000000000, 1500000, 7)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", str(text), re.IGNORECASE)
    size = int(float(found[1]) * 1000 ** " KMGT".index(found[2].upper() or " ")) if found else 0
    if size < 1:
        raise UserError(f"max_shard_size: cannot read {text!r}; write a number of bytes, or as in 500MB and 2GB")
    return size


def _index(path: Path) -> dict[str, str]:
    """Which file holds each tensor; only plain names beside the index are taken."""
    told: Any = store.read_json(path)
    places = told.get("weight_map") if isinstance(told, dict) else None
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{path}: expected weight_map, the file of each tensor; download the model again")
    for name in places.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{path}: weight_map names {name!r}; it must be a .safetensors file in the same folder")
    return places


def _refuse_pickles(folder: Path) -> None:
    """A folder whose weights are a pickle alone: say so, and open nothing."""
    for pattern in ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt"):
        if not (folder / WEIGHTS).exists() and (found := next(folder.glob(pattern), None)):
            raise ModelError(
                f"{found}: a pickle, which could run any code and is never opened; save the model as safetensors where it was made"
            )


def _known(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    for name, tensor in tensors.items():
        if tensor.dtype not in (*HALVES, *_PLAIN):
            raise ModelError(f"{path}: tensor {name} is {tensor.dtype}, which is not supported; give the model in full or half precision")
    return tensors


# -- into a model -----------------------------------------------------------------------------------------------------


def load_tensors(model: M, tensors: Mapping[str, Tensor]) -> M:
    """Give `model` (made on the meta device) its tensors, without a copy; it comes back ready to use (no dropout).

    Raises `ModelError` that names a tensor which is missing, has another shape, or belongs to nothing.

    >>> load_tensors(nn.Linear(2, 1, bias=False, device="meta"), {"weight": torch.ones(1, 2)})(torch.ones(2)).item()
    2.0
    """
    model.load_state_dict(regrouped(tensors, model.state_dict()), assign=True)
    return model.requires_grad_(True).eval()


@torch.no_grad()
def widen(model: nn.Module) -> None:
    """Make float32 of a model's half-precision numbers, in place."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dtype in HALVES:
            tensor.data = tensor.data.float()


def regrouped(
    tensors: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    names: Mapping[str, tuple[str, ...]] | None = None,
    transposed: Callable[[str], bool] = lambda name: False,
) -> dict[str, Tensor]:
    """The state dictionary `wanted` (its shapes count) of tensors that a file names and parts in its own way.

    names: for each of our modules the file's, whose rows are joined (None: the file's names are ours); transposed: which of
    our tensors lie the other way round there. Their precision is the file's.

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
