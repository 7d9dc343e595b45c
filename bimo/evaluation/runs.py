"""A whole run: fit a recipe, keep the model, measure it, and write down what came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bimo.core import fetch, progress, registry, runtime, store
from bimo.core.budget import Budget
from bimo.core.errors import BimoError, CheckpointError, Interrupted, NotMeasuredError, RecipeError, memory_errors
from bimo.core.recipe import Recipe
from bimo.data.corpus import Corpus
from bimo.data.excerpt import excerpt
from bimo.data.split import Split
from bimo.evaluation import heldout, passage
from bimo.evaluation.diversity import self_bleu
from bimo.evaluation.facts import curve, machine_facts, text_facts
from bimo.evaluation.metrics import distinct_n, repetition
from bimo.evaluation.perplexity import Evaluation, evaluate
from bimo.evaluation.report import write_report
from bimo.evaluation.results import Comparison, Estimate, Row, RowPart, Sample
from bimo.evaluation.samples import SAID, Prompt, generation_speed, prompt_for, short_texts, write_samples
from bimo.models.base import NeuralLanguageModel
from bimo.models.bundle import Bundle
from bimo.models.folders import REPORT, holds_weights
from bimo.models.hybrid import Hybrid
from bimo.training import checkpoint
from bimo.training.checkpoint import RECIPE, RUN, read_run
from bimo.training.composite import PARTS
from bimo.training.fit import Fitted, fit, saved_recipe
from bimo.training.loop import Hooks
from bimo.training.starting import started
from bimo.training.teacher import fingerprint_of

RESULT = "result.json"
TRAINED = "trained"  # the status of a run whose model is written and whose figures are not
MOST_TAKEN = 1.05  # times the budget: what a hybrid that is ranked may take with its parts


@dataclass
class Run:
    """A finished run: its folder, its row of figures, and the comparison of one that its report shows."""

    folder: Path
    result: Comparison
    finished_before: bool = False

    @property
    def row(self) -> Row:
        """The figures."""
        return self.result.rows[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"folder": str(self.folder), **self.row.model_dump(mode="json", exclude={"curve", "unit_nats", "surprise", "recipe"})}


@memory_errors()
def run(
    recipe: Recipe, corpus: Corpus, folder: Path, *,
    name: str, command: str = "", compared: bool = False, resume: bool = False, quiet: bool = False,
) -> Run:  # fmt: skip
    """Fit `recipe` on `corpus` in `folder`; write the model, result.json and report.html there.

    compared: the run is a comparison's, which may make it again. Whatever measuring it raises, a trained model is kept: the error is
    then a `NotMeasuredError`, and with `resume` the model is measured again, not learned.
    """
    folder = Path(folder)
    store.clear_left(folder)
    before = _told(folder) if resume else {}
    trained = before.get("status") == TRAINED and holds_weights(folder)
    asked = before.get("asked", recipe.to_dict())
    if not resume:
        _begin(folder)
    told = {
        "compared": compared, **before, "status": TRAINED if trained else "running", "name": name, "command": command,
        "sources": recipe.text.sources,
        "corpus": str(corpus.folder.resolve()), "corpus_fingerprint": _fingerprint(corpus), "asked": asked,
        "made_of": before.get("made_of", _made_of(recipe)),
    }  # fmt: skip
    store.write_json(folder / RUN, told)  # before the recipe: where that stands, the run can be resumed
    if not resume:
        recipe.save(folder / RECIPE)
    if not (quiet or compared) and (said := heldout.said_before(corpus, recipe.training)):
        progress.say(said)
    fitted, bundle, peak = _trained(folder, recipe) if trained else _train(recipe, corpus, folder, resume, quiet)
    try:
        with memory_errors(), progress.task(f"{fitted.recipe.label}: measuring"):
            fitted.notices += _changed(fitted, bundle, corpus, folder)
            comparison, row = _measured(fitted, bundle, corpus, folder, told, peak)
            comparison.rows = [row]
            store.write_json(folder / RESULT, comparison.to_dict())
            write_report(comparison, folder / REPORT)
    except KeyboardInterrupt:
        raise Interrupted(f"trained, but not measured: stopped; go on with: bimo train --resume {folder}") from None
    except Exception as cause:  # whatever it is, the model is there, and is worth more than its figures
        raise _not_measured(folder, cause) from cause
    store.write_json(folder / RUN, {**store.read_json(folder / RUN), "status": "finished"})
    return Run(folder, comparison)


def _train(recipe: Recipe, corpus: Corpus, folder: Path, resume: bool, quiet: bool) -> tuple[Fitted, Bundle, int]:
    """The fitted model, as a bundle that is written into the run folder, and the memory that it took at its peak, bytes."""
    runtime.forget_peak_memory()  # what preparing the text took is not the model's
    fitted = fit(recipe, corpus, folder, lambda recipe: _hooks(corpus, recipe, folder), resume=resume, quiet=quiet)
    peak = _peak_memory(fitted.model)
    bundle = Bundle.of(fitted.model, corpus, fitted.recipe.training.context)
    if recipe.start is not None:
        start = started(recipe.start)
        bundle.ends, bundle.pooling, bundle.generation = start.ends, start.pooling, start.generation
        bundle.unit_vectors = start.unit_vectors
    bundle.pooling = fitted.recipe.objective.get("pooling", bundle.pooling)
    bundle.save(folder)
    store.write_json(folder / RUN, {**store.read_json(folder / RUN), "status": TRAINED, "peak_memory_bytes": peak, **fitted.record()})
    return fitted, bundle, peak


def _trained(folder: Path, recipe: Recipe) -> tuple[Fitted, Bundle, int]:
    """As `_train`, of a run whose model lies in its folder already."""
    told, bundle = _told(folder), Bundle.load(folder)
    runtime.set_threads(recipe.training.threads)
    if isinstance(bundle.model, NeuralLanguageModel):
        bundle.model.to(runtime.pick_device(recipe.training.device))
    return Fitted.again(bundle.model, recipe, told), bundle, int(told.get("peak_memory_bytes") or 0)


def _not_measured(folder: Path, cause: Exception) -> NotMeasuredError:
    """The error of a run whose model is trained, with the exit code of what went wrong."""
    bug = "" if isinstance(cause, BimoError) else f"unexpected {type(cause).__name__}: "
    error = NotMeasuredError(
        f"{folder}: trained, but not measured: {bug}{cause}; the model is kept and can be used (bimo info {folder}), and "
        f"bimo train --resume {folder} measures it again"
    )
    error.exit_code = cause.exit_code if isinstance(cause, BimoError) else 1
    return error


_MADE_BY_A_RUN = (checkpoint.FILE, RUN, RESULT, "model.safetensors", "config.json", REPORT, "metrics.jsonl", "error.json")


def refuse_used(folder: Path, compared: bool = False) -> None:
    """Raise `RecipeError` where a folder holds a checkpoint or a model, which a new run would take away; a failed start holds neither.

    compared: a run that a comparison made may be taken away.
    """
    store.refuse_odd_name(folder)
    store.refuse_non_folder(folder, RecipeError)
    used = any((folder / name).exists() for name in (checkpoint.FILE, "model.safetensors"))
    if not used or (compared and _told(folder).get("compared")):
        return
    run = (folder / RECIPE).exists()
    go_on = f"go on with bimo train --resume {folder}, or " if run else ""
    raise RecipeError(f"{folder}: holds a {'run' if run else 'model'} already; {go_on}choose another --out")


def _begin(folder: Path) -> None:
    """An empty run folder: what an earlier run left there must not be taken for this one's, its checkpoint least of all."""
    store.make_folder(folder)
    with store.machine_errors(folder):
        for name in _MADE_BY_A_RUN:
            (folder / name).unlink(missing_ok=True)
        store.remove(folder / PARTS)


