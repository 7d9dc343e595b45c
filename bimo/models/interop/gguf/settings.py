"""What a GGUF file says of a model's shape, and the Hugging Face `config.json` that says the same: read and written.

What would change the result and has no counterpart is refused by name, never passed over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from bimo.core.errors import UserError
from bimo.models.interop.gguf import angles
from bimo.models.interop.gguf.header import Header, shown
from bimo.models.interop.gguf.names import ARCHITECTURES

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "bert": "BertModel",
}
_COMMON = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
}
_GPT2 = {
    "context_length": "n_positions",
    "embedding_length": "n_embd",
    "feed_forward_length": "n_inner",
    "block_count": "n_layer",
    "attention.head_count": "n_head",
}
_EPSILON = {  # GGUF's name and config.json's
    "gpt2": ("attention.layer_norm_epsilon", "layer_norm_epsilon"),
    "bert": ("attention.layer_norm_epsilon", "layer_norm_eps"),
}
_RMS_EPSILON = ("attention.layer_norm_rms_epsilon", "rms_norm_eps")
_IDS = {
    "tokenizer.ggml.bos_token_id": "bos_token_id",
    "tokenizer.ggml.eos_token_id": "eos_token_id",
    "tokenizer.ggml.padding_token_id": "pad_token_id",
    "tokenizer.ggml.unknown_token_id": "unk_token_id",
    "tokenizer.ggml.mask_token_id": "mask_token_id",
}
_YARN = {"rope.scaling.yarn_beta_fast": "beta_fast", "rope.scaling.yarn_beta_slow": "beta_slow"}
_YARN_EXTENT = "rope.scaling.yarn_ext_factor"  # how far YaRN goes; 1: all the way
SUPPRESSED = "tokenizer.ggml.suppress_tokens"
_LARGEST = (1 << 31) - 1
_LONGEST_CONTEXT = 1 << 24  # tokens; the tables of rotary angles are as long


# -- reading ----------------------------------------------------------------------------------------------------------


class _Facts:
    """The facts of one architecture, `llama.…`, each asked for by name; what nobody asked for is told by `left`."""

    def __init__(self, header: Header, kind: str) -> None:
        self.header, self.kind = header, kind
        self.found = {key[len(kind) + 1 :]: value for key, value in header.facts.items() if key.startswith(f"{kind}.")}

    def fail(self, key: str, wanted: str) -> NoReturn:
        self.header.fail(f"{self.kind}.{key} must be {wanted}, found {shown(self.found.get(key))}")

    def integer(self, key: str, default: int | None = None, most: int = _LARGEST) -> int:
        value = self.found.get(key, default)
        if type(value) is not int or not 1 <= value <= most:
            self.fail(key, f"a whole number of 1 to {most}")
        self.found.pop(key, None)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.found.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            self.fail(key, "a number above 0")
        self.found.pop(key, None)
        return float(value)

    def only(self, key: str, *allowed: Any) -> Any:
        """One of `allowed`, the first of which is meant where the fact is missing."""
        value = self.found.get(key, allowed[0])
        if not any(type(value) is type(one) and value == one for one in allowed):
            self.fail(key, " or ".join(repr(one) for one in allowed))
        self.found.pop(key, None)
        return value

    def left(self) -> None:
        """Fail where a fact is left that says something: what is 0, false or empty does not."""
        for key, value in self.found.items():
            if not isinstance(value, bool | int | float | str) or value:
                self.header.fail(f"{self.kind}.{key} is not supported; it would change what the model says")


def read_settings(header: Header) -> dict[str, Any]:
    """The `config.json` of the model that a GGUF file holds; raises `ModelError` that names the file and the fact."""
    kind = header.facts.get("general.architecture")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        header.fail(f"general.architecture is {shown(kind)}, which is not supported; {', '.join(ARCHITECTURES)} are")
    if (what := shown(header.facts.get("general.type", "model"))) != "'model'":
        header.fail(f"general.type is {what}; it must be 'model': a file of another kind holds no whole model")
    if "split.count" in header.facts and shown(header.facts["split.count"]) not in ("0", "1"):
        header.fail(f"is one of {shown(header.facts['split.count'])} parts of a model; join them first (llama-gguf-split --merge)")
    facts, tensors = _Facts(header, kind), header.tensors
    for key in ("pooling_type", "vocab_size", "tensor_data_layout"):  # handed on, told by the embedding, how an older file lay
        facts.found.pop(key, None)
    config: dict[str, Any] = {"architectures": [_CLASSES[kind]], "dtype": "float32", "model_type": kind, **_read_vocabulary(header)}
    for key, name in (_GPT2 if kind == "gpt2" else _COMMON).items():
        most = {"context_length": _LONGEST_CONTEXT, "block_count": len(tensors)}.get(key, _LARGEST)  # each layer has a tensor of its own
        config[name] = facts.integer(key, most=most)
    key, name = _EPSILON.get(kind, _RMS_EPSILON)
    config[name] = facts.number(key)
    facts.only("attention.causal", kind != "bert")
    if kind == "gpt2":
        facts.only("attention.head_count_kv", config["n_head"])
        config |= {"activation_function": "gelu_new", "tie_word_embeddings": "output.weight" not in tensors}
    elif kind == "bert":
        facts.only("attention.head_count_kv", config["num_attention_heads"])
        types = tensors.get("token_types.weight")
        config |= {"hidden_act": "gelu", "position_embedding_type": "absolute", "type_vocab_size": types.shape[0] if types else 0}
        config["tie_word_embeddings"] = True
    else:
        config |= _read_rotary(facts, config, header)
    facts.left()
    return config


def _read_rotary(facts: _Facts, config: dict[str, Any], header: Header) -> dict[str, Any]:
    """What Llama, Qwen2 and Qwen3 have beside the common settings."""
    kind, width, heads = config["model_type"], config["hidden_size"], config["num_attention_heads"]
    if "attention.key_length" not in facts.found and width % heads:
        facts.fail("attention.key_length", f"told, since embedding_length {width} is no multiple of head_count {heads}")
    per_head = facts.integer("attention.key_length", width // heads)
    facts.only("attention.value_length", per_head)
    facts.only("rope.dimension_count", per_head)
    rope = _read_rope(facts)
    found = {
        "num_key_value_heads": facts.integer("attention.head_count_kv", heads),
        "head_dim": per_head,
        "hidden_act": "silu",
        "rope_parameters": rope,
        "rope_theta": rope["rope_theta"],
        "tie_word_embeddings": "output.weight" not in header.tensors,
    }
    if kind == "llama":
        found["attention_bias"] = "blk.0.attn_q.bias" in header.tensors
        found["mlp_bias"] = "blk.0.ffn_up.bias" in header.tensors
    else:
        found |= {"use_sliding_window": False, "sliding_window": None}
    return found


def _read_rope(facts: _Facts) -> dict[str, Any]:
    """`rope_parameters`; as in llama.cpp a factor without a type is linear's, and a factor of 0 is none."""
    theta = facts.number("rope.freq_base", 10000.0)
    kind = facts.only("rope.scaling.type", "linear", "none", "yarn")
    factor = 1.0
    for key in ("rope.scale_linear", "rope.scaling.factor"):  # the first is an old name of the second
        if key in facts.found and shown(facts.found[key]) not in ("0", "0.0"):
            factor = facts.number(key)
    facts.found.pop("rope.scaling.finetuned", None)  # tells how the model was made, not how it is run
    for key in ("rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor"):
        facts.only(key, 1.0)
    if kind == "none" or factor == 1.0:
        facts.found.pop("rope.scaling.original_context_length", None)
        for key in (*_YARN, _YARN_EXTENT):  # without a scaling they scale nothing
            facts.found.pop(key, None)
        return {"rope_type": "default", "rope_theta": theta}
    rope = {"rope_type": kind, "rope_theta": theta, "factor": factor}
    if kind == "yarn":
        facts.only(_YARN_EXTENT, 1.0)
        rope |= {name: facts.number(key) for key, name in _YARN.items() if key in facts.found}
    if "rope.scaling.original_context_length" in facts.found:
        rope["original_max_position_embeddings"] = facts.integer("rope.scaling.original_context_length")
    return rope


