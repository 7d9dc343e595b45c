"""Where names stand in a plot: several lines for a long one, apart from one another, and nothing covered.

Lengths are in the plot's own units, in which a line of text is 14 high and a column about 7 wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bimo.evaluation import display

LINE = 14.0  # height of a line
_COLUMN = 7.1
_SHAPES = (17, 26)  # columns of a name beside its mark: narrow and high, else wide and low
Anchor = Literal["start", "middle", "end"]
Box = tuple[float, float, float, float]  # left, top, right, bottom
_NEAR: tuple[tuple[Anchor, float, float], ...] = (
    ("start", 10, 0), ("end", -10, 0), ("middle", 0, -13), ("middle", 0, 15), ("start", 8, 15), ("end", -8, 15), ("start", 8, -13),
    ("end", -8, -13),
)  # fmt: skip


def wrapped(label: str, columns: int) -> list[str]:
    """A name in lines of so many columns: a hybrid's is parted between its parts, one that is too long by itself is cut.

    >>> wrapped("5-gram + Transformer + LSTM + cache", 15)
    ['5-gram +', 'Transformer +', 'LSTM + cache']
    """
    lines: list[str] = []
    parts = display.shorten(label, 200).split(" + ")
    for i, part in enumerate(parts):
        word = display.shorten(part, columns - 2) + (" +" if i < len(parts) - 1 else "")
        if lines and display.width(f"{lines[-1]} {word}") <= columns:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def spread(wanted: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
    """Middles of boxes of these heights, none over another, in the order of the middles wanted and as near to them as is simple.

    Inside low … high as far as they fit.

    >>> spread([5, 5, 30], [4, 4, 4], 0, 40)
    [5, 9.0, 30]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    free = low
    for i in order:
        placed[i] = max(wanted[i], free + heights[i] / 2)
        free = placed[i] + heights[i] / 2
    limit = high
    for i in reversed(order):
        placed[i] = min(placed[i], limit - heights[i] / 2)
        limit = placed[i] - heights[i] / 2
    return placed


@dataclass(frozen=True)
class Name:
    """A name that has found its place: its lines, the first one's height, where they are anchored; far: a thin line leads to it."""

    lines: list[str]
    x: float
    y: float
    anchor: Anchor
    far: bool


@dataclass
class Placer:
    """Names beside marks inside a frame, each where nothing is yet; `taken` begins with the marks themselves."""

    frame: Box
    taken: list[Box] = field(default_factory=list)

    def place(self, label: str, x: float, y: float) -> Name | None:
        """A place for the name of the mark at x, y, high or wide, near or far; None where there is none."""
        for columns in _SHAPES:
            lines = wrapped(label, columns)
            wide, high = max(map(display.width, lines)) * _COLUMN, LINE * len(lines)
            for anchor, dx, dy, far in self._tried(high):
                left = x + dx - (wide if anchor == "end" else wide / 2 if anchor == "middle" else 0)
                box = (left, y + dy - high / 2, left + wide, y + dy + high / 2)
                inside = box[0] >= self.frame[0] and box[1] >= self.frame[1] and box[2] <= self.frame[2] and box[3] <= self.frame[3]
                if inside and not any(_meet(box, other) for other in self.taken):
                    self.taken.append(box)
                    return Name(lines, x + dx, box[1] + LINE - 3, anchor, far)
        return None

    @staticmethod
    def _tried(high: float) -> Iterator[tuple[Anchor, float, float, bool]]:
        more = (high - LINE) / 2
        for anchor, dx, dy in _NEAR:
            yield anchor, dx, dy + (more if dy > 0 else -more if dy < 0 else 0), False
        for dx in (16, 34, 60):
            for dy in (-22, 22, -36, 36, -52, 52, -70, 70):
                yield "end", -dx, dy, True
                yield "start", dx, dy, True


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and one[2] > other[0] and one[1] < other[3] and one[3] > other[1]
