"""Progress on a terminal and elsewhere: it moves at once, is gone at the end, and is in nobody's way."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import time
from collections.abc import Iterator

import pytest

from bimo.core import progress, terminal


class Screen(io.StringIO):
    """A terminal that keeps what was written to it, whoever wrote."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """What stays on the screen: rows that were erased are gone, and so are the codes that moved the cursor."""
        kept: list[str] = [""]
        for part in re.split(r"(\x1b\[[0-9;?]*[a-zA-Z]|\r|\n)", self.getvalue()):
            if part == "\n":
                kept.append("")
            elif part == "\x1b[2K":
                kept[-1] = ""
            elif re.fullmatch(r"\x1b\[\d*A", part):
                kept.pop()
            elif not part.startswith(("\x1b", "\r")):
                kept[-1] += part
        return kept


@contextlib.contextmanager
def on_a_terminal() -> Iterator[Screen]:
    """While the context lasts, both standard streams are one terminal of 80 columns."""
    with pytest.MonkeyPatch.context() as patch:
        screen = Screen()
        patch.setattr("sys.stdout", screen)
        patch.setattr("sys.stderr", screen)
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "80")
        yield screen


def test_something_is_shown_at_once_and_nothing_of_it_stays() -> None:
    with on_a_terminal() as screen, terminal.showing("starting"):
        assert "starting" in screen.getvalue()
        with progress.task("reading a.txt", total=4) as task:
            task.advance(2)
            task.update(note="well")
            end = time.monotonic() + 10
            while not re.search(r"reading a.txt .* 50 %  well", screen.getvalue()):
                assert time.monotonic() < end
                time.sleep(0.05)
            progress.say("a line that stays")
        print("the result")
        print("another line")
        assert sys.stdout is screen
    assert [line for line in screen.lines() if line.strip()] == ["a line that stays", "the result", "another line"]


def test_rows_go_away_before_anything_is_printed() -> None:
    with on_a_terminal() as screen, terminal.showing("starting"):
        print("told at once")
        with progress.task("reading"):
            print("a table that comes in the middle")
    assert [line for line in screen.lines() if line.strip()] == ["told at once", "a table that comes in the middle"]


def test_a_training_that_ended_leaves_a_line() -> None:
    with on_a_terminal() as screen, terminal.showing(), progress.task("lstm", total=1.0, stages=True) as task:
        task.update(0.5, "loss 3.2")
        task.update(1.0)
    assert [line.strip() for line in screen.lines() if line.strip()] == ["lstm: loss 3.2"]


def test_progress_never_goes_back() -> None:
    task = progress.Task("lstm", total=1.0)
    shares = []
    for done in (0.1, 0.4, 0.2, 0.7):
        task.update(done)
        shares.append(task.share)
    assert shares == [0.1, 0.4, 0.4, 0.7]


def test_elsewhere_a_training_tells_each_tenth_and_what_is_quick_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.showing("starting"):
        with progress.task("reading"):
            pass
        with progress.task("lstm", total=1.0, stages=True) as task:
            for done in (0.05, 0.1, 0.15, 0.2, 1.0):
                task.update(done, f"loss {1 - done:.2f}")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "lstm:  10%  loss 0.90\nlstm:  20%  loss 0.80\nlstm: 100%  loss 0.00\n")


def test_elsewhere_what_takes_long_is_told_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "_LONG", 0.0)
    monkeypatch.setattr(terminal, "_LOOK", 0.01)
    with terminal.showing(), progress.task("reading a.txt"):
        time.sleep(0.2)
    assert capsys.readouterr().err == "reading a.txt …\n"


def test_nothing_is_shown_without_a_display(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.task("reading") as task:
        task.update(1.0, "well")
        progress.say("a line")
    assert capsys.readouterr() == ("", "")
    assert progress.running == []
