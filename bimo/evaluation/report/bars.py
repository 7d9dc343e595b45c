"""The bars at the head of the report: bits per byte of all that compare, on one scale, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bimo.evaluation import display
from bimo.evaluation.ranking import Ranking, comparable, over_time, row_interval
from bimo.evaluation.report import plots
from bimo.evaluation.report.tables import Line
from bimo.evaluation.results import Comparison, Row

Words = Callable[..., str]


def bars(comparison: Comparison, ranking: Ranking, table: list[Line], t: Words) -> list[dict[str, Any]]:
    """The ranked rows, those that took more time than the budget, then all others. Only what compares has a bar; infinity has none."""
    first = ranking.ranked[0] if ranking.ranked else next((row for row, why in ranking.apart if why == "asked"), None)
    asked = [row for row, why in ranking.apart if why == "asked" and first is not None and comparable(comparison, row, first)]
    later = [row for row in asked if over_time(row)]
    others = [row for row, _ in ranking.apart if not any(row is other for other in later)]
    shown = [*ranking.ranked, *asked]
    intervals = {id(row): row_interval(comparison, row) for row in shown}
    finite = [row.bits_per_byte for row in shown if row.bits_per_byte is not None and math.isfinite(row.bits_per_byte)]
    longest = max([*finite, *(i.high for i in intervals.values() if i)], default=1.0)
    lines = {id(line.row): line for line in table}

    def bar(row: Row) -> dict[str, Any]:
        value, line = row.bits_per_byte, lines[id(row)]
        drawn = id(row) in intervals and value is not None and math.isfinite(value)
        return {
            "label": row.label,
            "swatch": plots.swatch(line.index),
            "svg": plots.bar(value, longest, line.index, intervals[id(row)]) if drawn and value is not None else "",
            "value": display.bits(value),
            "more": _more(comparison, value, ranking, row, t),
            "best": len(ranking.ranked) > 1 and any(row is other for other in ranking.level),
            "why": line.reason,
        }

    groups = (("", ranking.ranked), (t("apart_more"), later), (t("apart"), others))
    return [{"head": head, "rows": [bar(row) for row in rows]} for head, rows in groups if rows]


def _more(comparison: Comparison, value: float | None, ranking: Ranking, row: Row, t: Words) -> str:
    """How much more, or less, than the best a row needs that compares with it."""
    best = ranking.best.bits_per_byte if ranking.best else None
    if ranking.best is None or row is ranking.best or not comparable(comparison, row, ranking.best):
        return ""
    if value is None or not best or not math.isfinite(value) or not math.isfinite(best):
        return ""
    return t("percent", n=f"{100 * (value / best - 1):+.1f}".replace("-", "\u2212"))
