"""Denoising: a text is spoiled, and the model writes it whole; how an encoder–decoder learns from text that is no pairs.

Source: Raffel et al. 2020 (spans), Lewis et al. 2020 (a span becomes one mask, the target is the whole text); see
`bimo/data/corruption.py`. The mask is the padding id, which a text never holds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe
from bimo.data.batches import Batch
from bimo.data.corpus import Corpus
from bimo.data.corruption import Spoiling, spoiled, text_generator
from bimo.data.rows import DocumentBatches
from bimo.models.base import NeuralLanguageModel
from bimo.training.objectives.base import Loss, Objective, ObjectiveConfig
from bimo.training.objectives.causal import batches_for, causal_likelihood


class DenoisingConfig(ObjectiveConfig):
    """Settings of denoising."""

    name: str = Field("denoising", description="denoising")
    mask: float = Field(0.3, gt=0, lt=1, description="share of the tokens that are missing (Lewis 2020: 0.3; Raffel 2020: 0.15)")
    span: float = Field(3.0, gt=0, le=100, description="mean length of a missing span (Poisson)")
    whole: float = Field(
        0.1, ge=0, le=1, description="share of the texts that are missing wholly, so that the model can write without a source"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of each target that is spread over all ids (Szegedy 2016)")


class DenoisingBatches:
    """Whole documents, each given itself spoiled, of at most `limit` tokens: a pure function of (seed, epoch, index)."""

    def __init__(self, source: DocumentBatches, how: Spoiling, limit: int | None) -> None:
        self.source, self.how, self.limit = source, how, limit
        self.context, self.steps_per_epoch, self.notes = source.context, source.steps_per_epoch, source.notes

    @property
    def tokens_per_epoch(self) -> int:
        """Tokens fed in one epoch, padding and sources left out."""
        return self.source.tokens_per_epoch

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch `index` of `epoch`. Of a text that was cut, the last target may lie behind what a source can hold: it is left out there."""
        batch = self.source.batch(epoch, index)
        lengths = (batch.lengths if self.limit is None else batch.lengths.clamp(max=self.limit)).tolist()
        texts = [row[:length].numpy() for row, length in zip(batch.tokens, lengths, strict=True)]
        return replace(batch, given=spoiled(texts, self.how, text_generator(self.source.seed, epoch, index)))


class Denoising(Objective):
    """Negative log-likelihood of a text, given itself spoiled.

    A family that learns by it has a field `sourceless` in its configuration, which is set: what is wholly missing is what nothing
    is given for.
    """

    Config: ClassVar[type[ObjectiveConfig]] = DenoisingConfig

    @classmethod
    def refusal(cls, recipe: Recipe, corpus: Corpus) -> str | None:
        """Pairs: their texts have sources already."""
        if corpus.splits["train"].given is None:
            return None
        return "objective.name: these documents are pairs, and denoising reads texts that have no source; set objective.name=causal"

    def batches(self, model: NeuralLanguageModel, recipe: Recipe, corpus: Corpus) -> DenoisingBatches:
        """Whole documents of the text, in the order that the causal likelihood reads them."""
        vocabulary, config = model.vocabulary, self.config
        if why := self.refusal(recipe, corpus):
            raise RecipeError(why)
        if vocabulary.pad is None:
            raise RecipeError("objective.name: denoising needs a vocabulary with a padding id, which stands for what is missing")
        source = batches_for(model, recipe, corpus)
        assert isinstance(source, DocumentBatches)
        keep = frozenset(id for id in (vocabulary.bos, vocabulary.eos) if id is not None)
        settings: Any = model.config
        settings.sourceless = True
        return DenoisingBatches(source, Spoiling(vocabulary.pad, config.mask, config.span, config.whole, keep), model.context)

    def loss(self, model: NeuralLanguageModel, batch: Batch, carry: Any, done: float) -> Loss:
        """See `causal_likelihood`."""
        return causal_likelihood(model, batch, None, self.config.label_smoothing)
