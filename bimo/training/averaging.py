"""One model of several: the mean of the weights of models of one shape, or of one model at several steps."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor

from bimo.core.errors import RecipeError
from bimo.data.split import Split
from bimo.models.base import LanguageModel, NeuralLanguageModel
from bimo.models.scoring import token_nats


class RunningMean:
    """The mean of a model's weights over steps (Polyak & Juditsky 1992; Izmailov et al. 2018, "stochastic weight averaging").

    >>> import torch
    >>> mean = RunningMean()
    >>> for value in (1.0, 2.0, 6.0):
    ...     mean.add({"a": torch.tensor([value])})
    >>> mean.weights["a"].tolist(), mean.steps
    ([3.0], 3)
    """

    def __init__(self, weights: dict[str, Tensor] | None = None, steps: int = 0) -> None:
        self.weights, self.steps = weights or {}, steps

    def add(self, weights: Mapping[str, Tensor]) -> None:
        """Take one more step's weights in; what is no number with fractions is as it was last."""
        self.steps += 1
        for name, tensor in weights.items():
            if name in self.weights and tensor.is_floating_point():
                self.weights[name].lerp_(tensor.detach(), 1 / self.steps)
            else:
                self.weights[name] = tensor.detach().clone()


def averaged(models: Sequence[LanguageModel], shares: Sequence[float]) -> LanguageModel:
    """The model of the mean weights under these shares, which count in proportion; `RecipeError` where shapes differ.

    >>> import torch
    >>> from bimo.core.registry import family
    >>> from bimo.text.vocabulary import Vocabulary
    >>> lstm = family("lstm").load()
    >>> models = [lstm.build(lstm.Config(layers=1, width=2), Vocabulary(3)) for _ in range(2)]
    >>> mean = averaged(models, [1, 3]).state_dict()["embedding.weight"]
    >>> bool(torch.allclose(mean, 0.25 * models[0].embedding.weight + 0.75 * models[1].embedding.weight))
    True
    """
    states = _states(models)
    return _mean(models[0], states, [share / sum(shares) for share in shares])


def souped(models: Sequence[LanguageModel], text: Split, context: int | None) -> tuple[LanguageModel, int]:
    """The mean of those models that make it better on `text`, and of how many (Wortsman et al. 2022, greedy soup).

    The better model first, the next one added where that helps.
    """
    states, nats = _states(models), [_nats(model, text, context) for model in models]
    order = sorted(range(len(models)), key=nats.__getitem__)
    chosen, best, made = order[:1], nats[order[0]], models[order[0]]
    for i in order[1:]:
        tried = _mean(models[0], [states[j] for j in [*chosen, i]], [1 / (len(chosen) + 1)] * (len(chosen) + 1))
        if (found := _nats(tried, text, context)) < best:
            chosen, best, made = [*chosen, i], found, tried
    return made, len(chosen)


def refuse_unlike(models: Sequence[LanguageModel]) -> None:
    """Raise `RecipeError` where the mean of these models' weights would be no such model: other shapes, or other uses of the same."""
    if not all(isinstance(model, NeuralLanguageModel) for model in models):
        raise RecipeError("model.mixture: only weights that were learned by gradient can be averaged")
    states = [cast(NeuralLanguageModel, model).state_dict() for model in models]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    if any(type(model) is not type(models[0]) for model in models) or any(of != shapes[0] for of in shapes):
        raise RecipeError("model.mixture: models of different shapes cannot be averaged; take linear or product")
    first, *others = ({k: v for k, v in model.config_dict().items() if "drop" not in k} for model in models)  # which only learning uses
    for other in others:
        if unlike := sorted(name for name in first.keys() | other.keys() if first.get(name) != other.get(name)):
            said = ", ".join(f"{name} ({first.get(name)} and {other.get(name)})" for name in unlike[:3])
            raise RecipeError(f"model.mixture: models that differ in {said} cannot be averaged; take linear or product")


def _states(models: Sequence[LanguageModel]) -> list[dict[str, Tensor]]:
    refuse_unlike(models)
    return [cast(NeuralLanguageModel, model).state_dict() for model in models]


def _nats(model: LanguageModel, text: Split, context: int | None) -> float:
    return float(token_nats(model, text, context).sum())


def _mean(first: LanguageModel, states: Sequence[dict[str, Tensor]], shares: Sequence[float]) -> LanguageModel:
    """A model like `first` whose weights are the mean of these, under these shares."""
    mean = {}
    for name, tensor in states[0].items():
        if tensor.is_floating_point():
            mean[name] = sum(share * state[name].double() for share, state in zip(shares, states, strict=True)).to(tensor.dtype)  # type: ignore[union-attr]
        else:
            mean[name] = tensor
    made = copy.deepcopy(cast(NeuralLanguageModel, first))
    made.load_state_dict(mean)
    return made.eval()
