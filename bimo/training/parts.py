"""The parts of a hybrid before they learn: the recipe of each, its share of the time, and what could not be mixed, told ahead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from bimo.core import registry
from bimo.core.budget import Budget
from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe, make_recipe
from bimo.data.corpus import Corpus
from bimo.data.split import Split
from bimo.models.base import Kind, LanguageModel, load_model
from bimo.models.hybrid import Hybrid, HybridConfig, Part
from bimo.models.hybrid.config import numbered
from bimo.training.averaging import refuse_unlike

FOR_WEIGHTS = 0.04  # of the time: what is kept for the weights between the parts
FOR_ENTRIES = 0.15  # and for reading the training text once more, where a memory remembers it


def part_recipe(recipe: Recipe, part: Part) -> Recipe:
    """The recipe of a part that is a family: what it says itself, and the whole's text and training where it says nothing."""
    asked = {k: v for k, v in recipe.training.model_dump(mode="json", exclude_unset=True).items() if v is not None}
    text = recipe.text.model_dump(mode="json", exclude_none=True)
    return make_recipe({"text": text, "training": {**asked, "budget": recipe.training.budget}}, part.recipe())


def by_gradient(part: Part) -> bool:
    """Whether a part is learned here, step by step, so that it takes as much time as it is given."""
    return part.family is not None and registry.family(part.family).learning != "counted"


def in_order(config: HybridConfig) -> list[int]:
    """The parts that are learned, in the order in which they are: those that count come first, since what they need is not known ahead."""
    return sorted((i for i, part in enumerate(config.parts) if part.family is not None), key=lambda i: by_gradient(config.parts[i]))


def share(recipe: Recipe, used: float, waiting: int) -> str:
    """The budget of the next part of a hybrid, where so many wait that learn by gradient. used: seconds on the clock so far.

    Steps, epochs and tokens are dealt to the parts that learn by gradient alike.
    """
    budget = Budget.parse(recipe.training.budget)
    cap = budget.seconds
    if cap is None:
        amount = budget.amount / max(1, sum(map(by_gradient, recipe.model_section().parts)))
        return str(Budget(amount if budget.unit == "epochs" else max(1, int(amount)), budget.unit))
    remembers = any(p.memory is not None and registry.load_memory(p.memory).remembers for p in recipe.model_section().parts)
    kept = (FOR_WEIGHTS + FOR_ENTRIES * remembers) * cap
    return f"{max(1.0, (cap - used - kept) / max(1, waiting)):.1f}s"


def plan_parts(recipe: Recipe, corpus: Corpus, plan: Callable[[Recipe], dict[str, Any]], used: float = 0.0) -> dict[str, dict[str, Any]]:
    """The plan of each part that is learned, by name, each under its share of the budget. used: seconds on the clock before them."""
    config: HybridConfig = recipe.model_section()
    refuse_unmixable(config, {i: load_model(part.folder) for i, part in enumerate(config.parts) if part.folder is not None}, corpus)
    order, names, found = in_order(config), numbered([part.name for part in config.parts]), {}
    for place, i in enumerate(order):
        own = part_recipe(recipe, config.parts[i])
        own.training.budget = share(recipe, used, sum(by_gradient(config.parts[j]) for j in order[place:]))
        found[i] = plan(own)
        used += found[i].get("seconds") or 0.0
    return {names[i]: found[i] for i in sorted(found)}


def held_out(corpus: Corpus) -> Split | None:
    """The validation text, where there is something to score."""
    valid = corpus.splits.get("valid")
    return valid if valid is not None and valid.scored_tokens else None


def learns(config: HybridConfig, hybrid: Hybrid) -> bool:
    """Whether something of what stands between the parts is learned on validation text."""
    return config.weights in ("learned", "gate") or any(v.memory is not None and v.memory.open_field for v in hybrid.voices)


def refuse_unmixable(config: HybridConfig, opened: Mapping[int, LanguageModel], corpus: Corpus) -> None:
    """Raise a `UserError` where models like these could not be mixed so, whatever they learn. opened: of the parts that are folders."""
    with torch.device("meta"):  # a model of the right kind and shape, without its weights
        models = [opened[i] if part.folder is not None else _untrained(part, corpus) for i, part in enumerate(config.parts)]
    if config.mixture == "average":
        refuse_unlike([model for model in models if model is not None])
        return
    hybrid = Hybrid.of(config, models)
    if config.weights == "gate" and not hybrid.with_states():
        raise RecipeError("model.weights: a gate reads hidden states, and no part has any; take weights=learned")
    if learns(config, hybrid) and held_out(corpus) is None:
        raise RecipeError("model.weights: there is no validation text to learn them from; give --valid, or a number for each part")
    if why := cannot_be_measured(hybrid, corpus):
        raise RecipeError(why)


def _untrained(part: Part, corpus: Corpus) -> LanguageModel | None:
    if part.family is None:
        return None
    section = make_recipe(part.recipe()).model_section()
    return registry.family(part.family).load().build(section, corpus.tokenizer.vocabulary)


def cannot_be_measured(model: LanguageModel, corpus: Corpus) -> str | None:
    """Why held-out documents do not fit a model like this, which reads each of them whole; None where all do."""
    if not model.whole_documents or model.context is None:
        return None
    needed, which = context_needed(corpus, model.kind is Kind.CONDITIONAL)
    if needed <= model.context:
        return None
    return (
        f"model.context: this model reads each document whole, {which} text has {needed:,} tokens, and the context is {model.context:,}: "
        f"it could not be measured; set model.context={needed} (of each part that has one), or prepare with --documents line or paragraph"
    )


def context_needed(corpus: Corpus, given: bool) -> tuple[int, str]:
    """The context that holds each held-out document whole, and what it is given, if that is read; and the longest, in words."""
    found = [(0, "no document of the held-out")]
    for name in ("valid", "test"):
        split = corpus.splits.get(name)
        if split is not None and split.documents:
            found.append((_longest(split) - 1, f"a document of the {name}"))  # its last token is never fed
            found += [(_longest(split.given), f"a source of the {name}")] if given and split.given is not None else []
    return max(found)


def _longest(split: Split) -> int:
    return int(np.diff(split.starts, append=split.tokens).max())
