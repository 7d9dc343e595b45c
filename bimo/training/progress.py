"""What a run tells while it learns: how far it is, lines in metrics.jsonl, TensorBoard where installed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
from pathlib import Path
from typing import Any

from bimo.core import progress, store
from bimo.core.progress import Task


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
    """A model's training as a task that is shown (`bimo.core.progress`), which only ever goes forward; nothing when quiet."""

    def __init__(self, label: str, done: float = 0.0, quiet: bool = False) -> None:
        self._task = None if quiet else progress.begin(Task(label, total=1.0, stages=True, done=done))

    def update(self, done: float, text: str | None = None) -> None:
        """Show that this share of the run is done, between 0 and 1, and how it goes."""
        if self._task is not None:
            self._task.update(done, text)

    def say(self, text: str) -> None:
        """Show a line that stays."""
        if self._task is not None:
            progress.say(text)

    def close(self) -> None:
        """The training is over."""
        if self._task is not None:
            progress.end(self._task)
