"""`compare`: families or recipes under one budget, each learned and measured in a process of its own."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bimo.core import progress, registry, store
from bimo.core.budget import Budget
from bimo.core.errors import BimoError, Interrupted, RecipeError
from bimo.core.recipe import OF_ANY, Recipe, make_recipe
from bimo.data.corpus import Corpus
from bimo.evaluation import runs
from bimo.evaluation.facts import machine_facts, text_facts
from bimo.evaluation.heldout import said_before
from bimo.evaluation.promising import promising
from bimo.evaluation.report import write_report
from bimo.evaluation.report.tables import markdown_table
from bimo.evaluation.results import Comparison, Row
from bimo.evaluation.runs import RESULT
from bimo.models.base import Kind, Learning
from bimo.models.folders import COMPARISON, REPORT
from bimo.models.hybrid.config import numbered
from bimo.training.fit import refusal
from bimo.training.parts import by_gradient, held_out, part_recipe

PROMISING = "promising.json"  # which hybrids were thought of, and what they promised on validation text


def fitting(corpus: Corpus, recipe_of: Callable[[str], Recipe]) -> list[Recipe]:
    """Recipes of the families that can learn from this corpus and whose scores are of its text as it runs.

    recipe_of: the recipe of a family of that name.
    """
    pairs = corpus.splits["train"].given is not None
    kinds = (Kind.CONDITIONAL,) if pairs else (Kind.EXACT, Kind.BOUND)
    recipes = [recipe_of(name) for name in registry.families() if registry.family(name).load().kind in kinds]
    return [recipe for recipe in recipes if refusal(recipe, corpus) is None]


def refuse_used(out: Path, families: Sequence[str]) -> None:
    """Raise `RecipeError` where a comparison of these in `out` would take away a run that no comparison made."""
    runs.refuse_used(out)
    for name in numbered(families):
        runs.refuse_used(out / name, compared=True)


def compare(
    recipes: Sequence[Recipe],
    corpus: Corpus,
    out: Path,
    *,
    name: str,
    command: str = "",
    hybrids: int = 0,
    lang: str | None = None,
    quiet: bool = False,
) -> Comparison:
    """Run each recipe on `corpus` in its own process, then write comparison.json, table.md and report.html to `out`.

    hybrids: so many mixtures of what was learned are tried too, the most promising on validation text. lang: of the report. A run that
    stands in `out` already, from the same recipe and text, is not made again but gone on with. A recipe that fails is a row that says
    why; Ctrl-C stops the whole comparison.
    """
    out = Path(out)
    for earlier in (COMPARISON, "table.md", REPORT):
        with store.machine_errors(out):
            (out / earlier).unlink(missing_ok=True)
    names = numbered([recipe.name for recipe in recipes])
    asked = {folder: _reusing(recipe, names, recipes, out) for recipe, folder in zip(recipes, names, strict=True)}
    there = [folder for folder, recipe in asked.items() if (out / folder / RESULT).exists() and runs.stands(out / folder, recipe, corpus)]
    before = {folder: (out / folder / RESULT).stat().st_mtime for folder in there}
    if not quiet and (len(before) < len(asked) or hybrids):
        progress.say(_total(recipes[0].training.budget, len(asked) - len(before), hybrids))
        if said := said_before(corpus, recipes[0].training):
            progress.say(said)
    later = sorted(asked, key=lambda folder: asked[folder].family == registry.HYBRID)  # hybrids after what they are made of
    runs_of = {folder: _run_apart(asked[folder], corpus, out / folder, name, quiet) for folder in later}
    made = {folder: runs_of[folder] for folder in asked}
    notices = _add_hybrids(made, asked, corpus, out, hybrids, name, quiet) if hybrids else []
    notices = _shown_again(before, out) + notices
    for notice in notices if not quiet else []:
        print(notice, file=sys.stderr)
    whole = _of_one_text([r for r in made.values() if isinstance(r, Comparison)])
    comparison = Comparison(
        text=whole.text if whole else text_facts(corpus, name, recipes[0].text.sources),
        machine=whole.machine if whole else machine_facts(),
        budget=recipes[0].training.budget,
        seed=recipes[0].training.seed,
        command=command,
        unit=whole.unit if whole else "document",
        unit_bytes=whole.unit_bytes if whole else [],
        passage=next((r.passage for r in made.values() if isinstance(r, Comparison) and r.passage), None),
        notices=notices,
        rows=_told_apart(_with_memory_of_parts([_placed(result, folder, asked[folder], out) for folder, result in made.items()])),
    )
    store.write_json(out / COMPARISON, comparison.to_dict())
    store.write_text(out / "table.md", markdown_table(comparison) + "\n")
    write_report(comparison, out / REPORT, lang)
    comparison.folder = out
    return comparison


def _of_one_text(results: Sequence[Comparison]) -> Comparison | None:
    """One of those measured on the sample of the text that the ranked rows share: of the strictest kind, then of the most rows.

    The units of rows that were measured on another sample are left out: nothing pairs them with these.
    """
    if not results:
        return None
    samples = [(result.unit, tuple(result.unit_bytes)) for result in results]
    shared = Counter(samples)
    kinds = [kind.value for kind in Kind]
    first = min(range(len(results)), key=lambda i: (kinds.index(results[i].rows[0].kind), -shared[samples[i]]))
    for result, sample in zip(results, samples, strict=True):
        if sample != samples[first]:
            result.rows[0].unit_nats = None
    return results[first]


_BESIDE = 1.5, 6.0  # of a model's time in a comparison: so many times its budget, and seconds, with its start and its measuring


def _total(budget: str, models: int, hybrids: int) -> str:
    """How long a comparison takes, in words, before it begins.

    >>> _total("30s", 3, 0)
    '3 models, 30s of training each, one after another, then measured: about 3 min'
    """
    also = f" and up to {hybrids} hybrids of them" if hybrids else ""
    seconds = Budget.parse(budget).seconds
    plan = f"{models} model{'s' * (models != 1)}, {budget} of training each, one after another, then measured{also}"
    if seconds is None:
        return plan
    whole = models * (_BESIDE[0] * seconds + _BESIDE[1]) + hybrids * (0.3 * seconds + 2 * _BESIDE[1])
    return f"{plan}: about {whole:.0f} s" if whole < 100 else f"{plan}: about {-(-whole // 60):.0f} min"


def _shown_again(before: Mapping[str, float], out: Path) -> list[str]:
    """Of each run that stood in the folder already and was not made anew: when it was made. before: when results were written."""
    notices = []
    for folder, made in before.items():
        file = out / folder / RESULT
        if file.exists() and file.stat().st_mtime == made:
            when = datetime.fromtimestamp(made).strftime("%Y-%m-%d %H:%M")
            notices.append(f"{folder}: already made on {when}, shown again; another --out makes it anew")
    return notices


def _reusing(recipe: Recipe, names: Sequence[str], recipes: Sequence[Recipe], out: Path) -> Recipe:
    """The recipe; a hybrid's parts that the comparison learns by themselves are taken from there, where they leave it its time.

    A part that counts always does. One that learns for as long as it is given would leave nothing for a second, nor for reading
    the text once more: then all such parts are learned anew, in shares of the hybrid's own budget.
    """
    if recipe.family != registry.HYBRID:
        return recipe
    section = recipe.model_section()
    remembers = any(part.memory is not None and registry.load_memory(part.memory).remembers for part in section.parts)
    fits = sum(by_gradient(part) or part.folder is not None for part in section.parts) == 1 and not remembers
    alone = {folder: other for folder, other in zip(names, recipes, strict=True) if other.family != registry.HYBRID}
    parts = []
    for part in section.parts:
        same = (
            part.family is not None
            and (fits or not by_gradient(part))
            and next((folder for folder, other in alone.items() if _alike(other, part_recipe(recipe, part))), None)
        )
        told = part.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        parts.append({"folder": str(out / same)} if same else told)
    return recipe.model_copy(update={"model": {**recipe.model, "parts": parts}})


def _alike(one: Recipe, other: Recipe) -> bool:
    """Whether two recipes learn the same model from the comparison's text."""
    same = all(getattr(one, name) == getattr(other, name) for name in ("family", "start", "training"))
    same = same and one.text.tags == other.text.tags and one.model_section() == other.model_section()
    return same and one.objective_section() == other.objective_section()


