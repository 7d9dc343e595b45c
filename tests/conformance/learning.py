"""Runs of a few steps of any family by any objective, on a corpus of a few lines: what the loop does, without the probe before it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bimo.core.recipe import Recipe
from bimo.core.registry import families, family
from bimo.data.corpus import Corpus
from bimo.models.base import Kind, Learning, NeuralLanguageModel
from bimo.models.bundle import Bundle
from bimo.text.vocabulary import Vocabulary
from bimo.training.checkpoint import Checkpoint
from bimo.training.loop import Hooks, Loop
from bimo.training.making import make_objective
from bimo.training.progress import Reporter
from tests.conformance.variants import VARIANTS

SETTINGS: dict[str, list[dict[str, Any]]] = {  # of objectives that take other paths, beside those that they have as they stand
    "adversarial": [
        {"pretraining": 0.25, "discriminator_pretraining": 0.25, "rollouts": 1},
        {"pretraining": 0.25, "discriminator_pretraining": 0.25, "estimator": "gumbel"},
    ],
    "elbo": [{"word_dropout": 0.5, "annealing": "cyclical", "free_bits": 0.5}],
}
STEPS = 4


def ways() -> list[tuple[str, str, dict[str, Any]]]:
    """(family/variant, objective, its settings) of a variant of every family that learns by gradient, and all that it can learn by."""
    found = []
    for name in (name for name in families() if family(name).learning == Learning.GRADIENT):
        for way in family(name).load().objectives:
            found += [(f"{name}/{next(iter(VARIANTS[name]))}", way, settings) for settings in SETTINGS.get(way, [{}])]
    return found


def other_variants() -> list[str]:
    """ "family/variant" of all others; what a loaded model's vocabulary is like matters to no objective."""
    first = {name for name, _, _ in ways()}
    known = sorted({name.partition("/")[0] for name in first})
    return [name for name in (f"{f}/{v}" for f in known for v in VARIANTS[f] if v != "open") if name not in first]


def prepared(folder: Path) -> Corpus:
    """Lines of four to six words, by words: all fit the variants' context."""
    from bimo import api

    words = ["ink", "brush", "paper", "stone", "seal"]
    lines = [" ".join(words[(i * j + k) % 5] for k in range(4 + i % 3)) for i, j in itertools.product(range(12), range(4))]
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    return api.prepare(folder / "text.txt", folder / "corpus", tokenizer="word", documents="line")


def pairs(corpus: Corpus) -> Corpus:
    """The corpus with each text given itself."""
    return replace(corpus, splits={name: replace(split, given=split) for name, split in corpus.splits.items()})


def _vocabulary(corpus: Corpus, variant: str) -> Vocabulary:
    plain = corpus.tokenizer.vocabulary
    if variant != "tags":
        return plain
    return replace(plain, tags=("<special>", "<unknown>", "NOUN", "VERB"), tag_of=tuple(i % 4 for i in range(plain.size)))


def make(name: str, way: str, corpus: Corpus, **objective: Any) -> tuple[Recipe, NeuralLanguageModel, Corpus]:
    """The recipe and the fresh model of "family/variant" that is to learn by `way`, and the corpus that it learns from."""
    first, _, variant = name.partition("/")
    row = family(first)
    kind = row.load()
    training: Any = {
        "budget": f"{STEPS}steps", "steps": STEPS, "batch_size": 4, "accumulation": 2, "context": 7, "threads": 1, "checkpoint_every": 2,
        "learning_rate": 0.02, "average": 0.5, "warmup": 0.0,
    }  # fmt: skip
    fields = {**VARIANTS[first][variant], **({"dropout": 0.1} if way == "contrastive" else {})}
    recipe = Recipe(family=first, model=fields, objective={"name": way, **objective}, training=training)
    torch.manual_seed(0)
    model = kind.build(recipe.model_section(), _vocabulary(corpus, variant))
    return recipe, model, pairs(corpus) if kind.kind is Kind.CONDITIONAL and way == "causal" else corpus


def loop_of(recipe: Recipe, model: NeuralLanguageModel, corpus: Corpus, folder: Path, precision: str) -> Loop:
    """Its run, before step 0."""
    folder.mkdir(exist_ok=True)
    training = recipe.training.model_copy(update={"precision": precision})
    recipe = recipe.model_copy(update={"training": training})
    return Loop(model, make_objective(recipe, model, corpus), training, folder, Hooks(), Reporter("", 1, quiet=True))


Made = Callable[[], tuple[Recipe, NeuralLanguageModel, Corpus]]


def learned(made: Made, folder: Path, precision: str, stops_at: int | None = None) -> Loop:
    """A whole run; or one that was broken off after so many steps, and went on from its checkpoint."""
    loop = loop_of(*made(), folder, precision)
    if stops_at is None:
        loop.run()
        return loop
    step = loop._step

    def until() -> None:
        step()
        if loop.progress.step == stops_at:
            raise ZeroDivisionError

    loop._step = until  # type: ignore[method-assign]
    try:
        loop.run()
    except ZeroDivisionError:
        torch.manual_seed(99)
    again = loop_of(*made(), folder, precision)
    again.restore(Checkpoint.load(folder))
    assert 0 < again.progress.step < stops_at
    again.run(resumed=True)
    return again


@functools.cache
def teacher(corpus_folder: Path, name: str) -> str:
    """The folder of a fresh model of "family/variant" that others can learn from."""
    corpus = Corpus.open(corpus_folder)
    _, model, _ = make(name, family(name.partition("/")[0]).load().objectives[0], corpus)
    folder = corpus_folder.parent / name.replace("/", "-")
    Bundle.of(model.eval(), corpus).save(folder)
    return str(folder)
