"""Contrast: a text's vector lies near that of its positive and far from all others (InfoNCE; SimCSE: Gao et al. 2021).

Without positives, a text is its own: it is read twice, and dropout makes the difference.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe
from bimo.data.batches import Given
from bimo.data.corpus import Corpus
from bimo.data.sentences import SentenceBatch, SentenceBatches, encode_related, read_related
from bimo.models.base import NeuralLanguageModel
from bimo.models.layers import Pooling, pool
from bimo.training.objectives.base import Loss, Objective, ObjectiveConfig


class ContrastiveConfig(ObjectiveConfig):
    """Settings of contrastive learning."""

    name: str = Field("contrastive", description="contrastive")
    temperature: float = Field(0.05, gt=0, description="cosines are divided by it (Gao 2021: 0.05)")
    pooling: Pooling = Field("mean", description="what a text's vector is of its features: their mean, the first or the last")
    records: str | None = Field(
        None, description="a file of records with anchor, positive and negative (a hard one); the text itself, read twice, if not said"
    )


class Contrastive(Objective):
    """Negative log-probability of each text's own positive among all positives and negatives of the batch."""

    Config: ClassVar[type[ObjectiveConfig]] = ContrastiveConfig

    def batches(self, model: NeuralLanguageModel, recipe: Recipe, corpus: Corpus) -> SentenceBatches:
        """Records where the recipe names them, pairs where the text is pairs, otherwise the documents themselves."""
        if "features" not in model.capabilities:
            raise RecipeError(f"objective.name: contrastive needs a model with features; {recipe.family} has none")
        training, split = recipe.training, corpus.splits["train"]
        if training.batch_size < 2:
            raise RecipeError(f"training.batch_size: {training.batch_size}, but contrast needs 2 texts or more")
        context = min(training.context or model.context, model.context) if model.context is not None else training.context
        anchors, positives, negatives = split, None, None
        if self.config.records is not None:
            anchors, positives, negatives = encode_related(read_related(self.config.records), corpus.tokenizer)
        elif split.given is not None:
            anchors, positives = split.given, split
        return SentenceBatches(anchors, training.batch_size, context, training.seed, positives, negatives)

    def loss(self, model: NeuralLanguageModel, batch: SentenceBatch, carry: Any, done: float) -> Loss:
        """See `info_nce`; `accuracy` is told: how many texts are nearest to their own positive."""
        own = Given(batch.tokens, batch.lengths)
        read = self._vectors(model, own)
        positive = self._vectors(model, batch.positives or own)
        if batch.positives is None and model.training and torch.equal(read, positive):
            raise RecipeError(
                "model.dropout: a text that is read twice gives the same vector twice; set a dropout (0.1, say), or give pairs"
            )
        others = [positive] if batch.negatives is None else [positive, self._vectors(model, batch.negatives)]
        texts = [batch.positives or own] if batch.negatives is None else [batch.positives or own, batch.negatives]
        nats, right = info_nce(read, torch.cat(others), false_negatives(own, texts), self.config.temperature)
        return Loss(nats, None, {"accuracy": float(right)})

    def _vectors(self, model: Any, texts: Given) -> Tensor:
        """Vectors [B, D] of texts."""
        return pool(model.features(texts.tokens, texts.lengths), texts.lengths, self.config.pooling)


def info_nce(read: Tensor, others: Tensor, left_out: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Summed nats of −log exp(cos(rᵢ, oᵢ)/τ) / Σⱼ exp(cos(rᵢ, oⱼ)/τ), and how many rows have their own as the nearest.

    read: [B, D]; others: [N, D], N ≥ B, of which others[i] belongs to read[i]; left_out: bool [B, N], True where others[j] is no
    negative of read[i]. Source: van den Oord et al. 2018; Gao et al. 2021, equations 1 and 5.

    >>> x = torch.eye(2)
    >>> nats, right = info_nce(x, x, torch.zeros(2, 2, dtype=torch.bool), 1.0)
    >>> round(float(nats), 4), int(right)  # 2 ln(1 + 1/e)
    (0.6265, 2)
    """
    cosines = F.normalize(read.float(), dim=-1) @ F.normalize(others.float(), dim=-1).t()  # [B, N]
    logits = (cosines / temperature).masked_fill(left_out, float("-inf"))
    own = torch.arange(len(read), device=read.device)
    return F.cross_entropy(logits, own, reduction="sum"), (logits.argmax(1) == own).sum()


def false_negatives(own: Given, others: list[Given]) -> Tensor:
    """bool [B, N], True where another text of the batch is, word for word, row i's own text or its positive (the first of `others`).

    >>> texts = Given(torch.tensor([[5, 6], [7, 0], [5, 6]]), torch.tensor([2, 1, 2]))
    >>> false_negatives(texts, [texts]).int().tolist()
    [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    """
    rows = [row[:n] + 1 for g in (own, *others) for row, n in zip(g.tokens, g.lengths.tolist(), strict=True)]
    _, number = torch.unique(pad_sequence(rows, batch_first=True), dim=0, return_inverse=True)  # equal texts have equal numbers
    size = len(own)
    anchors, candidates = number[:size], number[size:]
    same = (candidates == anchors[:, None]) | (candidates == candidates[:size, None])
    own_place = torch.arange(size, device=same.device)
    same[own_place, own_place] = False
    return same
