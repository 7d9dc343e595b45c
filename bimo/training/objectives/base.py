"""What every objective is: the batches it reads, the loss of one, the optimizers that follow its gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from pydantic import Field
from torch import Tensor

from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe, TrainingSection
from bimo.core.validation import Section
from bimo.data.corpus import Corpus
from bimo.models.base import NeuralLanguageModel
from bimo.training.optimizers import make_optimizers


class ObjectiveConfig(Section):
    """The objective section of a recipe: each objective derives its own, with a description at every field."""

    name: str = Field(description="a name of bimo.core.registry.objectives()")


@dataclass
class Loss:
    """What one forward pass gives.

    nats: a scalar to differentiate, summed over the batch's `count` targets; carry: what the next batch goes on from; told: figures
    for metrics.jsonl, each summed over the batch (their mean over the targets is written).
    """

    nats: Tensor
    carry: Any = None
    told: dict[str, float] = field(default_factory=dict)


class Batches(Protocol):
    """Batches as a pure function of (epoch, index), so that two integers are the whole position."""

    context: int
    steps_per_epoch: int
    notes: list[str]

    @property
    def tokens_per_epoch(self) -> int:
        """Tokens fed in one epoch."""
        ...

    def batch(self, epoch: int, index: int) -> Any:
        """A batch with `count` (targets, int), `read` (tokens fed, int), `fresh` (bool: nothing is carried), `tokens`, and `to(device)`."""
        ...


class Objective(ABC):
    """What is minimised. A family names those it can learn by in `objectives`, its own first."""

    Config: ClassVar[type[ObjectiveConfig]]

    def __init__(self, config: Any, model: NeuralLanguageModel, recipe: Recipe, corpus: Corpus) -> None:
        self.config = config
        self.source: Batches = self.batches(model, recipe, corpus)

    @abstractmethod
    def batches(self, model: NeuralLanguageModel, recipe: Recipe, corpus: Corpus) -> Batches:
        """What is read."""

    @abstractmethod
    def loss(self, model: NeuralLanguageModel, batch: Any, carry: Any, done: float) -> Loss:
        """The loss of one batch; `done`: the share of the run's steps that were made, 0 at the first."""

    @classmethod
    def refusal(cls, recipe: Recipe, corpus: Corpus) -> str | None:
        """Why nothing can be learned in this way from this corpus; None where it can."""
        return None

    def moments(self) -> list[tuple[float, float]]:
        """(done, share of the run's steps) of a step of each kind, where kinds of different cost take turns: what a probe is to time."""
        return [(0.5, 1.0)]

    @classmethod
    def dictation(cls, config: Any, recipe: Recipe, corpus: Corpus) -> Any:
        """What a family that counts is to count beside the text (`bimo/training/dictation.py`)."""
        raise RecipeError(f"objective.name: {config.name} is for families that learn by gradient, and {recipe.family} counts")

    def optimizers(self, model: NeuralLanguageModel, training: TrainingSection) -> list[torch.optim.Optimizer]:
        """What follows the gradient."""
        return make_optimizers(model, training)


LossOf = Callable[[NeuralLanguageModel, Any, Any], Loss]  # of a model, a batch and what is carried


@dataclass
class Step:
    """What one step's forward and backward passes gave: summed nats, the targets they are for, what is carried on, figures to tell."""

    nats: float
    targets: int
    carry: Any
    told: dict[str, float]


def training_step(loss_of: LossOf, model: NeuralLanguageModel, batches: Sequence[Any], carry: Any, precision: str) -> Step:
    """Forward and backward over the batches of one step; gradients are of the mean over all their targets.

    Gradients are left in the parameters.
    """
    device = model.device
    total, nats, told = sum(b.count for b in batches), 0.0, dict[str, float]()
    for batch in batches:
        carry = None if batch.fresh else carry
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(model, batch, carry)
        (loss.nats / max(1, total)).backward()
        nats, carry = nats + loss.nats.detach(), loss.carry
        for name, value in loss.told.items():
            told[name] = told.get(name, 0.0) + value
    return Step(float(nats), total, carry, told)
