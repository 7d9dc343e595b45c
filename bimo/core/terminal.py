"""Progress as people see it, on standard error: rows that move on a terminal; elsewhere a plain line for what takes long.

A row is gone when its task ends. Standard output is never written to; whatever is printed there takes the rows away first.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from bimo.core import progress
from bimo.core.progress import Task

_LONG = 5.0  # seconds after which a line names a task where there is no terminal
_LOOK = 1.0  # seconds between two looks for one
_BAR = 20  # columns


@contextlib.contextmanager
def showing(starting: str | None = None) -> Iterator[None]:
    """While the context lasts, tasks are shown. starting: what is shown until the first of them, so that something moves at once."""
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    display = _Rows() if on_terminal else _Lines()
    with progress.shown_by(display):
        try:
            if starting is not None and on_terminal:
                display.first = progress.begin(Task(starting))
            yield
        finally:
            display.close()


class _Rows:
    """A row a task on a terminal, which a thread of rich draws anew eight times a second."""

    def __init__(self) -> None:
        self.first: Task | None = None
        self._live: Any = None
        self._console: Any = None
        self._out = sys.stdout
        self._pausing = _Pausing(self._out, self)  # kept: `print` holds no reference to what it writes to
        self._spinner: Any = None
        self._trained: list[Task] = []  # of which a line stays when they have ended

    def changed(self) -> None:
        if self.first is not None and progress.running[-1:] != [self.first]:
            self._no_longer_first()
        for task in [task for task in self._trained if task not in progress.running]:
            self._trained.remove(task)
            self.say(f"{task.what}: {task.note}")
        self._trained += [task for task in progress.running if task.stages and task.note and task not in self._trained]
        if progress.running and self._live is None:
            self._start()
        elif not progress.running:
            self.pause()

    def say(self, text: str) -> None:
        self._the_console().print(text, highlight=False, markup=False, soft_wrap=True)

    def pause(self) -> None:
        """Take the rows away, until a task begins or goes on."""
        self._no_longer_first()
        live, self._live = self._live, None
        if sys.stdout is self._pausing:
            sys.stdout = self._out
        if live is not None:
            live.stop()

    close = pause

    def _no_longer_first(self) -> None:
        first, self.first = self.first, None
        if first in progress.running:
            progress.running.remove(first)

    def _the_console(self) -> Any:
        if self._console is None:
            from rich.console import Console

            self._console = Console(stderr=True)
        return self._console

    def _start(self) -> None:
        from rich.live import Live
        from rich.spinner import Spinner

        self._spinner = Spinner("dots")
        self._live = Live(
            console=self._the_console(), get_renderable=self._table, refresh_per_second=8, transient=True, redirect_stdout=False
        )
        if sys.stdout is self._out:
            sys.stdout = self._pausing
        self._live.start(refresh=True)

    def _table(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table.grid(padding=(0, 1))
        for column in ("spinner", "what", "bar", "note"):
            table.add_column(column, no_wrap=True, overflow="ellipsis", ratio=1 if column == "note" else None)
        table.expand = True
        for task in list(progress.running):
            share = task.share
            bar = "" if share is None else ProgressBar(total=1.0, completed=share, width=_BAR)
            table.add_row(self._spinner, task.what, bar, _note(task, time.monotonic()))
        return table


def _note(task: Task, now: float) -> str:
    """How a task goes: per cent or bytes, what it says itself, and the time that it took or still takes.

    >>> _note(Task("reading", in_bytes=True, done=12.3e6, began=0.0), 4.2)
    '12.3 MB  4 s'
    >>> _note(Task("lstm", total=1.0, done=0.25, note="loss 3.2", began=0.0), 30.0)
    ' 25 %  loss 3.2  1:30 left'
    """
    share, seconds = task.share, now - task.began
    parts = [] if share is None else [f"{100 * share:3.0f} %"]
    parts += [f"{task.done / 1e6:.1f} MB"] if task.in_bytes and share is None and task.done else []
    parts += [task.note] if task.note else []
    if share and share >= 0.02 and seconds >= 1:
        parts.append(f"{_time(seconds / share - seconds)} left")
    elif seconds >= 1:
        parts.append(_time(seconds))
    return "  ".join(parts)


def _time(seconds: float) -> str:
    """
    >>> _time(4.4), _time(75), _time(3700)
    ('4 s', '1:15', '1:01:40')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Pausing:
    """Standard output, before whose words the rows on standard error go away."""

    def __init__(self, out: Any, rows: _Rows) -> None:
        self._out, self._rows = out, rows

    def write(self, text: str) -> int:
        self._rows.pause()
        return self._out.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)


class _Lines:
    """Lines in a file or a pipe: one for a task that takes long, and one for every tenth of a task that has stages."""

    first: Task | None = None

    def __init__(self) -> None:
        self._tenths: dict[Task, int] = {}
        self._named: set[Task] = set()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def changed(self) -> None:
        if progress.running and self._thread is None:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        for task in progress.running:
            if task.stages and task.share is not None:
                tenth = int(10 * task.share + 1e-9)
                if tenth > self._tenths.setdefault(task, 0):
                    self._tenths[task] = tenth
                    self._named.add(task)
                    self.say(f"{task.what}: {10 * tenth:3d}%  {task.note}")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK):
            for task in progress.running[-1:]:
                if task not in self._named and time.monotonic() - task.began > _LONG:
                    self._named.add(task)
                    self.say(f"{task.what} …")
