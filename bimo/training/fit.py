"""`fit`: a recipe and a corpus become a model, in whichever of the three ways its family learns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bimo.core import progress, registry, runtime, store
from bimo.core.budget import Budget
from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe, make_recipe, read_recipe
from bimo.data.corpus import Corpus
from bimo.models.base import Kind, Learning, NeuralLanguageModel
from bimo.models.folders import refuse_no_run
from bimo.training.checkpoint import RECIPE, RUN, read_run
from bimo.training.composite import Composite
from bimo.training.dial import turn
from bimo.training.gradient import fit_gradient
from bimo.training.loop import Hooks
from bimo.training.making import Fitted, begin_weights, build, make_objective, settle_batch
from bimo.training.parts import cannot_be_measured, part_recipe, plan_parts
from bimo.training.plan import make_plan, plan_counted
from bimo.training.probe import Probe, probe
from bimo.training.progress import Metrics, Reporter

LONGEST_DOCUMENT = 4096  # tokens, for a model that reads whole documents


def refusal(recipe: Recipe, corpus: Corpus, beside: bool = False) -> str | None:
    """Why the recipe's family cannot learn from this corpus, or not by its objective; None where it can.

    beside: another part reads what texts are given, so that this one need not.
    """
    family, train = recipe.family, corpus.splits["train"]
    kind, objective = recipe.row.load(), recipe.objective_section()
    if kind.learning is Learning.COMPOSITE:
        return _refusal_of_parts(recipe, corpus)
    if train.given is not None and kind.kind is not Kind.CONDITIONAL and not beside:
        return f"each text is given another one, which {family} would not read; leave what is given out, or take a family that reads it"
    if recipe.training.gradient_checkpointing and kind.learning is Learning.GRADIENT and "gradient_checkpointing" not in kind.capabilities:
        return f"training.gradient_checkpointing: {family} keeps what it needs to learn, and cannot do without; leave it out"
    longest = int(np.diff(train.starts, append=train.tokens).max())
    if kind.whole_documents and longest > LONGEST_DOCUMENT:
        return (
            f"{family} reads each document whole, and one has {longest:,} tokens (at most {LONGEST_DOCUMENT:,}); "
            "prepare with --documents line or paragraph"
        )
    if kind.whole_documents and recipe.family is not None:
        with torch.device("meta"):  # a model of its shape, without weights
            model = kind.build(recipe.model_section(), corpus.tokenizer.vocabulary)
        if why := cannot_be_measured(model, corpus):
            return why
    given_nothing = train.given is None and recipe.start is None and not getattr(recipe.model_section(), "sourceless", False)
    if given_nothing and kind.kind is Kind.CONDITIONAL and objective is not None and objective.name != "denoising":
        return (
            f"{family} reads a source beside each text, and this text has none; give pairs (SOURCE::TARGET), or learn from plain text by "
            "objective.name=denoising"
        )
    return None if objective is None else registry.load_objective(objective.name).refusal(recipe, corpus)


def _reads_given(recipe: Recipe) -> bool:
    """Whether a part of a hybrid reads what texts are given: the others need not."""
    parts = [part.family for part in recipe.model_section().parts if part.family is not None]
    return any(registry.family(name).load().kind is Kind.CONDITIONAL for name in parts)


def _refusal_of_parts(recipe: Recipe, corpus: Corpus) -> str | None:
    """Why a part of a hybrid cannot learn from this corpus; None where all can."""
    parts = [part for part in recipe.model_section().parts if part.family is not None]
    for part in parts:
        if why := refusal(part_recipe(recipe, part), corpus, beside=_reads_given(recipe)):
            return f"{part.name}: {why}"
    return None


HooksOf = Callable[[Recipe], Hooks]  # of a run: what it looks at and writes depends on its recipe


def fit(
    recipe: Recipe,
    corpus: Corpus,
    folder: Path,
    hooks_of: HooksOf | None = None,
    resume: bool = False,
    quiet: bool = False,
    beside: bool = False,
) -> Fitted:
    """Learn the recipe's model from the corpus in the run folder; with `resume`, go on from its checkpoint.

    hooks_of: what the loop calls during a run of a recipe: of this one, or of each part of a hybrid. beside: see `refusal`.
    Raises `MachineError` if the disk has no room for two checkpoints, `DivergedError` on NaN, `Interrupted` on Ctrl-C.
    """
    folder = Path(folder)
    store.make_folder(folder)
    recipe, spent = _picked(recipe, corpus, folder, quiet)
    if why := refusal(recipe, corpus, beside):
        raise RecipeError(why)
    way = Learning(recipe.row.learning)
    if way is Learning.COUNTED:
        return _fit_counted(recipe, corpus, folder, hooks_of(recipe) if hooks_of is not None else Hooks(), quiet, spent)
    if way is Learning.COMPOSITE:
        return _fit_composite(recipe, corpus, folder, hooks_of, resume, quiet, spent)
    return fit_gradient(recipe, corpus, folder, hooks_of(recipe) if hooks_of is not None else Hooks(), resume, quiet, spent)


def _picked(recipe: Recipe, corpus: Corpus, folder: Path, quiet: bool) -> tuple[Recipe, float]:
    """The recipe, by the dial where it names no family; and seconds on the clock that the dial took, now or before the run was resumed."""
    told = read_run(folder)
    if recipe.family is not None:
        return recipe, float((told.get("dial") or {}).get("seconds", 0.0))
    runtime.pick_device(recipe.training.device)  # a wrong one is told, whatever is picked
    recipe, seen = turn(recipe, corpus, partial(_timed, corpus))
    recipe.save(folder / RECIPE)
    store.write_json(folder / RUN, {**told, "dial": seen})
    if not quiet:
        progress.say(f"auto-selected: {recipe.label}, {seen['why']}")
    return recipe, seen["seconds"]


def _timed(corpus: Corpus, recipe: Recipe, seconds: float) -> Probe:
    """How fast this machine learns by a recipe, looked at for so many seconds, what is made for it included; two steps at least."""
    begin = time.perf_counter()
    model = build(recipe, corpus)
    assert isinstance(model, NeuralLanguageModel)
    model = model.to(runtime.pick_device(recipe.training.device))
    objective = make_objective(recipe, model, corpus)
    left = max(0.0, seconds - (time.perf_counter() - begin))
    return probe(model, objective, recipe.training, 0.5 * left, left)


def _fit_composite(
    recipe: Recipe, corpus: Corpus, folder: Path, hooks_of: HooksOf | None, resume: bool, quiet: bool, spent: float
) -> Fitted:
    """The parts, then what stands between them."""
    if recipe.start is not None:
        raise RecipeError("start: a hybrid cannot go on from a trained model; name its folder as a part, as in ngram+runs/mine")
    say: Callable[[str], None] = (lambda _: None) if quiet else progress.say

    def learn(part: Recipe, where: Path, going: bool) -> Fitted:
        return fit(part, corpus, where, hooks_of, going, quiet, _reads_given(recipe))

    work = Composite(recipe, corpus, folder, learn, say, spent)
    recipe.save(folder / RECIPE)
    parts = work.parts(resume)
    training = recipe.training  # from here on as it says, on whatever device and threads the last part has learned
    training.threads, training.device = runtime.set_threads(training.threads), str(runtime.pick_device(training.device))
    recipe.save(folder / RECIPE)
    metrics = Metrics(folder)
    told = [part for part in parts if part is not None]
    tokens = sum(part.tokens for part in told)
    elsewhere = sum(part.seconds for part in told if not part.own)
    try:
        with progress.task(f"{recipe.label}: learning the weights"):
            model = work.mix(parts, lambda told: metrics.write({"step": 1, "tokens": tokens, "seconds": work.used() + elsewhere, **told}))
    finally:
        metrics.close()
    recipe.model = work.config.model_dump(mode="json", exclude_none=True, exclude={"title"})
    recipe.save(folder / RECIPE)
    plans = [part.plan for part in told]
    plan = {name: sum(own.get(name) or 0 for own in plans) for name in ("parameters", "seconds")}
    learning = [part.plan for part in told if part.steps]
    plan |= {name: sum(own.get(name) or 0 for own in learning) for name in ("steps", "epochs", "tokens")}
    store.write_json(folder / RUN, {**read_run(folder), "plan": plan})
    seconds = work.used()
    taken = work.taken(parts, seconds + elsewhere)
    capped = any(part.capped for part in told) or (work.cap is not None and seconds > work.cap)
    notices = [*(notice for part in told for notice in part.notices), *work.notices]
    steps = sum(part.steps for part in told) or None  # of those parts that take any
    return Fitted(model, recipe, seconds + elsewhere, tokens, steps, plan if all(plans) else None, capped, taken=taken, notices=notices)


def _fit_counted(recipe: Recipe, corpus: Corpus, folder: Path, hooks: Hooks, quiet: bool, spent: float) -> Fitted:
    """One pass over the text, then the estimate, then a look at the validation text, which takes none of the time."""
    if recipe.start is not None:
        raise RecipeError(f"start: {recipe.family} counts and cannot go on from a trained model; leave start out")
    recipe.training.threads = runtime.set_threads(recipe.training.threads)
    split = corpus.splits["train"]
    begin = time.perf_counter() - spent
    dictation = _dictation(recipe, corpus)
    model: Any = build(recipe, corpus)
    recipe.model = model.config.model_dump(mode="json")
    recipe.save(folder / RECIPE)
    plan = plan_counted(lambda: build(recipe, corpus), split, min(200_000, split.tokens // 20))
    counting, cap = plan, Budget.parse(recipe.training.budget).seconds
    plan = plan if dictation is None else dictation.in_plan(plan)
    store.write_json(folder / RUN, {**read_run(folder), "plan": plan.to_dict()})
    reporter = Reporter(recipe.label, quiet=quiet)
    written, told = np.zeros(0, np.int32), {}
    try:
        if dictation is not None and dictation.wanted:
            reporter.update(0, f"the teacher writes {dictation.wanted:,} tokens")
            rest = counting.seconds * plan.tokens / counting.tokens  # of counting and estimating, which come after
            written = dictation.write(math.inf if cap is None else begin + 0.95 * cap - rest)
            told = {"written_tokens": len(written), "written_seconds": round(time.perf_counter() - begin, 3)}
        tokens = len(written) + (split.tokens if dictation is None or dictation.keeps_text else 0)
        reporter.update(0.25, f"counting {tokens:,} tokens")
        if dictation is None or dictation.keeps_text:
            model.count(split.chunks())
        model.count([written] if len(written) else [])
        reporter.update(0.5, "estimating")
        model.estimate()
        seconds = time.perf_counter() - begin
        reporter.update(1.0, f"{tokens / seconds:,.0f} tokens/s")
    finally:
        reporter.close()
    failed: list[str] = []
    try:
        looked = math.inf if hooks.validate is None else hooks.validate(model)
    except Exception as cause:  # whatever it is: what was counted is worth more than a look at it
        looked, failed = math.inf, [f"the validation text could not be scored ({type(cause).__name__}: {cause})"]
    told |= {"valid_loss": looked} if math.isfinite(looked) else {}
    metrics = Metrics(folder)
    metrics.write({"step": 1, "tokens": tokens, "seconds": round(seconds, 3), "tokens_per_second": tokens / seconds, **told})
    metrics.close()
    short = dictation is not None and dictation.written < dictation.wanted
    notices = [*(dictation.notices if dictation is not None else ()), *model.notices, *failed]
    capped = cap is not None and (seconds > cap or short)
    return Fitted(model, recipe, seconds, tokens, plan=plan.to_dict(), capped=capped, notices=notices)


def _dictation(recipe: Recipe, corpus: Corpus) -> Any:
    """What a teacher is to write for a family that counts; None without one. The recipe then says all of its objective."""
    config = recipe.objective_section()
    if config is None:
        return None
    found = registry.load_objective(config.name).dictation(config, recipe, corpus)
    recipe.objective = config.model_dump(mode="json")
    return found


def plan_ahead(recipe: Recipe, corpus: Corpus, beside: bool = False) -> dict[str, Any]:
    """What `fit` would need, as plain data. beside: see `refusal`."""
    recipe, seen = turn(recipe, corpus, partial(_timed, corpus)) if recipe.family is None else (recipe, {})
    if why := refusal(recipe, corpus, beside):
        raise RecipeError(why)
    if recipe.row.load().learning is Learning.COMPOSITE:
        parts = plan_parts(recipe, corpus, lambda part: plan_ahead(part, corpus, _reads_given(recipe)), seen.get("seconds", 0.0))
        chosen = {"auto-selected": f"{recipe.label}, {seen['why']}"} if seen else {}  # steps and speed are those of the parts
        return {**chosen, "parts": parts}
    runtime.set_threads(recipe.training.threads)
    model = build(recipe, corpus, bare=recipe.start is not None)
    if isinstance(model, NeuralLanguageModel):
        begin_weights(model, recipe, corpus)
        model = model.to(runtime.pick_device(recipe.training.device))
        settle_batch(recipe, corpus)
        return make_plan(model, make_objective(recipe, model, corpus), recipe.training).to_dict()
    dictation = _dictation(recipe, corpus)
    plan = plan_counted(lambda: build(recipe, corpus), corpus.splits["train"], 200_000)
    return (plan if dictation is None else dictation.in_plan(plan)).to_dict()


def saved_recipe(folder: Path) -> Recipe:
    """The recipe of a run folder, with all that was resolved."""
    refuse_no_run(folder)
    return make_recipe(read_recipe(Path(folder) / RECIPE))
