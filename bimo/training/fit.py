"""`fit`: a recipe and a corpus become a model, in whichever of the three ways its family learns."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bimo.core import registry, runtime, store
from bimo.core.budget import Budget
from bimo.core.errors import CheckpointError, MachineError, RecipeError
from bimo.core.recipe import Recipe, make_recipe, read_recipe
from bimo.data.corpus import Corpus
from bimo.models.adapters import merge, strip
from bimo.models.base import Kind, LanguageModel, Learning, NeuralLanguageModel
from bimo.models.embedding import reads_tags
from bimo.models.interop.peft import write_adapter
from bimo.training import checkpoint
from bimo.training.checkpoint import RECIPE, RUN, read_run
from bimo.training.composite import Composite
from bimo.training.dial import turn
from bimo.training.loop import Hooks, Loop
from bimo.training.objectives.base import Objective
from bimo.training.parts import part_recipe, plan_parts
from bimo.training.plan import Plan, make_plan, plan_counted
from bimo.training.probe import Probe, probe
from bimo.training.progress import Metrics, Reporter
from bimo.training.starting import make_ready
from bimo.training.tagging import model_vocabulary, tags_told

ADAPTER = "adapter"  # the folder of a run's adapters, in its own


@dataclass
class Fitted:
    """A learned model and what learning it took. seconds: on the budget's clock; tokens: read, repetitions included."""

    model: LanguageModel
    recipe: Recipe
    seconds: float
    tokens: int
    steps: int | None = None
    plan: dict[str, Any] | None = None
    capped: bool = False
    stopped_early: bool = False
    best_step: int | None = None
    notices: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """What run.json keeps of it."""
        return {
            "seconds": self.seconds, "tokens": self.tokens, "steps": self.steps, "capped": self.capped,
            "stopped_early": self.stopped_early, "best_step": self.best_step, "notices": self.notices,
        }  # fmt: skip


def build(recipe: Recipe, corpus: Corpus, tags: Sequence[str] | None = None) -> LanguageModel:
    """A fresh model of the recipe's family for the corpus' vocabulary, seeded by the recipe.

    tags: names of those that it reads, where its weights come from a checkpoint, which holds which token has which.
    """
    vocabulary = model_vocabulary(recipe, corpus, tags)
    torch.manual_seed(recipe.training.seed)
    model = recipe.row.load().build(recipe.model_section(), vocabulary)
    if vocabulary.tags and not reads_tags(model):
        raise RecipeError(f"text.tags: {recipe.family} reads no tags; leave text.tags out, or take a family that is learned by gradient")
    return model


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
    longest = int(np.diff(train.starts, append=train.tokens).max())
    if kind.whole_documents and longest > LONGEST_DOCUMENT:
        return (
            f"{family} reads each document whole, and one has {longest:,} tokens (at most {LONGEST_DOCUMENT:,}); "
            "prepare with --documents line or paragraph"
        )
    return None if objective is None else registry.load_objective(objective.name).refusal(recipe, corpus)


def _refusal_of_parts(recipe: Recipe, corpus: Corpus) -> str | None:
    """Why a part of a hybrid cannot learn from this corpus; None where all can."""
    parts = [part for part in recipe.model_section().parts if part.family is not None]
    conditional = any(registry.family(part.family).load().kind is Kind.CONDITIONAL for part in parts)
    for part in parts:
        if why := refusal(part_recipe(recipe, part), corpus, beside=conditional):
            return f"{part.name}: {why}"
    return None


def make_objective(recipe: Recipe, model: NeuralLanguageModel, corpus: Corpus) -> Objective:
    """What the recipe says is to be minimised, with the batches that it reads."""
    config = recipe.objective_section()
    return registry.load_objective(config.name)(config, model, recipe, corpus)


HooksOf = Callable[[Recipe], Hooks]  # of a run: what it looks at and writes depends on its recipe


