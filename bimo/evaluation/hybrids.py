"""Which hybrid gains what: how much each part counts, and how much better the whole predicts than its best part."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bimo.core import registry
from bimo.evaluation import display
from bimo.evaluation.metrics import FEWEST_UNITS, Interval, bootstrap_interval
from bimo.evaluation.ranking import comparable, known
from bimo.evaluation.results import Comparison, Row, RowPart

Words = Callable[..., str]


@dataclass(frozen=True)
class Gain:
    """A hybrid beside its parts.

    parts: each with the place of its row in the comparison, None where it has none there; best: the row of its best part, where all its
    models are in the comparison and compare; bits: per byte that the hybrid needs less than that part (above 0: it gains); interval: of
    `bits`, over the same units for both, None where there are too few.
    """

    row: Row
    index: int
    parts: list[tuple[RowPart, int | None]]
    best: Row | None = None
    bits: float | None = None
    interval: Interval | None = None


def gains(comparison: Comparison) -> list[Gain]:
    """What every finished hybrid gains, in the order of the rows."""
    return [_gain(comparison, row, index) for index, row in enumerate(comparison.rows) if row.parts and row.error is None]


def _gain(comparison: Comparison, row: Row, index: int) -> Gain:
    parts = [(part, _place(comparison, part)) for part in row.parts]
    gain = Gain(row, index, parts)
    models = [place for part, place in parts if part.family not in registry.memories()]
    rows = [comparison.rows[place] for place in models if place is not None]
    if not rows or len(rows) < len(models) or not all(comparable(comparison, row, part) for part in rows):
        return gain
    best = min(rows, key=lambda part: part.bits_per_byte or math.inf)
    if row.bits_per_byte is None or best.bits_per_byte is None or not math.isfinite(row.bits_per_byte - best.bits_per_byte):
        return gain
    return Gain(row, index, parts, best, best.bits_per_byte - row.bits_per_byte, saved(comparison, row, best))


def _place(comparison: Comparison, part: RowPart) -> int | None:
    """The row of the very model that a part is; another one of its family or label says nothing of it."""
    return next((i for i, row in enumerate(comparison.rows) if part.run and row.run == part.run and row.error is None), None)


def saved(comparison: Comparison, ours: Row, theirs: Row) -> Interval | None:
    """The paired bootstrap interval of the bits per byte that `ours` needs less than `theirs`: every draw takes the same units of both."""
    if not ours.unit_nats or not theirs.unit_nats or len(comparison.unit_bytes) < FEWEST_UNITS:
        return None
    less = [b - a for a, b in zip(known(ours.unit_nats), known(theirs.unit_nats), strict=True)]
    return bootstrap_interval(less, comparison.unit_bytes)


def weights_said(gain: Gain, t: Words) -> str:
    """The weights in words, such as: 0.41 5-gram, 0.59 LSTM."""
    return t("comma").join(f"{_weight(part)}\u00a0{display.shorten(part.label, 24)}" for part, _ in gain.parts)


def _weight(part: RowPart) -> str:
    return display.NONE if part.weight is None else f"{part.weight:.2f}"


def gain_said(gain: Gain, t: Words) -> str:
    """What it gains, in words; "" where its parts are not in the comparison."""
    if gain.best is None or gain.bits is None:
        return ""
    interval = ""
    if gain.interval:
        interval = t("hybrid_interval", low=signed(gain.interval.low), high=signed(gain.interval.high))
    chance = "hybrid_chance" if gain.interval and gain.interval.holds_zero else "hybrid_gains" if gain.bits > 0 else "hybrid_loses"
    return t(chance, bits=f"{abs(gain.bits):.3f}", part=display.shorten(gain.best.label, 24), interval=interval)


def signed(value: float) -> str:
    """A difference with its sign.

    >>> signed(0.0312), signed(-0.0004), signed(0.0)
    ('+0.031', '0.000', '0.000')
    """
    said = f"{value:+.3f}".replace("-", "\u2212")
    return said[1:] if said[1:] == "0.000" else said
