"""LoRA adapters as the peft library keeps them: `adapter_config.json` and `adapter_model.safetensors`, in and out.

What would change the result and is not supported is refused by name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bimo.core import fetch, store
from bimo.core.errors import CapabilityError, ModelError, RecipeError, did_you_mean
from bimo.core.recipe import AdapterSection
from bimo.core.registry import Kind
from bimo.core.validation import validated
from bimo.models.adapters import adapt, adapted, short
from bimo.models.base import NeuralLanguageModel
from bimo.models.folders import ADAPTER

CONFIG, WEIGHTS = ADAPTER, "adapter_model.safetensors"
_PREFIX = "base_model.model."
_READ = (
    "r", "lora_alpha", "lora_dropout", "use_rslora", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
    "rank_pattern", "alpha_pattern",
)  # fmt: skip
_NO_PART = "pooler.dense."  # of BERT, which Bimo does not read
_TOLD = (  # of how the adapters were made or are kept, not of what they do
    "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "task_type", "peft_version", "fan_in_fan_out",
    "ensure_weight_tying", "runtime_config", "megatron_core", "qalora_group_size", "eva_config",
)  # fmt: skip
_ONLY: Mapping[str, tuple[Any, ...]] = {  # what is not nothing where it is left alone; the others must be nothing
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),  # the other ways change the base's own weights
}


def write_adapter(model: NeuralLanguageModel, folder: Path, base: str = "") -> None:
    """Write the adapters of a model into `folder`; base: what to call the model that they belong to.

    Raises `ModelError` where the model has none.
    """
    layers = {name: layer for name, layer in adapted(model) if layer.rows}
    if not layers:
        raise ModelError(f"{folder}: the model has no adapters to write")
    repository, revision = fetch.repository(base)
    names = model.linear_names()
    first = next(iter(layers.values()))
    ranks = {part: len(layer.down[short(part)]) for name, layer in layers.items() for part in names[name] if short(part) in layer.rows}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    other = {part: r for part, r in ranks.items() if r != rank}
    everywhere = {short(part) for part in ranks} if _wanted(names, {short(part) for part in ranks}) == ranks.keys() else ranks.keys()
    store.write_json(Path(folder) / CONFIG, {
        "peft_type": "LORA", "task_type": "CAUSAL_LM" if model.kind is Kind.EXACT else None,
        "base_model_name_or_path": repository, "revision": revision, "inference_mode": True, "bias": "none",
        "r": rank, "lora_alpha": first.scale * rank, "lora_dropout": first.dropout, "use_rslora": False,
        "target_modules": sorted(everywhere), "fan_in_fan_out": _lies_across(model),
        "rank_pattern": other, "alpha_pattern": {part: first.scale * r for part, r in other.items()},
    })  # fmt: skip
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        for part in names[name]:
            if short(part) in layer.rows:
                tensors[f"{_PREFIX}{part}.lora_A.weight"] = layer.down[short(part)]
                tensors[f"{_PREFIX}{part}.lora_B.weight"] = layer.up[short(part)]
    store.write_tensors(Path(folder) / WEIGHTS, tensors)


def read_adapter(model: NeuralLanguageModel, folder: Path) -> None:
    """Put the adapters in `folder` beside the maps of `model`; every name and shape is checked."""
    folder = Path(folder)
    config = store.read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise ModelError(f"{folder / CONFIG}: expected a mapping of settings, found a {type(config).__name__}")
    section = _section(config, folder / CONFIG)
    if not (folder / WEIGHTS).exists() and (pickled := folder / "adapter_model.bin").exists():
        raise ModelError(
            f"{pickled}: a pickle, which could run any code and is never opened; save the adapter as safetensors where it was made"
        )
    tensors = {name: tensor for name, tensor in store.read_tensors(folder / WEIGHTS).items() if _NO_PART not in name}
    if not any(full.endswith(".lora_A.weight") for full in tensors):
        raise ModelError(f"{folder / WEIGHTS}: holds no lora_A; these are no adapters")
    scales, ranks = _maps(model, config, section, folder / CONFIG)
    for part, rank in ranks.items():  # before maps of that rank are made
        down = tensors.get(f"{_PREFIX}{part}.lora_A.weight")
        if down is not None and down.shape[:1] != (rank,):
            raise ModelError(f"{folder / WEIGHTS}: lora_A of {part} has shape {list(down.shape)}, but r is {rank} in {CONFIG}")
    adapt(model, section, ranks)
    names = model.linear_names()
    for name, layer in adapted(model):
        for part in names[name]:
            for kind, held in (("A", layer.down), ("B", layer.up)):
                if short(part) not in layer.rows:
                    continue
                full = f"{_PREFIX}{part}.lora_{kind}.weight"
                found = tensors.pop(full, None)
                wanted = held[short(part)]
                if found is None:
                    raise ModelError(f"{folder / WEIGHTS}: tensor {full} is missing; the adapter is of another model")
                if found.shape != wanted.shape:
                    raise ModelError(f"{folder / WEIGHTS}: {full} has shape {list(found.shape)}, not {list(wanted.shape)}")
                wanted.data.copy_(found if kind == "A" else found * (scales[part] / layer.scale))  # a layer has one scale
                if not bool(torch.isfinite(wanted).all()):  # once added into the weights it could not be taken out again
                    raise ModelError(f"{folder / WEIGHTS}: {full} holds NaN or infinity; the file is damaged or its training diverged")
    if tensors:
        raise ModelError(f"{folder / WEIGHTS}: unknown tensors {', '.join(sorted(tensors)[:3])}; the adapter is of another model")


def _section(config: Mapping[str, Any], path: Path) -> AdapterSection:
    for key, value in config.items():
        if key in _READ or key in _TOLD:
            continue
        allowed = _ONLY.get(key)
        if (value not in allowed) if allowed else bool(value):
            must = repr(allowed[0]) if allowed else "left out"
            raise ModelError(f"{path}: {key} = {value!r} is not supported and could change what the adapter does; it must be {must}")
    fields = {
        "rank": config.get("r", 8), "alpha": config.get("lora_alpha", 8), "dropout": config.get("lora_dropout", 0.0),
        "rank_stabilised": config.get("use_rslora", False) or False,
    }  # fmt: skip
    try:
        return validated(AdapterSection, fields)
    except RecipeError as cause:
        raise ModelError(f"{path}: {cause}") from None


def _maps(
    model: NeuralLanguageModel, config: Mapping[str, Any], section: AdapterSection, path: Path
) -> tuple[dict[str, float], dict[str, int]]:
    """Scale and rank of each map that the settings put adapters beside, by its name in peft's model."""
    names = model.linear_names()
    if not names:
        raise CapabilityError(f"{path}: {type(model).__name__} has no linear maps to put adapters beside")
    for key, kind in (("rank_pattern", int), ("alpha_pattern", int | float)):
        said = config.get(key) or {}
        if not isinstance(said, dict) or not all(isinstance(value, kind) and value > 0 for value in said.values()):
            raise ModelError(f"{path}: {key} must give a number above 0 for each pattern of names, found {said!r}")
    scales: dict[str, float] = {}
    ranks: dict[str, int] = {}
    try:
        for part in sorted(_chosen(names, config, path)):
            ranks[part] = _by_pattern(config.get("rank_pattern"), part, section.rank)
            alpha = _by_pattern(config.get("alpha_pattern"), part, section.alpha)
            scales[part] = alpha / (ranks[part] ** 0.5 if section.rank_stabilised else ranks[part])
    except re.error as cause:
        raise ModelError(f"{path}: {cause.pattern!r} is no regular expression ({cause})") from None
    return scales, ranks


