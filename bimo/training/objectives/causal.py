"""The causal likelihood: each token given all that stands before it in its document, and what the row is given."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe
from bimo.data.batches import Batch, CarriedBatches, WindowBatches
from bimo.data.corpus import Corpus
from bimo.data.packing import PackedBatches
from bimo.data.rows import DocumentBatches
from bimo.models.base import NeuralLanguageModel
from bimo.training.cross_entropy import chunked_cross_entropy
from bimo.training.objectives.base import Batches, Loss, Objective, ObjectiveConfig


class CausalConfig(ObjectiveConfig):
    """Settings of the causal likelihood."""

    name: str = Field("causal", description="causal")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of each target that is spread over all ids (Szegedy 2016)")


class Causal(Objective):
    """Negative log-likelihood of every token."""

    Config: ClassVar[type[ObjectiveConfig]] = CausalConfig

    def batches(self, model: NeuralLanguageModel, recipe: Recipe, corpus: Corpus) -> Batches:
        """Whole documents, shuffled windows or carried rows, as the model reads."""
        return batches_for(model, recipe, corpus, share=model.shares_beginnings)

    def loss(self, model: NeuralLanguageModel, batch: Batch, carry: Any, done: float) -> Loss:
        """See `causal_likelihood`."""
        return causal_likelihood(model, batch, carry, self.config.label_smoothing)


def batches_for(model: NeuralLanguageModel, recipe: Recipe, corpus: Corpus, share: bool = False) -> Batches:
    """Whole documents for a model that reads so, shuffled windows for one with a context, carried rows for one without.

    Conversations are packed whole into the windows of a model with a context; share: see `PackedBatches`.
    """
    training, split = recipe.training, corpus.splits["train"]
    if model.context is not None and (training.context or 0) > model.context:
        raise RecipeError(f"training.context: {training.context} is more than the model's context of {model.context}")
    width = training.context or model.context
    if split.answers is not None and model.context is not None:
        return PackedBatches(split, training.batch_size, width or model.context, training.seed, share)
    if model.whole_documents:
        return DocumentBatches(split, training.batch_size, width, training.seed)
    if model.context is None:
        return CarriedBatches(split, training.batch_size, width or 64, training.seed)
    return WindowBatches(split, training.batch_size, width or model.context, training.seed)


def causal_likelihood(model: NeuralLanguageModel, batch: Batch, carry: Any = None, label_smoothing: float = 0.0) -> Loss:
    """Negative log-likelihood of a batch's targets (tokens int64 [B, T+1]), each given all that stands before it."""
    inputs, targets = batch.tokens[:, :-1], batch.tokens[:, 1:]
    more: dict[str, Any] = {} if batch.given is None else {"given": batch.given}
    more |= {"shared": batch.shared} if batch.shared else {}
    hidden, carry = model.hidden(inputs, carry, batch.boundaries, **more)
    scored = batch.targets_scored
    flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    if batch.count < wanted.numel():
        chosen = scored.reshape(-1).nonzero().squeeze(1)
        flat, wanted = flat.index_select(0, chosen), wanted[chosen]
    weight, bias = model.head()
    return Loss(chunked_cross_entropy(flat, weight, bias, wanted, model.vocabulary.suppressed, label_smoothing), carry)
