"""Kill runs with SIGKILL at any moment, resume them, and compare the weights with those of an uninterrupted run.

`python -m benchmarks.kills --kills 100` is the evidence run; the tests call `kill_and_compare` a few times.
Every run and every resume is a fresh process. A kill is meant to fall inside a save (while the file is written, synced, renamed,
or just after) or at a random moment of a step. Whether it did is seen afterwards: a save that was cut off leaves its part file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.forked import CONTEXT
from bimo.core.store import left_behind

TINY = ["model.layers=2", "training.batch_size=4", "training.context=12", "training.checkpoint_every=4", "training.samples=2",
        "training.evaluations=4", "training.patience=4", "training.accumulation=2", "training.precision=fp32",
        "training.threads=2", "training.learning_rate=0.01"]  # fmt: skip
SMALL = {"rnn": ["model.width=24"], "lstm": ["model.width=24"], "gru": ["model.width=24"],
         "decoder": ["model.width=32", "model.heads=2", "model.context=16"]}  # fmt: skip
DROPOUT = {"decoder": ["model.dropout=0.1"]}
RECURRENT_DROPOUT = ["model.input_dropout=0.1", "model.layer_dropout=0.1", "model.output_dropout=0.1", "model.recurrent_dropout=0.1"]
STAGES = ("write", "sync", "rename", "renamed")
FAMILIES = ("rnn", "lstm", "gru", "decoder")


def overrides(family: str) -> list[str]:
    """Options of a tiny run with dropout (and, for recurrent families, carried state)."""
    return [*TINY, *SMALL[family], *DROPOUT.get(family, RECURRENT_DROPOUT)]


def _job(folder: Path, corpus: Path, family: str, moment: str) -> None:
    """In the child: run or resume, and die by SIGKILL at `moment` (stage:number, step:number, or never)."""
    from bimo import api
    from bimo.core.store import observe_saves
    from bimo.training import loop

    what, _, number = moment.partition(":")
    left = int(number or 0)

    def told(stage: str, path: Path) -> None:
        nonlocal left
        if stage != what or "checkpoint" not in path.name:
            return
        left -= 1
        if left > 0:
            return
        if stage == "write":
            _kill_when_written(path.with_name(f".{path.name}.{os.getpid()}.part"))
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    step = loop.Loop._step

    def counted(self: loop.Loop) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        step(self)

    if what == "step":
        loop.Loop._step = counted  # type: ignore[method-assign]
    with observe_saves(told):
        if (folder / "recipe.yaml").exists():
            api.resume(folder)
        else:
            api.train(str(corpus), family=family, out=folder, budget="24steps", overrides=overrides(family))


def _kill_when_written(beside: Path) -> None:
    """Fork a watcher that kills this process once the file beside holds something but is not yet whole."""
    parent = os.getpid()
    if os.fork() == 0:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            if beside.exists():
                os.kill(parent, signal.SIGKILL)
                break
        os._exit(0)


def _run(folder: Path, corpus: Path, family: str, moment: str) -> int:
    child = CONTEXT.Process(target=_job, args=(folder, corpus, family, moment))
    child.start()
    child.join()
    if child.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{family} {moment}: exit code {child.exitcode}; its traceback is above")
    return child.exitcode


def make_corpus(folder: Path) -> Path:
    """A small corpus of many lines."""
    from bimo import api

    words = [w + s for w in ("ink", "brush", "paper", "stone") for s in ("", "s", "ed", "er")]
    generator = np.random.default_rng(0)
    text = "\n".join(" ".join(generator.choice(words, generator.integers(3, 12))) for _ in range(400))
    source = folder / "words.txt"
    source.write_text(text + "\n", encoding="utf-8")
    api.prepare(source, folder / "corpus", tokenizer="char", documents="line")
    return folder / "corpus"


def whole_run(place: Path, corpus: Path, family: str) -> bytes:
    """The weights of an uninterrupted run."""
    folder = place / f"{family}-whole"
    if not (folder / "model.safetensors").exists():
        _run(folder, corpus, family, "never")
    return (folder / "model.safetensors").read_bytes()


def kill_and_compare(place: Path, corpus: Path, family: str, moment: str) -> dict[str, object]:
    """Kill a run at `moment`, resume it until it ends, and say whether it ended with the very same bytes."""
    folder = place / f"{family}-{moment.replace(':', '-')}-{time.monotonic_ns()}"
    killed = _run(folder, corpus, family, moment) == -signal.SIGKILL
    inside = any(what == "part" for _, what in left_behind(folder))
    _run(folder, corpus, family, "never")
    same = (folder / "model.safetensors").read_bytes() == whole_run(place, corpus, family)
    return {"family": family, "moment": moment, "killed": killed, "inside": inside, "same": same}


def moments(count: int, seed: int) -> list[str]:
    """Moments to die at: half inside a save (each stage in turn), half at a random step."""
    draw = random.Random(seed)
    return [f"{STAGES[i // 2 % 4]}:{draw.randint(1, 6)}" if i % 2 == 0 else f"step:{draw.randint(1, 24)}" for i in range(count)]


def main() -> None:
    """The evidence run: prints one JSON object."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="bimo-kills-") as name:
        place = Path(name)
        corpus = make_corpus(place)
        for i, moment in enumerate(moments(asked.kills, asked.seed)):
            family = FAMILIES[i * 4 // asked.kills]
            rows.append(kill_and_compare(place, corpus, family, moment))
            print(f"{i + 1}/{asked.kills} {rows[-1]}", file=sys.stderr, flush=True)
    per_family = {f: sum(r["family"] == f for r in rows) for f in FAMILIES}
    result = {
        "kills": sum(bool(r["killed"]) for r in rows),
        "part_files_left": sum(bool(r["inside"]) for r in rows),
        "bit_equal": sum(bool(r["same"]) for r in rows),
        "runs": len(rows),
        "per_family": per_family,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
