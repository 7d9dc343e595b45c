"""Two players so small that all their texts can be counted."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from bimo.core.recipe import Recipe
from bimo.models.gan import GAN, GANConfig
from bimo.text.vocabulary import Vocabulary
from bimo.training.loop import Hooks, Loop
from bimo.training.objectives.adversarial import Adversarial, AdversarialConfig
from bimo.training.progress import Reporter
from bimo.training.rollouts import Texts
from tests.training.toy import VOCABULARY, text, training

SMALL = Vocabulary(4, bos=0, eos=1, suppressed=(0,))  # two words, 2 and 3


def players(vocabulary: Vocabulary = VOCABULARY, seed: int = 0, **fields: Any) -> GAN:
    """A seeded pair, its weights large enough to matter."""
    torch.manual_seed(seed)
    values = {"layers": 1, "width": 6, "discriminator_embedding": 4, "discriminator_width": 3, "kernels": [1, 2], **fields}
    model = GAN.build(GANConfig(**values), vocabulary)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -0.7, 0.7)
    return model


def objective(model: GAN, steps: int | None = 20, given: dict[str, Any] | None = None, **fields: Any) -> Adversarial:
    """The game of these players on the toy text; `given`: of the training section."""
    recipe = Recipe(training=training(**{"steps": steps, "budget": f"{steps or 20}steps", "context": 11, **(given or {})}))
    corpus: Any = SimpleNamespace(splits={"train": text()})
    return Adversarial(AdversarialConfig(**fields), model, recipe, corpus)


def loop(folder: Path, model: GAN, steps: int = 20, given: dict[str, Any] | None = None, **fields: Any) -> Loop:
    """A run of the game."""
    folder.mkdir(exist_ok=True)
    game = objective(model, steps, given, **fields)
    return Loop(model, game, game.training, folder, Hooks(), Reporter("toy", 1, quiet=True))


def all_texts(limit: int = 2) -> Texts:
    """Every text of the small vocabulary with at most `limit` tokens behind <s>."""
    rows = []
    for length in range(1, limit + 1):
        for words in itertools.product((2, 3), repeat=length - 1):
            rows += [[0, *words, last] for last in ((1, 2, 3) if length == limit else (1,))]
    tokens = torch.zeros(len(rows), limit + 1, dtype=torch.int64)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = torch.tensor(row)
    return Texts(tokens, torch.tensor([len(row) for row in rows]))


def log_probs(model: GAN, texts: Texts) -> Tensor:
    """Log-probability of each text, with a gradient."""
    hidden, _ = model.extend(model.start(len(texts.tokens)), texts.tokens[:, :-1], texts.lengths - 1)
    found = model.logits(hidden).log_softmax(-1).gather(2, texts.tokens[:, 1:, None]).squeeze(2)
    return torch.where(texts.drawn[:, 1:], found, 0.0).sum(1)


def gradient(loss: Tensor, model: nn.Module) -> Tensor:
    """All gradients of a player as one vector."""
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(found, model.parameters(), strict=True)])


def weights(model: nn.Module) -> Tensor:
    """All parameters of a player as one vector."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])
