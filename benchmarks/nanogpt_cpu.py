"""Time to a validation loss of 1.88 on tinyshakespeare: nanoGPT's own CPU recipe and ours, in turn, as one JSON object.

    python -m benchmarks.nanogpt_cpu [--runs 5] [--recipe bimo/recipes/tinyshakespeare-quick.yaml]

One clock for both: from process start, evaluation left out. nanoGPT's side ends at the first look (every 50 steps) at which the whole
validation text's loss is at the target; ours is `bimo train` to the end of its recipe, and the clock stops when its model
stands on disk; its final weights must be at the target in every run. Both sides' weights are measured by one evaluator, on the last
10 % of the text, all of it, in windows of the training length. Run i has seed i on both sides.

Fields: theirs / ours (seconds, loss, step(s) of each run), median seconds, ratio (theirs / ours; at_least where theirs missed the target).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import shakespeare
from benchmarks.desk import ROOT, data_folder
from benchmarks.nanogpt import add_options

RECIPE = ROOT / "bimo" / "recipes" / "tinyshakespeare-quick.yaml"


def theirs(folder: Path, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """nanoGPT's recipe in a fresh process."""
    names = ("layers", "heads", "width", "context", "batch", "steps", "target", "check_every", "check_from")
    words = [w for n in names for w in (f"--{n.replace('_', '-')}", str(getattr(options, n)))]
    command = [sys.executable, "-m", "benchmarks.nanogpt", str(folder), *words, "--seed", str(seed), "--started", str(time.monotonic())]
    done = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    return {name: done[name] for name in ("seconds", "step", "loss", "reached")}


def ours(folder: Path, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """`bimo train` in a fresh process; the clock stops when the model is on disk, before it is measured."""
    valid, out = folder / "valid.txt", folder / f"run-{seed}"
    recipe = [str(options.recipe)] if options.recipe else ["--family", "decoder"]
    command = [
        sys.executable, "-m", "bimo", "train", *recipe, f"text.sources=[{folder / 'train.txt'}]", "--valid", str(valid),
        "--test", str(valid), "--documents", "file", "--tokenizer", "char", "--seed", str(seed), "--out", str(out), "--json",
        "training.keep=last", "training.evaluations=0", "training.samples=0", *options.overrides,
    ]  # fmt: skip
    begin = time.time()
    row = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    seconds = (out / "model.safetensors").stat().st_mtime - begin
    loss, _ = shakespeare.loss_of_run(out, valid)
    told = {name: row[name] for name in ("steps", "parameters", "precision", "context", "batch")}
    return {"seconds": seconds, "loss": loss, "reached": loss <= options.target, **told}


def measure(options: argparse.Namespace, source: Path) -> dict[str, Any]:
    """Both sides in turn, so many times; medians."""
    runs: dict[str, list[dict[str, Any]]] = {"theirs": [], "ours": []}
    with tempfile.TemporaryDirectory(prefix="bimo-nanogpt-") as name:
        folder = Path(name)
        shakespeare.split(source, folder)
        for seed in range(options.runs):
            for side, work in (("theirs", theirs), ("ours", ours)):
                runs[side].append(work(folder, seed, options))
                print(f"run {seed + 1} of {options.runs}, {side}: {runs[side][-1]}", file=sys.stderr, flush=True)
    median = {side: statistics.median(r["seconds"] for r in rows) for side, rows in runs.items()}
    every = {side: all(r["reached"] for r in rows) for side, rows in runs.items()}
    return {
        "target": options.target,
        **runs,
        "theirs_seconds": median["theirs"],
        "ours_seconds": median["ours"],
        "ratio": median["theirs"] / median["ours"] if every["ours"] else None,
        "at_least": not every["theirs"],
        "ours_reached_in_every_run": every["ours"],
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Read the options, print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="section.key=value words for our side")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="our side's recipe file")
    parser.add_argument("--no-recipe", dest="recipe", action="store_const", const=None, help="what the dial picks instead")
    parser.add_argument("--source", type=Path, default=data_folder() / shakespeare.SOURCE, help="the text")
    add_options(parser)
    options = parser.parse_args()
    if options.recipe and not options.recipe.is_file():
        parser.error(f"{options.recipe}: no such recipe; give --recipe, or --no-recipe")
    if not options.source.is_file():
        parser.error(f"{options.source}: no such text; give --source or set BIMO_DATA")
    print(json.dumps(measure(options, options.source), indent=2))


if __name__ == "__main__":
    main()
