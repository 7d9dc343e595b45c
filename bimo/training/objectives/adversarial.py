"""The adversarial game: a generator that writes texts against a discriminator that judges them, in the one loop.

A run is likelihood first, then the discriminator alone, then turns (SeqGAN: Yu et al. 2017, algorithm 1). A step is one player's
turn, told by its number alone, so that a resumed run goes on with the same turn. The generator learns by policy gradient with
Monte-Carlo roll-outs, or through the discriminator by a straight-through Gumbel-softmax.
"""

from __future__ import annotations

import math
from dataclasses import replace
from enum import StrEnum
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe, TrainingSection
from bimo.data.batches import Batch, epoch_generator
from bimo.data.corpus import Corpus
from bimo.data.rows import DocumentBatches
from bimo.data.split import Split
from bimo.models.base import NeuralLanguageModel
from bimo.training.game import Game, Players
from bimo.training.objectives.base import Batches, Loss, Objective, ObjectiveConfig
from bimo.training.objectives.causal import causal_likelihood
from bimo.training.optimizers import make_optimizers


class AdversarialConfig(ObjectiveConfig):
    """Settings of the game. Shares are of the run's steps."""

    name: str = Field("adversarial", description="adversarial")
    estimator: Literal["policy", "gumbel"] = Field(
        "policy", description="how the generator learns from the discriminator: policy gradient, or through a Gumbel-softmax"
    )
    pretraining: float = Field(0.6, ge=0, le=1, description="share of the steps that learn by likelihood before the game")
    discriminator_pretraining: float = Field(0.05, ge=0, le=1, description="share of the steps that teach the discriminator alone, next")
    generator_turns: int = Field(1, ge=1, description="the generator's turns in a round of the game")
    discriminator_turns: int = Field(2, ge=1, description="the discriminator's turns in a round of the game")
    rollouts: int = Field(4, ge=0, description="texts written on from each place to judge it; 0: every place has its whole text's reward")
    likelihood: float = Field(0.5, ge=0, description="weight of the likelihood in the generator's turns, so that it keeps to the text")
    entropy: float = Field(0.01, ge=0, description="weight of the generator's entropy, a reward for staying various")
    reward_decay: float = Field(0.95, ge=0, lt=1, description="how long the moving average of rewards, the baseline, remembers")
    normalised: bool = Field(
        False,
        description="rewards over the baseline are divided by their moving deviation: a sure discriminator is heard, and a clueless one",
    )
    reward_clip: float = Field(3.0, gt=0, description="largest reward over the baseline, in deviations where normalised")
    real_label: float = Field(0.9, gt=0.5, le=1, description="what the discriminator is asked to say of real texts (Salimans 2016)")
    discriminator_rate: float = Field(1.0, gt=0, description="the discriminator's learning rate as a share of training.learning_rate")
    temperature: float = Field(1.0, gt=0, description="of the Gumbel-softmax where the game begins")
    final_temperature: float = Field(0.3, gt=0, description="of the Gumbel-softmax at the end; it falls geometrically (Jang 2017)")
    least_variety: float = Field(
        0.4, ge=0, le=1, description="the game is stopped where drawn texts have a smaller share than this of the text's distinct-2"
    )

    @model_validator(mode="after")
    def _shares(self) -> AdversarialConfig:
        if self.pretraining + self.discriminator_pretraining > 1:
            raise ValueError("pretraining and discriminator_pretraining are shares of one run: their sum must be 1 or less")
        return self


_UNPLANNED = 1000  # steps that are counted with until a plan says how many there are


class Turn(StrEnum):
    """Whose step it is."""

    LIKELIHOOD = "likelihood"
    DISCRIMINATOR = "discriminator"
    GENERATOR = "generator"


def turn_of(step: int, steps: int, config: AdversarialConfig) -> Turn:
    """Whose turn step `step` (0 … steps − 1) is.

    >>> config = AdversarialConfig(pretraining=0.25, discriminator_pretraining=0.125)
    >>> "".join(turn_of(step, 16, config)[0] for step in range(16))
    'llllddgddgddgddg'
    """
    first, game = (share * steps - 1e-6 for share in (config.pretraining, config.pretraining + config.discriminator_pretraining))
    if step < first:
        return Turn.LIKELIHOOD
    if step < game:
        return Turn.DISCRIMINATOR
    place = (step - max(0, math.ceil(game))) % (config.generator_turns + config.discriminator_turns)
    return Turn.GENERATOR if place < config.generator_turns else Turn.DISCRIMINATOR


