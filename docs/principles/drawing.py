"""What the pictures of these pages share: colours, text, bars and lines as plain SVG.

A page's numbers and its picture come from one script, `draw_<page>.py`: run it to draw the picture anew. The page's test calls
the same functions.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

PAPER, INK, GREY, RULE = "#faf8f3", "#1b1a17", "#625d54", "#d9d3c5"
BLUE, GOLD, RED = "#1f4e79", "#c9a227", "#a8271c"
_FONT = "Inter, Helvetica Neue, Liberation Sans, Arial, sans-serif"


def picture(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    """The whole SVG; `title` says in words what it shows."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{html.escape(title)}" font-family="{_FONT}" font-size="13">'
    )
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="{PAPER}"/>', *parts, "</svg>"]) + "\n"


def label(x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK, size: int | None = None) -> str:
    """A line of text; `anchor`: start, middle or end."""
    placed = "" if anchor == "start" else f' text-anchor="{anchor}"'
    sized = "" if size is None else f' font-size="{size}"'
    return f'<text x="{x:g}" y="{y:g}"{placed} fill="{fill}"{sized}>{html.escape(text)}</text>'


def rule(x1: float, y1: float, x2: float, y2: float, *, stroke: str = RULE, width: float = 1) -> str:
    """A straight line."""
    thick = "" if width == 1 else f' stroke-width="{width:g}"'
    return f'<line x1="{x1:g}" x2="{x2:g}" y1="{y1:.1f}" y2="{y2:.1f}" stroke="{stroke}"{thick}/>'


def bar(x: float, ground: float, width: float, height: float, *, fill: str = BLUE, value: float | None = None, opacity: float = 1) -> str:
    """A bar that stands on the line `ground`, or hangs from it where `height` is negative; `value` is kept in data-value."""
    told = "" if value is None else f' data-value="{value:.4f}"'
    faint = "" if opacity == 1 else f' fill-opacity="{opacity:.4f}"'
    top = ground - max(height, 0.0)
    return f'<rect class="bar"{told} x="{x:g}" y="{top:.1f}" width="{width:g}" height="{abs(height):.1f}" fill="{fill}"{faint}/>'


def curve(points: Sequence[tuple[float, float]], *, stroke: str = BLUE, dashed: bool = False) -> str:
    """A line through points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="2"{dashes}/>'


def box(x: float, y: float, width: float, height: float, text: str, *, fill: str = PAPER, ink: str = INK) -> str:
    """A box with a line of text in its middle."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" fill="{fill}" stroke="{GREY}"/>'
        f"{label(x + width / 2, y + height / 2 + 5, text, anchor='middle', fill=ink)}"
    )


def arrow(x1: float, y1: float, x2: float, y2: float, *, stroke: str = GREY) -> str:
    """A straight arrow, upright or level."""
    dx, dy = (x2 > x1) - (x2 < x1), (y2 > y1) - (y2 < y1)
    head = f"{x2:g},{y2:g} {x2 - 6 * dx - 4 * dy:g},{y2 - 6 * dy - 4 * dx:g} {x2 - 6 * dx + 4 * dy:g},{y2 - 6 * dy + 4 * dx:g}"
    return f'{rule(x1, y1, x2, y2, stroke=stroke)}<polygon points="{head}" fill="{stroke}"/>'


def vector(values: Iterable[Any], digits: int = 4) -> str:
    """Numbers as the pages print them.

    >>> vector([0.5, -1])
    '[0.5000, −1.0000]'
    """
    return f"[{', '.join(number(float(v), digits) for v in values)}]"


def number(value: float, digits: int = 4) -> str:
    """One number as the pages print it: with a true minus sign, zero without one."""
    return f"{0.0 if round(value, digits) == 0 else value:.{digits}f}".replace("-", "−")
