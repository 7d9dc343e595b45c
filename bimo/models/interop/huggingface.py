"""Decoders in the Hugging Face layout: settings and tensor names of GPT-2, Llama, Qwen2 and Qwen3, in and out.

A decoder whose shape one of them has is written exactly as theirs; any other as `bimo-decoder`, with our own names. What would change
the result and is not supported is refused by name, never passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bimo.core.errors import ModelError, RecipeError
from bimo.core.validation import validated
from bimo.models.layers import GATED
from bimo.models.saved import regrouped
from bimo.models.vocabulary import read_vocabulary, write_vocabulary
from bimo.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from bimo.models.decoder import DecoderConfig

# -- settings ---------------------------------------------------------------------------------------------------------


def model_type(config: DecoderConfig, vocabulary: Vocabulary) -> str:
    """gpt2, llama, qwen2 or qwen3 where the shape is theirs, otherwise bimo-decoder: also where tags or n-grams are read."""
    c = config
    if vocabulary.tags or c.ngrams:
        return "bimo-decoder"
    plain = c.head_width is None and c.groups == c.heads
    if (c.norm, c.positions, c.bias, c.qk_norm) == ("layer", "learned", True, False) and plain and c.activation in _GPT2_ACTIVATIONS:
        return "gpt2"
    if (c.norm, c.positions, c.activation) == ("rms", "rotary", "swiglu"):
        if c.qk_norm:
            return "qwen3" if c.bias in (False, "attention") else "bimo-decoder"
        if c.bias == "qkv":
            return "qwen2" if c.head_width is None else "bimo-decoder"
        return "llama" if c.width % c.heads == 0 else "bimo-decoder"
    return "bimo-decoder"


_GPT2_ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu"}
_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
_CLASSES = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}


def write_config(config: DecoderConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    """The `config.json` of a decoder."""
    kind = model_type(config, vocabulary)
    head = {"model_type": kind, **write_vocabulary(vocabulary)}
    if kind == "bimo-decoder":
        return {**head, **config.model_dump()}
    head = {"architectures": [_CLASSES[kind]], "dtype": "float32", **head, "tie_word_embeddings": config.tied}
    return {**head, **(_write_gpt2(config) if kind == "gpt2" else _write_llama(config, kind))}


def _write_gpt2(c: DecoderConfig) -> dict[str, Any]:
    return {
        "n_layer": c.layers,
        "n_head": c.heads,
        "n_embd": c.width,
        "n_inner": c.inner,
        "n_positions": c.context,
        "n_ctx": c.context,
        "activation_function": _GPT2_ACTIVATIONS[c.activation],
        "layer_norm_epsilon": c.norm_epsilon,
        "initializer_range": 0.02,
        "embd_pdrop": c.dropout,
        "resid_pdrop": c.dropout,
        "attn_pdrop": c.attention_dropout,
    }


def _write_llama(c: DecoderConfig, kind: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.groups,
        "head_dim": c.per_head,
        "hidden_size": c.width,
        "intermediate_size": c.inner,
        "max_position_embeddings": c.context,
        "rms_norm_eps": c.norm_epsilon,
        "hidden_act": "silu",
        **_write_rope(c),
        "attention_dropout": c.attention_dropout,
        "initializer_range": 0.02,
        "residual_dropout": c.dropout,
    }
    if kind == "llama":
        fields["mlp_bias"] = c.bias in (True, "feed_forward")
    else:
        fields |= {"use_sliding_window": False, "sliding_window": None}
    if kind == "qwen2":
        del fields["head_dim"]
    else:
        fields["attention_bias"] = c.bias in (True, "attention")
    return fields


# RopeScaling's fields and what transformers calls them, by type
_ROPE_FIELDS = {
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor", "original_context": "original_max_position_embeddings",
        "low_freq_factor": "low_freq_factor", "high_freq_factor": "high_freq_factor",
    },
    "yarn": {
        "factor": "factor", "original_context": "original_max_position_embeddings",
        "beta_slow": "beta_slow", "beta_fast": "beta_fast", "attention_factor": "attention_factor",
    },
}  # fmt: skip


def _write_rope(c: DecoderConfig) -> dict[str, Any]:
    """The rotary angles, as transformers 5 reads them and as those before it do."""
    scaling: dict[str, Any] | None = None
    if (s := c.rope_scaling) is not None:
        scaling = {theirs: value for ours, theirs in _ROPE_FIELDS[s.type].items() if (value := getattr(s, ours)) is not None}
        scaling = {"rope_type": s.type, **scaling}
    parameters = {**(scaling or {"rope_type": "default"}), "rope_theta": c.rope_theta}
    return {"rope_parameters": parameters, "rope_theta": c.rope_theta, **({} if scaling is None else {"rope_scaling": scaling})}


def read_config(config: Mapping[str, Any], cls: type[DecoderConfig]) -> tuple[DecoderConfig, Vocabulary]:
    """The settings and the vocabulary of a `config.json`."""
    kind = config["model_type"]
    if config.get("quantization_config"):
        raise ModelError("config.json: quantization_config is not supported; give the model in full precision")
    if kind == "bimo-decoder":
        fields = {name: config[name] for name in cls.model_fields if name in config}
    else:
        fields = _read_gpt2(config) if kind == "gpt2" else _read_llama(config, kind)
    try:
        return validated(cls, fields), read_vocabulary(config)
    except RecipeError as cause:
        raise ModelError(f"config.json: {cause}") from None


def _refuse(config: Mapping[str, Any], kind: str, allowed: Mapping[str, tuple[Any, ...]]) -> None:
    for key, values in allowed.items():
        if key in config and config[key] not in values:
            raise ModelError(f"config.json: {key} = {config[key]!r} of a {kind} model is not supported; it must be {values[0]!r}")


def _read_gpt2(config: Mapping[str, Any]) -> dict[str, Any]:
    _refuse(
        config,
        "gpt2",
        {
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "add_cross_attention": (False,),
            "activation_function": tuple(_ACTIVATIONS),
        },
    )
    dropout = config.get("resid_pdrop", 0.1)
    if config.get("embd_pdrop", dropout) != dropout:
        raise ModelError(f"config.json: embd_pdrop {config['embd_pdrop']} and resid_pdrop {dropout} differ; set both to one value")
    return {
        "layers": config.get("n_layer", 12),
        "heads": config.get("n_head", 12),
        "width": config.get("n_embd", 768),
        "feed_forward": config.get("n_inner") or 4 * config.get("n_embd", 768),
        "context": config.get("n_positions", 1024),
        "norm": "layer",
        "norm_epsilon": config.get("layer_norm_epsilon", 1e-5),
        "positions": "learned",
        "activation": _ACTIVATIONS[config.get("activation_function", "gelu_new")],
        "qk_norm": False,
        "bias": True,
        "tied": config.get("tie_word_embeddings", True),
        "dropout": dropout,
        "attention_dropout": config.get("attn_pdrop", 0.1),
    }


def _read_rope(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Base and scaling of the rotary angles: `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before)."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    scaling = rope.get("rope_type", rope.get("type", "default"))
    if rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
        raise ModelError(f"config.json: partial_rotary_factor of a {kind} model is not supported; it must be 1.0")
    found: dict[str, Any] = {"rope_theta": rope.get("rope_theta", config.get("rope_theta", 10000.0))}
    if scaling == "default":
        return found
    if scaling not in _ROPE_FIELDS:
        raise ModelError(
            f"config.json: rope type {scaling!r} of a {kind} model is not supported; it must be default or one of {', '.join(_ROPE_FIELDS)}"
        )
    names = {theirs: ours for ours, theirs in _ROPE_FIELDS[scaling].items()}
    left = {"rope_type", "type", "rope_theta", "partial_rotary_factor", *names}
    if unknown := sorted(key for key, value in rope.items() if key not in left and value is not None):
        raise ModelError(f"config.json: {unknown[0]} of rope type {scaling} is not supported; leave it out")
    fields = {ours: rope[theirs] for theirs, ours in names.items() if rope.get(theirs) is not None}
    if "original_context" in names.values():
        fields.setdefault("original_context", config.get("original_max_position_embeddings", config.get("max_position_embeddings")))
    return {**found, "rope_scaling": {"type": scaling, **fields}}


def _read_llama(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    layers = config.get("num_hidden_layers", 32)
    _refuse(config, kind, {"hidden_act": ("silu",), "use_sliding_window": (False, None), "pretraining_tp": (1, None)})
    if any(t != "full_attention" for t in config.get("layer_types") or ()):
        raise ModelError(f"config.json: layer_types {sorted(set(config['layer_types']))} are not supported; all must be 'full_attention'")
    attention = kind != "qwen2" and bool(config.get("attention_bias", False))
    feed_forward = kind == "llama" and bool(config.get("mlp_bias", False))
    both = {(True, True): True, (False, False): False, (True, False): "attention", (False, True): "feed_forward"}
    heads, width = config.get("num_attention_heads", 32), config.get("hidden_size", 4096)
    head_width = config.get("head_dim") or (128 if kind == "qwen3" else width // heads)
    return {
        "layers": layers,
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_width": None if head_width * heads == width else head_width,
        "width": width,
        "feed_forward": config.get("intermediate_size", 11008 if kind == "llama" else 22016),
        "context": config.get("max_position_embeddings", 2048 if kind == "llama" else 32768),
        "norm": "rms",
        "norm_epsilon": config.get("rms_norm_eps", 1e-6),
        "positions": "rotary",
        **_read_rope(config, kind),
        "activation": "swiglu",
        "qk_norm": kind == "qwen3",
        "bias": "qkv" if kind == "qwen2" else both[attention, feed_forward],
        "tied": config.get("tie_word_embeddings", False),
        "dropout": config.get("residual_dropout", 0.0),
        "attention_dropout": config.get("attention_dropout", 0.0) or 0.0,
    }


# -- tensors ----------------------------------------------------------------------------------------------------------


def _names(config: DecoderConfig, kind: str) -> dict[str, tuple[str, ...]]:
    """Our names and the names of the tensors that, one below the other, make them up (GPT-2: of the transposed ones)."""
    if kind == "gpt2":
        names = {"embedding": ("transformer.wte",), "places": ("transformer.wpe",), "norm": ("transformer.ln_f",), "output": ("lm_head",)}
        inner = {
            "attention_norm": ("ln_1",),
            "attention.qkv": ("attn.c_attn",),
            "attention.out": ("attn.c_proj",),
            "feed_forward_norm": ("ln_2",),
            "feed_forward.inner": ("mlp.c_fc",),
            "feed_forward.outer": ("mlp.c_proj",),
        }
        prefix = "transformer.h"
    else:
        names = {"embedding": ("model.embed_tokens",), "norm": ("model.norm",), "output": ("lm_head",)}
        inner = {
            "attention_norm": ("input_layernorm",),
            "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "attention.out": ("self_attn.o_proj",),
            "attention.q_norm": ("self_attn.q_norm",),
            "attention.k_norm": ("self_attn.k_norm",),
            "feed_forward_norm": ("post_attention_layernorm",),
            "feed_forward.inner": ("mlp.gate_proj", "mlp.up_proj") if config.activation in GATED else ("mlp.up_proj",),
            "feed_forward.outer": ("mlp.down_proj",),
        }
        prefix = "model.layers"
    for layer in range(config.layers):
        names |= {f"blocks.{layer}.{ours}": tuple(f"{prefix}.{layer}.{t}" for t in theirs) for ours, theirs in inner.items()}
    return names


def linear_names(config: DecoderConfig, vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    """The linear maps of the blocks, by our name: their names in the model type's files (Llama's for a shape that is ours alone)."""
    names = _names(config, model_type(config, vocabulary)).items()
    return {ours: theirs for ours, theirs in names if ours.startswith("blocks.") and "norm" not in ours}


def _transposed(kind: str, name: str) -> bool:
    """Whether GPT-2's Conv1D keeps this weight as [in, out]."""
    return kind == "gpt2" and name.startswith("blocks.") and "norm" not in name and name.endswith(".weight")