def _fingerprint(corpus: Corpus) -> str:
    """Of the tokenizer and of every split: a run goes on only with the text that it began with, held-out text included."""
    return "-".join([corpus.tokenizer.fingerprint[:16], *(f"{name}:{split.fingerprint[:16]}" for name, split in corpus.splits.items())])


def _made_of(recipe: Recipe) -> dict[str, str]:
    """Of each trained model that a run takes over: what it is, so that one that was learned anew is not taken for the one before."""
    parts = recipe.model_section().parts if recipe.family == registry.HYBRID else []
    named = (recipe.start, *(part.folder for part in parts))
    return {reference: fingerprint_of(fetch.located(reference)) for reference in named if reference is not None}


def _told(folder: Path) -> dict[str, Any]:
    """What run.json says, if there is one."""
    told = store.read_json(folder / RUN, CheckpointError) if (folder / RUN).exists() else {}
    if not isinstance(told, dict):
        raise CheckpointError(f"{folder / RUN}: expected a mapping, found a {type(told).__name__}; start again from {folder / RECIPE}")
    return told


def _corpus_of(folder: Path, told: dict[str, Any]) -> Corpus:
    """The corpus that a run learns from, also where the run was moved together with it."""
    if not isinstance(told.get("corpus"), str):
        raise CheckpointError(f"{folder / RUN}: does not name the run's corpus; start again with bimo train {folder / RECIPE}")
    places = [Path(told["corpus"]), folder / "corpus", folder.parent / "corpus"]
    corpus = Corpus.open(next((p for p in places if (p / "corpus.json").is_file()), places[0]))
    if told.get("corpus_fingerprint", _fingerprint(corpus)) != _fingerprint(corpus):
        raise CheckpointError(f"{corpus.folder}: was prepared anew since the run began; start a new run with bimo train {corpus.folder}")
    return corpus


