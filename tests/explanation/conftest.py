"""Models over real tokenizers, small enough for milliseconds."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import torch

from bimo.core.registry import family
from bimo.core.validation import validated
from bimo.models.base import LanguageModel, NeuralLanguageModel
from bimo.models.bundle import Bundle
from bimo.models.hybrid import Hybrid, HybridConfig
from bimo.models.ngram import NGram, NGramConfig
from bimo.text.tokenizer import Tokenizer
from tests.conformance.variants import sharpen

POEM = "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。"
TEXTS = [POEM, "月光 and ink, 月光 and paper.", "the black ink flows over the paper and the red ink flows"]
_VOCABULARY = {"byte": None, "char": None, "bpe": 300, "word": None}


@functools.cache
def tokenizer(kind: str) -> Tokenizer:
    """A tokenizer that learned TEXTS."""
    return Tokenizer.train(kind, TEXTS, _VOCABULARY[kind])


def ngram(kind: str = "char", documents: str = "file", **choices: Any) -> Bundle:
    """An n-gram model of TEXTS."""
    t = tokenizer(kind)
    model = NGram.build(NGramConfig(**{"order": 3, **choices}), t.vocabulary)
    model.count([t.encode_document(text, stream=documents == "stream") for text in TEXTS])
    model.estimate()
    return Bundle(model, t, documents)


def neural(name: str, kind: str = "char", **choices: Any) -> Bundle:
    """A gradient family that has learned nothing, with weights that matter."""
    row, t = family(name), tokenizer(kind)
    torch.manual_seed(0)
    made = row.load().build(validated(row.load().Config, {**choices, **row.preset}, "model"), t.vocabulary)
    assert isinstance(made, NeuralLanguageModel)
    sharpen(made)
    return Bundle(made.eval(), t)


def mixed(*models: LanguageModel | str, **config: Any) -> LanguageModel:
    """A hybrid of these models, and of memories by name."""
    own = {"cache": {"size": 50, "flatness": 0.2}, "knn": {"k": 3, "temperature": 5.0, "search": "exact"}}
    parts = [{"memory": m, "model": own[m]} if isinstance(m, str) else {"folder": f"m{i}", "called": f"m{i}"} for i, m in enumerate(models)]
    weights = config.pop("weights", [1.0] * len(models))
    return Hybrid.of(HybridConfig(parts=parts, weights=weights, **config), [None if isinstance(m, str) else m for m in models])  # type: ignore[arg-type]


def of(bundle: Bundle, model: LanguageModel) -> Bundle:
    """The bundle with another model."""
    return replace(bundle, model=model)
