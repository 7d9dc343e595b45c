"""The way of gradient: from a recipe to steps, the loop, and what is kept of it."""

from __future__ import annotations

import importlib
import time
from pathlib import Path

import torch

from bimo.core import runtime, store
from bimo.core.budget import Budget
from bimo.core.errors import MachineError, RecipeError
from bimo.core.recipe import Recipe, TrainingSection
from bimo.data.corpus import Corpus
from bimo.models.adapters import merge, strip
from bimo.models.base import NeuralLanguageModel
from bimo.models.interop.peft import write_adapter
from bimo.models.quantized import four_bit_numbers
from bimo.training import checkpoint
from bimo.training.checkpoint import RECIPE, RUN, read_run
from bimo.training.loop import Hooks, Loop
from bimo.training.making import Fitted, begin_weights, build, make_objective, settle_batch
from bimo.training.plan import Plan, make_plan
from bimo.training.progress import Reporter
from bimo.training.starting import tokens_added
from bimo.training.tagging import tags_told

FEW_STEPS = 20
ADAPTER = "adapter"  # the folder of a run's adapters, in its own


def fit_gradient(recipe: Recipe, corpus: Corpus, folder: Path, hooks: Hooks, resume: bool, quiet: bool, spent: float) -> Fitted:
    """The one loop, from step 0 or from the run folder's checkpoint."""
    importlib.import_module("torch._dynamo")  # torch's optimizers do it when first made, a second and more: that is no learning
    clock = time.perf_counter() - spent
    training = recipe.training
    runtime.set_threads(training.threads)
    device = runtime.pick_device(training.device)
    saved = checkpoint.Checkpoint.load(folder) if resume and (folder / checkpoint.FILE).exists() else None
    if recipe.adapter is not None and recipe.start is None:
        raise RecipeError("adapter: adapters stand beside a trained model; name it in start, or leave adapter out")
    tags = None if saved is None else read_run(folder).get("tags", {"names": [], "told": []})
    begins = saved is None or recipe.adapter is not None  # a checkpoint of adapters does not hold what they stand beside
    bare = begins and recipe.start is not None
    model: NeuralLanguageModel = build(recipe, corpus, None if tags is None else tags["names"], bare)  # type: ignore[assignment]
    if begins:
        begin_weights(model, recipe, corpus)
    model = model.to(device)
    model.gradient_checkpointing = training.gradient_checkpointing
    if saved is None:
        settle_batch(recipe, corpus)
    objective = make_objective(recipe, model, corpus)
    source = objective.source
    tags = tags or {"names": list(model.vocabulary.tags), "told": tags_told(model.vocabulary, corpus)}
    notices = [*source.notes, *tags["told"]]
    _check_room(model, training, folder, standing=saved is not None)
    plan_again = training.steps is None and len(objective.moments()) == 1  # of steps of several kinds none tells the others' speed
    if saved is None:
        used = time.perf_counter() - clock
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
        notices += _compile(model, alike=corpus.splits["train"].answers is None)
    assert training.steps is not None
    reporter = Reporter(recipe.label, saved.progress.step / training.steps if saved else 0.0, quiet)
    loop = Loop(model, objective, training, folder, hooks, reporter, rate)
    if saved is not None:
        loop.restore(saved)
        reporter.say(f"{folder}: going on from step {saved.progress.step} of {training.steps}")
    outcome = loop.run(time.perf_counter() - clock, resumed=saved is not None, plan_again=plan_again)
    recipe.save(folder / RECIPE)  # with as many steps as were planned at last
    if loop.kept is not None:
        model.load_state_dict(loop.kept, strict=False)
    if recipe.adapter is not None:
        notices += _keep_adapter(model, recipe, corpus, folder)
    progress = outcome.progress
    notices += loop.notices
    if loop.metrics.lost:
        notices.append("metrics.jsonl was cut short or taken away before the run was resumed; the curve lacks what stood there")
    cap = Budget.parse(training.budget).seconds
    if recipe.start is not None and cap is not None and progress.step < FEW_STEPS:
        notices.append(f"only {progress.step:,} steps were made in the time: too few to learn much; a longer --budget makes more")
    if cap is not None and progress.seconds > 1.1 * cap:
        notices.append(f"took {progress.seconds:.1f} s of a budget of {cap:g} s: a step took longer than the budget could tell")
    return Fitted(
        model.eval(), recipe, progress.seconds, progress.tokens, progress.step, read_run(folder).get("plan"),
        outcome.capped, outcome.stopped_early, progress.best_step if loop.best is not None else progress.step, notices,
    )  # fmt: skip


def _keep_adapter(model: NeuralLanguageModel, recipe: Recipe, corpus: Corpus, folder: Path) -> list[str]:
    """Write the adapters, then add them into the weights, whole again if they were in four bits: the run's model needs no other.

    Where rows of added tokens were learned too, adapters are not all that was learned, and none are written; a notice says so.
    """
    old, new = tokens_added(str(recipe.start), corpus.tokenizer)
    if new == old:
        write_adapter(model, folder / ADAPTER, str(recipe.start))
    notices = [] if new == old else [f"{new - old:,} tokens were added, and their rows learned too: only the whole model holds them"]
    merge(model)
    if model.device.type == "cuda" and (need := 4 * four_bit_numbers(model)):
        torch.cuda.empty_cache()
        if need > torch.cuda.mem_get_info(model.device)[0]:
            model.cpu()
            notices.append("the card has no room for the model as it is written, whole: it was measured on the processor")
    strip(model)
    return notices


def _check_room(model: NeuralLanguageModel, training: TrainingSection, folder: Path, standing: bool) -> None:
    """What the run writes must fit on the disk."""
    need, free = checkpoint.room_bytes(model, training, standing), store.free_bytes(folder)
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


def _compile(model: NeuralLanguageModel, alike: bool) -> list[str]:
    """Compile the hidden states' computation; where no compiler works, say so and go on without.

    alike: batches are of one width, or of few; rows of packed conversations are not, and each width would be compiled anew.
    """
    plain = model.hidden
    try:
        compiled = torch.compile(plain, dynamic=False if alike else None)
        tokens = torch.zeros(1, 2, dtype=torch.int64, device=model.device)
        compiled(tokens)
    except Exception as cause:  # torch raises whatever its compiler raises
        return [f"training.compile: no working compiler here ({type(cause).__name__}); went on without"]
    model.hidden = compiled  # type: ignore[method-assign]
    return []
