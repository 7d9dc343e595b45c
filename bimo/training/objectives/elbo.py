"""The evidence lower bound: what a sentence costs given a latent drawn from its own posterior, and what that posterior costs.

Source: Kingma & Welling 2014; sentences, annealing and word dropout: Bowman et al. 2016; cycles: Fu et al. 2019; free bits: Kingma et
al. 2016. All that changes over a run depends on the share of it that is done, so that a resumed run goes on exactly.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from bimo.core.recipe import Recipe
from bimo.data.batches import Batch
from bimo.data.corpus import Corpus
from bimo.models.base import NeuralLanguageModel
from bimo.models.latent import drawn, kl_to_prior, with_latent
from bimo.text.vocabulary import Vocabulary
from bimo.training.cross_entropy import chunked_cross_entropy
from bimo.training.objectives.base import Batches, Loss, Objective, ObjectiveConfig
from bimo.training.objectives.causal import batches_for


class ElboConfig(ObjectiveConfig):
    """Settings of the evidence lower bound. As they stand they keep the latent in use (docs/decisions.md)."""

    name: str = Field("elbo", description="elbo")
    beta: float = Field(1.0, ge=0, description="weight of the KL once it has risen; 1 is the bound itself")
    annealing: Literal["none", "linear", "logistic", "cyclical"] = Field(
        "linear", description="how the weight of the KL rises from 0 (cyclical: again and again, Fu et al. 2019)"
    )
    hold: float = Field(0.0, ge=0, lt=1, description="share of the run before the rise, with the KL's weight at 0: an autoencoder")
    rise: float = Field(0.3, gt=0, le=1, description="share of what then follows (of each cycle) over which the weight rises")
    cycles: int = Field(4, ge=1, description="how often the weight rises, under cyclical")
    free_bits: float = Field(8.0, ge=0, description="nats a document (averaged over a batch) for which the KL costs nothing")
    free_bits_of: Literal["total", "dimension"] = Field(
        "total",
        description="total: free_bits is for all dimensions together; dimension: each has an equal share (Kingma et al. 2016)",
    )
    word_dropout: float = Field(0.0, ge=0, le=1, description="share of the decoder's input words that are blanked while learning")


def kl_weight(config: ElboConfig, done: float) -> float:
    """β at the moment when `done` of the run, in [0, 1), is behind.

    >>> config = ElboConfig(annealing="linear", hold=0.5, rise=0.5)
    >>> [kl_weight(config, done) for done in (0.25, 0.5, 0.625, 0.75, 0.875)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    >>> config = ElboConfig(annealing="cyclical", cycles=2, rise=0.5)
    >>> [kl_weight(config, done) for done in (0.0, 0.125, 0.25, 0.375, 0.5, 0.625)]
    [0.0, 0.5, 1.0, 1.0, 0.0, 0.5]
    """
    if done < config.hold:
        return 0.0
    if config.annealing == "none":
        return config.beta
    place = (done - config.hold) / (1 - config.hold)
    place = place * config.cycles % 1.0 if config.annealing == "cyclical" else place
    risen = min(1.0, place / config.rise)
    if config.annealing == "logistic":  # Bowman et al. 2016, figure 2: from 0.25 % to 99.75 %
        return config.beta / (1 + math.exp(-12 * (risen - 0.5)))
    return config.beta * risen


def floored(kl: Tensor, config: ElboConfig) -> Tensor:
    """The KL [B, Z] of a batch's documents, summed, but for each document at least `free_bits` on average over the batch.

    Where the mean lies below its floor it has no gradient: that much information costs nothing.

    >>> kl = torch.tensor([[3.0, 0.0], [5.0, 0.0]])
    >>> [floored(kl, ElboConfig(free_bits=4.0, free_bits_of=of)).item() for of in ("total", "dimension")]  # 4, and 4 + 2 a document
    [8.0, 12.0]
    """
    means = kl.mean(0)  # [Z]
    if config.free_bits_of == "dimension":
        return len(kl) * means.clamp(min=config.free_bits / len(means)).sum()
    return len(kl) * means.sum().clamp(min=config.free_bits)


def blank_id(vocabulary: Vocabulary) -> int:
    """What a dropped word becomes: padding, which no text holds, or where there is none `<unk>`, or the beginning of a text, or id 0."""
    return next((i for i in (vocabulary.pad, vocabulary.unk, vocabulary.bos) if i is not None), 0)


class Elbo(Objective):
    """Reconstruction plus the weighted KL of each document's posterior to the prior, one sample a document."""

    Config: ClassVar[type[ObjectiveConfig]] = ElboConfig

    def batches(self, model: NeuralLanguageModel, recipe: Recipe, corpus: Corpus) -> Batches:
        """Whole documents."""
        return batches_for(model, recipe, corpus)

    def loss(self, model: NeuralLanguageModel, batch: Batch, carry: Any, done: float) -> Loss:
        """nats: reconstruction + β · KL, floored; told: `kl` and `reconstruction` as they are, so that their sum is the negative ELBO."""
        config = cast(ElboConfig, self.config)
        mean, log_variance = with_latent(model).encode(batch.tokens, batch.lengths)
        mean, log_variance = mean.float(), log_variance.float()
        z = drawn(mean, log_variance, torch.randn_like(mean))
        scored = batch.targets_scored
        hidden, _ = cast(Any, model).hidden(self._blanked(model, batch.tokens[:, :-1]), None, batch.boundaries, z)
        weight, bias = model.head()
        flat, wanted = hidden[scored], batch.tokens[:, 1:][scored]
        reconstruction = chunked_cross_entropy(flat, weight, bias, wanted, model.vocabulary.suppressed)
        kl = kl_to_prior(mean, log_variance)  # [B, Z]
        told = {"kl": float(kl.detach().sum()), "reconstruction": float(reconstruction.detach())}
        return Loss(reconstruction + kl_weight(config, done) * floored(kl, config), told=told)

    def _blanked(self, model: NeuralLanguageModel, inputs: Tensor) -> Tensor:
        """Inputs [B, T] in which words, never the first token, are blanked at random."""
        share = cast(ElboConfig, self.config).word_dropout
        if not share:
            return inputs
        dropped = torch.rand(inputs.shape, device=inputs.device) < share
        dropped[:, 0] = False
        return inputs.masked_fill(dropped, blank_id(model.vocabulary))
