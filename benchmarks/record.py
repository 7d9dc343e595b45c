"""Evidence is data: one JSON file an entry, written by a function, skipped while what it depends on is as it was.

A record holds: what it shows, the command that gives it again, the commands that were run, hashes of the recipes and of the code
that the figures depend on, seed, budget, machine, date, and the figures. Comments, docstrings and blank lines change no hash.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import inspect
import json
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from benchmarks.desk import DONE, ROOT, Desk, Ended
from bimo.core import runtime, store
from bimo.core.errors import MachineError, UserError, did_you_mean

HASHES = "hashes.json"  # in an entry's folder: what its commands depend on
BUSY = 0.5  # a load of the last minute beyond which a timing is not one of an idle machine

# -- an entry ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A figure that can be made again. touches, recipes: globs from the repository's root, after "!" of what does not count."""

    name: str
    shows: str
    work: Callable[[Desk], Mapping[str, Any]]
    touches: tuple[str, ...]
    budget: str
    minutes: float  # about, on two cores
    recipes: tuple[str, ...] = ()
    seed: int = 0


def of_time(budget: str) -> bool:
    """Whether a budget is a time, so that what a run reaches depends on what else the machine does.

    >>> of_time("8m an encoder, 2m each contrast"), of_time("24 steps a run")
    (True, False)
    """
    return re.search(r"\d[smh]\b", budget) is not None


# -- hashes ---------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)  # many entries touch the same files
def plain_code(source: str) -> str:
    """Python source without docstrings, comment lines and blank lines: what can change a figure.

    >>> plain_code('# why' + chr(10) + 'def f():' + chr(10) + '    "says"' + chr(10) + chr(10) + '    return 1')
    'def f():\\n    return 1'
    """
    dropped: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None:
            first = node.body[0]
            dropped.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    lines = (line.rstrip() for number, line in enumerate(source.splitlines(), 1) if number not in dropped)
    return "\n".join(line for line in lines if line and not line.lstrip().startswith("#"))


def files_of(globs: Sequence[str], root: Path) -> list[Path]:
    """The files that globs name but for those that a glob after "!" names, sorted.

    A glob that names nothing is a `UserError`, or a change would go unseen.
    """
    found: set[Path] = set()
    dropped: set[Path] = set()
    for pattern in globs:
        files = [p for p in root.glob(pattern.removeprefix("!")) if p.is_file()]
        if not files:
            raise UserError(f"{pattern}: no such file under {root}; mend the entry's row in benchmarks/")
        (dropped if pattern.startswith("!") else found).update(files)
    return sorted(found - dropped)


def content_hash(globs: Sequence[str], root: Path = ROOT) -> str:
    """A hash of code and recipes by what they mean: Python as `plain_code`, YAML as its values, the rest byte for byte."""
    digest = hashlib.sha256()
    for path in files_of(globs, root):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            text = plain_code(text)
        elif path.suffix in (".yaml", ".yml"):
            text = json.dumps(yaml.safe_load(text), sort_keys=True)
        digest.update(f"{path.relative_to(root).as_posix()}\0{text}\0".encode())
    return digest.hexdigest()[:16]


# -- records --------------------------------------------------------------------------------------------------------------


def state_of(entry: Entry, root: Path = ROOT) -> str:
    """current, absent, or which of what it depends on has changed."""
    path = root / "evidence" / f"{entry.name}.json"
    if not path.exists():
        return "absent"
    record = store.read_json(path, UserError)
    now = {**hashes_of(entry, root), "seed": entry.seed, "budget": entry.budget}
    changed = [name.removesuffix("_hash") for name, value in now.items() if record.get(name) != value]
    return f"{' and '.join(changed)} changed" if changed else "current"


def hashes_of(entry: Entry, root: Path = ROOT) -> dict[str, str | None]:
    """Of the code: what it touches and the entry's own function. Of the recipes: None where it has none, or they are not there yet."""
    code = content_hash(entry.touches, root) + plain_code(textwrap.dedent(inspect.getsource(entry.work)))
    try:
        recipes = content_hash(entry.recipes, root) if entry.recipes else None
    except UserError:
        recipes = None
    return {"code_hash": hashlib.sha256(code.encode()).hexdigest()[:16], "recipe_hash": recipes}