def write_tensors(config: DecoderConfig, vocabulary: Vocabulary, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dictionary under the names of the model type."""
    kind = model_type(config, vocabulary)
    if kind == "bimo-decoder":
        return dict(state)
    names, found = _names(config, kind), {}
    e = config.per_head
    for name, tensor in state.items():
        module, _, leaf = name.rpartition(".")
        theirs = names[module]
        sizes = [len(tensor)]
        if len(theirs) == 3:
            sizes = [config.heads * e, config.groups * e, config.groups * e]
        elif len(theirs) == 2:
            sizes = [config.inner, config.inner]
        tensor = tensor.t() if _transposed(kind, name) else tensor
        for target, part in zip(theirs, [tensor] if len(theirs) == 1 else tensor.split(sizes), strict=True):
            found[f"{target}.{leaf}"] = part
    return found


def read_tensors(config: DecoderConfig, kind: str, tensors: Mapping[str, Tensor], shapes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dictionary of tensors named as the model type names them; each must be there and have its shape."""
    if kind == "bimo-decoder":
        return regrouped(tensors, shapes)
    names = _names(config, kind)
    if kind == "gpt2":  # with "transformer." in front or without; some files hold the causal masks too
        masks = (".attn.bias", ".attn.masked_bias")
        tensors = {
            (name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"): tensor
            for name, tensor in tensors.items()
            if not name.endswith(masks)
        }
    copied = "lm_head.weight" if config.tied else ""
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("rotary_emb.inv_freq") and name != copied}
    return regrouped(tensors, shapes, names, lambda name: _transposed(kind, name))