def _placed(result: Comparison | Row, folder: str, recipe: Recipe, out: Path) -> Row:
    """The row of a run, which knows its folder in the comparison, and of each part of a hybrid the one that it was taken from."""
    row = result.rows[0] if isinstance(result, Comparison) else result
    row.run = folder
    for told, part in zip(row.parts, recipe.model_section().parts if row.parts else [], strict=True):
        folder_of = None if part.folder is None else Path(part.folder).resolve()
        told.run = folder_of.name if folder_of is not None and folder_of.parent == out.resolve() else None
    return row


def _told_apart(rows: list[Row]) -> list[Row]:
    """The rows; of those with one label each says its folder too."""
    labels = [row.label for row in rows]
    for row in rows:
        if labels.count(row.label) > 1:
            row.label = f"{row.label} ({row.run})"
    return rows


def _with_memory_of_parts(rows: list[Row]) -> list[Row]:
    """The rows; a hybrid needed at least the memory of each part that was taken from another row, where that was measured in one place."""
    memory = {(row.run, row.peak_memory_on): row.peak_memory_bytes for row in rows if row.run}
    for row in rows:
        of_parts = [size for part in row.parts if part.run and (size := memory.get((part.run, row.peak_memory_on))) is not None]
        if row.peak_memory_bytes is not None:
            row.peak_memory_bytes = max([row.peak_memory_bytes, *of_parts])
    return rows


