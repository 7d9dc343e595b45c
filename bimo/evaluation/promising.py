"""Which hybrids of models that have learned are worth making: told from what each model says of the validation text."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
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


def promising(costs: Mapping[Path, float], corpus: Corpus, number: int, most: float) -> list[Mixture]:
    """The `number` mixtures that need the fewest nats on validation text, the best first: pairs, the best three, models with a cache.

    costs: folders of models, and what share of the budget each takes. Mixtures whose models take more than `most` of it together
    stand back: they fill the places that others leave, and the last one where one of them promises more than all others.

    Each family is read once; what a mixture needs follows from what its parts say of each token (`bimo.training.mixing`), so that
    trying all pairs costs nothing. Only what promises more than the best model alone is named.
    """
    text = excerpt(corpus.splits["valid"], _TOKENS, rows=4)  # long enough to fill a cache
    scored = torch.ones(text.tokens, dtype=torch.bool)
    scored[torch.from_numpy(text.starts)] = False
    if text.answers is not None:
        scored &= torch.from_numpy(text.answers)
    logs: dict[str, Tensor] = {}
    recalled: dict[tuple[str, str], Tensor] = {}
    kinds = [name for name in registry.memories() if not registry.load_memory(name).remembers]  # there is nothing to be read first
    for folder in costs:
        bundle = Bundle.load(folder)
        logs[str(folder)] = -torch.from_numpy(token_nats(bundle.model, text, bundle.context))[scored]
        if bundle.model.extends and not bundle.model.whole_documents:
            recalled |= {(str(folder), kind): _recalling(bundle, kind, text) for kind in kinds}
    alone = {name: float(-found.mean()) for name, found in logs.items()}
    best = sorted(logs, key=alone.__getitem__)
    groups = [*itertools.combinations(best, 2), *([tuple(best[:3])] if len(best) > 2 else [])]
    found = [_mixture(group, logs, alone) for group in groups]
    found += [Mixture(list(both), float(-of.mean()), alone[both[0]] + float(of.mean())) for both, of in recalled.items()]
    worth = sorted((m for m in found if m.gain > 0 and m.nats < alone[best[0]] - _WORTH), key=lambda m: m.nats)
    return _chosen(worth, {str(folder): cost for folder, cost in costs.items()}, number, most)


def _chosen(worth: Sequence[Mixture], costs: Mapping[str, float], number: int, most: float) -> list[Mixture]:
    """The `number` of `worth`, best first, that are made; see `promising`.

    >>> worth = [Mixture(["a", "b"], 1.0, 0.3), Mixture(["a", "c"], 1.1, 0.2), Mixture(["b", "c"], 1.2, 0.1)]
    >>> [m.parts for m in _chosen(worth, {"a": 0.9, "b": 0.9, "c": 0.1}, 2, 1.05)]
    [['a', 'b'], ['a', 'c']]
    >>> [m.parts for m in _chosen(worth, {"a": 0.9, "b": 0.9, "c": 0.1}, 1, 1.05)]
    [['a', 'c']]
    """
    fit = [m for m in worth if sum(costs.get(part, 0.0) for part in m.parts) <= most]
    beyond = [m for m in worth if m not in fit]
    chosen = [*fit, *beyond][:number]
    if beyond and fit and number > 1 and beyond[0].nats < fit[0].nats and beyond[0] not in chosen:
        chosen[-1] = beyond[0]
    return sorted(chosen, key=lambda m: m.nats)


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