def _by_pattern(patterns: Mapping[str, Any] | None, name: str, usual: Any) -> Any:
    """What the first pattern that fits the end of a name gives."""
    return next((value for key, value in (patterns or {}).items() if re.match(rf"(.*\.)?({key})$", name)), usual)


def _wanted(names: Mapping[str, tuple[str, ...]], ends: Collection[str]) -> set[str]:
    """The maps whose name is, or ends with, one of `ends`."""
    return {part for parts in names.values() for part in parts if any(part == end or part.endswith(f".{end}") for end in ends)}


def _chosen(names: Mapping[str, tuple[str, ...]], config: Mapping[str, Any], path: Path) -> set[str]:
    """The maps that `target_modules` and what goes with it choose, by peft's rules.

    A text is a regular expression of a whole name, or "all-linear"; of a list, each is a whole name, or the end of one, which
    `layers_to_transform` may limit to some layers.
    """
    every = {part for parts in names.values() for part in parts}
    targets, left_out = config.get("target_modules"), config.get("exclude_modules") or []
    if targets is None or targets == "all-linear":
        found = every
    elif isinstance(targets, str):
        found = {part for part in every if re.fullmatch(targets, part)}
    elif isinstance(targets, list) and all(isinstance(target, str) for target in targets):
        known = {part: _wanted(names, [part]) for part in targets}
        if unknown := [target for target, maps in known.items() if not maps and not target.endswith(_NO_PART.removesuffix("."))]:
            shorts = {short(part) for part in every}
            raise ModelError(f"{path}: target_modules: {unknown[0]} is no linear map of this model; {did_you_mean(unknown[0], shorts)}")
        found = {part for part in _wanted(names, targets) if part in targets or _in_layers(part, config, path)}
    else:
        raise ModelError(f"{path}: target_modules must be a list of names or a regular expression, found {targets!r}")
    gone = {part for part in found if re.fullmatch(left_out, part)} if isinstance(left_out, str) else _wanted(names, left_out)
    if not found - gone:
        raise ModelError(f"{path}: target_modules = {targets!r} chooses no linear map of this model")
    return found - gone


def _in_layers(part: str, config: Mapping[str, Any], path: Path) -> bool:
    """Whether a map lies in one of the layers that `layers_to_transform` counts, after a name of `layers_pattern` if there is one."""
    layers = config.get("layers_to_transform")
    if layers is None or layers == []:
        return True
    numbers = layers if isinstance(layers, list) else [layers]
    if not all(type(number) is int for number in numbers):
        raise ModelError(f"{path}: layers_to_transform must be numbers of layers, found {layers!r}")
    patterns = config.get("layers_pattern") or [r"[^.]*"]
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if found := re.match(rf"(?:^|.*?\.){pattern}\.(?P<layer>\d+)\.", part):
            return int(found["layer"]) in numbers
    return False


def _lies_across(model: NeuralLanguageModel) -> bool:
    """Whether the model's files keep matrices as [in, out], as GPT-2's do; the adapters themselves lie the same way everywhere."""
    return model.config_dict().get("model_type") == "gpt2"
