"""What is being done right now: whoever works says so here, and a display, where there is one, shows it (`bimo.core.terminal`)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(eq=False)
class Task:
    """A stretch of work. total: of what `done` counts, None where that is not known; in_bytes: whether it counts bytes; note: how it goes.

    stages: whether its progress is worth a line for every tenth where no terminal shows it, as a training's is.
    """

    what: str
    total: float | None = None
    in_bytes: bool = False
    stages: bool = False
    done: float = 0.0
    note: str = ""
    began: float = field(default_factory=time.monotonic)

    def advance(self, amount: float) -> None:
        """So much more is done. It costs nothing: displays look for themselves."""
        self.done += amount

    def update(self, done: float | None = None, note: str | None = None) -> None:
        """So much is done altogether, never less than before; and how it goes."""
        self.done = self.done if done is None else max(self.done, done)
        self.note = self.note if note is None else note
        if _display is not None:
            _display.changed()

    @property
    def share(self) -> float | None:
        """How much of it is done, between 0 and 1; None where that is not known.

        >>> Task("reading", total=8, done=2).share
        0.25
        """
        return None if not self.total else min(1.0, self.done / self.total)


class Display(Protocol):
    """What shows the tasks that are running."""

    def changed(self) -> None:
        """Tasks began, ended or went on."""

    def say(self, text: str) -> None:
        """Show a line that stays."""


running: list[Task] = []  # the outermost first
_display: Display | None = None


@contextlib.contextmanager
def task(what: str, total: float | None = None, in_bytes: bool = False, stages: bool = False) -> Iterator[Task]:
    """A task that runs while the context lasts.

    >>> with task("reading", total=10) as reading:
    ...     reading.advance(4)
    ...     [t.what for t in running], reading.share
    (['reading'], 0.4)
    """
    begun = begin(Task(what, total, in_bytes, stages))
    try:
        yield begun
    finally:
        end(begun)


def begin(task: Task) -> Task:
    """Let a task run until `end`, where no `with` statement spans it."""
    running.append(task)
    if _display is not None:
        _display.changed()
    return task


def end(task: Task) -> None:
    """The task is over; nothing happens where it was before."""
    if task in running:
        running.remove(task)
        if _display is not None:
            _display.changed()


def count_bytes(number: int) -> None:
    """So many bytes more were read: for the innermost task, where it counts bytes."""
    if running and running[-1].in_bytes:
        running[-1].advance(number)


def say(text: str) -> None:
    """Show a line that stays, where there is a display."""
    if _display is not None:
        _display.say(text)


@contextlib.contextmanager
def shown_by(display: Display) -> Iterator[None]:
    """While the context lasts, `display` shows what runs; one that is there already goes on instead."""
    global _display
    if _display is not None:
        yield
        return
    _display = display
    try:
        yield
    finally:
        _display = None
        running.clear()
