"""Which pictures a comparison gives: bits per byte while learning, and quality against what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable

from markupsafe import Markup

from bimo.evaluation import display
from bimo.evaluation.ranking import Ranking, comparable
from bimo.evaluation.report import plots
from bimo.evaluation.results import Comparison, Point, Row

Words = Callable[..., str]
_MOST_POINTS = 300  # of one line
_LOG_FROM = 20.0  # an axis whose values span more than this factor is logarithmic


def learning_plots(comparison: Comparison, ranking: Ranking, t: Words) -> tuple[list[tuple[str, Markup]], bool]:
    """(caption, plot) over seconds and over tokens, and whether high beginnings are cut off; no plot where no row has a curve.

    Rows of another kind, tokenizer or text than the ranked ones are left out: their heights would not compare.
    """
    shown = {id(row) for row in comparing(comparison, ranking)}
    bits = plots.Axis(t("axis_bits"), display.bits)
    made: list[tuple[str, Markup]] = []
    cut = False
    for key, name, at, show, holds in (
        ("over_seconds", "axis_seconds", lambda p: p.seconds, display.seconds, True),
        ("over_tokens", "axis_tokens", lambda p: p.tokens, display.count, False),
    ):
        series = [s for slot, row in enumerate(comparison.rows) if id(row) in shown for s in _series(comparison, row, slot, at, holds)]
        if not any(len(s.points) > 1 for s in series):
            continue
        cut = cut or plots.clip_height(series)[1]
        axis = plots.Axis(t(name), show, from_zero=True, clock=holds)
        made.append((t(key), plots.line_plot(series, axis, bits, f"{t('axis_bits')} {t(key)}")))
    return made, cut


def comparing(comparison: Comparison, ranking: Ranking) -> list[Row]:
    """The ranked rows, and those that stand apart although their bits per byte compare: they took more time, say.

    Where nothing is ranked, all that stand apart.
    """
    first = ranking.best
    return [*ranking.ranked, *(row for row, _ in ranking.apart if first is None or comparable(comparison, row, first))]


def _series(comparison: Comparison, row: Row, slot: int, at: Callable[[Point], float | None], holds: bool) -> list[plots.Series]:
    """The validation line and, pale, the training line of a row; the training line alone where nothing was validated."""

    def line(value: Callable[[Point], float | None]) -> list[tuple[float, float]]:
        found = [(x, y) for p in row.curve if (x := at(p)) is not None and (y := value(p)) is not None]
        finite = sorted((x, y) for x, y in found if math.isfinite(x) and math.isfinite(y))
        every = math.ceil(len(finite) / _MOST_POINTS)
        return finite[::-1][::every][::-1] if finite else []  # the last one stays

    factor = _bits_per_byte_of_a_nat(comparison, row)
    valid = line(lambda p: p.valid_bits_per_byte)
    train = line(lambda p: None if p.train_loss is None or factor is None else p.train_loss * factor)
    if not valid:
        return [plots.Series(row.label, slot, train)] if train else []
    pale = [plots.Series(row.label, slot, train, pale=True)] if len(train) > 1 else []
    return [plots.Series(row.label, slot, valid, held=holds and len(valid) == 1), *pale]


def _bits_per_byte_of_a_nat(comparison: Comparison, row: Row) -> float | None:
    """Turns nats per training token into bits per byte of the training text; None where the row has a tokenizer of its own."""
    train = comparison.text.splits.get("train")
    if row.tokenizer is not None or train is None or not train.bytes or not train.tokens:
        return None
    return (train.tokens - train.documents) / train.bytes / math.log(2)  # <s> is never scored


def tradeoff_plots(comparison: Comparison, ranking: Ranking, t: Words) -> list[tuple[str, Markup]]:
    """Bits per byte of the rows that compare against training time, generation speed and memory, where two rows or more have both."""
    places = {id(row): index for index, row in enumerate(comparison.rows)}
    bits = plots.Axis(t("axis_bits"), display.bits)
    made = []
    kinds: tuple[tuple[str, str, Callable[[Row], float | None], Callable[[float | None], str], int], ...] = (
        ("by_time", "col_time", lambda r: r.used_seconds, display.seconds, -1),
        ("by_speed", "axis_speed", lambda r: r.generation_tokens_per_second, display.count, +1),
        ("by_memory", "axis_memory", lambda r: r.peak_memory_bytes, display.size, -1),
    )
    for key, name, value, show, better in kinds:
        points = [
            (row.label, places[id(row)], x, row.bits_per_byte)
            for row in comparing(comparison, ranking)
            if (x := value(row)) and math.isfinite(x) and row.bits_per_byte is not None and math.isfinite(row.bits_per_byte)
        ]
        if len(points) < 2:
            continue
        values = [p[2] for p in points]
        log = max(values) / min(values) > _LOG_FROM
        axis = plots.Axis(t(name), show, log=log, clock=show is display.seconds)
        plot = plots.scatter_plot(points, axis, bits, better, f"{t('axis_bits')} {t(key)}")
        made.append((t(key), plot))
    return made