def _add_hybrids(
    made: dict[str, Comparison | Row], asked: dict[str, Recipe], corpus: Corpus, out: Path, number: int, name: str, quiet: bool
) -> list[str]:
    """Make the most promising hybrids of what was `made` by the recipes `asked`, and add them there; why there are fewer, in words."""
    learned = {folder: result.rows[0] for folder, result in made.items() if isinstance(result, Comparison)}
    exact = [folder for folder, row in learned.items() if row.kind == Kind.EXACT.value and not row.parts]
    if not exact:
        return ["no hybrid is looked for: no model has learned whose score is exact"]
    if held_out(corpus) is None:
        return ["no hybrid is looked for: there is no validation text to learn weights from; give --valid"]
    found = _promising({folder: _cost(learned[folder]) for folder in exact}, corpus, out, number, quiet)
    if isinstance(found, str):
        return [f"no hybrid is looked for: {found}"]
    notices = [] if found else ["no hybrid is made: none promises more on validation text than the best model alone"]
    known = [_mixed_of(recipe) for recipe in asked.values()]
    for words in found:
        recipe = _mixing(words, list(asked.values()))
        if _mixed_of(recipe) in known:
            continue  # it was asked for, and has been made
        folder = _free("+".join(Path(word).name for word in words), asked)
        try:
            runs.refuse_used(out / folder, compared=True)
        except RecipeError as why:
            notices.append(f"a hybrid is not made: {why}")
            continue
        asked[folder] = recipe
        made[folder] = _run_apart(recipe, corpus, out / folder, name, quiet)
    return notices


def _free(name: str, taken: Container[str]) -> str:
    """The name, with a number where it is taken.

    >>> _free("ngram+lstm", ["ngram+lstm", "ngram+lstm-2"])
    'ngram+lstm-3'
    """
    words = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
    return next(word for word in words if word not in taken)


def _mixed_of(recipe: Recipe) -> tuple[Any, ...] | None:
    """What tells one hybrid from another: of which models and memories, and how, in whatever order; None of what is no hybrid."""
    if recipe.family != registry.HYBRID:
        return None
    section = recipe.model_section()
    parts = [part.folder or json.dumps(part.model_dump(mode="json", exclude_defaults=True), sort_keys=True) for part in section.parts]
    return sorted(parts), section.mixture, section.weights


def _cost(row: Row) -> float:
    """How much of a budget a model takes in a hybrid: of one of time as much as it took, of another all of it where it learns by steps."""
    if row.budget_seconds:
        return (row.used_seconds or 0.0) / row.budget_seconds
    return 0.0 if row.learning == Learning.COUNTED.value else 1.0


def _promising(learned: Mapping[str, float], corpus: Corpus, out: Path, number: int, quiet: bool = False) -> list[list[str]] | str:
    """The hybrids that are likeliest to be best, by what their parts say of the validation text, looked for in a process of its own.

    learned: folders of models and what each costs (`_cost`). Gives of each hybrid its parts, folders and memories; or why none could be
    looked for.
    """
    costs = {str(out / name): cost for name, cost in learned.items()}
    job = {"weigh": costs, "most": runs.MOST_TAKEN, "corpus": str(corpus.folder), "folder": str(out), "number": number, "quiet": quiet}
    with store.machine_errors(out):
        (out / PROMISING).unlink(missing_ok=True)
        (out / "error.json").unlink(missing_ok=True)
    code = _in_a_process(json.dumps(job).encode())
    if code == Interrupted.exit_code:
        raise Interrupted("the comparison was stopped while hybrids were looked for; go on with it by the same command and --out")
    if not (out / PROMISING).exists():
        return _why(out, code)
    return [found["parts"] for found in store.read_json(out / PROMISING)]


