"""The registered families, small: each with the variants that take other paths through its code."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bimo.core.registry import Family, family
from bimo.core.validation import validated
from bimo.models.base import LanguageModel, Learning, NeuralLanguageModel
from bimo.models.hybrid import Hybrid, HybridConfig
from bimo.models.hybrid.neighbours import Neighbours
from bimo.models.hybrid.weights import Weights
from bimo.text.vocabulary import Vocabulary

SIZE = 11
VOCABULARY = Vocabulary(SIZE, bos=0, eos=1, pad=9, unk=10, suppressed=(0, 9))
OPEN = Vocabulary(SIZE, bos=0, eos=0)  # a loaded model's: one id begins and ends, all logits are kept
TAGGED = replace(VOCABULARY, tags=("<special>", "<unknown>", "NOUN", "VERB"), tag_of=(0, 0, 2, 3, 2, 3, 1, 1, 2, 0, 1))

_SMOOTHINGS = ("kneser-ney", "witten-bell", "add-k", "mle", "stupid-backoff")
_COUNTED = {f"{smoothing}-{order}": {"smoothing": smoothing, "order": order} for smoothing in _SMOOTHINGS for order in (1, 2, 5)}
_DROPOUTS = ("input", "layer", "output", "recurrent", "embedding")
_CELL: dict[str, dict[str, Any]] = {
    "tied": {"layers": 2, "width": 8},
    "projected": {"layers": 1, "width": 8, "embedding": 6},
    "untied": {"layers": 2, "width": 8, "embedding": 6, "tied": False},
    "dropout": {"layers": 2, "width": 8, **{f"{place}_dropout": 0.5 for place in _DROPOUTS}},
    "variational": {"layers": 2, "width": 8, **{f"{place}_dropout": 0.5 for place in _DROPOUTS}, "variational": True},
    "tags": {"layers": 1, "width": 8},
    "positions": {"layers": 2, "width": 8, "embedding": 6, "positions": 4, "embedding_dropout": 0.5},
    "ngrams": {"layers": 1, "width": 8, "embedding": 6, "positions": 4, "ngrams": 3, "ngram_buckets": 50},
}
_BLOCKS = {"layers": 2, "heads": 4, "width": 16, "context": 8}
_GPT2 = {"norm": "layer", "positions": "learned", "activation": "gelu_tanh", "qk_norm": False, "bias": True}
_TWO_STACKS = {"encoder_layers": 2, "decoder_layers": 2, "heads": 4, "width": 16, "context": 8, "sourceless": True}
_BETWEEN = {"body": "transformer", "heads": 4, "width": 16, "context": 8, "latent": 4}
_BERT = {"norm": "layer", "norm_first": False, "embedding_norm": True, "positions": "learned", "token_types": 2,
         "activation": "gelu", "bias": True}  # fmt: skip
_JUDGED = {"width": 8, "discriminator_embedding": 4, "discriminator_width": 3}
_QWEN3 = {"kv_heads": 2, "head_width": 6, "feed_forward": 20}

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "ngram": {**_COUNTED, "kneser-ney-3-cut": {"order": 3, "cutoffs": [0, 0, 1]}},
    "rnn": _CELL,
    "lstm": _CELL,
    "gru": _CELL,
    "decoder": {
        "gpt2": {**_BLOCKS, **_GPT2},
        "llama": {**_BLOCKS, "qk_norm": False, "kv_heads": 1},
        "qwen3": {**_BLOCKS, **_QWEN3},
        "untied": {**_BLOCKS, **_QWEN3, "tied": False, "activation": "relu2"},
        "dropout": {**_BLOCKS, **_GPT2, "dropout": 0.5, "attention_dropout": 0.5},
        "open": {**_BLOCKS, **_QWEN3},
        "tags": {**_BLOCKS, **_QWEN3},
        "ngrams": {**_BLOCKS, **_QWEN3, "ngrams": 3, "ngram_buckets": 50},
    },
    "encoder": {
        "bert": {**_BLOCKS, **_BERT},
        "modern": {**_BLOCKS, "qk_norm": True},
        "untied": {**_BLOCKS, "norm": "layer", "norm_first": False, "activation": "relu2", "tied": False},
        "dropout": {**_BLOCKS, **_BERT, "dropout": 0.5, "attention_dropout": 0.5},
        "open": {**_BLOCKS, **_BERT, "mask_token_id": 3},
        "tags": {**_BLOCKS, **_BERT},
    },
    "seq2seq": {
        "pre-norm": _TWO_STACKS,
        "post-norm": {**_TWO_STACKS, "norm_first": False, "encoder_layers": 1},
        "untied": {
            **_TWO_STACKS,
            "positions": "learned",
            "shared": False,
            "tied": False,
            "norm": "rms",
            "activation": "swiglu",
            "bias": False,
        },
        "dropout": {**_TWO_STACKS, "norm_first": False, "final_norm": True, "dropout": 0.5, "attention_dropout": 0.5},
        "tags": {**_TWO_STACKS, "shared": False},
        "relative": {
            **_TWO_STACKS,
            "positions": "relative",
            "distances": 8,
            "farthest": 6,
            "activation": "geglu",
            "norm": "rms",
            "bias": False,
        },
    },
    "vae": {
        "lstm": {"width": 8, "latent": 4, "layers": 2, "encoder_layers": 2},
        "gru": {"width": 8, "latent": 4, "cell": "gru", "embedding": 6, "pooling": "last"},
        "rnn": {"width": 8, "latent": 4, "cell": "rnn", "embedding": 6, "tied": False, "pooling": "mean"},
        "transformer": {**_BETWEEN, "layers": 2},
        "dropout": {"width": 8, "latent": 4, "dropout": 0.5},
        "transformer-dropout": {**_BETWEEN, "tied": False, "dropout": 0.5},
        "samples": {"width": 8, "latent": 4, "score_samples": 5},
        "transformer-samples": {**_BETWEEN, "score_samples": 3, "pooling": "mean"},
        "tags": {"width": 8, "latent": 4, "embedding": 6},
    },
    "gan": {
        "cnn": {**_JUDGED, "layers": 2, "kernels": [1, 3]},
        "recurrent": {**_JUDGED, "cell": "gru", "embedding": 6, "discriminator": "recurrent"},
        "dropout": {**_JUDGED, "tied": False, **{f"{place}_dropout": 0.5 for place in _DROPOUTS}, "discriminator_dropout": 0.5},
        "tags": {**_JUDGED, "positions": 4},
        "ngrams": {**_JUDGED, "ngrams": 2, "ngram_buckets": 7},
    },
    "hybrid": {  # parts by variant; what is learned on text is set by hand
        "ngram+lstm": {"parts": ["ngram/kneser-ney-5", "lstm/tied"], "weights": [0.3, 0.7]},
        "ngram+ngram": {"parts": ["ngram/witten-bell-2", "ngram/mle-2"], "weights": [1.0, 3.0]},
        "ngram+decoder": {"parts": ["ngram/kneser-ney-2", "decoder/qwen3"], "weights": [0.3, 0.7]},
        "gate": {"parts": ["ngram/kneser-ney-2", "gru/tied", "cache"], "weights": "gate"},
        "product": {"parts": ["ngram/witten-bell-2", "lstm/tied"], "weights": [0.5, 0.9], "mixture": "product"},
        "product-mle": {"parts": ["ngram/mle-2", "decoder/gpt2", "cache"], "weights": [0.5, 0.5, 0.2], "mixture": "product"},
        "lstm+cache": {"parts": ["lstm/tied", "cache"], "weights": [0.6, 0.4]},
        "decoder+cache": {"parts": ["decoder/qwen3", "cache"], "weights": [0.6, 0.4]},
        "decoder+knn": {"parts": ["decoder/qwen3", "knn"], "weights": [0.6, 0.4]},
        "decoder+decoder": {"parts": ["decoder/qwen3", "decoder/llama"], "weights": [0.5, 0.5]},
        "seq2seq+ngram": {"parts": ["seq2seq/pre-norm", "ngram/kneser-ney-2"], "weights": [0.5, 0.5]},
        "hybrid+gru+cache": {"parts": ["hybrid/ngram+decoder", "gru/tied", "cache"], "weights": [0.4, 0.4, 0.2]},
        "documents": {"parts": ["ngram/kneser-ney-2", "lstm/tied"], "weights": [0.3, 0.7], "mixture": "documents"},
        "documents-decoder": {"parts": ["ngram/mle-2", "decoder/qwen3"], "weights": [0.3, 0.7], "mixture": "documents"},
        "documents-vae": {"parts": ["vae/lstm", "lstm/tied", "ngram/kneser-ney-2"], "weights": [0.4, 0.3, 0.3], "mixture": "documents"},
        "tags": {"parts": ["lstm/tags", "gru/tags"], "weights": [0.5, 0.5]},
    },
}
_MEMORIES: dict[str, dict[str, Any]] = {
    "cache": {"size": 4, "flatness": 0.3},
    "knn": {"k": 3, "temperature": 5.0, "search": "exact"},
}


def names() -> list[str]:
    """family-variant of every variant."""
    return [f"{name}/{variant}" for name in VARIANTS for variant in VARIANTS[name]]


@functools.cache
def make(name: str) -> LanguageModel:
    """The model called "family/variant", fitted as its way of learning is."""
    first, _, variant = name.partition("/")
    row: Family = family(first)
    if row.learning == Learning.COMPOSITE:
        return mixed(**VARIANTS[first][variant])
    kind = row.load()
    config = validated(kind.Config, {**VARIANTS[first][variant], **row.preset}, "model")
    vocabulary = {"open": OPEN, "tags": TAGGED}.get(variant, VOCABULARY)
    torch.manual_seed(0)
    model = kind.build(config, vocabulary)
    if row.learning == Learning.COUNTED:
        model.count(documents())
        model.estimate()
    elif isinstance(model, NeuralLanguageModel):
        sharpen(model)
    return model


def mixed(parts: list[str], weights: Any, **config: Any) -> LanguageModel:
    """A hybrid of these variants and memories, with a gate, or entries to find, drawn at random where there are any."""
    told = [
        {"memory": part, "model": _MEMORIES[part]} if part in _MEMORIES else {"folder": part, "called": part.replace("/", "-")}
        for part in parts
    ]
    models = [None if part in _MEMORIES else make(part) for part in parts]
    model = Hybrid.of(HybridConfig(parts=told, weights=weights, **config), models)  # type: ignore[arg-type]
    random = torch.Generator().manual_seed(0)
    if weights == "gate":
        of = parts.index("gru/tied")
        shape = (len(parts), model.hidden_width(of))
        gate = (torch.randn(shape, generator=random), torch.randn(len(parts), generator=random))
        model = type(model)(model.mixture, model.voices, Weights(model.weights.values, gate, of))
    for voice in model.voices:
        if isinstance(voice.memory, Neighbours):
            keys = torch.randn(50, voice.memory.width, generator=random)
            voice.memory.keep(keys, torch.randint(1, 9, (50,), generator=random))
    return model


def documents() -> list[np.ndarray]:
    """Forty short documents, <s> … </s>, whose words follow one another unevenly."""
    random = np.random.default_rng(0)
    made = []
    for length in random.integers(1, 12, size=40):
        words = [int(random.integers(2, 9))]
        while len(words) < length:
            words.append(2 + (3 * words[-1] + int(random.integers(0, 3))) % 7)
        made.append(np.array([0, *words, 1], dtype=np.int64))
    return made


def sharpen(model: NeuralLanguageModel) -> None:
    """Larger weights than a model begins with, so that what stands in a text matters to what follows."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * (0.5 if parameter.dim() > 1 else 0.2))
