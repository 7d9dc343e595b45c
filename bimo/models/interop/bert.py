"""Encoders in the Hugging Face layout: settings and tensor names of BERT, in and out.

An encoder of BERT's shape is written exactly as `BertForMaskedLM` reads it (`BertModel`, where it has no head for hidden tokens); any
other as `bimo-encoder`, with our own names. What would change the result and is not supported is refused by name. BERT's other heads
(the pooler, next-sentence prediction) say nothing of a token and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bimo.core.errors import ModelError
from bimo.models.saved import regrouped
from bimo.models.vocabulary import read_vocabulary, write_vocabulary
from bimo.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from bimo.models.encoder import EncoderConfig

OURS = "bimo-encoder"
_WRITTEN = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}
_ACTIVATIONS = {"gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
_OTHER_HEADS = re.compile(r"(bert\.)?pooler\.|cls\.seq_relationship\.|.*\.position_ids$")

# -- settings ---------------------------------------------------------------------------------------------------------


def model_type(config: EncoderConfig, vocabulary: Vocabulary) -> str:
    """bert where the shape is BERT's, otherwise bimo-encoder: also where tags are read, which BERT does not know."""
    c = config
    if vocabulary.tags:
        return OURS
    shape = (c.norm, c.norm_first, c.embedding_norm, c.positions, c.bias, c.qk_norm)
    return "bert" if shape == ("layer", False, True, "learned", True, False) and c.token_types and c.activation in _WRITTEN else OURS


def write_config(config: EncoderConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    """The `config.json` of an encoder."""
    c = config
    if model_type(c, vocabulary) == OURS:
        return {"model_type": OURS, **write_vocabulary(vocabulary), **c.model_dump()}
    return {
        "architectures": ["BertForMaskedLM" if c.fills else "BertModel"],
        "dtype": "float32",
        "model_type": "bert",
        **write_vocabulary(vocabulary),
        "mask_token_id": c.mask_token_id,
        "tie_word_embeddings": c.tied,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "hidden_size": c.width,
        "intermediate_size": c.inner,
        "max_position_embeddings": c.context,
        "position_embedding_type": "absolute",
        "type_vocab_size": c.token_types,
        "hidden_act": _WRITTEN[c.activation],
        "layer_norm_eps": c.norm_epsilon,
        "initializer_range": 0.02,
        "hidden_dropout_prob": c.dropout,
        "attention_probs_dropout_prob": c.attention_dropout,
    }


_ALLOWED: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
    "quantization_config": (None,),
    "hidden_act": tuple(_ACTIVATIONS),
}


def read_config(config: Mapping[str, Any], tensors: Mapping[str, Tensor], cls: type[EncoderConfig]) -> tuple[EncoderConfig, Vocabulary]:
    """The settings and the vocabulary of a `config.json`; whether there is a head for hidden tokens, the tensors tell."""
    vocabulary = read_vocabulary(config)
    if config["model_type"] == OURS:
        return cls(**{name: config[name] for name in cls.model_fields if name in config}), vocabulary
    for key, values in _ALLOWED.items():
        if config.get(key, values[0]) not in values:
            raise ModelError(f"config.json: {key} = {config[key]!r} of a bert model is not supported; it must be {values[0]!r}")
    fields: dict[str, Any] = {
        "layers": config.get("num_hidden_layers", 12),
        "heads": config.get("num_attention_heads", 12),
        "width": config.get("hidden_size", 768),
        "feed_forward": config.get("intermediate_size", 3072),
        "context": config.get("max_position_embeddings", 512),
        "norm": "layer",
        "norm_first": False,
        "norm_epsilon": config.get("layer_norm_eps", 1e-12),
        "embedding_norm": True,
        "positions": "learned",
        "token_types": config.get("type_vocab_size", 2),
        "activation": _ACTIVATIONS[config.get("hidden_act", "gelu")],
        "bias": True,
        "fills": any(name.startswith("cls.predictions.") for name in tensors),
        "tied": config.get("tie_word_embeddings", True),
        "dropout": config.get("hidden_dropout_prob", 0.1),
        "attention_dropout": config.get("attention_probs_dropout_prob", 0.1),
        "mask_token_id": config.get("mask_token_id"),
    }
    return cls(**fields), vocabulary


# -- tensors ----------------------------------------------------------------------------------------------------------

_INNER = {
    "attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.out": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "feed_forward.inner": ("intermediate.dense",),
    "feed_forward.outer": ("output.dense",),
    "feed_forward_norm": ("output.LayerNorm",),
}
_OUTER = {
    "embedding": ("embeddings.word_embeddings",),
    "places": ("embeddings.position_embeddings",),
    "types": ("embeddings.token_type_embeddings",),
    "embedding_norm": ("embeddings.LayerNorm",),
}
_HEAD = {
    "filler.dense": ("cls.predictions.transform.dense",),
    "filler.norm": ("cls.predictions.transform.LayerNorm",),
    "filler.output": ("cls.predictions.decoder",),
    "filler": ("cls.predictions.decoder",),  # its bias
}


def _names(config: EncoderConfig) -> dict[str, tuple[str, ...]]:
    """Our modules and the modules whose tensors, one below the other, make theirs up."""
    prefix = "bert." if config.fills else ""
    names = {ours: tuple(prefix + t for t in theirs) for ours, theirs in _OUTER.items()}
    for layer in range(config.layers):
        names |= {f"blocks.{layer}.{ours}": tuple(f"{prefix}encoder.layer.{layer}.{t}" for t in theirs) for ours, theirs in _INNER.items()}
    return names | _HEAD


def linear_names(config: EncoderConfig, vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    """The linear maps of the blocks and of the head, by our name: BERT's names of them; none where the shape is ours alone."""
    maps = {name: theirs for name, theirs in _names(config).items() if name.startswith("blocks.") and not name.endswith("norm")}
    maps |= {"filler.dense": _HEAD["filler.dense"]} if config.fills else {}
    return maps if model_type(config, vocabulary) != OURS else {}


def write_tensors(config: EncoderConfig, vocabulary: Vocabulary, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dictionary under the names of the model type."""
    if model_type(config, vocabulary) == OURS:
        return dict(state)
    names, found = _names(config), dict[str, Tensor]()
    for name, tensor in state.items():
        module, _, leaf = name.rpartition(".")
        for target, part in zip(names[module], tensor.chunk(len(names[module])), strict=True):
            found[f"{target}.{leaf}"] = part
    if config.fills:  # transformers has the bias twice, one and the same where matrices are tied
        found["cls.predictions.bias"] = found["cls.predictions.decoder.bias"].clone()
    return found


def _tidied(config: EncoderConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their tensors under their newest names, those of other heads left out."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if _OTHER_HEADS.match(name):
            continue
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))
        found[name if config.fills else name.removeprefix("bert.")] = tensor
    bias = found.pop("cls.predictions.bias", None)
    if bias is not None:
        found.setdefault("cls.predictions.decoder.bias", bias)
    if config.tied:
        found.pop("cls.predictions.decoder.weight", None)
    return found


def read_tensors(config: EncoderConfig, kind: str, tensors: Mapping[str, Tensor], shapes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dictionary of tensors named as the model type names them; each must be there and have its shape."""
    if kind == OURS:
        return regrouped(tensors, shapes)
    return regrouped(_tidied(config, tensors), shapes, _names(config))
