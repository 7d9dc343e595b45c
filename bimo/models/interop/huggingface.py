"""Decoders in the Hugging Face layout: settings and tensor names of GPT-2, Llama, Qwen2 and Qwen3, in and out.

A decoder whose shape one of them has is written exactly as theirs; any other as `bimo-decoder`, with our own names. No setting is passed
over: see `settings`.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bimo.core.errors import BimoWarning, ModelError, RecipeError
from bimo.core.validation import validated
from bimo.models.activations import GATED
from bimo.models.interop.settings import ACTIVATIONS, NO_EFFECT, WRITTEN_ACTIVATIONS, Settings
from bimo.models.saved import has_own_head, regrouped
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
    plain = c.head_width is None and c.groups == c.heads and c.window is None
    if (c.norm, c.positions, c.bias, c.qk_norm) == ("layer", "learned", True, False) and plain and c.activation not in GATED:
        return "gpt2"
    scaled = c.scale_attention and not c.scale_by_layer and not c.embedding_dropout
    if (c.norm, c.positions) == ("rms", "rotary") and c.activation in GATED and scaled:
        if c.qk_norm:
            return "qwen3" if c.bias in (False, "attention") else "bimo-decoder"
        if c.bias == "qkv":
            return "qwen2"
        return "llama" if c.width % c.heads == 0 and c.window is None else "bimo-decoder"
    return "bimo-decoder"


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
        "activation_function": WRITTEN_ACTIVATIONS[c.activation],
        "layer_norm_epsilon": c.norm_epsilon,
        "scale_attn_weights": c.scale_attention,
        "scale_attn_by_inverse_layer_idx": c.scale_by_layer,
        "initializer_range": 0.02,
        "embd_pdrop": c.dropout if c.embedding_dropout is None else c.embedding_dropout,
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
        "hidden_act": WRITTEN_ACTIVATIONS[GATED[c.activation]],
        **_write_rope(c),
        "attention_dropout": c.attention_dropout,
        "initializer_range": 0.02,
        "residual_dropout": c.dropout,
    }
    if kind == "llama":
        fields["mlp_bias"] = c.bias in (True, "feed_forward")
    elif c.window is None:
        fields |= {"use_sliding_window": False, "sliding_window": None}
    else:
        windowed = range(c.layers) if c.window_layers is None else c.window_layers
        types = ["sliding_attention" if layer in windowed else "full_attention" for layer in range(c.layers)]
        fields |= {"use_sliding_window": True, "sliding_window": c.window, "layer_types": types, "max_window_layers": c.layers}
    if kind == "qwen2" and c.head_width is None:
        del fields["head_dim"]
    if kind != "qwen2":
        fields["attention_bias"] = c.bias in (True, "attention")
    return fields


# RopeScaling's fields and what transformers calls them, by type
_FACTORS = {"factor": "factor", "original_context": "original_max_position_embeddings"}
_ROPE_FIELDS = {
    "linear": {"factor": "factor"},
    "dynamic": {"factor": "factor"},
    "llama3": {**_FACTORS, "low_freq_factor": "low_freq_factor", "high_freq_factor": "high_freq_factor"},
    "yarn": {
        **_FACTORS, "beta_slow": "beta_slow", "beta_fast": "beta_fast", "attention_factor": "attention_factor", "truncate": "truncate",
    },
    "longrope": {
        **_FACTORS, "attention_factor": "attention_factor", "short_factors": "short_factor", "long_factors": "long_factor",
    },
}  # fmt: skip


def _write_rope(c: DecoderConfig) -> dict[str, Any]:
    """The rotary angles, as transformers 5 reads them and as those before it do."""
    scaling: dict[str, Any] | None = None
    if (s := c.rope_scaling) is not None:
        said = {theirs: getattr(s, ours) for ours, theirs in _ROPE_FIELDS[s.type].items()}
        if s.truncate:
            said.pop("truncate", None)  # as usual
        scaling = {"rope_type": s.type, **{key: value for key, value in said.items() if value is not None}}
    parameters = {**(scaling or {"rope_type": "default"}), "rope_theta": c.rope_theta}
    return {"rope_parameters": parameters, "rope_theta": c.rope_theta, **({} if scaling is None else {"rope_scaling": scaling})}


def read_config(
    config: Mapping[str, Any], cls: type[DecoderConfig], tensors: Mapping[str, Tensor] | None = None
) -> tuple[DecoderConfig, Vocabulary]:
    """The settings and the vocabulary of a `config.json`; tensors: they say whether the output matrix is one of its own."""
    kind = config["model_type"]
    if kind == "bimo-decoder":
        return _validated(cls, {name: config[name] for name in cls.model_fields if name in config}), read_vocabulary(config)
    settings = Settings(config, "config.json")
    if settings.get("quantization_config"):
        raise ModelError("config.json: quantization_config is not supported; give the model in full precision")
    if settings.get("per_layer_config"):
        settings.refuse("per_layer_config", "left out: all layers must be alike")
    vocabulary = read_vocabulary(settings)
    fields = _read_gpt2(settings) if kind == "gpt2" else _read_llama(settings, kind)
    names, held = _ends_of_names(kind), _prefixed(kind, tensors or {})
    embedding, head = (held.get(f"{names[name][0]}.weight") for name in ("embedding", "output"))
    fields["tied"] = fields["tied"] and not has_own_head(embedding, head)
    settings.left(NO_EFFECT)
    return _validated(cls, fields), vocabulary


def _validated(cls: type[DecoderConfig], fields: Mapping[str, Any]) -> DecoderConfig:
    try:
        return validated(cls, fields)  # type: ignore[no-any-return]
    except RecipeError as cause:
        raise ModelError(f"config.json: {cause}") from None


def _read_gpt2(config: Settings) -> dict[str, Any]:
    config.warn_of_cross_attention()
    dropout, width = config.value("resid_pdrop", 0.1), _either(config, "n_embd", "hidden_size", 768)
    embedding_dropout = config.value("embd_pdrop", 0.1)
    return {
        "layers": _either(config, "n_layer", "num_hidden_layers", 12),
        "heads": _either(config, "n_head", "num_attention_heads", 12),
        "width": width,
        "feed_forward": config.get("n_inner") or 4 * width,
        "context": _either(config, "n_positions", "max_position_embeddings", 1024),
        "norm": "layer",
        "norm_epsilon": config.value("layer_norm_epsilon", 1e-5),
        "positions": "learned",
        "activation": _activation(config, "activation_function", "gelu_new"),
        "scale_attention": config.value("scale_attn_weights", True),
        "scale_by_layer": config.value("scale_attn_by_inverse_layer_idx", False),
        "qk_norm": False,
        "bias": True,
        "tied": config.value("tie_word_embeddings", True),
        "dropout": dropout,
        "embedding_dropout": None if embedding_dropout == dropout else embedding_dropout,
        "attention_dropout": config.value("attn_pdrop", 0.1),
    }


def _either(config: Settings, name: str, general: str, default: int) -> Any:
    """A setting of GPT-2's, which transformers takes under its general name as well, and rather so where both are there."""
    found = config.value(name, default)
    return config.value(general, found)


