"""`compare`: families or recipes under one budget, each learned and measured in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bimo.core import registry, store
from bimo.core.errors import BimoError, Interrupted
from bimo.core.recipe import Recipe
from bimo.data.corpus import Corpus
from bimo.evaluation import runs
from bimo.evaluation.facts import machine_facts, text_facts
from bimo.evaluation.report import write_report
from bimo.evaluation.results import Comparison, Row
from bimo.evaluation.runs import RESULT
from bimo.evaluation.tables import markdown_table
from bimo.models.base import Kind
from bimo.training.fit import refusal

FILE = "comparison.json"


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
    for name in _names(families):
        runs.refuse_used(out / name, compared=True)


def compare(recipes: Sequence[Recipe], corpus: Corpus, out: Path, *, name: str, command: str = "", quiet: bool = False) -> Comparison:
    """Run each recipe on `corpus` in its own process, then write comparison.json, table.md and report.html to `out`.

    A recipe that fails is a row that says why; Ctrl-C stops the whole comparison.
    """
    out = Path(out)
    for earlier in (FILE, "table.md", "report.html"):
        with store.machine_errors(out):
            (out / earlier).unlink(missing_ok=True)
    folders = [out / folder for folder in _names([recipe.family for recipe in recipes])]
    made = [_run_apart(recipe, corpus, folder, name, quiet) for recipe, folder in zip(recipes, folders, strict=True)]
    whole = next((r for r in made if isinstance(r, Comparison)), None)
    comparison = Comparison(
        text=whole.text if whole else text_facts(corpus, name, recipes[0].text.sources),
        machine=whole.machine if whole else machine_facts(),
        budget=recipes[0].training.budget,
        seed=recipes[0].training.seed,
        command=command,
        unit=whole.unit if whole else "document",
        unit_bytes=whole.unit_bytes if whole else [],
        rows=[r.rows[0] if isinstance(r, Comparison) else r for r in made],
    )
    store.write_json(out / FILE, comparison.to_dict())
    store.write_text(out / "table.md", markdown_table(comparison) + "\n")
    write_report(comparison, out / "report.html")
    return comparison


def _names(families: Sequence[str]) -> list[str]:
    """A folder for each run: its family, numbered where it comes again."""
    seen: dict[str, int] = {}
    names = []
    for family in families:
        seen[family] = seen.get(family, 0) + 1
        names.append(family if seen[family] == 1 else f"{family}-{seen[family]}")
    return names


def _run_apart(recipe: Recipe, corpus: Corpus, folder: Path, name: str, quiet: bool) -> Comparison | Row:
    with store.machine_errors(folder):
        (folder / RESULT).unlink(missing_ok=True)
        (folder / "error.json").unlink(missing_ok=True)
    job = {
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "corpus": str(corpus.folder),
        "folder": str(folder),
        "name": name,
        "quiet": quiet,
    }
    code = _in_a_process(json.dumps(job).encode())
    if code == Interrupted.exit_code:
        raise Interrupted(f"the comparison was stopped while {recipe.family} ran; go on with that one: bimo train --resume {folder}")
    if (folder / RESULT).exists():
        return Comparison.from_dict(store.read_json(folder / RESULT))
    why = store.read_json(folder / "error.json")["error"] if (folder / "error.json").exists() else _ended(code)
    label = registry.family(recipe.family).label.format(**recipe.model_section().model_dump())
    return Row(family=recipe.family, label=label, error=why)


def _ended(code: int) -> str:
    return f"its process ended with {code}" + (" (killed; was there memory enough?)" if code == -9 else "")


def _in_a_process(job: bytes) -> int:
    """Run `_work` apart; on Ctrl-C (which reaches it too) wait until it has written its checkpoint."""
    process = subprocess.Popen([sys.executable, "-m", "bimo.evaluation.compare"], stdin=subprocess.PIPE, stdout=sys.stderr)
    try:
        process.communicate(job)
        return process.returncode
    except KeyboardInterrupt:
        process.wait()
        return Interrupted.exit_code


def _work() -> int:
    """The process of one run: a job comes in on standard input, result.json or error.json goes out into its folder."""
    job = json.loads(sys.stdin.buffer.read())
    folder = Path(job["folder"])
    try:
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


def _told(folder: Path, job: dict[str, Any], why: str) -> int:
    why = store.printable(why)
    print(f"{job['recipe']['family']}: {why}", file=sys.stderr)
    with contextlib.suppress(BimoError, OSError):
        store.write_json(folder / "error.json", {"error": why})
    return 1


if __name__ == "__main__":
    sys.exit(_work())