def _mixing(words: Sequence[str], beside: Sequence[Recipe]) -> Recipe:
    """The recipe of a hybrid of these folders and memories, under what all recipes of the comparison say of any run."""
    first, *others = (recipe.training.model_dump(mode="json", exclude_unset=True) for recipe in beside)
    said = {name: first[name] for name in OF_ANY if name in first and all(other.get(name) == first[name] for other in others)}
    parts = [word if word in registry.memories() else {"folder": word} for word in words]
    return make_recipe({"family": registry.HYBRID, "model": {"parts": parts}}, {"text": beside[0].text.model_dump(), "training": said})


def _why(folder: Path, code: int) -> str:
    """Why a process left nothing in `folder`, as it wrote it there, or by how it ended."""
    file = folder / "error.json"
    return store.read_json(file)["error"] if file.exists() else _ended(code)


def _run_apart(recipe: Recipe, corpus: Corpus, folder: Path, name: str, quiet: bool) -> Comparison | Row:
    """What the run of `recipe` in `folder` gave; a run that stands there already is gone on with."""
    stands = runs.stands(folder, recipe, corpus)
    if stands and (folder / RESULT).exists():
        return Comparison.from_dict(store.read_json(folder / RESULT))
    with store.machine_errors(folder):
        (folder / RESULT).unlink(missing_ok=True)
        (folder / "error.json").unlink(missing_ok=True)
    job = {
        "resume": stands,
        "recipe": recipe.to_dict(),
        "corpus": str(corpus.folder),
        "folder": str(folder),
        "name": name,
        "quiet": quiet,
    }
    code = _in_a_process(json.dumps(job).encode())
    if code == Interrupted.exit_code:
        raise Interrupted(f"the comparison was stopped while {recipe.name} ran; the same command with --out {folder.parent} goes on there")
    if (folder / RESULT).exists():
        return Comparison.from_dict(store.read_json(folder / RESULT))
    return Row(family=recipe.name, label=recipe.label, error=_why(folder, code))


def _ended(code: int) -> str:
    return f"its process ended with {code}" + (" (killed; was there memory enough?)" if code == -9 else "")


def _in_a_process(job: bytes) -> int:
    """Run `work` apart; on Ctrl-C (which reaches it too) wait until it has written its checkpoint."""
    process = subprocess.Popen([sys.executable, "-m", "bimo.evaluation.process"], stdin=subprocess.PIPE, stdout=sys.stderr)
    try:
        process.communicate(job)
        return process.returncode
    except KeyboardInterrupt:
        process.wait()
        return Interrupted.exit_code


def work(job: Mapping[str, Any]) -> int:
    """One run, in a process of its own (`bimo.evaluation.process`): result.json or error.json goes out into its folder; the exit code."""
    folder = Path(job["folder"])
    try:
        if "weigh" in job:
            costs = {Path(name): cost for name, cost in job["weigh"].items()}
            found = promising(costs, Corpus.open(job["corpus"]), job["number"], job["most"])
            store.write_json(folder / PROMISING, [vars(mixture) for mixture in found])
        elif job["resume"]:
            runs.resume(folder, quiet=job["quiet"])
        else:
            runs.run(Recipe(**job["recipe"]), Corpus.open(job["corpus"]), folder, name=job["name"], compared=True, quiet=job["quiet"])
    except (Interrupted, KeyboardInterrupt):
        return Interrupted.exit_code
    except BimoError as error:
        return _told(folder, job, str(error))
    except Exception as error:  # one family's bug must not take the others' results with it
        if os.environ.get("BIMO_DEBUG"):
            traceback.print_exc()
        return _told(folder, job, f"unexpected {type(error).__name__}: {error} (this is a bug; BIMO_DEBUG=1 shows where)")
    return 0


def _told(folder: Path, job: Mapping[str, Any], why: str) -> int:
    why = store.printable(why)
    print(f"{job['recipe']['family'] if 'recipe' in job else 'hybrids'}: {why}", file=sys.stderr)
    with contextlib.suppress(BimoError, OSError):
        store.write_json(folder / "error.json", {"error": why})
    return 1