def _read_vocabulary(header: Header) -> dict[str, Any]:
    """The size of the vocabulary, its special ids, and what is never written."""
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None:
        header.fail("has no tensor token_embd.weight; does it hold a vocabulary alone?")
    size, tokens = embedding.shape[0], header.facts.get("tokenizer.ggml.tokens")
    if isinstance(tokens, list) and len(tokens) > size:
        header.fail(f"tokenizer.ggml.tokens has {len(tokens)} tokens, token_embd.weight {size} rows")
    found: dict[str, Any] = {"vocab_size": size}
    for key, name in _IDS.items():
        value = header.facts.get(key)
        if value is not None and type(value) is not int:
            header.fail(f"{key} must be a whole number, found {shown(value)}")
        if value is not None or name != "mask_token_id":
            found[name] = value
    if SUPPRESSED in header.facts:
        ids = header.facts[SUPPRESSED]
        if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iu" or (len(ids) and not 0 <= ids.min() <= ids.max() < size):
            header.fail(f"{SUPPRESSED} must be ids below {size}, found {shown(ids)}")
        found["suppress_tokens"] = ids.tolist()
    return found


# -- writing ----------------------------------------------------------------------------------------------------------

_ROTARY: dict[str, tuple[Any, ...]] = {"hidden_act": ("silu",), "use_sliding_window": (False, None), "pretraining_tp": (1, None)}
_ALLOWED: dict[str, dict[str, tuple[Any, ...]]] = {  # the first is meant where config.json says nothing
    "llama": _ROTARY,
    "qwen2": _ROTARY,
    "qwen3": {**_ROTARY, "attention_bias": (False, None)},
    "gpt2": {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    "bert": {
        "hidden_act": ("gelu", "gelu_python"),
        "position_embedding_type": ("absolute", None),
        "is_decoder": (False, None),
        "add_cross_attention": (False, None),
    },
}


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A `config.json` with what it leaves unsaid, as far as GGUF must know it; raises `UserError` for what GGUF cannot hold."""
    kind = config.get("model_type")
    if kind == "bimo-decoder":
        raise UserError(
            "GGUF cannot hold this model: its shape is a bimo-decoder's, which llama.cpp does not know; train one that is Llama's "
            "(norm=rms positions=rotary activation=swiglu qk_norm=false), Qwen3's (the same with qk_norm=true bias=false) or GPT-2's "
            "(norm=layer positions=learned activation=gelu_tanh bias=true qk_norm=false), without tags and ngrams"
        )
    if kind not in ARCHITECTURES:
        raise UserError(
            f"GGUF cannot hold a model of model_type {kind!r}: llama.cpp knows no such model; it can hold {', '.join(ARCHITECTURES)}, "
            "which decoders and encoders of their shapes have"
        )
    for key, values in {"quantization_config": (None,), **_ALLOWED[kind]}.items():
        if config.get(key, values[0]) not in values:
            raise UserError(f"config.json: {key} = {config[key]!r} of a {kind} model has no place in GGUF; it must be {values[0]!r}")
    if any(one != "full_attention" for one in config.get("layer_types") or ()):
        raise UserError(f"config.json: layer_types of a {kind} model have no place in GGUF but 'full_attention'")
    found = dict(config)
    if kind == "gpt2":
        found["n_inner"] = found.get("n_inner") or 4 * found.get("n_embd", 0)
    for name in (*(_GPT2 if kind == "gpt2" else _COMMON).values(), _EPSILON.get(kind, _RMS_EPSILON)[1]):
        if not isinstance(found.get(name), int | float):
            raise UserError(f"config.json: {name} of a {kind} model must be told, found {found.get(name)!r}")
    found["tie_word_embeddings"] = bool(config.get("tie_word_embeddings", kind in ("gpt2", "bert")))
    if kind not in ("gpt2", "bert"):
        heads = found["num_attention_heads"]
        found["num_key_value_heads"] = found.get("num_key_value_heads") or heads
        found["head_dim"] = found.get("head_dim") or (128 if kind == "qwen3" else found["hidden_size"] // heads)
    return found


def write_settings(config: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """What GGUF says of a `completed` config.json, by GGUF's names; rows: of the embedding matrix, one for each id."""
    kind = config["model_type"]
    found: dict[str, Any] = {key: int(config[name]) for key, name in (_GPT2 if kind == "gpt2" else _COMMON).items()}
    key, name = _EPSILON.get(kind, _RMS_EPSILON)
    found |= {key: float(config[name]), "vocab_size": rows}
    if kind == "bert":
        found["attention.causal"] = False
    elif kind != "gpt2":
        per_head = config["head_dim"]
        found |= {
            "attention.head_count_kv": config["num_key_value_heads"],
            "attention.key_length": per_head,
            "attention.value_length": per_head,
            "rope.dimension_count": per_head,
            **_write_rope(config),
        }
    return {f"{kind}.{key}": value for key, value in found.items()}


def _write_rope(config: Mapping[str, Any]) -> dict[str, Any]:
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    kind = rope.pop("rope_type", rope.pop("type", "default"))
    found: dict[str, Any] = {"rope.freq_base": float(rope.pop("rope_theta", config.get("rope_theta", 10000.0)))}
    if rope.pop("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
        raise UserError("config.json: partial_rotary_factor has no place in GGUF; it must be 1.0")
    kinds = ("default", "linear", "yarn", *(["llama3"] if config["model_type"] == "llama" else []))  # llama.cpp has its tensor there alone
    if kind not in kinds:
        raise UserError(f"config.json: rope type {kind!r} of a {config['model_type']} model is not written to GGUF; {', '.join(kinds)} are")
    if kind == "llama3":  # a tensor says it
        rope = angles.without_numbers(rope)
    elif kind != "default":
        if not isinstance(factor := rope.pop("factor", None), int | float):
            raise UserError(f"config.json: rope_parameters of type {kind!r} must tell a factor, found {factor!r}")
        found |= {"rope.scaling.type": kind, "rope.scaling.factor": float(factor)}
        if (original := rope.pop("original_max_position_embeddings", None)) is not None:
            found["rope.scaling.original_context_length"] = int(original)
        if kind == "yarn":
            found |= {key: float(rope.pop(name)) for key, name in _YARN.items() if rope.get(name) is not None}
    if left := [key for key, value in rope.items() if value is not None]:
        raise UserError(f"config.json: rope_parameters {', '.join(sorted(left))} have no place in GGUF")
    return found


def write_ids(config: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The special ids of a config.json, and what is never written, by GGUF's names; of several ends of text the first.

    >>> write_ids({"bos_token_id": 0, "eos_token_id": [3, 4], "pad_token_id": 50256}, rows=9)
    {'tokenizer.ggml.bos_token_id': 0, 'tokenizer.ggml.eos_token_id': 3}
    """
    found: dict[str, Any] = {}
    for key, name in _IDS.items():
        value = config.get(name)
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, int) and 0 <= value < rows:  # HF writes 50256 beside small vocabularies
            found[key] = value
    return {**found, SUPPRESSED: list(config["suppress_tokens"])} if config.get("suppress_tokens") else found