def stands(folder: Path, recipe: Recipe, corpus: Corpus) -> bool:
    """Whether `folder` holds a run of this very recipe, as it was asked for, on this corpus, finished or to go on with."""
    if not (folder / RUN).exists() or not (folder / RECIPE).exists():
        return False
    told = _told(folder)
    same = told.get("asked") == recipe.to_dict() and told.get("corpus_fingerprint") == _fingerprint(corpus)
    same = same and told.get("made_of", {}) == _made_of(recipe)
    return same and (told.get("status") != "finished" or (folder / RESULT).exists())


def resume(folder: Path, quiet: bool = False) -> Run:
    """Go on with a run where its last checkpoint stands; one that has finished is returned as it is."""
    folder = Path(folder)
    recipe = saved_recipe(folder)
    told = _told(folder)
    if told.get("status") == "finished":
        return Run(folder, Comparison.from_dict(store.read_json(folder / RESULT, CheckpointError)), finished_before=True)
    corpus = _corpus_of(folder, told)
    there = recipe.adapter is not None and recipe.start is not None and fetch.located(recipe.start).exists()  # if not, opening it says so
    if there and told.get("made_of", made_of := _made_of(recipe)) != made_of:
        raise CheckpointError(
            f"{recipe.start}: is another model than the one that {folder} began with, beside which its adapters were learned; "
            f"put that one back, or start a new run with bimo train {folder / RECIPE}"
        )
    return run(recipe, corpus, folder, name=told.get("name", folder.name), command=told.get("command", ""), resume=True, quiet=quiet)