class Adversarial(Objective):
    """The game of two players.

    The value of every loss is the batch's likelihood in nats, so that one curve runs through the whole run; its gradient is that of
    the turn's own loss. Figures told, in turns of the game: discriminator_loss and _accuracy, reward (mean D of drawn texts),
    distinct_2 of drawn texts.
    """

    Config: ClassVar[type[ObjectiveConfig]] = AdversarialConfig

    def __init__(self, config: Any, model: NeuralLanguageModel, recipe: Recipe, corpus: Corpus) -> None:
        if model.vocabulary.bos is None:
            raise RecipeError("objective.name: adversarial texts begin with <s>, which this tokenizer does not have; choose causal")
        super().__init__(config, model, recipe, corpus)
        self.training = recipe.training  # its number of steps is set between the making of an objective and the first step

    @classmethod
    def refusal(cls, recipe: Recipe, corpus: Corpus) -> str | None:
        """Texts that would mostly be cut: what judges whole texts would never see them."""
        source = _source(recipe, corpus)
        if source.lost <= 0.5:
            return None
        return (
            f"training.context: {source.lost:.0%} of the text lies behind token {source.context} of its documents, and an objective that "
            f"judges whole texts would never see it; choose --documents line or paragraph, or training.context={source.holding(0.9)}, "
            "which holds nine of ten whole"
        )

    def batches(self, model: NeuralLanguageModel, recipe: Recipe, corpus: Corpus) -> Batches:
        """Whole documents, shuffled without regard to their lengths."""
        if why := self.refusal(recipe, corpus):
            raise RecipeError(why)
        return _source(recipe, corpus)

    def optimizers(self, model: NeuralLanguageModel, training: TrainingSection) -> list[torch.optim.Optimizer]:
        """Each player has its own; the one whose turn it is not has no gradient, and nothing of it moves."""
        players = cast(Players, model)
        judging = make_optimizers(players.discriminator, training)
        for optimizer in judging:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] = group["peak"] * self.config.discriminator_rate
        return [*judging, *make_optimizers(players.generator, training)]

    def loss(self, model: NeuralLanguageModel, batch: Batch, carry: Any, done: float) -> Loss:
        """The loss of the player whose turn it is."""
        steps = self.training.steps or _UNPLANNED
        step = round(done * steps)
        if int(cast(Players, model).stopped) >= 0:
            return Loss(causal_likelihood(model, batch).nats, told={"stopped": float(batch.count)})
        turn = turn_of(step, steps, self.config)
        if turn is Turn.LIKELIHOOD:
            return Loss(causal_likelihood(model, batch).nats)
        share = self.config.pretraining + self.config.discriminator_pretraining
        game = Game(self.config, model, batch, self.source.context)
        loss = game.discriminator_turn() if turn is Turn.DISCRIMINATOR else game.generator_turn((done - share) / max(1e-9, 1 - share))
        if self.training.steps is not None:
            game.watch(step)
        return Loss(loss, told={name: value * batch.count for name, value in game.told.items()})

    def moments(self) -> list[tuple[float, float]]:
        """A step of each turn: they differ about tenfold in cost."""
        steps = self.training.steps or _UNPLANNED
        turns = [turn_of(step, steps, self.config) for step in range(steps)]
        return [(turns.index(turn) / steps, turns.count(turn) / steps) for turn in Turn if turn in turns]


class MixedDocuments(DocumentBatches):
    """Shuffled batches of whole documents, short and long together: from like lengths a discriminator would learn lengths.

    lost: share of the text's tokens that lie behind the context.
    """

    def __init__(self, split: Split, batch_size: int, context: int | None, seed: int = 0) -> None:
        super().__init__(split, batch_size, context, seed)
        self.lost = 1 - float(np.minimum(self._lengths - 1, self.context).sum()) / float((self._lengths - 1).sum())

    def holding(self, share: float) -> int:
        """The context that holds so many of the documents whole, tokens."""
        return int(np.quantile(self._lengths - 1, share, method="higher"))

    def _order(self, epoch: int) -> NDArray[np.int64]:
        shuffled = epoch_generator(self.seed, epoch).permutation(len(self._documents))
        return np.resize(shuffled, (self.steps_per_epoch, self.batch_size))


def _source(recipe: Recipe, corpus: Corpus) -> MixedDocuments:
    training = recipe.training
    texts = replace(corpus.splits["train"], given=None)  # neither player reads a source
    return MixedDocuments(texts, training.batch_size, training.context, training.seed)