def fit(recipe: Recipe, corpus: Corpus, folder: Path, hooks_of: HooksOf | None = None, resume: bool = False, quiet: bool = False) -> Fitted:
    """Learn the recipe's model from the corpus in the run folder; with `resume`, go on from its checkpoint.

    hooks_of: what the loop calls during a run of a recipe: of this one, or of each part of a hybrid.
    Raises `MachineError` if the disk has no room for two checkpoints, `DivergedError` on NaN, `Interrupted` on Ctrl-C.
    """
    folder = Path(folder)
    with store.machine_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    recipe, spent = _picked(recipe, corpus, folder, quiet)
    if why := refusal(recipe, corpus):
        raise RecipeError(why)
    way = Learning(recipe.row.learning)
    if way is Learning.COUNTED:
        return _fit_counted(recipe, corpus, folder, quiet, spent)
    if way is Learning.COMPOSITE:
        return _fit_composite(recipe, corpus, folder, hooks_of, resume, quiet, spent)
    return _fit_gradient(recipe, corpus, folder, hooks_of(recipe) if hooks_of is not None else Hooks(), resume, quiet, spent)


def _picked(recipe: Recipe, corpus: Corpus, folder: Path, quiet: bool) -> tuple[Recipe, float]:
    """The recipe, by the dial where it names no family; and seconds on the clock that the dial took, now or before the run was resumed."""
    told = read_run(folder)
    if recipe.family is not None:
        return recipe, float((told.get("dial") or {}).get("seconds", 0.0))
    runtime.pick_device(recipe.training.device)  # a wrong one is told, whatever is picked
    recipe, seen = turn(recipe, corpus, partial(_timed, corpus))
    recipe.save(folder / RECIPE)
    store.write_json(folder / RUN, {**told, "dial": seen})
    Reporter(recipe.name, 1, quiet=quiet).say(f"the dial picks {recipe.label}: {seen['why']}")
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
    reporter = Reporter(recipe.name, 1, quiet=quiet)

    def learn(part: Recipe, where: Path, going: bool) -> Fitted:
        return fit(part, corpus, where, hooks_of, going, quiet)

    work = Composite(recipe, corpus, folder, learn, reporter.say, spent)
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
        reporter.say(f"{recipe.name}: weights")
        model = work.mix(parts, lambda record: metrics.write({"step": 1, "tokens": tokens, "seconds": work.used() + elsewhere, **record}))
    finally:
        reporter.close()
        metrics.close()
    recipe.model = work.config.model_dump(mode="json", exclude_none=True, exclude={"title"})
    recipe.save(folder / RECIPE)
    plans = [part.plan for part in told]
    plan = {name: sum(plan.get(name) or 0 for plan in plans) for name in ("parameters", "disk_bytes", "seconds")}
    seconds = work.used()
    capped = (work.cap is not None and seconds > work.cap) or any(part.capped for part in told)
    notices = [*(notice for part in told for notice in part.notices), *work.notices]
    return Fitted(model, recipe, seconds + elsewhere, tokens, plan=plan if all(plans) else None, capped=capped, notices=notices)


