"""How long a terminal stays silent: each command on a pseudo-terminal with a large text, as one JSON object.

    python -m benchmarks.first_word [--text FILE] [--megabytes 36] [--budget 20s] [--only prepare,plan]

Of each command: first_byte_seconds (from its start), longest_silence_seconds between two bytes, seconds in all. The text is Penn
Treebank, or FILE, repeated until it is as large as asked for. target: a second for both.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import pty
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.desk import data_folder
from bimo.core.errors import MachineError


def watch(words: list[str], folder: Path) -> dict[str, Any]:
    """Run `bimo WORDS…` on a terminal of 80 columns; when it wrote, and what."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "bimo", *words], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, cwd=folder, env=environment
    )
    os.close(theirs)
    moments, written = [begin], bytearray()
    while True:
        if select.select([ours], [], [], 0.05)[0]:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # what Linux says where the other end is closed
                break
            if not data:
                break
            written += data
            moments.append(time.perf_counter())
        elif process.poll() is not None:
            break
    os.close(ours)
    code, end = process.wait(), time.perf_counter()
    silences = [after - before for before, after in itertools.pairwise(moments)] or [end - begin]
    return {
        "first_byte_seconds": silences[0],
        "longest_silence_seconds": max(silences[1:], default=0.0),
        "seconds": end - begin,
        "code": code,
        "written": written.decode("utf-8", "replace"),
    }


def measure(text: Path | None, megabytes: float, budget: str, only: list[str]) -> dict[str, Any]:
    """All fields of the module's documentation, by command."""
    source = text or data_folder() / "lm-ptb" / "ptb.train.txt.gz"
    piece = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
    with tempfile.TemporaryDirectory(prefix="bimo-first-word-") as name:
        folder = Path(name)
        (folder / "text.txt").write_bytes(piece * max(1, round(megabytes * 1e6 / len(piece))))
        (folder / "short.txt").write_bytes(piece[:200_000])
        commands = {
            "prepare": ["prepare", "text.txt", "--out", "corpus"],
            "plan": ["plan", "corpus", "--budget", budget],
            "train": ["train", "corpus", "--budget", budget, "--out", "run"],
            "evaluate": ["evaluate", "run", "short.txt"],
            "compare": ["compare", "short.txt", "--families", "ngram,lstm", "--budget", budget, "--out", "compared"],
            "generate": ["generate", "run", "The", "--max-new-tokens", "20"],
            "explain": ["explain", "run", "The company said it would"],
            "info": ["info", "run"],
        }
        found: dict[str, Any] = {}
        for command, words in commands.items():
            if not only or command in only:
                found[command] = watch(words, folder)
                if found[command]["code"]:
                    raise MachineError(f"bimo {' '.join(words)}: ended with exit code {found[command]['code']}")
                del found[command]["written"]
    slowest = {key: max(row[key] for row in found.values()) for key in ("first_byte_seconds", "longest_silence_seconds")}
    return {**found, **slowest, "target": 1.0, "reached": all(seconds < 1.0 for seconds in slowest.values())}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--megabytes", type=float, default=36.0)
    parser.add_argument("--budget", default="20s")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print(json.dumps(measure(options.text, options.megabytes, options.budget, list(filter(None, options.only.split(",")))), indent=2))
