"""A model in the Hugging Face layout as a GGUF file that llama.cpp opens.

How tensors are stored, as llama.cpp's own conversion stores them: vectors, norms, places and segments as F32; matrices as the type that was
asked for, or as F16 where their rows are no multiple of its block (32 values). With q4_0 the embedding and output matrices are Q8_0:
llama.cpp makes them Q6_K, which the gguf package cannot write, for rare tokens suffer most from 4 bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bimo.core import store
from bimo.core.errors import UserError, did_you_mean
from bimo.models.interop.gguf import angles
from bimo.models.interop.gguf.header import library
from bimo.models.interop.gguf.names import tensor_names, to_gguf
from bimo.models.interop.gguf.reading import OF_THE_FILE
from bimo.models.interop.gguf.settings import completed, write_ids, write_settings

DTYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0", "q4_0": "MOSTLY_Q4_0"}  # general.file_type
_LARGEST = {"F32": 3.4e38, "BF16": 3.38e38, "F16": 65504.0, "Q8_0": 127 * 65504.0, "Q4_0": 8 * 65504.0}  # magnitudes that a type can hold
_ALWAYS_F32 = ("position_embd.weight", "token_types.weight")
_AT_LEAST_Q8_0 = ("token_embd.weight", "output.weight")
_BY_THE_WAY = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq", ".position_ids")  # made anew by every program
_HEADS = {"cls.predictions.": "the head for hidden tokens", "cls.seq_relationship.": "next-sentence prediction", "pooler.": "the pooler"}


def write_gguf(
    path: Path | str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], vocabulary: Mapping[str, Any], dtype: str = "f16"
) -> list[str]:
    """Write a model of a `config.json` and its tensors to a GGUF file, whole or not at all; returns notes on what is not as asked.

    vocabulary: `tokenizer.…` and `general.…` by GGUF's names, written as it is; special ids that it does not tell are the config's.
    dtype: one of f32, f16, bf16, q8_0 and q4_0. Raises `UserError` for models that GGUF cannot hold, and for weights beyond a type's range.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype: {dtype!r} is not written; {did_you_mean(dtype, DTYPES)}")
    path, gguf, config = Path(path), library(), completed(config)
    held, notes = _held(config, tensors)
    shapes = {name: to_gguf(name, torch.empty_like(tensor, device="meta"), config).shape for name, tensor in held.items()}
    kinds = {name: _kind(name, shape, dtype) for name, shape in shapes.items()}
    if narrow := sum(kind == "F16" and dtype.endswith("_0") for kind in kinds.values()):
        notes.append(f"{narrow} matrices are F16, not {dtype}: their rows are no multiple of 32 values")
    facts, told = _facts(path, config, vocabulary, shapes)
    facts["general.file_type"] = int(gguf.LlamaFileType[DTYPES[dtype]])
    facts["general.quantization_version"] = gguf.GGML_QUANT_VERSION

    def write(beside: Path) -> None:
        writer = gguf.GGUFWriter(beside, config["model_type"])
        try:
            for key, value in facts.items():
                _add(writer, key, value)
            for name, shape in shapes.items():
                kind = gguf.GGMLQuantizationType[kinds[name]]
                block, size = gguf.GGML_QUANT_SIZES[kind]
                writer.add_tensor_info(name, shape, np.dtype(np.float32), shape.numel() // block * size, raw_dtype=kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
        finally:
            writer.close()
        with open(beside, "ab") as file:  # the writer's own way (ndarray.tofile) may pass over a full disk
            for name, tensor in held.items():
                file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))
                file.write(_quantised(name, to_gguf(name, tensor, config), kinds[name]).data)
            file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))

    store.write_beside(path, write)
    return notes + told


def _held(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by GGUF's names, as Hugging Face has them; and notes on those that are left out."""
    kind, prefix = config["model_type"], {"gpt2": "transformer.", "bert": "bert."}.get(config["model_type"], "model.")
    found = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}  # files have it, or not
    held: dict[str, Tensor] = {}
    for ours, theirs in tensor_names(config).items():
        tensor = found.pop(theirs.removeprefix(prefix), None)
        if tensor is None:
            raise UserError(f"tensor {theirs} is missing, which a {kind} model has; the tensors do not fit the config")
        if tensor.dim() not in (1, 2):
            raise UserError(f"tensor {theirs} has the shape {list(tensor.shape)}; one or two dimensions are expected")
        held[ours] = tensor.detach()
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if kind not in ("gpt2", "bert") and rope.get("rope_type", rope.get("type")) == "llama3":
        held[angles.TENSOR] = angles.divisors({"rope_theta": config.get("rope_theta", 10000.0), **rope}, config["head_dim"])
    notes = [f"{angles.TENSOR} alone tells how rotary angles are slowed, and not as Llama 3.1's are: Bimo does not open the file again"]
    notes = notes if angles.TENSOR in held and not angles.is_known(rope) else []
    for start, what in _HEADS.items() if kind == "bert" else ():
        if heads := [name for name in found if name.startswith(start)]:
            notes.append(f"{what} has no place in GGUF and is left out")
            found = {name: tensor for name, tensor in found.items() if name not in heads}
    copied = "lm_head.weight" if config["tie_word_embeddings"] else ""
    if left := [name for name in found if not name.endswith(_BY_THE_WAY) and name != copied]:
        raise UserError(f"unknown tensors {', '.join(sorted(left)[:5])} for a {kind} model; GGUF has no place for them")
    return held, notes


