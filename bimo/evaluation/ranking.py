"""Who may be ranked against whom, who leads, and whether the lead is more than chance."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from bimo.core.registry import Kind
from bimo.evaluation.metrics import FEWEST_UNITS, Interval, bootstrap_interval, paired_bootstrap
from bimo.evaluation.results import Comparison, Real, Row, TokenizerFacts

TOO_CLOSE = 0.005  # without an interval, a lead below this share is not called one
Apart = Literal["kind", "tokenizer", "text", "asked"]


@dataclass
class Ranking:
    """The rows that may be ranked, best first; the rows that stand apart and why; the rows that failed."""

    ranked: list[Row] = field(default_factory=list)
    apart: list[tuple[Row, Apart]] = field(default_factory=list)
    failed: list[Row] = field(default_factory=list)
    level: list[Row] = field(default_factory=list)  # the best row and those it is not surely better than
    lead: Interval | None = None  # of the best over the next: 1 − nats / nats
    by_interval: bool = False  # `level` was decided by the interval, not by TOO_CLOSE

    @property
    def best(self) -> Row | None:
        """The first of the ranked rows."""
        return self.ranked[0] if self.ranked else None

    @property
    def next(self) -> Row | None:
        """The first ranked row that is not level with the best, or else the second."""
        after = [row for row in self.ranked[1:] if not any(row is other for other in self.level)]
        return after[0] if after else (self.ranked[1] if len(self.ranked) > 1 else None)


def placed(comparison: Comparison, ranking: Ranking) -> list[tuple[int, Row]]:
    """All rows with their places in the comparison, as they are told: the best first, then those that stand apart, those that failed."""
    places = {id(row): index for index, row in enumerate(comparison.rows)}
    return [(places[id(row)], row) for row in (*ranking.ranked, *(row for row, _ in ranking.apart), *ranking.failed)]


def _bits(row: Row) -> float:
    return math.inf if row.bits_per_byte is None or math.isnan(row.bits_per_byte) else row.bits_per_byte


def _tokenizer_name(facts: TokenizerFacts) -> str:
    return facts.fingerprint or f"{facts.kind}/{facts.vocab_size}"


def _group_key(comparison: Comparison, row: Row) -> tuple[str, str, int | None]:
    """Rows with one key may be ranked: one kind, one held-out text, and one tokenizer where that tokenizer loses bytes."""
    lossy = row.lost_bytes > 0 or row.unknown_tokens > 0
    return row.kind, _tokenizer_name(comparison.tokenizer_of(row)) if lossy else "", row.bytes


def comparable(comparison: Comparison, one: Row, other: Row) -> bool:
    """Whether the bits per byte of two rows compare: of one kind and one text, and under one tokenizer where that loses bytes."""
    return _group_key(comparison, one) == _group_key(comparison, other)


def over_time(row: Row) -> bool:
    """Whether a row stands apart because it took more time than the budget gives: a hybrid's time includes its parts'."""
    return bool(row.apart and row.used_seconds and row.budget_seconds and row.used_seconds > row.budget_seconds)


def rank(comparison: Comparison) -> Ranking:
    """Rank what may be ranked. The group that is ranked is of the strictest kind, then the largest; all else stands apart."""
    result = Ranking()
    groups: dict[tuple[str, str, int | None], list[Row]] = {}
    for row in comparison.rows:
        if row.error is not None or row.bits_per_byte is None:
            result.failed.append(row)
        elif row.apart:
            result.apart.append((row, "asked"))
        else:
            groups.setdefault(_group_key(comparison, row), []).append(row)
    if not groups:
        return result
    first = min(groups, key=lambda key: (list(Kind).index(Kind(key[0])), -len(groups[key]), key[1] != ""))
    result.ranked = sorted(groups.pop(first), key=_bits)
    for key, rows in groups.items():
        reason: Apart = "kind" if key[0] != first[0] else "tokenizer" if key[1] != first[1] else "text"
        result.apart.extend((row, reason) for row in sorted(rows, key=_bits))
    _find_level(comparison, result)
    return result


def paired(comparison: Comparison, ours: Row, theirs: Row) -> Interval | None:
    """By what share `ours` needs fewer nats than `theirs`; None where there are too few units to draw again."""
    if len(comparison.unit_bytes) < FEWEST_UNITS or not ours.unit_nats or not theirs.unit_nats:
        return None
    return paired_bootstrap(known(ours.unit_nats), known(theirs.unit_nats))


def known(values: list[Real]) -> list[float]:
    """Nats of units, nulls (infinity, once read from JSON) as NaN: no interval then."""
    return [math.nan if v is None else v for v in values]


def _find_level(comparison: Comparison, result: Ranking) -> None:
    best = result.ranked[0]
    result.level = [best]
    if not math.isfinite(_bits(best)):
        return
    for row in result.ranked[1:]:
        interval = paired(comparison, best, row)
        saved = 1 - _bits(best) / _bits(row) if math.isfinite(_bits(row)) else 1.0
        if interval.holds_zero if interval else saved < TOO_CLOSE:
            result.level.append(row)
            result.by_interval = interval is not None
        else:
            break
    if result.next:
        result.lead = paired(comparison, best, result.next)


def row_interval(comparison: Comparison, row: Row) -> Interval | None:
    """The bootstrap interval of a row's bits per byte, where its units are known and enough."""
    if not row.unit_nats or len(row.unit_nats) < FEWEST_UNITS or not math.isfinite(_bits(row)):
        return None
    return bootstrap_interval(known(row.unit_nats), comparison.unit_bytes)


def one_tokenizer(comparison: Comparison) -> bool:
    """True where all finished rows share a tokenizer: only then are perplexities and tokens per second comparable."""
    return len({_tokenizer_name(comparison.tokenizer_of(r)) for r in comparison.rows if r.error is None}) <= 1