def _fit_counted(recipe: Recipe, corpus: Corpus, folder: Path, quiet: bool, spent: float) -> Fitted:
    """One pass over the text, then the estimate."""
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
    reporter = Reporter(recipe.name, plan.tokens, quiet=quiet)
    written, told = np.zeros(0, np.int32), {}
    try:
        if dictation is not None and dictation.wanted:
            reporter.update(0, f"the teacher writes {dictation.wanted:,} tokens")
            rest = counting.seconds * plan.tokens / counting.tokens  # of counting and estimating, which come after
            written = dictation.write(math.inf if cap is None else begin + 0.95 * cap - rest)
            told = {"written_tokens": len(written), "written_seconds": round(time.perf_counter() - begin, 3)}
        tokens = len(written) + (split.tokens if dictation is None or dictation.keeps_text else 0)
        reporter.update(plan.tokens // 4, f"counting {tokens:,} tokens")
        if dictation is None or dictation.keeps_text:
            model.count(split.chunks())
        model.count([written] if len(written) else [])
        reporter.update(plan.tokens // 2, "estimating")
        model.estimate()
        seconds = time.perf_counter() - begin
        reporter.update(plan.tokens, f"{tokens / seconds:,.0f} tokens/s")
    finally:
        reporter.close()
    metrics = Metrics(folder)
    metrics.write({"step": 1, "tokens": tokens, "seconds": round(seconds, 3), "tokens_per_second": tokens / seconds, **told})
    metrics.close()
    short = dictation is not None and dictation.written < dictation.wanted
    notices = [*(dictation.notices if dictation is not None else ()), *model.notices]
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


def _fit_gradient(recipe: Recipe, corpus: Corpus, folder: Path, hooks: Hooks, resume: bool, quiet: bool, spent: float) -> Fitted:
    """The one loop, from step 0 or from the run folder's checkpoint."""
    importlib.import_module("torch._dynamo")  # torch's optimizers do it when first made, a second and more: that is no learning
    begin = time.perf_counter() - spent
    training = recipe.training
    runtime.set_threads(training.threads)
    device = runtime.pick_device(training.device)
    saved = checkpoint.Checkpoint.load(folder) if resume and (folder / checkpoint.FILE).exists() else None
    if recipe.adapter is not None and recipe.start is None:
        raise RecipeError("adapter: adapters stand beside a trained model; name it in start, or leave adapter out")
    tags = None if saved is None else read_run(folder).get("tags", {"names": [], "told": []})
    model: NeuralLanguageModel = build(recipe, corpus, None if tags is None else tags["names"])  # type: ignore[assignment]
    if saved is None or recipe.adapter is not None:  # a checkpoint of adapters does not hold what they stand beside
        _begin(model, recipe, corpus)
    model = model.to(device)
    model.gradient_checkpointing = training.gradient_checkpointing
    objective = make_objective(recipe, model, corpus)
    source = objective.source
    tags = tags or {"names": list(model.vocabulary.tags), "told": tags_told(model.vocabulary, corpus)}
    notices = [*source.notes, *tags["told"]]
    _check_room(model, training.optimizer, folder, standing=saved is not None)
    if saved is None:
        used = time.perf_counter() - begin
        timed = Budget.parse(training.budget).seconds is not None
        plan = make_plan(model, objective, training, used, 10.0 if timed else 0.3)
        training.steps, training.precision, training.device = plan.steps, plan.precision, str(device)
        training.threads = plan.threads
        training.context = source.context
        training.compile = _decide_compilation(recipe, device)
        _decide_looks(recipe, corpus, plan, model.scoring_passes)
        recipe.model = model.config.model_dump(mode="json")  # type: ignore[union-attr]
        recipe.objective = objective.config.model_dump(mode="json")
        recipe.save(folder / RECIPE)
        store.write_json(folder / RUN, {**read_run(folder), "plan": plan.to_dict(), **({"tags": tags} if tags["names"] else {})})
    rate = (read_run(folder).get("plan") or {}).get("matrix_rate", 0.0)
    if training.compile:
        notices += _compile(model)
    assert training.steps is not None
    reporter = Reporter(recipe.name, training.steps, saved.progress.step if saved else 0, quiet)
    loop = Loop(model, objective, training, folder, hooks, reporter, rate)
    if saved is not None:
        loop.restore(saved)
        reporter.say(f"{folder}: going on from step {saved.progress.step} of {training.steps}")
    outcome = loop.run(time.perf_counter() - begin, resumed=saved is not None)
    if loop.best is not None and training.keep == "best":
        model.load_state_dict(loop.best, strict=False)
    if recipe.adapter is not None:
        _keep_adapter(model, recipe, folder)
    progress = outcome.progress
    if loop.metrics.lost:
        notices.append("metrics.jsonl was cut short or taken away before the run was resumed; the curve lacks what stood there")
    cap = Budget.parse(training.budget).seconds
    if cap is not None and progress.seconds > 1.1 * cap:
        notices.append(f"took {progress.seconds:.1f} s of a budget of {cap:g} s: a step took longer than the budget could tell")
    return Fitted(
        model.eval(), recipe, progress.seconds, progress.tokens, progress.step, read_run(folder).get("plan"),
        outcome.capped, outcome.stopped_early, progress.best_step if loop.best is not None else progress.step, notices,
    )  # fmt: skip


def _begin(model: NeuralLanguageModel, recipe: Recipe, corpus: Corpus) -> None:
    """Before step 0: the output bias from the text, or all weights from the model that the run starts from, and adapters beside them."""
    if recipe.start is None:
        model.begin_from(torch.from_numpy(corpus.splits["train"].frequencies(model.vocab_size)).float())
    else:
        make_ready(model, recipe, corpus.tokenizer)


def _keep_adapter(model: NeuralLanguageModel, recipe: Recipe, folder: Path) -> None:
    """Write the adapters, then add them into the weights: the run's model is a whole one, and needs no other."""
    write_adapter(model, folder / ADAPTER, str(recipe.start))
    merge(model)
    strip(model)


def _check_room(model: NeuralLanguageModel, optimizer: str, folder: Path, standing: bool) -> None:
    """Two checkpoints (the old one goes only after the new one stands; one may stand already) and the model must fit on the disk."""
    size = checkpoint.checkpoint_bytes(model, optimizer)
    need = (1 if standing else 2) * size + sum(t.nbytes for t in model.state_dict().values()) + (16 << 20)
    free = store.free_bytes(folder)
    if free < need:
        raise MachineError(
            f"{folder}: the run needs {need / 2**20:,.0f} MiB for its checkpoints, {free / 2**20:,.0f} MiB are free; "
            "free some space or choose another folder with --out"
        )


def _decide_looks(recipe: Recipe, corpus: Corpus, plan: Plan, passes: int) -> None:
    """How often to look at the validation text and to write a sample, where the recipe leaves it open.

    All looks together read no more tokens than the run learns from (but there is one at least), and a run of some
    seconds writes one sample, so that watching a short run takes no longer than the run.
    """
    training, valid = recipe.training, corpus.splits.get("valid")
    if training.evaluations is None:
        read = min(training.evaluation_tokens, valid.tokens * passes) if valid is not None else 1
        training.evaluations = max(1, min(10, plan.tokens // max(1, read)))
    if training.samples is None:
        training.samples = 1 + (plan.seconds >= 10) + (plan.seconds >= 30)


def _decide_compilation(recipe: Recipe, device: torch.device) -> bool:
    """On a CPU only on request; on a GPU where the budget is long enough (5 minutes) for its start to pay."""
    if recipe.training.compile is not None:
        return recipe.training.compile
    seconds = Budget.parse(recipe.training.budget).seconds
    return device.type == "cuda" and seconds is not None and seconds >= 300


def _compile(model: NeuralLanguageModel) -> list[str]:
    """Compile the hidden states' computation; where no compiler works, say so and go on without."""
    plain = model.hidden
    try:
        compiled = torch.compile(plain, dynamic=False)
        tokens = torch.zeros(1, 2, dtype=torch.int64, device=model.device)
        compiled(tokens)
    except Exception as cause:  # torch raises whatever its compiler raises
        return [f"training.compile: no working compiler here ({type(cause).__name__}); went on without"]
    model.hidden = compiled  # type: ignore[method-assign]
    return []


def plan_ahead(recipe: Recipe, corpus: Corpus) -> dict[str, Any]:
    """What `fit` would need, as plain data."""
    recipe, seen = turn(recipe, corpus, partial(_timed, corpus)) if recipe.family is None else (recipe, {})
    if why := refusal(recipe, corpus):
        raise RecipeError(why)
    if recipe.row.load().learning is Learning.COMPOSITE:
        parts = plan_parts(recipe, corpus, lambda part: plan_ahead(part, corpus), seen.get("seconds", 0.0))
        return {**({"dial": seen} if seen else {}), "parts": parts}
    runtime.set_threads(recipe.training.threads)
    model = build(recipe, corpus)
    if isinstance(model, NeuralLanguageModel):
        _begin(model, recipe, corpus)
        model = model.to(runtime.pick_device(recipe.training.device))
        return make_plan(model, make_objective(recipe, model, corpus), recipe.training).to_dict()
    dictation = _dictation(recipe, corpus)
    plan = plan_counted(lambda: build(recipe, corpus), corpus.splits["train"], 200_000)
    return (plan if dictation is None else dictation.in_plan(plan)).to_dict()


def saved_recipe(folder: Path) -> Recipe:
    """The recipe of a run folder, with all that was resolved."""
    if not (Path(folder) / RECIPE).is_file():
        raise CheckpointError(f"{folder}: no run to resume (no {RECIPE}); start one with bimo train SOURCE --out {folder}")
    return make_recipe(read_recipe(Path(folder) / RECIPE))
