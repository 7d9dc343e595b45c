"""How soon the command line answers: `bimo --help` in fresh processes, beside a bare Python, as one JSON object.

    python -m benchmarks.cli_start [--rounds 10]

Fields: help_seconds and python_seconds (medians), slowest_help_seconds, help_processor_seconds (median of what one answer costs the
processor, which other work on the machine does not lengthen), target (half a second), reached.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.interleave import interleaved
from bimo.core.errors import MachineError


def measure(rounds: int) -> dict[str, Any]:
    """All fields of the module's documentation; the first round, whose files are read from the disk, is not counted."""

    processor: dict[str, list[float]] = {"-m": [], "-c": []}

    def run(*words: str) -> None:
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise MachineError(f"python {' '.join(words)}: ended with exit code {process.returncode}")
        processor[words[0]].append(used.ru_utime + used.ru_stime)

    seconds = interleaved({"help": lambda: run("-m", "bimo", "--help"), "python": lambda: run("-c", "pass")}, rounds, warmup=1)
    middle = statistics.median(seconds["help"])
    return {
        "help_seconds": middle,
        "python_seconds": statistics.median(seconds["python"]),
        "slowest_help_seconds": max(seconds["help"]),
        "help_processor_seconds": statistics.median(processor["-m"]),
        "rounds": rounds,
        "target": 0.5,
        "reached": middle < 0.5,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    print(json.dumps(measure(parser.parse_args().rounds), indent=2))
