"""Encoders in the Hugging Face layout: settings and tensor names of BERT, in and out.

An encoder of BERT's shape is written exactly as `BertForMaskedLM` reads it (`BertModel`, where it has no head for hidden tokens); any
other as `bimo-encoder`, with our own names. No setting is passed over: see `settings`. BERT's other heads
(the pooler, next-sentence prediction) say nothing of a token and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bimo.core.errors import ModelError, RecipeError
from bimo.core.validation import validated
from bimo.models.activations import GATED
from bimo.models.interop.settings import ACTIVATIONS, NO_EFFECT, WRITTEN_ACTIVATIONS, Settings
from bimo.models.saved import has_own_head, regrouped
from bimo.models.vocabulary import read_vocabulary, write_vocabulary
from bimo.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from bimo.models.encoder import EncoderConfig

OURS = "bimo-encoder"
_OTHER_HEADS = re.compile(r"(bert\.)?pooler\.|cls\.seq_relationship\.|.*\.position_ids$|.*\.crossattention\.")

# -- settings ---------------------------------------------------------------------------------------------------------


def model_type(config: EncoderConfig, vocabulary: Vocabulary) -> str:
    """bert where the shape is BERT's, otherwise bimo-encoder: also where tags are read, which BERT does not know."""
    c = config
    if vocabulary.tags:
        return OURS
    shape = (c.norm, c.norm_first, c.embedding_norm, c.positions, c.bias, c.qk_norm)
    return "bert" if shape == ("layer", False, True, "learned", True, False) and c.token_types and c.activation not in GATED else OURS


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
        "is_decoder": c.causal,
        "type_vocab_size": c.token_types,
        "hidden_act": WRITTEN_ACTIVATIONS[c.activation],
        "layer_norm_eps": c.norm_epsilon,
        "initializer_range": 0.02,
        "hidden_dropout_prob": c.dropout,
        "attention_probs_dropout_prob": c.attention_dropout,
    }


def read_config(config: Mapping[str, Any], tensors: Mapping[str, Tensor], cls: type[EncoderConfig]) -> tuple[EncoderConfig, Vocabulary]:
    """The settings and the vocabulary of a `config.json`; the tensors say whether there is a head for hidden tokens, and a tied one."""
    if config["model_type"] == OURS:
        return cls(**{name: config[name] for name in cls.model_fields if name in config}), read_vocabulary(config)
    settings = Settings(config, "config.json")
    vocabulary = read_vocabulary(settings)
    if settings.value("position_embedding_type", "absolute") != "absolute":
        settings.refuse("position_embedding_type", "'absolute'")
    for key in ("quantization_config", "per_layer_config"):
        if settings.get(key):
            settings.refuse(key, "left out")
    settings.warn_of_cross_attention()
    causal = settings.value("is_decoder", False)
    if causal and "BertLMHeadModel" in settings.value("architectures", []):
        settings.refuse("architectures", "BertForMaskedLM or BertModel: BERT as a model that goes on with a text is not opened")
    activation = settings.value("hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        settings.refuse("hidden_act", f"one of {', '.join(sorted(ACTIVATIONS))}")
    embedding = next((tensor for name, tensor in tensors.items() if name.endswith("embeddings.word_embeddings.weight")), None)
    fields: dict[str, Any] = {
        "layers": settings.value("num_hidden_layers", 12),
        "heads": settings.value("num_attention_heads", 12),
        "width": settings.value("hidden_size", 768),
        "feed_forward": settings.value("intermediate_size", 3072),
        "context": settings.value("max_position_embeddings", 512),
        "norm": "layer",
        "norm_first": False,
        "norm_epsilon": settings.value("layer_norm_eps", 1e-12),
        "embedding_norm": True,
        "positions": "learned",
        "token_types": settings.value("type_vocab_size", 2),
        "activation": ACTIVATIONS[activation],
        "bias": True,
        "fills": any(name.startswith("cls.predictions.") for name in tensors),
        "tied": settings.value("tie_word_embeddings", True) and not has_own_head(embedding, tensors.get("cls.predictions.decoder.weight")),
        "causal": causal,
        "dropout": settings.value("hidden_dropout_prob", 0.1),
        "attention_dropout": settings.value("attention_probs_dropout_prob", 0.1),
        "mask_token_id": settings.get("mask_token_id"),
    }
    settings.left(NO_EFFECT)
    try:
        return validated(cls, fields), vocabulary
    except RecipeError as cause:
        raise ModelError(f"config.json: {cause}") from None


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


def _prefix(config: EncoderConfig) -> str:
    """What stands before the names of the layers: nothing in a file of the layers alone."""
    return "bert." if config.fills else ""


def _names(config: EncoderConfig) -> dict[str, tuple[str, ...]]:
    """Our modules and the modules whose tensors, one below the other, make theirs up."""
    prefix = _prefix(config)
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
        bare = name.removeprefix("bert.")
        found[_prefix(config) + bare if bare.startswith(("embeddings.", "encoder.")) else name] = tensor
    bias = found.pop("cls.predictions.bias", None)
    if bias is not None:
        found.setdefault("cls.predictions.decoder.bias", bias)
    head = found.pop("cls.predictions.decoder.weight", None) if config.tied else None
    if head is not None:
        found.setdefault(_prefix(config) + "embeddings.word_embeddings.weight", head)
    return found


def read_tensors(config: EncoderConfig, kind: str, tensors: Mapping[str, Tensor], shapes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dictionary of tensors named as the model type names them; each must be there and have its shape."""
    if kind == OURS:
        return regrouped(tensors, shapes)
    return regrouped(_tidied(config, tensors), shapes, _names(config))
