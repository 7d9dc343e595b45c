"""The process of one run of a comparison: its job comes in on standard input, and the terminal moves while the rest is imported."""

from __future__ import annotations

import json
import sys

from bimo.core import terminal


def main() -> int:
    """Do the job; the exit code is 0, 1 where error.json in its folder says why, or 130 after Ctrl-C."""
    job = json.loads(sys.stdin.buffer.read())
    if job["quiet"]:
        from bimo.evaluation.compare import work

        return work(job)
    with terminal.showing("starting"):
        from bimo.evaluation.compare import work

        return work(job)


if __name__ == "__main__":
    sys.exit(main())
