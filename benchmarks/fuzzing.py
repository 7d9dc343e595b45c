"""Spoiled files: models, vocabularies, adapters and recipes with bytes changed at random must open, or be refused in words.

`python -m benchmarks.fuzzing --files 100000` is the evidence run; the tests spoil 2,000. A file that opens is used, too: a model reads
a few tokens, a tokenizer a text. What is wrong: an exception that is not one of Bimo's own, a process that dies, a file that takes
longer than `SECONDS`, and memory beyond `MEMORY` above what the process has when it begins.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from benchmarks.desk import Desk
from benchmarks.forked import CONTEXT
from benchmarks.fuzz_targets import TARGETS, Target
from bimo.core import runtime

FILES = 100_000  # of the evidence run
SECONDS = 10
_A_PROCESS = 500  # files that a process opens before the next takes its place
MEMORY = 1 << 30  # bytes beyond what the process has at its start; the largest file here has 60 kB
_EXTREMES = (
    b"0",
    b"-1",
    b"1e308",
    b"NaN",
    b"Infinity",
    b"null",
    b"true",
    b'""',
    b"[]",
    b"{}",
    b"99999999999",
    b"9" * 400,
    b"\xff\xfe",
    b"\x00",
)


# -- spoiling ---------------------------------------------------------------------------------------------------------


def spoiled(data: bytes, generator: random.Random, text: bool) -> bytes:
    """`data` with one to four changes: bytes turned, cut, doubled, moved, put in; in text words and numbers swapped for others."""
    for _ in range(generator.choice((1, 1, 2, 4))):
        if not data:
            return data
        at = generator.randrange(len(data))
        size = min(len(data) - at, generator.choice((1, 2, 8, 64)))
        kind = generator.randrange(9 if text else 6)
        if kind == 0:
            data = data[:at] + bytes([data[at] ^ 1 << generator.randrange(8)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + generator.randbytes(size) + data[at + size :]
        elif kind == 2:
            data = data[:at] if generator.random() < 0.3 else data[:at] + data[at + size :]
        elif kind == 3:
            data = data[:at] + data[at : at + size] * generator.choice((2, 3, 50)) + data[at + size :]
        elif kind == 4:
            other = generator.randrange(len(data))
            data = data[:at] + data[other : other + size] + data[at + size :]
        elif kind == 5:
            data = data[:at] + generator.choice((b"\x00", b"\xff", b"\x7f")) * generator.choice((1, 4, 8)) + data[at + 8 :]
        elif kind == 8:
            data = _values_swapped(data, generator)
        else:
            words = list(re.finditer(rb'-?\d+(?:\.\d+)?|"[^"]{0,60}"|\btrue\b|\bfalse\b|\bnull\b', data[:65536]))
            if words:
                word = generator.choice(words)
                new = generator.choice(_EXTREMES) if kind == 6 else generator.choice(words)[0]
                data = data[: word.start()] + new + data[word.end() :]
    return data


def _values_swapped(data: bytes, generator: random.Random) -> bytes:
    """Of JSON: a value, a list or a mapping too, in the place of another; of other text: a line in the place of another."""
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        lines = data.split(b"\n")
        lines[generator.randrange(len(lines))] = generator.choice(lines)
        return b"\n".join(lines)
    places = list(_places(whole))
    if not places:
        return data
    (inside, key), (other, name) = generator.choice(places), generator.choice(places)
    inside[key] = json.loads(json.dumps(other[name]))  # a copy: a value that holds itself cannot be written
    return json.dumps(whole, ensure_ascii=False).encode("utf-8", errors="replace")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where each value inside a JSON value stands: what holds it, and its name or number there; a thousand of a list or mapping at most."""
    held = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in itertools.islice(list(held), 1000):
        yield value, key
        yield from _places(inner)


def changed(target: Target, seed: int, number: int, right: bytes) -> bytes:
    """The spoiled file `number` of a kind: the same whenever it is asked for."""
    return spoiled(right, random.Random(f"{seed} {target.name} {number}"), target.text)


# -- the work ---------------------------------------------------------------------------------------------------------


class _TookTooLong(BaseException):
    pass


def _alarmed(number: int, frame: Any) -> None:
    raise _TookTooLong


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _work(name: str, seed: int, first: int, last: int, told: Any) -> None:
    """In a child: open the spoiled files first … last − 1 of a kind, and tell what became of each."""
    import torch

    target = next(t for t in TARGETS if t.name == name)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bimo-fuzz-") as folder:
        file, opened = target.make(Path(folder))
        right = file.read_bytes()
        target.use(opened)
        signal.signal(signal.SIGALRM, _alarmed)
        with contextlib.redirect_stdout(sys.stderr):
            resource.setrlimit(resource.RLIMIT_AS, (_memory() + MEMORY, resource.RLIM_INFINITY))
            for number in range(first, last):
                told.send((number, "begun", ""))
                file.write_bytes(changed(target, seed, number, right))
                told.send((number, *_outcome(target, opened)))
    told.send((last, "end", ""))


