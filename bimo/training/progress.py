"""What a run tells while it learns: a live bar on standard error, lines in metrics.jsonl, TensorBoard where installed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bimo.core import store


class Metrics:
    """Appends lines to metrics.jsonl; on resume the file is cut where the checkpoint left it.

    lost: whether the file was shorter than that, or gone; its whole lines are kept.
    """

    def __init__(self, folder: Path, keep_bytes: int = 0) -> None:
        self.path = Path(folder) / "metrics.jsonl"
        with store.machine_errors(self.path):
            self._file = open(self.path, "a+b")  # noqa: SIM115 — closed by close()
            self.lost = self._file.tell() < keep_bytes
            if self.lost:
                self._file.seek(0)
                keep_bytes = self._file.read().rfind(b"\n") + 1
            self._file.truncate(keep_bytes)
        self._board = _tensorboard(folder)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record, flushed at once; infinity and NaN become null, wherever they stand."""
        plain = _finite(record)
        with store.machine_errors(self.path):
            self._file.write((json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n").encode())
            self._file.flush()
        if self._board is not None:
            for name, value in record.items():
                if isinstance(value, int | float) and name != "step":
                    self._board.add_scalar(name, value, record["step"])

    def sync(self) -> int:
        """Make the file safe on disk; return its size in bytes."""
        with store.machine_errors(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        """Close the file; what could not be written has been told already."""
        with contextlib.suppress(OSError):
            self._file.close()
        if self._board is not None:
            self._board.close()


def _finite(value: Any) -> Any:
    """`value` with null in place of every number that JSON has no sign for.

    >>> _finite({"loss": math.inf, "parts": {"ngram": -math.inf, "lstm": 1.5}})
    {'loss': None, 'parts': {'ngram': None, 'lstm': 1.5}}
    """
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tensorboard(folder: Path) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(Path(folder) / "tensorboard"))


class Reporter:
    """A live bar on a terminal; a line for every tenth of the run elsewhere; nothing when quiet."""

    def __init__(self, label: str, total: int, done: int = 0, quiet: bool = False) -> None:
        self._console = Console(stderr=True)
        self._label, self._total, self._quiet = label, max(1, total), quiet
        self._bar: Progress | None = None
        self._tenth = 10 * done // self._total
        self._begin = time.monotonic()
        if not quiet and self._console.is_terminal:
            bar = Progress(
                TextColumn("{task.description:<8}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[text]}"), TimeRemainingColumn(), console=self._console,
            )  # fmt: skip
            bar.start()
            self._task = bar.add_task(label, total=self._total, completed=done, text="")
            self._bar = bar

    def update(self, done: int, text: str) -> None:
        """Show that `done` of the total is done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=text)
        elif not self._quiet and 10 * done // self._total > self._tenth:
            self._tenth = 10 * done // self._total
            print(f"{self._label}: {100 * done // self._total:3d}%  {text}", file=sys.stderr, flush=True)

    def expect(self, total: int) -> None:
        """What is to be done is more or less than was thought."""
        self._total = max(1, total)
        if self._bar is not None:
            self._bar.update(self._task, total=self._total)

    def say(self, text: str) -> None:
        """Tell a line that stays."""
        if not self._quiet:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Stop the bar."""
        if self._bar is not None:
            self._bar.stop()
