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
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, TypeVar

import yaml

from bimo.core import runtime, store
from bimo.core.errors import MachineError, UserError, did_you_mean

ROOT = Path(__file__).resolve().parents[1]
DONE, HASHES = "done.json", "hashes.json"  # in an entry's folder: what its commands said, and what they depend on
BUSY = 0.5  # a load of the last minute beyond which a timing is not one of an idle machine


def data_folder() -> Path:
    """The folder of raw data: BIMO_DATA, or `shared/data` beside the repository."""
    return Path(os.environ.get("BIMO_DATA", ROOT.parent / "shared" / "data")).absolute()


Item = TypeVar("Item")
Found = TypeVar("Found")

# -- an entry and its work ------------------------------------------------------------------------------------------------


@dataclass
class Ended:
    """The commands of an entry that have ended, those too that had before it was stopped: what they said, and the seconds they took.

    earlier: seconds of the commands that were not run again.
    """

    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    earlier: float = 0.0
    lock: Lock = field(default_factory=Lock)  # of runs side by side

    def before(self, command: str) -> str | None:
        """What the command said, and its seconds counted; None where it has not ended."""
        with self.lock:
            if (told := self.told.get(command)) is None:
                return None
            self.earlier += told["seconds"]
            return str(told["said"])

    def keep(self, folder: Path, command: str, said: str, seconds: float) -> None:
        """Write down that a command has ended, in the folder if there is one."""
        with self.lock:
            self.told[command] = {"said": said, "seconds": seconds}
            if folder.is_dir():
                store.write_json(folder / DONE, self.told)


@dataclass
class Desk:
    """What an entry works with: a folder of its own under runs/, the data, and commands that are written down."""

    folder: Path
    seed: int = 0
    rounds: int | None = None  # asked for on the command line; the benchmark's own number if None
    at_once: int = 1  # runs side by side, each on its own equal share of the processors
    commands: list[str] = field(default_factory=list)
    ended: Ended = field(default_factory=lambda: Ended())

    def data(self, name: str) -> str:
        """The path of a raw data file; a `UserError` where it is absent."""
        path = data_folder() / name
        if not path.exists():
            raise UserError(f"{path}: no such data; set BIMO_DATA to the folder that holds {name}")
        return str(path)

    def each(self, work: Callable[[Desk, Item], Found], items: Sequence[Item]) -> list[Found]:
        """work(desk, item) of each item, in order; `at_once` of them side by side, no two on one processor."""
        if self.at_once == 1:
            return [work(self, item) for item in items]
        free: SimpleQueue[set[int]] = SimpleQueue()
        for share in shares(sorted(os.sched_getaffinity(0)), self.at_once):
            free.put(share)
        desks = [replace(self, at_once=1, commands=[]) for _ in items]

        def on_a_share(desk: Desk, item: Item) -> Found:
            share = free.get()
            os.sched_setaffinity(0, share)  # of this thread, and of the processes that it starts
            try:
                return work(desk, item)
            finally:
                free.put(share)

        with ThreadPoolExecutor(self.at_once) as pool:
            found = list(pool.map(on_a_share, desks, items))
        self.commands += [command for desk in desks for command in desk.commands]
        return found

    def clock(self) -> float:
        """Seconds, to be subtracted from one another; commands that had ended before the entry was stopped take as long as they took."""
        return time.perf_counter() + self.ended.earlier

    def bimo(self, *words: object) -> Any:
        """Run `bimo … --json`; what it printed."""
        return json.loads(self.run("bimo", *words, "--json"))

    def module(self, name: str, *words: object) -> Any:
        """Run `python -m benchmarks.…`; the JSON object it printed."""
        return json.loads(self.run("python", "-m", name, *words))

    def run(self, *words: object) -> str:
        """Run a command from the repository's root, its progress shown; its standard output."""
        said = [str(w) for w in words]
        self.commands.append(shown(said))
        if (before := self.ended.before(self.commands[-1])) is not None:
            print(f"  done before: {self.commands[-1]}", file=sys.stderr, flush=True)
            return before
        print(f"  $ {self.commands[-1]}", file=sys.stderr, flush=True)
        self._forget_half_done(said)
        command = [sys.executable, "-m", "bimo", *said[1:]] if said[0] == "bimo" else [sys.executable, *said[1:]]
        begin = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise MachineError(f"{self.commands[-1]}: ended with exit code {done.returncode}; what it said stands above")
        told = done.stdout.decode("utf-8")
        self.ended.keep(self.folder, self.commands[-1], told, time.perf_counter() - begin)
        return told

    def _forget_half_done(self, words: Sequence[str]) -> None:
        """Take away what the same command left in the entry's folder when it was stopped."""
        out = Path(words[words.index("--out") + 1]) if "--out" in words else None
        if out is not None and self.folder in out.parents:
            shutil.rmtree(out, ignore_errors=True)


def shown(words: Iterable[str]) -> str:
    """A command as anyone can type it: data as $BIMO_DATA, paths from the repository's root."""
    text = " ".join(f"'{w}'" if " " in w else w for w in words)
    return text.replace(str(data_folder()), "$BIMO_DATA").replace(f"{ROOT}/", "")


def shares(processors: Sequence[int], number: int) -> list[set[int]]:
    """Equal shares of the processors, neighbours together; those that are over serve nobody.

    >>> shares([0, 1, 2, 3, 4, 5, 6], 3)
    [{0, 1}, {2, 3}, {4, 5}]
    """
    size = len(processors) // number
    if size == 0:
        raise UserError(f"--at-once {number}: there are {len(processors)} processors; each run needs one of its own")
    return [set(processors[i * size : (i + 1) * size]) for i in range(number)]


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