def _outcome(target: Target, opened: Path) -> tuple[str, str]:
    """opened, refused, or what went wrong, and what was said."""
    from bimo.core.errors import BimoError, MachineError

    signal.alarm(SECONDS)
    try:
        target.use(opened)
    except MachineError as error:  # what is wrong is the file, and no machine would do
        return "machine", str(error)
    except BimoError as error:
        return "refused", str(error)
    except _TookTooLong:
        return "slow", f"more than {SECONDS} s"
    except MemoryError as error:
        return "memory", repr(error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return "wrong", f"{type(error).__name__}: {error}"[:300]
    finally:
        signal.alarm(0)
    return "opened", ""


def run(files: int, seed: int = 0, only: str | None = None, at_once: int | None = None) -> dict[str, Any]:
    """Spoil and open `files` files, as many of each kind; how many opened and were refused, and each that went wrong.

    at_once: kinds side by side, as many as there are processors if not said. What goes wrong is told on standard error when it is found.
    """
    targets = [t for t in TARGETS if only in (None, t.name)]
    wanted = [files * (place + 1) // len(targets) - files * place // len(targets) for place in range(len(targets))]
    started = time.perf_counter()
    stop = Event()
    with ThreadPoolExecutor(at_once or runtime.cores()) as pool:
        try:
            found = list(pool.map(partial(_of_kind, stop, seed), targets, wanted))
        except BaseException:  # Ctrl-C, too: the other kinds end, and are not begun
            stop.set()
            for child in multiprocessing.active_children():
                child.kill()
            raise
    return {
        "files": files, "seed": seed, "seconds_each": SECONDS, "memory_bytes": MEMORY,
        "wrong": [one for _, wrong in found for one in wrong],
        "kinds": {target.name: dict(counts) for target, (counts, _) in zip(targets, found, strict=True)},
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip


def _of_kind(stop: Event, seed: int, target: Target, wanted: int) -> tuple[Counter[str], list[dict[str, Any]]]:
    """How often what became of the spoiled files of one kind, and each that went wrong."""
    counts, wrong = Counter[str](), []
    for first in range(0, wanted, _A_PROCESS):
        for number, what, said in _outcomes(target.name, seed, first, min(wanted, first + _A_PROCESS)):
            if stop.is_set():
                return counts, wrong
            counts[what] += 1
            if what not in ("opened", "refused"):
                wrong.append({"kind": target.name, "number": number, "what": what, "said": said})
                print(f"{target.name} {number}: {what}: {said}", file=sys.stderr, flush=True)
    print(f"{target.name}: {dict(counts)}", file=sys.stderr, flush=True)
    return counts, wrong


def _outcomes(name: str, seed: int, first: int, last: int) -> Iterator[tuple[int, str, str]]:
    """What became of each file, from children that go on where one died."""
    while first < last:
        ours, theirs = CONTEXT.Pipe(duplex=False)
        child = CONTEXT.Process(target=_work, args=(name, seed, first, last, theirs), daemon=True)
        child.start()
        theirs.close()
        begun: int | None = None
        hung = False  # in code that hears no alarm
        while True:
            try:
                if hung := not ours.poll(SECONDS * 12):
                    child.kill()
                    break
                number, what, said = ours.recv()
            except EOFError:
                break
            if what == "begun":
                begun = number
            elif what == "end":
                begun, first = None, last
                break
            else:
                begun, first = None, number + 1
                yield number, what, said
        child.join(30)
        if begun is not None:
            what, said = ("slow", f"more than {12 * SECONDS} s") if hung else ("died", f"exit code {child.exitcode}")
            yield begun, what, said
            first = begun + 1
        elif first < last and child.exitcode:
            raise RuntimeError(f"{name}: the work on the file that is right ended with exit code {child.exitcode}")


def fuzzing(desk: Desk) -> dict[str, Any]:
    """The evidence run."""
    found = desk.module("benchmarks.fuzzing", "--files", FILES, "--seed", desk.seed)
    told = sum(sum(counts.values()) for counts in found["kinds"].values())
    return {**found, "reached": not found["wrong"] and told == FILES}


def main() -> None:
    """Spoil files, print what became of them as JSON; what went wrong stands under `wrong`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[t.name for t in TARGETS])
    parser.add_argument("--keep", type=Path, help="a folder to write each file that went wrong to")
    options = parser.parse_args()
    found = run(options.files, options.seed, options.only)
    if options.keep:
        _keep(found, options.seed, options.keep)
    print(json.dumps(found, indent=2, ensure_ascii=False))


def _keep(found: dict[str, Any], seed: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for one in found["wrong"]:
        target = next(t for t in TARGETS if t.name == one["kind"])
        with tempfile.TemporaryDirectory(prefix="bimo-fuzz-") as place:
            file, _ = target.make(Path(place))
            name = f"{re.sub(r'[^a-z0-9]+', '-', target.name.lower())}-{one['number']}{file.suffix}"
            (folder / name).write_bytes(changed(target, seed, one["number"], file.read_bytes()))
            shutil.copystat(file, folder / name)


if __name__ == "__main__":
    main()
