"""What every way of learning makes: a fresh model for a corpus, what it is to minimise, and a record of how it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from bimo.core import registry
from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe
from bimo.data.corpus import Corpus
from bimo.models.base import LanguageModel, NeuralLanguageModel
from bimo.models.embedding import reads_tags
from bimo.training.objectives.base import Objective
from bimo.training.starting import make_ready
from bimo.training.tagging import model_vocabulary


@dataclass
class Fitted:
    """A learned model and what learning it took. seconds: on the budget's clock; tokens: read, repetitions included.

    taken: how many times its budget a hybrid took with its parts.
    """

    model: LanguageModel
    recipe: Recipe
    seconds: float
    tokens: int
    steps: int | None = None
    plan: dict[str, Any] | None = None
    capped: bool = False
    stopped_early: bool = False
    best_step: int | None = None
    notices: list[str] = field(default_factory=list)
    taken: float = 1.0

    def record(self) -> dict[str, Any]:
        """What run.json keeps of it."""
        return {
            "seconds": self.seconds, "tokens": self.tokens, "steps": self.steps, "capped": self.capped,
            "stopped_early": self.stopped_early, "best_step": self.best_step, "notices": self.notices, "taken": self.taken,
        }  # fmt: skip

    @classmethod
    def again(cls, model: LanguageModel, recipe: Recipe, told: Mapping[str, Any]) -> Self:
        """What `record` and the plan in run.json say of a model that learned before."""
        names = ("seconds", "tokens", "steps", "plan", "capped", "stopped_early", "best_step", "notices", "taken")
        return cls(model, recipe, **{name: told[name] for name in names if name in told})


def build(recipe: Recipe, corpus: Corpus, tags: Sequence[str] | None = None, bare: bool = False) -> LanguageModel:
    """A fresh model of the recipe's family for the corpus' vocabulary, seeded by the recipe.

    tags: names of those that it reads, where its weights come from a checkpoint, which holds which token has which. bare: without
    memory, which `begin_weights` gives it with the weights that it starts from.
    """
    vocabulary = model_vocabulary(recipe, corpus, tags)
    torch.manual_seed(recipe.training.seed)
    with torch.device("meta") if bare else nullcontext():
        model = recipe.row.load().build(recipe.model_section(), vocabulary)
    if vocabulary.tags and not reads_tags(model):
        raise RecipeError(f"text.tags: {recipe.family} reads no tags; leave text.tags out, or take a family that is learned by gradient")
    return model


def make_objective(recipe: Recipe, model: NeuralLanguageModel, corpus: Corpus) -> Objective:
    """What the recipe says is to be minimised, with the batches that it reads."""
    config = recipe.objective_section()
    return registry.load_objective(config.name)(config, model, recipe, corpus)


def settle_batch(recipe: Recipe, corpus: Corpus) -> None:
    """Rows of a batch, where a run goes on from a trained model and its recipe leaves them open: 4, or fewer of few conversations."""
    training, split = recipe.training, corpus.splits["train"]
    if recipe.start is None or "batch_size" in training.model_fields_set:
        return
    width = 1 + (training.context or getattr(recipe.model_section(), "context", None) or 64)
    training.batch_size = 4 if split.answers is None else max(1, min(4, split.tokens // (8 * width)))


def begin_weights(model: NeuralLanguageModel, recipe: Recipe, corpus: Corpus) -> None:
    """Before step 0: the output bias from the text, or all weights from the model that the run starts from, and adapters beside them."""
    if recipe.start is None:
        model.begin_from(torch.from_numpy(corpus.splits["train"].frequencies(model.vocab_size)).float())
    else:
        make_ready(model, recipe, corpus.tokenizer)
