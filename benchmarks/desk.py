"""What an entry of the evidence works with: a folder, the data, and commands that are run, written down and, once ended, not run again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, TypeVar

from bimo.core import store
from bimo.core.errors import MachineError, UserError

ROOT = Path(__file__).resolve().parents[1]
DONE = "done.json"  # in an entry's folder: what its commands said
Item = TypeVar("Item")
Found = TypeVar("Found")


def data_folder() -> Path:
    """The folder of raw data: BIMO_DATA, or `shared/data` beside the repository."""
    return Path(os.environ.get("BIMO_DATA", ROOT.parent / "shared" / "data")).absolute()


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
            sys.stderr.write(done.stdout.decode("utf-8", errors="replace"))
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
