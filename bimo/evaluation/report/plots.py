"""Plots as plain SVG: bars, curves and scatters that need no library, no network and no script.

Colours are CSS variables `--s0` … `--s7` that the page sets for light and dark (`PALETTE`); a family is told by its colour, its
mark and its label together, never by colour alone. The ninth to the sixteenth have the same colours and hollow marks. All text passes
`_escaped`: a label may hold anything.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from bimo.evaluation import display
from bimo.evaluation.metrics import Interval
from bimo.evaluation.report.labels import LINE, Name, Placer, spread, wrapped
from bimo.evaluation.report.ticks import log_ticks, ticks

# Eight inks each for paper and for night: at least 3:1 against the ground, told apart also without red-green vision.
PALETTE: dict[str, tuple[str, ...]] = {
    "light": ("#1f4e79", "#b0350b", "#2a8c82", "#9a5fb5", "#b07f0a", "#5d6470", "#7d1f35", "#3f6212"),
    "dark": ("#7fb2ea", "#ef7d3f", "#8fe0cf", "#b184d6", "#e8c04f", "#8f949c", "#e05a6d", "#a3c76d"),
}
COLOURS = len(PALETTE["light"])
SLOTS = 2 * COLOURS
WIDTH, HEIGHT = 440, 290
NARROW = 330  # three abreast
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 108, 26, 42
_NAME_COLUMNS = 15  # of a line's name beside its end
_DASHES = ("", "7 3", "10 3 2 3", "14 4", "4 3", "10 3 2 3 2 3", "6 6", "2 2")
_MARKS = (  # drawn in a square of ±1 about the origin
    "M-1,0a1,1 0 1,0 2,0a1,1 0 1,0 -2,0Z",  # circle
    "M-.9,-.9H.9V.9H-.9Z",  # square
    "M0,-1.15L1.1,.85H-1.1Z",  # triangle
    "M0,-1.25L1.25,0L0,1.25L-1.25,0Z",  # diamond
    "M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",  # plus
    "M0,1.15L1.1,-.85H-1.1Z",  # triangle downward
    "M-1.2,0L-.6,-1.05H.6L1.2,0L.6,1.05H-.6Z",  # hexagon
    "M-1.1,-.55H1.1V.55H-1.1Z",  # bar
)


@dataclass(frozen=True)
class Series:
    """One line of a plot: its name, its slot (colour, mark, dash), its points, and whether it is drawn pale."""

    label: str
    slot: int
    points: list[tuple[float, float]]
    pale: bool = False
    held: bool = False  # a single point, carried on as a dotted line


@dataclass(frozen=True)
class Axis:
    """What an axis means and how its ticks are written."""

    label: str
    show: Callable[[float], str]
    log: bool = False
    from_zero: bool = False
    clock: bool = False  # seconds, whose round numbers are minutes and hours


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float
    log: bool = False
    ticks: list[float] = field(default_factory=list)

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def _scale(values: Sequence[float], axis: Axis, start: float, end: float, about: int) -> _Scale:
    low, high = min(values), max(values)
    if axis.log:
        low, high = low / 1.3, high * 1.3
        return _Scale(low, high, start, end, True, log_ticks(low, high, axis.clock))
    if axis.from_zero:
        marks = ticks(0.0, high, about, axis.clock)
        following = marks[-1] + (marks[1] if len(marks) > 1 else 0.0)
        low, high = min(0.0, low), following if high < following <= high * 1.08 else high * 1.02
    room = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    if not axis.from_zero:
        low, high = low - room, high + room
    high = high if high > low else low + room
    return _Scale(low, high, start, end, False, ticks(low, high, about, axis.clock))


def _escaped(text: str) -> str:
    return html.escape(display.visible(text), quote=True)


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def ink(slot: int) -> str:
    """The class of a slot's colour, and whether it is one of those with hollow marks.

    >>> ink(3), ink(11)
    ('s3', 's11 hollow')
    """
    slot %= SLOTS
    return f"s{slot}" + " hollow" * (slot >= COLOURS)


def mark(x: float, y: float, slot: int, title: str = "", size: float = 4.6) -> str:
    """One mark with its tooltip."""
    inner = f"<title>{_escaped(title)}</title>" if title else ""
    place = f"translate({_n(x)} {_n(y)}) scale({size})"
    return f'<g class="mark {ink(slot)}" transform="{place}"><path d="{_MARKS[slot % COLOURS]}"/>{inner}</g>'


def swatch(slot: int) -> Markup:
    """A mark alone, for tables and headings."""
    return Markup(f'<svg class="swatch" viewBox="-7 -7 14 14" width="12" height="12" aria-hidden="true">{mark(0, 0, slot)}</svg>')


def bar(value: float, longest: float, slot: int, interval: Interval | None = None) -> Markup:
    """A horizontal bar as wide as its place allows, in percent, with the interval as a thin line."""
    share = 100 * value / longest if longest > 0 else 0
    whisker = ""
    if interval:
        low, high = 100 * interval.low / longest, min(100.0, 100 * interval.high / longest)
        whisker = f'<line class="halo" x1="{low:.2f}%" x2="{high:.2f}%" y1="50%" y2="50%"/>'
        whisker += f'<line class="whisker" x1="{low:.2f}%" x2="{high:.2f}%" y1="50%" y2="50%"/>'
        whisker += "".join(f'<line class="whisker" x1="{x:.2f}%" x2="{x:.2f}%" y1="30%" y2="70%"/>' for x in (low, high))
    filled = f'<rect class="{ink(slot)}" width="{share:.2f}%" height="100%" rx="1"/>'
    return Markup(f'<svg class="bar" width="100%" height="18" aria-hidden="true">{filled}{whisker}</svg>')


def _frame(x: _Scale, y: _Scale, x_axis: Axis, y_axis: Axis) -> str:
    bottom, end = y.start, x.end
    parts = [f'<text class="name" x="0" y="11">{_escaped(y_axis.label)}</text>']
    for value in y.ticks:
        at = y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_n(end)}" y1="{_n(at)}" y2="{_n(at)}"/>')
        said = _escaped(display.tick(y_axis.show(value)))
        parts.append(f'<text class="tick" x="{_LEFT - 7}" y="{_n(at + 4)}" text-anchor="end">{said}</text>')
    free = -math.inf
    for value in x.ticks:
        at, said = x(value), display.tick(x_axis.show(value))
        parts.append(f'<line class="axis" x1="{_n(at)}" x2="{_n(at)}" y1="{_n(bottom)}" y2="{_n(bottom + 4)}"/>')
        half = display.width(said) * 3.9
        if at - half > free:
            parts.append(f'<text class="tick" x="{_n(at)}" y="{_n(bottom + 17)}" text-anchor="middle">{_escaped(said)}</text>')
            free = at + half + 5
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_n(end)}" y1="{_n(bottom)}" y2="{_n(bottom)}"/>')
    parts.append(f'<text class="name" x="{_n(end)}" y="{_n(bottom + _BOTTOM - 5)}" text-anchor="end">{_escaped(x_axis.label)}</text>')
    return "".join(parts)


def _svg(inner: str, described: str, wide: int = WIDTH, high: float = HEIGHT) -> Markup:
    said = _escaped(described)
    return Markup(f'<svg class="plot" viewBox="0 0 {wide} {_n(high)}" role="img" aria-label="{said}">{inner}</svg>')


def clip_height(series: Sequence[Series]) -> tuple[float, bool]:
    """The top of the y axis: high beginnings are cut off, so that the ends can be told apart; and whether any is."""
    values = [y for s in series for _, y in s.points]
    ends = [s.points[-1][1] for s in series if not s.pale]
    top, wanted = max(values), max(ends) + 0.9 * max(max(ends) - min(values), 0.25 * max(ends))
    return (wanted, True) if top > wanted else (top, False)


def line_plot(series: Sequence[Series], x_axis: Axis, y_axis: Axis, described: str) -> Markup:
    """Curves with their names at their ends; empty where there is nothing to draw."""
    series = [Series(s.label, s.slot, [p for p in s.points if _drawable(p, x_axis)], s.pale, s.held) for s in series]
    series = [s for s in series if s.points]
    if not series:
        return Markup("")
    top, _ = clip_height(series)
    named = [s for s in series if not s.pale]
    names = [wrapped(s.label, _NAME_COLUMNS) for s in named]
    bottom = max(float(HEIGHT - _BOTTOM), _TOP + sum(LINE * len(lines) + 3 for lines in names))  # the more names, the higher
    x = _scale([p[0] for s in series for p in s.points], x_axis, _LEFT, WIDTH - _RIGHT, 6)
    y = _scale([min(p[1], top) for s in series for p in s.points], y_axis, bottom, _TOP, 5)
    parts = [_frame(x, y, x_axis, y_axis)]
    parts += [_line(s, x, y, x_axis, y_axis) for s in sorted(series, key=lambda s: not s.pale)]
    ends = [max(y(s.points[-1][1]), _TOP) for s in named]
    places = spread(ends, [LINE * len(lines) + 3 for lines in names], _TOP - 6, bottom + 4)
    for s, lines, at, end in zip(named, names, places, ends, strict=True):
        left = WIDTH - _RIGHT if s.held else x(s.points[-1][0])
        parts.append(f'<line class="lead" x1="{_n(left + 6)}" y1="{_n(end)}" x2="{WIDTH - _RIGHT + 8}" y2="{_n(at)}"/>')
        first = at - LINE * (len(lines) - 1) / 2 + 4
        parts.append(_name(Name(lines, WIDTH - _RIGHT + 11, first, "start", False), s.slot, s.label))
    return _svg("".join(parts), described, WIDTH, bottom + _BOTTOM)


def _name(name: Name, slot: int, whole: str) -> str:
    """A name in its lines, whole in its tooltip."""
    title = f"<title>{_escaped(whole)}</title>" if " ".join(name.lines) != whole else ""
    said = _escaped(name.lines[0])
    said += "".join(f'<tspan x="{_n(name.x)}" dy="{LINE:g}">{_escaped(line)}</tspan>' for line in name.lines[1:])
    anchor = f' text-anchor="{name.anchor}"' if name.anchor != "start" else ""
    return f'<text class="label s{slot % SLOTS}" x="{_n(name.x)}" y="{_n(name.y)}"{anchor}>{said}{title}</text>'


def _drawable(point: tuple[float, float], x_axis: Axis) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1]) and (point[0] > 0 or not x_axis.log)


def _line(s: Series, x: _Scale, y: _Scale, x_axis: Axis, y_axis: Axis) -> str:
    slot, dashes = s.slot % SLOTS, _DASHES[s.slot % COLOURS]
    points = _clipped(s.points, y.high)
    drawn = "M" + "L".join(f"{_n(x(a))},{_n(y(b))}" for a, b in points) if points else ""
    if s.pale:
        return f'<path class="line pale s{slot}" d="{drawn}"/>'
    parts = []
    if s.held:
        a, b = s.points[-1]
        parts.append(f'<path class="line held s{slot}" d="M{_n(x(a))},{_n(y(b))}H{x.end:g}"/>')
    elif len(points) > 1:
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        parts.append(f'<path class="line s{slot}" d="{drawn}"{dash}/>')
    for a, b in s.points if len(s.points) <= 24 else s.points[-1:]:
        if b <= y.high:
            last = a == s.points[-1][0]
            parts.append(mark(x(a), y(b), s.slot, f"{s.label}\n{x_axis.show(a)} · {y_axis.show(b)}", 4.6 if last else 2.4))
    return "".join(parts)


def _clipped(points: list[tuple[float, float]], top: float) -> list[tuple[float, float]]:
    """The line below `top`; where it crosses, the crossing point."""
    kept: list[tuple[float, float]] = []
    for i, (a, b) in enumerate(points):
        before = points[i - 1] if i else None
        if before and (before[1] > top) != (b > top):
            part = (top - before[1]) / (b - before[1])
            kept.append((before[0] + part * (a - before[0]), top))
        if b <= top:
            kept.append((a, b))
    return kept


def pareto(points: Sequence[tuple[float, float]], x_better: int) -> list[tuple[float, float]]:
    """The points that no other beats on both counts (low y is better), from the best x onwards.

    >>> pareto([(1, 3), (2, 2), (3, 2.5)], -1)
    [(1, 3), (2, 2)]
    """
    kept: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: (-x_better * p[0], p[1])):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept


def scatter_plot(points: Sequence[tuple[str, int, float, float]], x_axis: Axis, y_axis: Axis, x_better: int, described: str) -> Markup:
    """Models (label, slot, x, y) as marks with their names beside them, and the line of those that none beats.

    A name for which there is no room is left out; the mark's tooltip, and the page's legend where there are many, tell it.
    """
    drawn = [p for p in points if _drawable((p[2], p[3]), x_axis)]
    if not drawn:
        return Markup("")
    right = 20
    x = _scale([p[2] for p in drawn], x_axis, _LEFT + 8, NARROW - right, 4)
    y = _scale([p[3] for p in drawn], y_axis, HEIGHT - _BOTTOM, _TOP, 5)
    parts = [_frame(x, y, x_axis, y_axis)]
    front = pareto([(p[2], p[3]) for p in drawn], x_better)
    if len(front) > 1:
        parts.append('<path class="front" d="M' + "L".join(f"{_n(x(a))},{_n(y(b))}" for a, b in front) + '"/>')
    marks = [(x(p[2]) - 7, y(p[3]) - 7, x(p[2]) + 7, y(p[3]) + 7) for p in drawn]
    placer = Placer((_LEFT, _TOP - 14, NARROW, HEIGHT - _BOTTOM), marks)
    best = set(front)
    for label, slot, a, b in sorted(drawn, key=lambda p: ((p[2], p[3]) not in best, p[3])):  # the best are named first
        name = placer.place(label, x(a), y(b))
        if name is not None and name.far:
            near = name.x + (3 if name.anchor == "end" else -3)
            middle = name.y - 4 + LINE * (len(name.lines) - 1) / 2
            parts.append(f'<line class="lead" x1="{_n(x(a))}" y1="{_n(y(b))}" x2="{_n(near)}" y2="{_n(middle)}"/>')
        parts.append(mark(x(a), y(b), slot, f"{label}\n{x_axis.show(a)} · {y_axis.show(b)}", 5.4))
        if name is not None:
            parts.append(_name(name, slot, label))
    return _svg("".join(parts), described, NARROW)
