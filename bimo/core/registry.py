"""The families Bimo knows: a literal table, resolved only when a family is used.

To add a family, write its file under `bimo/models/` and add one row here.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bimo.core.errors import ModelError, RecipeError, did_you_mean


class Kind(StrEnum):
    """What a score means; the surer first. Nothing is ranked across kinds."""

    EXACT = "exact"
    CONDITIONAL = "conditional"
    BOUND = "bound"
    PSEUDO = "pseudo"
    UNNORMALISED = "unnormalised"


@dataclass(frozen=True)
class Family:
    """One row of the table: where a family lives and what `config.json` calls it."""

    name: str
    target: str  # "module:Class" of the LanguageModel
    learning: str  # counted | gradient | composite
    label: str  # as people call it; {fields} are the model section's
    summary: str
    preset: dict[str, Any] = field(default_factory=dict)  # fixed fields of the model section
    model_types: tuple[str, ...] = ()  # values of config.json's model_type that open as this family

    def load(self) -> Any:
        """Import the family's class (this is where torch is first imported)."""
        return _load(self.target)


_FAMILIES: tuple[Family, ...] = (
    Family("ngram", "bimo.models.ngram:NGram", "counted", "{order}-gram",
           "counts of word sequences, smoothed (interpolated modified Kneser-Ney by default)",
           model_types=("bimo-ngram",)),
    Family("rnn", "bimo.models.recurrent:Recurrent", "gradient", "RNN", "Elman's recurrent network",
           preset={"cell": "rnn"}, model_types=("bimo-rnn",)),
    Family("lstm", "bimo.models.recurrent:Recurrent", "gradient", "LSTM", "long short-term memory",
           preset={"cell": "lstm"}, model_types=("bimo-lstm",)),
    Family("gru", "bimo.models.recurrent:Recurrent", "gradient", "GRU", "gated recurrent unit",
           preset={"cell": "gru"}, model_types=("bimo-gru",)),
    Family("decoder", "bimo.models.decoder:Decoder", "gradient", "Transformer",
           "Transformer decoder, from GPT-2 to Llama, Qwen2 and Qwen3",
           model_types=("bimo-decoder", "gpt2", "llama", "qwen2", "qwen3")),
    Family("encoder", "bimo.models.encoder:Encoder", "gradient", "Encoder", "Transformer encoder, from BERT on: it fills gaps",
           model_types=("bimo-encoder", "bert")),
    Family("seq2seq", "bimo.models.seq2seq:Seq2Seq", "gradient", "Encoder–decoder",
           "Transformer encoder–decoder: a text is written from a source",
           model_types=("bimo-seq2seq",)),
    Family("vae", "bimo.models.vae:VAE", "gradient", "VAE", "variational autoencoder: a text is a point between others, from which it is written",
           model_types=("bimo-vae",)),
    Family("gan", "bimo.models.gan:GAN", "gradient", "GAN", "a recurrent generator of texts against a discriminator that judges them",
           model_types=("bimo-gan",)),
)  # fmt: skip


HYBRID = "hybrid"  # what a+b means; it has no parts of its own, so that it is none of `families()`
_HYBRID = (
    Family(HYBRID, "bimo.models.hybrid:Hybrid", "composite", "{title}",
           "several models that tell the next token together: ngram+lstm, lstm+cache, decoder+knn, …",
           model_types=("bimo-hybrid",)),
)  # fmt: skip

_MEMORIES = {  # parts of a hybrid that are no models by themselves: what people call them, "module:Class" of the Memory
    "cache": ("cache", "bimo.models.hybrid.cache:NeuralCache"),
    "knn": ("kNN", "bimo.models.hybrid.neighbours:Neighbours"),
}


DEFAULT = "decoder"  # what is trained where a shape or a rate is said, but no family; where nothing is, the dial picks
FIRST = ("ngram", "lstm", "decoder")  # one of each age: what the quickstart compares


_OBJECTIVES = {  # what a run can minimise: "module:Class" of the Objective
    "adversarial": "bimo.training.objectives.adversarial:Adversarial",
    "causal": "bimo.training.objectives.causal:Causal",
    "contrastive": "bimo.training.objectives.contrastive:Contrastive",
    "denoising": "bimo.training.objectives.denoising:Denoising",
    "distillation": "bimo.training.objectives.distillation:Distillation",
    "elbo": "bimo.training.objectives.elbo:Elbo",
    "masked": "bimo.training.objectives.masked:Masked",
}


def objectives() -> tuple[str, ...]:
    """Names of all objectives.

    >>> "causal" in objectives()
    True
    """
    return tuple(_OBJECTIVES)


def load_objective(name: str) -> Any:
    """Import the class of the objective called `name`; an unknown name's error lists the known ones."""
    if name not in _OBJECTIVES:
        raise RecipeError(f"objective.name: unknown name {name!r}; {did_you_mean(name, objectives())}")
    return _load(_OBJECTIVES[name])


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def memories() -> tuple[str, ...]:
    """Names of all memories that a hybrid may have.

    >>> memories()
    ('cache', 'knn')
    """
    return tuple(_MEMORIES)


def load_memory(name: str) -> Any:
    """Import the class of the memory called `name`; an unknown name's error lists the known ones."""
    if name not in _MEMORIES:
        raise RecipeError(f"model.parts: unknown memory {name!r}; {did_you_mean(name, memories())}")
    return _load(_MEMORIES[name][1])


def memory_label(name: str) -> str:
    """What people call a memory."""
    return _MEMORIES[name][0]


def memory_of(kind: type) -> str:
    """The name of a memory's class."""
    return next(name for name, (_, target) in _MEMORIES.items() if target == f"{kind.__module__}:{kind.__name__}")


def families() -> tuple[str, ...]:
    """Names of all families that stand alone; any of them may be a part of a hybrid.

    >>> "lstm" in families()
    True
    """
    return tuple(f.name for f in _FAMILIES)


def family(name: str) -> Family:
    """The row of the family called `name`; an unknown name's error lists the known ones."""
    for row in (*_FAMILIES, *_HYBRID):
        if row.name == name:
            return row
    raise RecipeError(f"family: unknown name {name!r}; {did_you_mean(name, families())}")


def family_of_model_type(model_type: str) -> Family:
    """The family that opens a model folder whose config.json says `model_type`."""
    for row in (*_FAMILIES, *_HYBRID):
        if model_type in row.model_types:
            return row
    known = [t for row in (*_FAMILIES, *_HYBRID) for t in row.model_types]
    raise ModelError(f"config.json: unknown model_type {model_type!r}; {did_you_mean(model_type, known)}")