def make(
    entry: Entry,
    command: str,
    rounds: int | None = None,
    root: Path = ROOT,
    patience: float = 0,
    at_once: int = 1,
    go_on: bool = False,
) -> dict[str, Any]:
    """Do the entry's work and write its record; hashes are those from before the work.

    patience: seconds to wait, at most, for an idle machine (an earlier timing is a load too). go_on: commands that ended before the
    entry was stopped are not run again, where nothing has changed that they depend on; the record says so, and counts their seconds.
    """
    files_of(entry.recipes, root)  # a recipe that is not there is told before the work, not after it
    hashes = hashes_of(entry, root)
    place = root / "runs" / "evidence" / entry.name
    same = go_on and (place / DONE).exists() and store.read_json(place / HASHES, UserError) == hashes
    if not same:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        store.write_json(place / HASHES, hashes)
    desk = Desk(place, entry.seed, rounds, at_once, ended=Ended(store.read_json(place / DONE, UserError) if same else {}))
    end = time.monotonic() + patience
    while os.getloadavg()[0] > BUSY and time.monotonic() < end:
        time.sleep(1)
    load, begin = os.getloadavg()[0], desk.clock()
    figures = entry.work(desk)
    record = {
        "shows": entry.shows,
        "command": command,
        "commands": desk.commands,
        **hashes,
        "seed": entry.seed,
        "budget": entry.budget,
        "machine": {**runtime.environment(), "load_before": load, **({"at_once": at_once} if at_once > 1 else {})},
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(desk.clock() - begin, 1),
        **({"went_on": True} if desk.ended.earlier else {}),
        "figures": dict(figures),
    }
    store.write_json(root / "evidence" / f"{entry.name}.json", record)
    (place / DONE).unlink(missing_ok=True)
    return record


def read_all(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """Every record there is, by name."""
    return {p.stem: store.read_json(p, UserError) for p in sorted((root / "evidence").glob("*.json"))}


# -- the command ----------------------------------------------------------------------------------------------------------


def main(
    module: str,
    entries: Sequence[Entry],
    always: bool,
    after: Callable[[], object],
    arguments: Sequence[str] | None = None,
    root: Path = ROOT,
    patience: float = 0,
) -> int:
    """`python -m MODULE [names…]`: make what is absent or no longer current (all that is named, with --force or `always`); see `make`."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=f"entries: {', '.join(e.name for e in entries)}")
    parser.add_argument("names", nargs="*", help="all of them if none is given")
    parser.add_argument("--force", action="store_true", help="make them again even where they are current")
    parser.add_argument("--list", action="store_true", help="tell what there is, its state and the time it takes; make nothing")
    parser.add_argument("--go-on", action="store_true", help="of an entry that was stopped, do not run again the commands that had ended")
    parser.add_argument("--runs", type=int, help="rounds of a benchmark, where it has any")
    parser.add_argument(
        "--at-once", type=int, default=1, help="runs side by side, each on an equal share of the processors (of `taskset`'s, under it)"
    )
    asked = parser.parse_args(arguments)
    if asked.go_on and always:
        parser.error("--go-on: a timing is made whole")
    known = {e.name: e for e in entries}
    for name in asked.names:
        if name not in known:
            print(f"{module}: no entry {name!r}; {did_you_mean(name, known)}", file=sys.stderr)
            return 2
    chosen = [known[n] for n in asked.names] or list(entries)
    if asked.list:
        for entry in chosen:
            print(f"{entry.name:<20} {state_of(entry, root):<24} about {entry.minutes:g} min  {entry.shows}")
        return 0
    failed = [e.name for e in chosen if not _made(e, module, asked, always, root, patience)]
    after()
    if failed:
        print(f"{module}: not made: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _made(entry: Entry, module: str, asked: argparse.Namespace, always: bool, root: Path, patience: float) -> bool:
    state, rounds, at_once = state_of(entry, root), asked.runs, asked.at_once
    if state == "current" and not (asked.force or always):
        print(f"{entry.name}: current, skipped", file=sys.stderr)
        return True
    print(f"{entry.name}: {state}; about {entry.minutes:g} minutes", file=sys.stderr, flush=True)
    command = (
        f"python -m {module} {entry.name}" + (f" --runs {rounds}" if rounds else "") + (f" --at-once {at_once}" if at_once > 1 else "")
    )
    try:
        record = make(entry, command, rounds, root, patience if always or of_time(entry.budget) else 0, at_once, asked.go_on)
    except (UserError, MachineError) as error:
        print(f"{entry.name}: {error}", file=sys.stderr)
        return False
    print(f"{entry.name}: {record['seconds']:.0f} s, written to evidence/{entry.name}.json", file=sys.stderr)
    return True
