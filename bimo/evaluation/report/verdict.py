"""The answer in a sentence: which model predicts the text best, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable

from bimo.core.budget import Budget
from bimo.core.errors import RecipeError
from bimo.evaluation import display
from bimo.evaluation.metrics import FEWEST_UNITS, Interval
from bimo.evaluation.ranking import TOO_CLOSE, Ranking, comparable, over_time, paired, rank
from bimo.evaluation.report.wording import words
from bimo.evaluation.report.wording_notices import in_chinese
from bimo.evaluation.results import Comparison, Row

_NUMBERS = ("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def verdict(comparison: Comparison, lang: str = "en") -> str:
    """Who won and by how much, in a few sentences of plain text; ties are said, kinds never mixed, what took more time comes last."""
    return " ".join(filter(None, answer(comparison, lang))) if lang == "en" else "".join(answer(comparison, lang))


def answer(comparison: Comparison, lang: str = "en") -> tuple[str, str]:
    """The verdict in two: within the budget, and what is surely better with more time ("" where nothing is)."""
    t = words(lang)
    ranking = rank(comparison)
    sentence = _opening(comparison, lang, t) + _finding(comparison, ranking, lang, t)
    return sentence[0].upper() + sentence[1:], _with_more_time(comparison, ranking, lang, t)


def _named(row: Row) -> str:
    return display.shorten(row.label, 40)


def title(comparison: Comparison, lang: str) -> str:
    """What the text is called: a name as it is, and in words how many more files there are."""
    name = comparison.text.name
    return in_chinese(name) if lang == "zh" and name.endswith(" more") else name


def _opening(comparison: Comparison, lang: str, t: Callable[..., str]) -> str:
    text = display.shorten(_measured(comparison, lang), 48)
    text = t("held_out_of", text=text) if comparison.text.measured == "" else text
    if not comparison.budget or all(row.learning == "counted" for row in comparison.rows):  # who counts needs no budget
        return t("on_text_bare", text=text)
    cores = comparison.machine.threads or comparison.machine.cores
    if not cores:
        machine = ""
    elif cores == 1:
        machine = t("on_core")
    else:
        machine = t("on_cores", n=_NUMBERS[cores] if lang == "en" and cores < len(_NUMBERS) else cores)
    several = len(comparison.rows) > 1
    time = comparison.budget if several else _time_used(comparison.rows[0], comparison.budget)
    return t("on_text" if several else "on_text_one", text=text, budget=budget(time, lang), machine=machine)


def _measured(comparison: Comparison, lang: str) -> str:
    """What the text is called that the figures are of."""
    name = comparison.text.measured
    if not name:
        return title(comparison, lang)
    return in_chinese(name) if lang == "zh" and name.endswith(" more") else name


def _time_used(row: Row, written: str) -> str:
    """The time that a single row used, as a budget is written, where that is not about what its budget gave.

    >>> _time_used(Row(family="x", label="X", budget_seconds=600, used_seconds=11.7), "10m")
    '11.7s'
    >>> _time_used(Row(family="x", label="X", budget_seconds=600, used_seconds=580), "10m")
    '10m'
    """
    given, used = row.budget_seconds, row.used_seconds
    if not given or not used or 0.8 * given <= used <= 1.1 * given:
        return written
    return f"{used / 60:.0f}m" if used >= 300 else f"{used:.0f}s" if used >= 20 else f"{max(0.1, used):.1f}s"


def budget(written: str, lang: str) -> str:
    """A budget as people say it.

    >>> budget("30s", "en"), budget("1m", "en"), budget("10m", "zh")
    ('in 30 seconds', 'in one minute', '训练 10 分钟')
    """
    t = words(lang)
    try:
        asked = Budget.parse(written)
    except RecipeError:
        return t("budget_other", n=display.shorten(written, 24))
    number, unit = asked.amount, str(asked.unit)
    if asked.unit == "seconds":
        unit, length = next((name, n) for name, n in (("h", 3600), ("m", 60), ("s", 1)) if number % n == 0 or n == 1)
        number /= length
    shown = f"{number:,g}" if number < 1e5 else display.tick(display.count(number))
    said = t(f"budget_{unit}", n="one" if number == 1 and lang == "en" else shown)
    return said[:-1] if number == 1 and lang == "en" else said


def _saved(share: float, lang: str) -> str:
    return display.percent(share, space="\u00a0" if lang == "en" else "")


def _finding(comparison: Comparison, ranking: Ranking, lang: str, t: Callable[..., str]) -> str:
    best, second = ranking.best, ranking.next
    if best is None:
        if not ranking.apart:
            return t("none" if all(row.error for row in comparison.rows) else "unmeasured")
        ranking = Ranking(ranked=[row for row, _ in ranking.apart][:1])
        best = ranking.ranked[0]
    if best.bits_per_byte is None or not math.isfinite(best.bits_per_byte):
        return t("all_zero")
    decimals = _decimals(ranking)
    shown = display.bits(best.bits_per_byte, decimals)
    if second is None:
        key = "single" if len(comparison.rows) == 1 else "only"
        return t(key, best=_named(best), bits=shown, perplexity=display.perplexity(best.perplexity))
    if len(ranking.level) > 1:
        return _level(ranking, decimals, t)
    said = t("wins", best=_named(best), bits=shown)
    if second.bits_per_byte is None or not math.isfinite(second.bits_per_byte):
        return said + t("zero_next", next=_named(second))
    saved = 1 - best.bits_per_byte / second.bits_per_byte
    interval = ""
    if ranking.lead:
        interval = _interval(ranking.lead, lang, t)
    return said + t("fewer", saved=_saved(saved, lang), next=_named(second), interval=interval)


def _interval(found: Interval, lang: str, t: Callable[..., str]) -> str:
    return t("interval", low=display.percent(found.low)[:-2], high=_saved(found.high, lang))


def _with_more_time(comparison: Comparison, ranking: Ranking, lang: str, t: Callable[..., str]) -> str:
    """The best of what took more time than the budget, where it is surely better than the winner; else nothing."""
    best = ranking.best
    if best is None or best.bits_per_byte is None or not math.isfinite(best.bits_per_byte):
        return ""
    found = [row for row, _ in ranking.apart if over_time(row) and comparable(comparison, row, best)]
    first = min(found, key=lambda row: row.bits_per_byte or math.inf, default=None)
    if first is None or first.bits_per_byte is None or first.bits_per_byte >= best.bits_per_byte:
        return ""
    lead, saved = paired(comparison, first, best), 1 - first.bits_per_byte / best.bits_per_byte
    if lead.holds_zero if lead else saved < TOO_CLOSE:
        return ""
    return t(
        "more_time", best=_named(first), time=display.seconds(first.used_seconds).replace(" ", "\u00a0"),
        bits=display.bits(first.bits_per_byte, _decimals(ranking)), saved=_saved(saved, lang), than=_named(best),
        interval=_interval(lead, lang, t) if lead else "",
    )  # fmt: skip


def _decimals(ranking: Ranking) -> int:
    """Two decimals, or three where two would show the first two rows alike."""
    shown = [display.bits(row.bits_per_byte, 2) for row in ranking.ranked[:2]]
    return 3 if len(shown) == 2 and shown[0] == shown[1] else 2


def _level(ranking: Ranking, decimals: int, t: Callable[..., str]) -> str:
    names = [t("the") + _named(row) for row in ranking.level]
    said = t("level", names=t("comma").join(names[:-1]) + t("and") + names[-1], bits=_span(ranking.level, decimals))
    said += t("level_chance" if ranking.by_interval else "level_close")
    after = ranking.next
    if after and not any(after is row for row in ranking.level) and math.isfinite(after.bits_per_byte or math.nan):
        said += t("level_then", next=_named(after), bits=display.bits(after.bits_per_byte, decimals))
    return said


def _span(rows: list[Row], decimals: int) -> str:
    low, high = display.bits(rows[0].bits_per_byte, decimals), display.bits(rows[-1].bits_per_byte, decimals)
    return low if low == high else f"{low}–{high}"


def caveats(comparison: Comparison, lang: str = "en") -> list[str]:
    """What a reader of the verdict should know beside it: intervals or why none, rows that failed or stand apart."""
    t = words(lang)
    ranking = rank(comparison)
    said = []
    units = len(comparison.unit_bytes)
    if len(ranking.ranked) > 1 and units >= FEWEST_UNITS and ranking.ranked[0].unit_nats:
        said.append(t("interval_from" if comparison.unit == "document" else "interval_from_blocks", n=f"{units:,}"))
    elif len(ranking.ranked) > 1:
        test = comparison.text.splits.get("test") or comparison.text.splits.get("valid")
        if units or (test and test.documents < FEWEST_UNITS):
            said.append(t("interval_none", n=units or (test.documents if test else 0)))
    if ranking.apart:
        said.append(t("apart_n", names=t("comma").join(_named(row) for row, _ in ranking.apart)))
    failed = [row for row in ranking.failed if row.error]
    if failed and len(comparison.rows) == 1:
        said.append(_named(failed[0]) + t("colon") + display.shorten(failed[0].error or "", 400))
    elif failed:
        said.append(t("failed_n", n=len(failed), all=len(comparison.rows)))
    return said
