"""A GGUF file as a `config.json` mapping, tensors with Hugging Face's names, and what it says of its vocabulary.

Memory: the tensors as float32 (at most 7.2 × the file's size: Q4_0 keeps 32 values in 18 bytes), above them one tensor while it is being
turned and a slice of 4 MiB while it is dequantised, and the header's share (`header.py`).
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bimo.core.errors import ModelError
from bimo.models.interop.gguf import angles
from bimo.models.interop.gguf.header import Header, Stored, library, opened, shown
from bimo.models.interop.gguf.names import from_gguf, tensor_names
from bimo.models.interop.gguf.settings import read_settings

OF_THE_FILE = ("general.architecture", "general.file_type", "general.quantization_version", "general.alignment")
_SLICE = 1 << 20  # values that are dequantised at a time


@dataclass(frozen=True)
class GgufModel:
    """What a GGUF file holds.

    config: as in `config.json`; tensors: float32, by Hugging Face's names; vocabulary: what the file says in `tokenizer.…` (tokens,
    types, scores, merges, ids, the chat template) and of the model (`general.name`, `general.license`, …; `bert.pooling_type`), by GGUF's
    names, as plain Python: numbers, text and lists of them, and bytes where GGUF has a list of them.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    vocabulary: dict[str, Any]


def read_gguf(path: Path | str) -> GgufModel:
    """Read a GGUF file (version 2 or 3; Llama, Qwen2, Qwen3, GPT-2 or BERT; tensors of the types `header.TYPES`).

    Raises `ModelError` that names the file and the fact or tensor that is damaged, missing or not supported.
    """
    with opened(Path(path)) as (header, data):
        config = _slowed(header, read_settings(header), data)
        names = _names(header, config)
        try:
            tensors = {theirs: from_gguf(ours, dequantised(data, header.tensors[ours]), config) for ours, theirs in names.items()}
        except ModelError as cause:
            header.fail(str(cause))
    facts = {
        key: value for key, value in header.facts.items() if key.startswith(("tokenizer.", "general.")) or key.endswith(".pooling_type")
    }
    return GgufModel(config, tensors, {key: _plain(value) for key, value in facts.items() if key not in OF_THE_FILE})


def _names(header: Header, config: Mapping[str, Any]) -> dict[str, str]:
    """Hugging Face's name of each tensor of the file, by its own; none is missing and none is left."""
    names, stored = tensor_names(config), header.tensors
    for ours in names:
        if ours not in stored:
            header.fail(f"tensor {ours} is missing, which a {config['model_type']} model has")
        if len(stored[ours].shape) > 2:
            header.fail(f"tensor {ours} has the shape {list(stored[ours].shape)}; at most two dimensions are expected")
    left = [name for name in stored if name not in names and name != angles.TENSOR]
    if left:
        header.fail(f"unknown tensors {', '.join(shown(name) for name in left[:5])} for a {config['model_type']} model")
    return names


def _slowed(header: Header, config: dict[str, Any], data: mmap.mmap) -> dict[str, Any]:
    """The config, whose rotary angles are slowed as the file's divisors have it, if it has any that are not 1."""
    if angles.TENSOR not in header.tensors:
        return config
    found = dequantised(data, header.tensors[angles.TENSOR]).flatten()
    if bool((found == 1).all()):
        return config
    rope = angles.numbers(found, config.get("rope_theta", 10000.0)) if 2 * len(found) == config.get("head_dim") else None
    if rope is None or config["rope_parameters"]["rope_type"] != "default":
        header.fail(f"{angles.TENSOR} changes the rotary angles otherwise than in Llama 3.1 and those after it, which is not supported")
    return {**config, "rope_parameters": rope}


def dequantised(data: mmap.mmap, stored: Stored) -> Tensor:
    """A tensor of the file as float32, in its shape; made of slices, so that little is needed beside it."""
    gguf = library()
    kind = gguf.GGMLQuantizationType[stored.type]
    block, size = gguf.GGML_QUANT_SIZES[kind]  # values, bytes
    found = torch.empty(stored.shape)
    flat, blocks = found.view(-1).numpy(), math.prod(stored.shape) // block
    with np.errstate(all="ignore"):  # a damaged scale may be NaN or infinite: so are its values, then
        for first in range(0, blocks, step := _SLICE // block):
            last = min(blocks, first + step)
            raw = np.frombuffer(data[stored.start + first * size : stored.start + last * size], np.uint8)
            flat[first * block : last * block] = gguf.quants.dequantize(raw[None], kind)[0]
    return found


def _plain(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return value.tobytes() if value.dtype == np.uint8 else value.tolist()
