"""The dial: a text, a budget and this machine pick the model, where the user says nothing else (docs/scaling.md).

An n-gram is counted in seconds and a Transformer decoder takes the rest of the time; both are mixed. How large the decoder is follows from
the operations that the budget buys, which are measured on two small shapes; the rest follows from its tokens and steps.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from bimo.core import progress, registry
from bimo.core.budget import Budget
from bimo.core.recipe import Recipe, make_recipe
from bimo.core.registry import Kind
from bimo.data.corpus import Corpus
from bimo.text.vocabulary import Vocabulary
from bimo.training.parts import context_needed
from bimo.training.plan import flops_per_token
from bimo.training.probe import Probe

SCALE, POWER = 0.25, 0.5  # parameters of the best decoder = SCALE · C^POWER, C in operations (docs/scaling.md)
WIDTHS = (64, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024, 1280)
MEASURED = (96, 192)  # widths whose speed is measured; that of the others follows
PROBES = 0.04  # of the budget, at most, unless two steps of each take longer
CHECKS = 2  # times, at most, that the speed of the size picked is measured itself
NEAR = 1.25  # a size is picked anew where the speed is further off, as a factor
LEARNING = 0.9  # of the budget is spent on the decoder's steps
COUNTED_ALONE = 5.0  # seconds: with less, nothing but an n-gram
_BASE = {"family": registry.DEFAULT, "preset": f"{registry.DEFAULT}-middle"}  # what is not said below is as there
LEAST = 5_000  # tokens of text: with fewer, nothing but an n-gram


@dataclass(frozen=True)
class Shape:
    """A decoder, and what its steps are made of. parameters: those that multiply, the head's among them, embeddings not."""

    width: int
    layers: int
    heads: int
    context: int
    rows: int
    parameters: int = 0
    tokens: float = 0.0  # that the budget pays for
    tokens_per_second: float = 0.0

    @property
    def steps(self) -> float:
        """Steps in so many tokens."""
        return self.tokens / (self.context * self.rows)

    @property
    def operations(self) -> float:
        """6 N D, of learning all the tokens."""
        return 6.0 * self.parameters * self.tokens