def _hooks(corpus: Corpus, recipe: Recipe, folder: Path) -> Hooks:
    """What the loop calls: a look at the validation text, and a sample."""
    valid = corpus.splits.get("valid")
    drawn: list[Split] = []  # at the first look, when the model is there to tell how much it can read

    def validate(model: Any) -> float:
        assert valid is not None
        if not drawn:
            drawn.append(excerpt(valid, recipe.training.evaluation_tokens // model.scoring_passes, whole=model.whole_documents))
        return evaluate(model, drawn[0], Bundle.of(model, corpus, recipe.training.context).context).nats_per_token

    def sample(model: Any) -> str:
        bundle = Bundle.of(model, corpus, recipe.training.context)
        prompt = prompt_for(bundle, corpus)
        return "".join(prompt.shown + (row.text or "") for row in write_samples(bundle, prompt, 1, max_new_tokens=40))

    def start(model: Any) -> None:
        loss = evaluate(model, _watched(corpus, model), Bundle.of(model, corpus, recipe.training.context).context).nats_per_token
        store.write_json(folder / RUN, {**store.read_json(folder / RUN), "loss_before": loss})

    looks = None if valid is None or valid.scored_tokens < 1 else validate
    return Hooks(looks, sample, None if recipe.start is None else start)


_FEWEST = 10, 200  # conversations and tokens: the figures of less held-out text mean nothing
_WATCHED = 2_000  # tokens that the loss before and after is measured on


def _is_large_enough(split: Split | None) -> bool:
    """Whether a split is large enough for its figure to mean something."""
    return split is not None and (split.answers is None or split.documents >= _FEWEST[0]) and split.scored_tokens >= _FEWEST[1]


def _watched(corpus: Corpus, model: Any) -> Split:
    """What the loss before and after is measured on: validation text, or training text where too little is held out."""
    valid = corpus.splits.get("valid")
    split = valid if valid is not None and _is_large_enough(valid) else corpus.splits["train"]
    return excerpt(split, max(1, _WATCHED // model.scoring_passes), whole=model.whole_documents)


def _changed(fitted: Fitted, bundle: Bundle, corpus: Corpus, folder: Path) -> list[str]:
    """What going on from a trained model changed, in words, and whether the held-out text can tell how well it did."""
    before = read_run(folder).get("loss_before")
    if before is None:
        return []
    split = _watched(corpus, fitted.model)
    after = evaluate(fitted.model, split, bundle.context).nats_per_token
    what = "held-out text" if _is_large_enough(corpus.splits.get("valid")) else "training text, since too little is held out"
    lines = [f"loss {before:.3f} before, {after:.3f} after, on {split.scored_tokens:,} tokens of {what}"]
    held = heldout.test_text(corpus)
    if held is not None and not _is_large_enough(held):
        lines.append(f"the figures are of {held.documents:,} held-out documents, {held.scored_tokens:,} tokens: too few to judge by")
    return lines


def _peak_memory(model: Any) -> int:
    return torch.cuda.max_memory_allocated(model.device) if model.device.type == "cuda" else runtime.peak_memory_bytes()


def _measured(fitted: Fitted, bundle: Bundle, corpus: Corpus, folder: Path, told: dict[str, Any], peak: int) -> tuple[Comparison, Row]:
    recipe = fitted.recipe
    family = recipe.row
    split = heldout.test_text(corpus)
    drawn = None if split is None else heldout.drawn_for(fitted.model, split, recipe.training)
    measured = None if drawn is None else evaluate(fitted.model, drawn, bundle.context)
    place = passage.choose(corpus)
    prompt = prompt_for(bundle, corpus)
    training, plan = recipe.training, fitted.plan or {}
    gradient = family.learning == "gradient"
    row = Row(
        family=recipe.name,
        label=recipe.label,
        apart=_over_budget(fitted) if family.learning == "composite" else None,
        parts=_parts(fitted),
        mixture=_mixture(fitted),
        surprise=passage.surprise(bundle, corpus, place) if place else None,
        kind=fitted.model.kind.value,
        learning=family.learning,
        parameters=fitted.model.parameter_count(),
        disk_bytes=sum(p.stat().st_size for p in folder.glob("model*.safetensors")),
        run_bytes=sum(p.stat().st_size for p in folder.rglob("*.safetensors") if not p.name.startswith("diverged")),
        peak_memory_bytes=peak,
        peak_memory_on=fitted.model.device.type,
        context=bundle.context,
        precision=training.precision or "" if gradient else "",
        batch=training.batch_size * training.accumulation if gradient else None,
        threads=training.threads,
        steps=fitted.steps,
        training_tokens=fitted.tokens,
        training_tokens_per_second=fitted.tokens / fitted.seconds,
        generation_tokens_per_second=generation_speed(bundle, prompt, min(2.0, max(0.2, 0.1 * fitted.seconds))),
        generation_batch=1,
        generation_precision="fp32",
        generation_threads=torch.get_num_threads(),
        budget_seconds=_seconds_given(recipe),
        used_seconds=fitted.seconds,
        capped=fitted.capped,
        plan=Estimate(**{k: plan[k] for k in Estimate.model_fields if k in plan}) if plan else None,
        notices=fitted.notices + _ended(fitted),
        recipe=recipe.dump(),
        curve=curve(folder, corpus.splits.get("valid")),
        **_written(bundle, prompt, fitted.seconds),
        **_score_fields(measured),
    )
    comparison = Comparison(
        text=text_facts(corpus, told["name"], told["sources"]), machine=machine_facts(), budget=training.budget, seed=training.seed,
        command=told["command"], unit=measured.unit if measured else "document",  # type: ignore[arg-type]
        unit_bytes=measured.unit_bytes.tolist() if measured else [], passage=passage.shown(corpus, place) if place else None,
    )  # fmt: skip
    if split is not None and drawn is not None:
        row.notices += heldout.said_after(comparison, row, drawn, split)
    return comparison, row


def _score_fields(e: Evaluation | None) -> dict[str, Any]:
    if e is None:
        return {}
    names = ("bits_per_byte", "perplexity", "nats", "tokens", "bytes", "unknown_tokens", "lost_bytes", "impossible_tokens")
    return {**{n: getattr(e, n) for n in names}, "score_samples": e.samples, "unit_nats": e.unit_nats.tolist()}


def _seconds_given(recipe: Recipe) -> float | None:
    return Budget.parse(recipe.training.budget).seconds


def _parts(fitted: Fitted) -> list[RowPart]:
    if not isinstance(fitted.model, Hybrid):
        return []
    told = zip(fitted.recipe.model_section().parts, fitted.model.weights.values.tolist(), strict=True)
    return [RowPart(family=part.name, label=part.title, weight=weight) for part, weight in told]


def _mixture(fitted: Fitted) -> str:
    if not isinstance(fitted.model, Hybrid):
        return ""
    return "gate" if fitted.model.weights.gate is not None else fitted.model.mixture


def _over_budget(fitted: Fitted) -> str | None:
    """Why a hybrid is not ranked beside its parts: it took more, by a twentieth, than each of them may."""
    if fitted.taken <= MOST_TAKEN:
        return None
    return f"took {fitted.taken:.2f} times the budget with its parts"


def _ended(fitted: Fitted) -> list[str]:
    notes = []
    if fitted.stopped_early:
        notes.append(f"stopped early at step {fitted.steps}: no improvement on validation text")
    if fitted.best_step is not None and fitted.steps is not None and fitted.best_step < fitted.steps:
        notes.append(f"the weights are those of step {fitted.best_step} of {fitted.steps}, the best on validation text")
    return notes


def _written(bundle: Bundle, prompt: Prompt, seconds: float) -> dict[str, Any]:
    """What the model writes, and how various that is; short texts to compare take 2 % of the run's time, between 0.3 and 3 seconds."""
    rows = write_samples(bundle, prompt, 2)
    texts = short_texts(bundle, prompt, min(3.0, max(0.3, 0.02 * seconds)))
    ids = [row.ids for row in rows]
    measures = {"distinct_1": distinct_n(ids, 1), "distinct_2": distinct_n(ids, 2), "repetition_4": repetition(ids, 4)}
    return {
        "samples": [Sample(prompt=prompt.shown, continuation=row.text or "", settings=SAID) for row in rows[:1]],
        "measures": {**measures, "self_bleu": self_bleu(texts)} if len(texts) > 1 else measures,
        "self_bleu_texts": len(texts) if len(texts) > 1 else None,
    }
