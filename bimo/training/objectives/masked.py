"""Masked tokens: each hidden token given all the others of its document (Devlin et al. 2019)."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from pydantic import Field

from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe
from bimo.data.corpus import Corpus
from bimo.data.masking import MaskedBatch, MaskedBatches
from bimo.models.base import NeuralLanguageModel
from bimo.models.masked import MaskedModel
from bimo.text.special_ids import special_ids
from bimo.text.word_starts import WordStarts
from bimo.training.cross_entropy import chunked_cross_entropy
from bimo.training.objectives.base import Batches, Loss, Objective, ObjectiveConfig
from bimo.training.objectives.causal import batches_for

# Special tokens that stand for no text. </s> and <unk> are scored as words are, so they are learned as words are.
_UNTOUCHED = ("bos", "pad", "cls", "sep", "mask")


class MaskedConfig(ObjectiveConfig):
    """Settings of masked-token learning."""

    name: str = Field("masked", description="masked")
    share: float = Field(0.15, gt=0, le=1, description="share of the tokens that are to be told")
    masked: float = Field(0.8, ge=0, le=1, description="share of them that the mask symbol hides")
    random: float = Field(0.1, ge=0, le=1, description="share of them that another token stands for; the rest are left as they are")
    whole_words: bool = Field(False, description="hide all tokens of a word together; Chinese words are found by segmentation")


class Masked(Objective):
    """Negative log-likelihood of the hidden tokens."""

    Config: ClassVar[type[ObjectiveConfig]] = MaskedConfig

    def batches(self, model: NeuralLanguageModel, recipe: Recipe, corpus: Corpus) -> Batches:
        """The batches that the model would read, with tokens hidden."""
        if "fill" not in model.capabilities:
            raise RecipeError(f"objective.name: masked needs a model that fills gaps; this {recipe.family} does not")
        mask_id = getattr(model, "mask_id", None)
        if mask_id is None:
            raise RecipeError("model.mask_token_id: not said, and the vocabulary has no padding that could hide a token; name an id for it")
        c, special = self.config, special_ids(corpus.tokenizer)
        if c.masked + c.random > 1:
            raise RecipeError(f"objective.masked: {c.masked} and objective.random: {c.random} are more than 1 together; lower one")
        never = {*special.values(), *model.vocabulary.suppressed}
        starts = WordStarts(corpus.tokenizer) if c.whole_words else None
        inner, untouched = batches_for(model, recipe, corpus), {special[name] for name in _UNTOUCHED if name in special}
        return MaskedBatches(inner, corpus.tokenizer.vocabulary.size, mask_id, untouched, never, c.share, c.masked, c.random, starts)

    def loss(self, model: NeuralLanguageModel, batch: MaskedBatch, carry: Any, done: float) -> Loss:
        """See `masked_likelihood`."""
        return masked_likelihood(cast(MaskedModel, model), batch)


def masked_likelihood(model: MaskedModel, batch: MaskedBatch) -> Loss:
    """Negative log-likelihood of what stood at the places that are to be told, each given all that is seen of its document."""
    chosen, _ = model.hidden(batch.tokens, None, batch.boundaries, places=batch.places)
    weight, bias = model.head()
    return Loss(chunked_cross_entropy(chosen, weight, bias, batch.targets, model.vocabulary.suppressed))
