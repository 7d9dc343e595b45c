"""LoRA adapters as the peft library keeps them: `adapter_config.json` and `adapter_model.safetensors`, in and out.

What would change the result and is not supported is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bimo.core import fetch, store
from bimo.core.errors import ModelError, RecipeError
from bimo.core.recipe import AdapterSection
from bimo.core.registry import Kind
from bimo.core.validation import validated
from bimo.models.adapters import adapt, adapted, short
from bimo.models.base import NeuralLanguageModel
from bimo.models.folders import ADAPTER

CONFIG, WEIGHTS = ADAPTER, "adapter_model.safetensors"
_PREFIX = "base_model.model."
_READ = ("r", "lora_alpha", "lora_dropout", "use_rslora", "target_modules")
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
    rank = len(next(iter(first.down.values())))
    targets = sorted({part for layer in layers.values() for part in layer.rows})
    store.write_json(Path(folder) / CONFIG, {
        "peft_type": "LORA", "task_type": "CAUSAL_LM" if model.kind is Kind.EXACT else None,
        "base_model_name_or_path": repository, "revision": revision, "inference_mode": True, "bias": "none",
        "r": rank, "lora_alpha": first.scale * rank, "lora_dropout": first.dropout, "use_rslora": False,
        "target_modules": targets, "fan_in_fan_out": _lies_across(model),
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
    tensors = store.read_tensors(folder / WEIGHTS)
    downward = {full: tensor for full, tensor in tensors.items() if full.endswith(".lora_A.weight")}
    if not downward:
        raise ModelError(f"{folder / WEIGHTS}: holds no lora_A; these are no adapters")
    for full, tensor in downward.items():  # before maps of that rank are made
        if tensor.shape[:1] != (section.rank,):
            raise ModelError(f"{folder / WEIGHTS}: {full} has shape {list(tensor.shape)}, but r is {section.rank} in {CONFIG}")
    adapt(model, section)
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
                wanted.data.copy_(found)
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
    targets = config.get("target_modules")
    fields = {
        "rank": config.get("r", 8), "alpha": config.get("lora_alpha", 8), "dropout": config.get("lora_dropout", 0.0),
        "rank_stabilised": config.get("use_rslora", False) or False,
        "targets": None if targets in (None, "all-linear") else targets,
    }  # fmt: skip
    try:
        return validated(AdapterSection, fields)
    except RecipeError as cause:
        raise ModelError(f"{path}: {cause}") from None


def _lies_across(model: NeuralLanguageModel) -> bool:
    """Whether the model's files keep matrices as [in, out], as GPT-2's do; the adapters themselves lie the same way everywhere."""
    return model.config_dict().get("model_type") == "gpt2"
