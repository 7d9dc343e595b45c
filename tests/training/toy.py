"""A neural model small enough that a training step takes a millisecond, and a text for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from bimo.core.recipe import TrainingSection
from bimo.data.split import Split
from bimo.models.base import Kind, ModelConfig, NeuralLanguageModel
from bimo.text.vocabulary import Vocabulary
from bimo.training.objectives.causal import Causal, CausalConfig

VOCABULARY = Vocabulary(12, bos=0, eos=1, pad=2, suppressed=(0, 2))


class Toy(NeuralLanguageModel):
    """The next token depends on the last one, and on a running mean of those before (the carry)."""

    Config = ModelConfig
    kind = Kind.EXACT
    capabilities: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, vocabulary: Vocabulary = VOCABULARY, width: int = 8, context: int | None = 8) -> None:
        super().__init__()
        self.vocabulary, self.context = vocabulary, context
        self.embedding = nn.Embedding(vocabulary.size, width)
        self.inner = nn.Linear(width, width)
        self.output = nn.Linear(width, vocabulary.size)

    @classmethod
    def build(cls, config: Any, vocabulary: Vocabulary) -> Any:
        return cls(vocabulary)

    def config_dict(self) -> dict[str, Any]:
        return {"model_type": "toy"}

    def tensors(self) -> dict[str, Tensor]:
        return dict(self.state_dict())

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Any:
        raise NotImplementedError

    def start(self, batch: int, given: Any = None) -> Any:
        return torch.zeros(batch, self.embedding.embedding_dim)

    def select(self, state: Any, rows: Tensor) -> Any:
        return state[rows]

    def join(self, states: Any) -> Any:
        return torch.cat(list(states))

    def state_bytes(self, state: Any) -> int:
        return 4 * state.shape[1]

    def extend(self, state: Any, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
        return self.hidden(tokens, state)

    def hidden(self, tokens: Tensor, carry: Any = None, boundaries: Tensor | None = None) -> tuple[Tensor, Any]:
        windowed = self.context is not None and boundaries is not None  # in learning, nothing is carried over windows
        mean = self.start(len(tokens)) if carry is None or windowed else carry
        found = []
        for t, x in enumerate(self.embedding(tokens).unbind(1)):
            if boundaries is not None:
                mean = mean * ~boundaries[:, t, None]
            mean = 0.5 * mean + 0.5 * x
            found.append(x + self.inner(mean).tanh())
        return torch.stack(found, 1), None if windowed else mean.detach()

    def head(self) -> tuple[Tensor, Tensor | None]:
        return self.output.weight, self.output.bias


class Likelihood(Causal):
    """The causal likelihood over batches that stand already."""

    def __init__(self, source: Any) -> None:
        self.config, self.source = CausalConfig(), source


def text(documents: int = 40, length: int = 10, seed: int = 0) -> Split:
    """Documents in which a token is mostly followed by the next higher one."""
    generator = np.random.default_rng(seed)
    parts = []
    for _ in range(documents):
        steps = generator.choice([1, 1, 1, 2], length).cumsum() + generator.integers(9)
        parts.append(np.concatenate([[0], 3 + steps % 9, [1]]))
    starts = np.cumsum([0, *map(len, parts[:-1])])
    return Split("train", [np.concatenate(parts).astype(np.uint16)], starts, np.full(documents, length))


def training(**given: Any) -> TrainingSection:
    """A training section for runs of a few steps."""
    values: dict[str, Any] = {
        "budget": "6steps", "steps": 6, "batch_size": 4, "context": 8, "precision": "fp32", "threads": 1, "learning_rate": 0.01,
        "optimizer": "adamw", "warmup": 0.0, "evaluations": 0, "samples": 0,
    }  # fmt: skip
    return TrainingSection(**{**values, **given})