def shape_of(width: int, tokens: float) -> Shape:
    """A decoder of this width, for so many tokens: deeper as it is wider, longer windows and larger batches as there are more tokens.

    Tokens in a batch grow with the root of all tokens, as the batch does that is still used well (Zhang et al. 2024).

    >>> shape_of(192, 4e6)
    Shape(width=192, layers=5, heads=4, context=128, rows=36, parameters=0, tokens=4000000.0, tokens_per_second=0.0)
    """
    context = 64 if tokens < 1e6 else 128 if tokens < 2e7 else 256 if tokens < 4e8 else 512
    rows = max(8, round(2.3 * tokens**0.5 / context))
    heads = next(h for h in range(max(2, width // 40), 0, -1) if width % (2 * h) == 0)  # rotary heads are of an even width
    return Shape(width, max(3, min(16, round(width / 40))), heads, context, rows, tokens=tokens)


def settings(shape: Shape, epochs: float) -> dict[str, Any]:
    """How a decoder of this shape learns in so many steps and passes over the text: short runs want higher rates and a shorter memory."""
    steps = max(1.0, shape.steps)
    momentum = 1 - min(0.3, max(0.05, 52 / steps))
    rate = min(1.75, max(0.6, (1000 / steps) ** 0.3))
    dropout = 0.0 if epochs < 6 else 0.1 if epochs < 20 else 0.2
    return {
        "model": {
            "layers": shape.layers, "heads": shape.heads, "width": shape.width, "context": shape.context,
            **({"dropout": dropout} if dropout else {}),
        },
        "training": {
            "batch_size": shape.rows, "optimizer": "muon", "momentum": round(momentum, 3), "learning_rate": round(3e-3 * rate, 5),
            "matrix_learning_rate": round(0.02 * rate, 5), "weight_decay": 0.0, "schedule": "linear", "warmup": 0.02, "final": 0.0,
        },
    }  # fmt: skip


Timed = Callable[[Recipe, float], Probe]  # how fast this machine learns by a recipe, looked at for so many seconds


def turn(recipe: Recipe, corpus: Corpus, timed: Timed) -> tuple[Recipe, dict[str, Any]]:
    """The recipe that the dial picks for a recipe which names no family, and what it saw: seconds, shapes, why."""
    budget, train = Budget.parse(recipe.training.budget), corpus.splits["train"]
    counted = {"family": _counting(), "model": {"order": _order(corpus)}}
    told: dict[str, Any] = {"text_tokens": train.tokens, "seconds": 0.0}
    if train.given is not None:
        family, needed = _given(), context_needed(corpus, given=True)[0]
        usual = make_recipe({"family": family, "training": {"budget": recipe.training.budget}}).model_section().context
        model = {"model": {"context": needed}} if needed > usual else {}
        return _laid(recipe, {"family": family, **model}), {**told, "why": "each text is given another one, which is read"}
    if train.tokens < LEAST or (budget.seconds is not None and budget.seconds < COUNTED_ALONE):
        why = "the text is short" if train.tokens < LEAST else "the budget is short"
        return _laid(recipe, counted), {**told, "why": f"{why}: an n-gram alone"}
    importlib.import_module("torch._dynamo")  # torch's optimizers do it when first made, a second and more: that is no measuring
    begin = time.perf_counter()
    with progress.task("choosing a size for this machine"):
        if budget.seconds is None:
            shape = _by_tokens(corpus, budget)
        else:
            shape, told["measured"] = _by_time(recipe, corpus, budget.seconds, timed)
    own = settings(shape, shape.tokens / max(1, train.tokens))
    decoder = {**_BASE, **own}
    picked = _laid(recipe, {"family": registry.HYBRID, "model": {"parts": [counted, decoder]}})
    why = f"{shape.parameters:,} matrix parameters for {recipe.training.budget}"
    return picked, {**told, "seconds": time.perf_counter() - begin, "shape": asdict(shape), "why": why}


def _laid(recipe: Recipe, layer: dict[str, Any]) -> Recipe:
    """The recipe's text and training under a family."""
    text = recipe.text.model_dump(mode="json", exclude_none=True)
    training = {k: v for k, v in recipe.training.model_dump(mode="json", exclude_unset=True).items() if v is not None}
    return make_recipe(layer, {"text": text, "training": training})


def _counting() -> str:
    """The family that counts."""
    return next(name for name in registry.families() if registry.family(name).learning == "counted")


def _given() -> str:
    """The family that reads what a text is given."""
    return next(name for name in registry.families() if registry.family(name).load().kind is Kind.CONDITIONAL)


def _order(corpus: Corpus) -> int:
    """Longer n-grams where a token is hardly more than a letter."""
    train = corpus.splits["train"]
    return 7 if train.bytes < 1.5 * train.tokens else 5


def _by_tokens(corpus: Corpus, budget: Budget) -> Shape:
    """The shape where the budget tells tokens, and nothing has to be measured."""
    size = corpus.tokenizer.vocabulary.size
    if budget.unit == "steps":
        shapes = [of_steps(width, int(budget.amount)) for width in WIDTHS]
    else:
        tokens = budget.amount * (corpus.splits["train"].scored_tokens if budget.unit == "epochs" else 1)
        shapes = [shape_of(width, tokens) for width in WIDTHS]
    return nearest([replace(shape, parameters=multiplying(shape, size)) for shape in shapes])


def of_steps(width: int, steps: int) -> Shape:
    """A decoder of this width for so many steps: how many tokens they read follows from its batches, which follow from the tokens.

    >>> found = of_steps(192, 200)
    >>> found.context * found.rows, found.tokens, found.steps
    (1088, 217600, 200.0)
    """
    shape = shape_of(width, 4096.0 * steps)
    for _ in range(20):
        shape = shape_of(width, steps * shape.context * shape.rows)
    return replace(shape, tokens=steps * shape.context * shape.rows)


def _by_time(recipe: Recipe, corpus: Corpus, seconds: float, timed: Timed) -> tuple[Shape, list[dict[str, float]]]:
    """The shape for so many seconds, by the speed of two and then by its own; and what was measured."""
    size = corpus.tokenizer.vocabulary.size
    begin, measured = time.perf_counter(), []
    for width in MEASURED:
        shape = shape_of(width, 1e6)
        tried = _laid(recipe, {**_BASE, **settings(shape, 1.0)})
        found = timed(tried, min(3.0, _end(seconds, len(measured)) - (time.perf_counter() - begin)))
        took = found.seconds_per_step / (shape.context * shape.rows)
        measured.append({"width": width, "parameters": multiplying(shape, size), "seconds_per_token": took, "threads": found.threads})
    counts = [(width, multiplying(shape_of(width, 1e6), size)) for width in WIDTHS]  # windows and batches change nothing of it

    def fitting(slower: float) -> Shape:
        """The shape, and its tokens, where each is slower than the two that were timed first say."""
        left = max(0.1 * seconds, LEARNING * seconds - (time.perf_counter() - begin))  # on a busy machine two steps may take all
        return nearest([_paid(width, count, left, slower * seconds_per_token(measured[:2], count)) for width, count in counts])

    slower = 1.0
    picked = fitting(slower)
    for _ in range(CHECKS):
        its = _laid(recipe, {**_BASE, **settings(picked, 1.0)})
        found = timed(its, min(3.0, _end(seconds, len(measured)) - (time.perf_counter() - begin)))
        took = found.seconds_per_step / (picked.context * picked.rows)
        measured.append({"width": picked.width, "parameters": picked.parameters, "seconds_per_token": took, "threads": found.threads})
        off = took * picked.tokens_per_second
        slower *= off
        picked = fitting(slower)
        if 1 / NEAR < off < NEAR:
            break
    return picked, measured


def _end(seconds: float, measured: int) -> float:
    """Seconds from the beginning at which the next measurement is to end; what one leaves, the next may have."""
    return PROBES * seconds * (measured + 1) / (len(MEASURED) + CHECKS)


def _paid(width: int, parameters: int, seconds: float, seconds_per_token: float) -> Shape:
    """A decoder of this width for all the tokens that so many seconds pay for."""
    return replace(shape_of(width, seconds / seconds_per_token), parameters=parameters, tokens_per_second=1 / seconds_per_token)


def seconds_per_token(measured: list[dict[str, float]], parameters: float) -> float:
    """A token's seconds as a line over the parameters that multiply: some for each token, some for each parameter.

    >>> measured = [{"parameters": 1e5, "seconds_per_token": 1e-4}, {"parameters": 5e5, "seconds_per_token": 3e-4}]
    >>> round(seconds_per_token(measured, 1e6), 6)
    0.00055
    """
    (small, low), (large, high) = ((m["parameters"], m["seconds_per_token"]) for m in measured)
    slope = max((high - low) / (large - small), 0.3 * high / large)
    return max(high + slope * (parameters - large), 0.3 * low * min(1.0, parameters / small))


def nearest(shapes: list[Shape]) -> Shape:
    """The shape whose parameters are nearest to what the rule says of the operations that it would learn by."""
    return min(shapes, key=lambda s: abs(math.log(s.parameters / (SCALE * s.operations**POWER))))


def multiplying(shape: Shape, vocab_size: int) -> int:
    """Parameters that multiply: the blocks' 12 L D² or so, and the head's."""
    with torch.device("meta"):
        model = _model(shape, vocab_size)
    return round(flops_per_token(model) / 6)


def _model(shape: Shape, vocab_size: int) -> Any:
    section = make_recipe({**_BASE, **settings(shape, 1.0)}).model_section()
    return registry.family(registry.DEFAULT).load()(section, Vocabulary(vocab_size))
