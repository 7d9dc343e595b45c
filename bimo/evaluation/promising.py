"""Which hybrids of models that have learned are worth making: told from what each model says of the validation text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from bimo.core import registry
from bimo.data.corpus import Corpus
from bimo.data.excerpt import excerpt
from bimo.data.split import Split
from bimo.models.base import NeuralLanguageModel
from bimo.models.bundle import Bundle
from bimo.models.hybrid.weights import Weights
from bimo.models.scoring import token_nats
from bimo.training.memories import tune
from bimo.training.mixing import linear_weights, logs_by_parts, told_of

_WORTH = 1e-4  # nats a token that a mixture must promise beyond the best model alone
_TOKENS = 40_000  # of validation text that are looked at


@dataclass(frozen=True)
class Mixture:
    """A hybrid that could be made. parts: folders and memories; gain: nats a token less than its best part needs, on validation text."""

    parts: list[str]
    nats: float
    gain: float


def promising(folders: Sequence[Path], corpus: Corpus, number: int) -> list[Mixture]:
    """The `number` mixtures that need the fewest nats on validation text, the best first: pairs, the best three, models with a cache.

    Each family is read once; what a mixture needs follows from what its parts say of each token (`bimo.training.mixing`), so that
    trying all pairs costs nothing. Only what promises more than the best model alone is named.
    """
    text = excerpt(corpus.splits["valid"], _TOKENS)
    scored = torch.ones(text.tokens, dtype=torch.bool)
    scored[torch.from_numpy(text.starts)] = False
    logs: dict[str, Tensor] = {}
    recalled: dict[tuple[str, str], Tensor] = {}
    kinds = [name for name in registry.memories() if not registry.load_memory(name).remembers]  # there is nothing to be read first
    for folder in folders:
        bundle = Bundle.load(folder)
        logs[str(folder)] = -torch.from_numpy(token_nats(bundle.model, text, bundle.context))[scored]
        if bundle.model.extends and not bundle.model.whole_documents:
            recalled |= {(str(folder), kind): _recalling(bundle, kind, text) for kind in kinds}
    alone = {name: float(-found.mean()) for name, found in logs.items()}
    best = sorted(logs, key=alone.__getitem__)
    groups = [*itertools.combinations(best, 2), *([tuple(best[:3])] if len(best) > 2 else [])]
    found = [_mixture(group, logs, alone) for group in groups]
    found += [Mixture(list(both), float(-of.mean()), alone[both[0]] + float(of.mean())) for both, of in recalled.items()]
    return sorted((m for m in found if m.gain > 0 and m.nats < alone[best[0]] - _WORTH), key=lambda m: m.nats)[:number]


def _recalling(bundle: Bundle, name: str, text: Split) -> Tensor:
    """Log-probabilities of all tokens of `text` by a model with hidden states and a memory of what it has read."""
    model, kind = cast(NeuralLanguageModel, bundle.model), registry.load_memory(name)
    pair = tune(model, kind(kind.Config(), model.vocabulary, model.head()[0].shape[1]), text, bundle.context)
    logs, _ = logs_by_parts(pair, text, bundle.context)
    return Weights(linear_weights(logs)).of_targets(logs, None)


def _mixture(group: Sequence[str], logs: dict[str, Tensor], alone: dict[str, float]) -> Mixture:
    every = torch.stack([logs[name] for name in group], 1)
    known = told_of(every)
    nats = float(-(linear_weights(every).log() + known).logsumexp(1).mean()) if len(known) else float("inf")
    return Mixture(list(group), nats, min(alone[name] for name in group) - nats)