def _activation(config: Settings, key: str, default: str) -> str:
    name = config.value(key, default)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        config.refuse(key, f"one of {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[name]


def _read_rope(config: Settings, context: int) -> tuple[dict[str, Any], int]:
    """Base and scaling of the rotary angles, and the context: `rope_scaling` where it stands, else `rope_parameters`, as transformers 5.

    Within, `rope_theta` counts before the one beside it; `original_max_position_embeddings`, the other way round.
    """
    config.get("rope_parameters")
    key = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    said = config.value(key, {})
    if not isinstance(said, dict):
        config.refuse(key, "a mapping of settings")
    rope = Settings(said, f"config.json: {key}")
    usual = rope.value("type", "default")
    kind = rope.value("rope_type", usual)
    usual = config.value("rope_theta", 10000.0)
    found = {"rope_theta": rope.value("rope_theta", usual)}
    for holder in (rope, config):
        if holder.value("partial_rotary_factor", 1.0) != 1.0:
            holder.refuse("partial_rotary_factor", "1.0 (programs disagree on what it does to this model type)")
    if kind != "default":
        if kind not in _ROPE_FIELDS:
            rope.refuse("rope_type" if "rope_type" in rope else "type", f"default or one of {', '.join(_ROPE_FIELDS)}")
        fields = {ours: rope[theirs] for ours, theirs in _ROPE_FIELDS[kind].items() if rope.get(theirs) is not None}
        if "original_context" in _ROPE_FIELDS[kind]:
            fields["original_context"] = config.value("original_max_position_embeddings", fields.get("original_context", context))
        if kind in ("yarn", "longrope"):
            fields.setdefault("factor", max(1.0, context / fields["original_context"]))
        if kind == "yarn":
            _complete_yarn(fields, rope)
        if kind == "longrope":
            context = _complete_longrope(fields, context)
        found["rope_scaling"] = {"type": kind, **fields}
    rope.left({})
    return found, context


def _complete_yarn(fields: dict[str, Any], rope: Settings) -> None:
    scales = rope.get("mscale"), rope.get("mscale_all_dim")
    if "attention_factor" not in fields and all(scales):
        above, below = (0.1 * float(scale or 0) * math.log(max(1.0, fields["factor"])) + 1.0 for scale in scales)
        fields["attention_factor"] = above / below
    for name in ("beta_fast", "beta_slow"):
        if not fields.get(name, 1):  # 0 means the usual
            del fields[name]


def _complete_longrope(fields: dict[str, Any], context: int) -> int:
    """Say the factor of cosines and sines; returns the longest text that the short factors are for."""
    factor, original = fields["factor"], fields["original_context"]
    usual = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 and original > 1 else 1.0
    fields.setdefault("attention_factor", usual)
    if context > original:
        warnings.warn(
            f"config.json: rope type longrope: texts of up to original_max_position_embeddings = {original} tokens are read, not of "
            f"max_position_embeddings = {context}; longer ones have factors of their own, which Bimo does not use",
            BimoWarning,
            stacklevel=2,
        )
    return min(context, original)


def _read_windows(config: Settings, kind: str, layers: int) -> dict[str, Any]:
    """Which layers see a sliding window: by `layer_types`, or those from `max_window_layers` on."""
    said = config.get("layer_types")
    types = ["full_attention" if one == "attention" else one for one in said] if isinstance(said, list) else said
    allowed = ("full_attention",) if kind == "llama" else ("full_attention", "sliding_attention")
    if types is not None and (not isinstance(types, list) or len(types) != layers or any(one not in allowed for one in types)):
        config.refuse("layer_types", f"{' or '.join(map(repr, allowed))} for each of {layers} layers")
    if kind == "llama":
        return {}
    first, window = config.value("max_window_layers", 28), config.get("sliding_window", 4096)
    if not config.value("use_sliding_window", False) or window is None:
        if "sliding_attention" in (types or ()):
            config.refuse("layer_types", "'full_attention' for each layer, or use_sliding_window true and sliding_window a number")
        return {}
    windowed = [layer for layer in range(layers) if (layer >= first if types is None else types[layer] == "sliding_attention")]
    return {"window": window, "window_layers": None if len(windowed) == layers else windowed} if windowed else {}


def _read_llama(config: Settings, kind: str) -> dict[str, Any]:
    layers = config.value("num_hidden_layers", 32)
    attention = kind != "qwen2" and bool(config.value("attention_bias", False))
    feed_forward = kind == "llama" and bool(config.value("mlp_bias", False))
    both = {(True, True): True, (False, False): False, (True, False): "attention", (False, True): "feed_forward"}
    heads, width = config.value("num_attention_heads", 32), config.value("hidden_size", 4096)
    head_width = config.value("head_dim", 128 if kind == "qwen3" else width // heads)
    rope, context = _read_rope(config, config.value("max_position_embeddings", 2048 if kind == "llama" else 32768))
    return {
        "layers": layers,
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads", heads if kind == "llama" else 32) or heads,
        "head_width": None if head_width * heads == width else head_width,
        "width": width,
        "feed_forward": config.value("intermediate_size", 11008 if kind == "llama" else 22016),
        "context": context,
        "norm": "rms",
        "norm_epsilon": config.value("rms_norm_eps", 1e-6),
        "positions": "rotary",
        **rope,
        **_read_windows(config, kind, layers),
        "activation": _GATES[_activation(config, "hidden_act", "silu")],
        "qk_norm": kind == "qwen3",
        "bias": "qkv" if kind == "qwen2" else both[attention, feed_forward],
        "tied": config.value("tie_word_embeddings", False),
        "dropout": config.value("residual_dropout", 0.0),
        "attention_dropout": config.value("attention_dropout", 0.0),
    }


_GATES = {pointwise: gated for gated, pointwise in GATED.items()}


# -- tensors ----------------------------------------------------------------------------------------------------------


_OTHER_TENSORS = re.compile(  # masks and angles, which every program makes anew; what reads another's states, which nothing here has
    r".*(\.attn\.(masked_)?bias|rotary_emb\.inv_freq|\.crossattention\..*|\.ln_cross_attn\..*)"
)


def _ends_of_names(kind: str) -> dict[str, tuple[str, ...]]:
    """Our names and theirs of what stands before and behind the layers."""
    if kind == "gpt2":
        return {"embedding": ("transformer.wte",), "places": ("transformer.wpe",), "norm": ("transformer.ln_f",), "output": ("lm_head",)}
    return {"embedding": ("model.embed_tokens",), "norm": ("model.norm",), "output": ("lm_head",)}


def _prefixed(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that count, with the prefix before their names that a base model's file leaves out."""
    prefix, inner = "model.", ("embed_tokens.", "layers.", "norm.")
    if kind == "gpt2":
        prefix, inner = "transformer.", ("wte.", "wpe.", "h.", "ln_f.")
    return {
        (prefix + name if name.startswith(inner) else name): tensor
        for name, tensor in tensors.items()
        if not _OTHER_TENSORS.fullmatch(name)
    }


def _names(config: DecoderConfig, kind: str) -> dict[str, tuple[str, ...]]:
    """Our names and the names of the tensors that, one below the other, make them up (GPT-2: of the transposed ones)."""
    names = _ends_of_names(kind)
    if kind == "gpt2":
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
    names, tensors = _names(config, kind), _prefixed(kind, tensors)
    embedding, head = (f"{names[name][0]}.weight" for name in ("embedding", "output"))
    if config.tied:
        given = tensors.pop(head, None)
        if given is not None:
            tensors.setdefault(embedding, given)
    elif head not in tensors:
        raise ModelError(
            f"model.safetensors: tensor {head} is missing and tie_word_embeddings is false: a base model without a head, which predicts no "
            f"token; give the folder of the whole model ({_CLASSES[kind]})"
        )
    return regrouped(tensors, shapes, names, lambda name: _transposed(kind, name))