def _kind(name: str, shape: torch.Size, dtype: str) -> str:
    """The type that a tensor is stored as.

    >>> _kind("output.weight", torch.Size([9, 64]), "q4_0"), _kind("blk.0.ffn_up.weight", torch.Size([9, 48]), "q4_0")
    ('Q8_0', 'F16')
    """
    if len(shape) == 1 or name in _ALWAYS_F32:
        return "F32"
    if dtype in ("q8_0", "q4_0") and shape[-1] % 32:
        return "F16"
    return "Q8_0" if dtype == "q4_0" and name in _AT_LEAST_Q8_0 else dtype.upper()


def _quantised(name: str, tensor: Tensor, kind: str) -> np.ndarray:
    """A tensor as its type has it: an array of the type, or of the bytes of its blocks."""
    gguf = library()
    values = tensor.float().cpu().contiguous().numpy()
    largest = float(np.abs(values).max())
    if not largest <= _LARGEST[kind]:  # NaN is neither
        does = "holds NaN or infinity" if not np.isfinite(largest) else f"holds {largest:g}, more than {kind} can; choose dtype bf16 or f32"
        raise UserError(f"tensor {name}: {does}")
    return gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])


# -- facts ------------------------------------------------------------------------------------------------------------


def _facts(
    path: Path, config: Mapping[str, Any], vocabulary: Mapping[str, Any], shapes: Mapping[str, torch.Size]
) -> tuple[dict[str, Any], list[str]]:
    """All that the file says but of itself, and notes."""
    kind, rows = config["model_type"], shapes["token_embd.weight"][0]
    for key, value in vocabulary.items():
        if key in OF_THE_FILE or not (key.startswith(("tokenizer.", "general.")) or key == f"{kind}.pooling_type"):
            raise UserError(f"vocabulary: {key} is not of the vocabulary; tokenizer.…, general.… and {kind}.pooling_type are")
        _checked(key, value)
    tokens = vocabulary.get("tokenizer.ggml.tokens")
    if tokens is not None and len(tokens) != rows:
        raise UserError(f"vocabulary: tokenizer.ggml.tokens has {len(tokens)} tokens, the embedding {rows} rows; llama.cpp wants as many")
    notes = []
    if "tokenizer.ggml.model" not in vocabulary or tokens is None:
        notes.append("without a tokenizer (tokenizer.ggml.model and tokens) llama.cpp does not open the file")
    facts = {"general.type": "model", "general.name": path.stem, **write_settings(config, rows), **write_ids(config, rows)}
    if kind == "bert":
        facts["tokenizer.ggml.token_type_count"] = shapes["token_types.weight"][0]
        notes.append("llama.cpp reckons BERT's GELU by its tanh form, which differs by up to 0.0005")
    facts |= vocabulary
    if empty := [key for key, value in facts.items() if isinstance(value, list | tuple | bytes) and not len(value)]:
        notes.append(f"{', '.join(empty)}: empty lists have no place in GGUF and are left out")
    return {key: value for key, value in facts.items() if key not in empty}, notes


def _checked(key: str, value: Any) -> None:
    """Raise `UserError` for a value that GGUF has no type for."""
    values = value if isinstance(value, list | tuple) else [value]
    text, whole = all(isinstance(v, str) for v in values), all(isinstance(v, int) and abs(v) < 1 << 31 for v in values)
    broken = any(type(v) is float for v in values) and all(type(v) in (int, float) and not 3.4e38 < abs(v) < math.inf for v in values)
    if not (isinstance(value, bytes) or text or whole or broken):
        raise UserError(f"vocabulary: {key} must be a number (of 32 bits), text, bytes or a list of one of them, found {repr(value)[:60]}")
    if text:
        for one in values:
            try:
                one.encode("utf-8")
            except UnicodeEncodeError:
                raise UserError(f"vocabulary: {key} holds {one[:40]!r}, which is no UTF-8") from None


def _add(writer: Any, key: str, value: Any) -> None:
    """Add a fact with the type that llama.cpp asks for: unsigned numbers of 32 bits, lists of signed ones, floats of 32 bits."""
    kinds = library().GGUFValueType
    values = value if isinstance(value, list | tuple) else [value]
    if isinstance(value, bytes):
        writer.add_key_value(key, value, kinds.ARRAY, sub_type=kinds.UINT8)
        return
    if isinstance(values[0], str):
        kind = kinds.STRING
    elif all(isinstance(v, bool) for v in values):
        kind = kinds.BOOL
    elif all(isinstance(v, int) for v in values):
        kind = kinds.INT32 if values is value or min(values) < 0 else kinds.UINT32
    else:
        kind = kinds.FLOAT32
    if values is value:
        writer.add_key_value(key, value, kinds.ARRAY, sub_type=kind)
    else:
        writer.add_key_value(key, value, kind)
