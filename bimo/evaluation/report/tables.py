"""The table of a comparison: for the terminal, as Markdown, and as plain cells that the report lays out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bimo.evaluation import display
from bimo.evaluation.hybrids import gain_said, gains, weights_said
from bimo.evaluation.ranking import Ranking, one_tokenizer, over_time, placed, rank
from bimo.evaluation.report.wording import words
from bimo.evaluation.results import Comparison, Row

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Column:
    """A figure of every row: where it comes from, how it is shown, and which end is the better one."""

    key: str  # of the header in wording.py
    value: Callable[[Row], float | None]
    show: Callable[[float | None], str]
    better: int = 0  # −1: lower, +1: higher, 0: neither is marked
    quality: bool = False  # compared within the ranking only


COLUMNS: tuple[Column, ...] = (
    Column("col_bits_per_byte", lambda r: r.bits_per_byte, display.bits, -1, quality=True),
    Column("col_perplexity", lambda r: r.perplexity, display.perplexity, -1, quality=True),
    Column("col_training_speed", lambda r: r.training_tokens_per_second, display.count, +1),
    Column("col_generation_speed", lambda r: r.generation_tokens_per_second, display.count, +1),
    Column("col_parameters", lambda r: r.parameters, display.count),
    Column("col_disk", lambda r: r.disk_bytes, display.size, -1),
    Column("col_memory", lambda r: r.peak_memory_bytes, display.size, -1),
    Column("col_time", lambda r: r.used_seconds, display.seconds),
)


@dataclass(frozen=True)
class Cell:
    """What one place of the table shows, and whether it is the best of its column."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Line:
    """One model of the table; `marks` are words beside its name, `reason` says why it is not ranked or has no figures.

    mixed: of a hybrid, its weights and what it gains.
    """

    row: Row
    index: int  # of the row in the comparison
    cells: tuple[Cell, ...]
    marks: tuple[str, ...] = ()
    reason: str = ""
    mixed: str = ""

    @property
    def said(self) -> str:
        """All that is to be known beside its figures, in one line."""
        return "; ".join(part for part in (*self.marks, self.reason, self.mixed) if part)


def lines(comparison: Comparison, lang: str = "en") -> list[Line]:
    """All rows, best first, then those that stand apart, then those that failed."""
    ranking = rank(comparison)
    t = words(lang)
    reasons = {id(row): _reason(row, why, t) for row, why in ranking.apart}
    reasons |= {id(row): display.visible(row.error or "").strip() or t("unmeasured") for row in ranking.failed}
    best = [_best_rows(comparison, ranking, column) for column in COLUMNS]
    mixed, alike = len({row.budgeted for row in comparison.rows}) > 1, _lost_alike(comparison)
    mixtures = {gain.index: t("colon").join(p for p in (weights_said(gain, t), gain_said(gain, t)) if p) for gain in gains(comparison)}
    return [
        Line(
            row,
            index,
            tuple(Cell(c.show(c.value(row)), id(row) in winners) for c, winners in zip(COLUMNS, best, strict=True)),
            _marks(row, mixed, alike, told={id(r) for r, why in ranking.apart if why == "kind"}, t=t),
            reasons.get(id(row), ""),
            mixtures.get(index, ""),
        )
        for index, row in placed(comparison, ranking)
    ]


def _best_rows(comparison: Comparison, ranking: Ranking, column: Column) -> set[int]:
    """ids of the rows that lead a column; none where the figures do not compare or only one row has them."""
    rows = ranking.ranked if column.quality else [*ranking.ranked, *(row for row, _ in ranking.apart)]
    found = [(value, row) for row in rows if (value := column.value(row)) is not None and math.isfinite(value)]
    if not column.better or len(found) < 2:
        return set()
    if column.key == "col_bits_per_byte":
        return {id(row) for row in ranking.level}
    if column.key != "col_disk" and column.key != "col_memory" and not one_tokenizer(comparison):
        return set()
    settings = {(r.generation_batch, r.generation_precision, r.generation_threads) for _, r in found}
    if column.key == "col_generation_speed" and len(settings) > 1:
        return set()
    leader = max(value * column.better for value, _ in found)
    leaders = {id(row) for value, row in found if value * column.better == leader}
    return leaders if len(leaders) < len(found) else set()


def _reason(row: Row, why: str, t: Callable[..., str]) -> str:
    if why == "asked" and over_time(row):
        return t("apart_time", time=display.seconds(row.used_seconds), given=display.seconds(row.budget_seconds))
    if why == "asked":
        return display.visible(row.apart or "")
    return t("apart_kind", kind=kind_said(row, t)) if why == "kind" else t(f"apart_{why}")


def kind_said(row: Row, t: Callable[..., str]) -> str:
    """What its score is; an ELBO is a bound of one sample."""
    more = row.score_samples is not None and row.score_samples > 1
    return t("kind_samples", n=f"{row.score_samples:,}") if more else t(f"kind_{row.kind}")


def _marks(row: Row, mixed: bool, alike: bool, told: set[int], t: Callable[..., str]) -> tuple[str, ...]:
    marks = []
    if row.kind != "exact" and row.error is None and id(row) not in told:
        marks.append(kind_said(row, t))
    if row.budgeted and mixed:
        marks.append(t("budgeted"))
    if row.capped:
        marks.append(t("capped"))
    if row.impossible_tokens:
        marks.append(t("impossible", n=f"{row.impossible_tokens:,}"))
    return (*marks, *(() if alike else _losses(row, t)))


def _losses(row: Row, t: Callable[..., str]) -> tuple[str, ...]:
    """What the tokenizer lost of the test text."""
    return tuple(t(key, n=f"{number:,}") for key, number in (("unknown", row.unknown_tokens), ("lost", row.lost_bytes)) if number)


def _lost_alike(comparison: Comparison) -> bool:
    """Whether several rows all lost the same, which is then told once, below the table."""
    rows = [row for row in comparison.rows if row.error is None]
    return len(rows) > 1 and one_tokenizer(comparison) and len({(row.unknown_tokens, row.lost_bytes) for row in rows}) == 1


def footnotes(comparison: Comparison, lang: str = "en") -> list[str]:
    """What stands below the table: the budgeted mark, capped rows, the settings of generation."""
    t = words(lang)
    rows = [row for row in comparison.rows if row.error is None]
    notes = []
    if any(row.budgeted for row in rows):
        notes.append(t("budgeted_all" if all(row.budgeted for row in rows) else "budgeted_some"))
    if any(row.capped for row in rows):
        notes.append(t("capped_note"))
    if _lost_alike(comparison) and (lost := _losses(rows[0], t)):
        notes.append(t("lost_alike", what=t("comma").join(lost)))
    settings = {}
    for row in rows:
        if row.generation_tokens_per_second is not None and row.generation_batch is not None:
            settings.setdefault((row.generation_batch, row.generation_precision or "–", row.generation_threads or "–"), []).append(row)
    if len(settings) == 1:
        batch, precision, threads = next(iter(settings))
        notes.append(t("generation_at", batch=batch, precision=precision, threads=t("threads_n", n=threads)))
    elif settings:
        notes.append(t("generation_mixed"))
        for (batch, precision, threads), which in settings.items():
            names = t("comma").join(display.shorten(row.label, 24) for row in which)
            notes.append(names + t("colon") + t("generation_at", batch=batch, precision=precision, threads=t("threads_n", n=threads)))
    return notes


class _TerminalTable:
    """The table as rich draws it: short headers below 100 columns."""

    def __init__(self, comparison: Comparison, lang: str) -> None:
        self.found, self.notes, self.t = lines(comparison, lang), footnotes(comparison, lang), words(lang)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0, header_style="dim")
        narrow = options.max_width < 100
        table.add_column(Text(self.t("col_model")), overflow="fold", min_width=9, vertical="bottom")
        for column in COLUMNS:
            header = self.t(column.key.replace("col_", "short_") if narrow else column.key).replace(" ", "\n")
            table.add_column(Text(header, justify="right"), justify="right", no_wrap=True, vertical="bottom")
        notes = []
        for line in self.found:
            name, quiet = display.shorten(line.row.label, 24), "dim" if line.reason else ""
            cells = [Text(c.text + ("*" if c.best else " "), style="bold green" if c.best else quiet) for c in line.cells]
            table.add_row(Text(name, style=quiet or ("bold" if line.cells[0].best else "")), *cells)
            if line.said:
                notes.append(Text(f"{name}: {line.said}", style="red" if line.row.error else "dim"))
        yield table
        notes += [Text(note, style="dim") for note in self.notes]
        if notes:
            yield Text("")
        yield from notes


def terminal_table(comparison: Comparison, lang: str = "en") -> RenderableType:
    """The table for a terminal of 80 columns or more; the best of each column is bold and starred."""
    return _TerminalTable(comparison, lang)


def _markdown_cell(text: str) -> str:
    """One line, in which nothing is taken for Markdown or HTML.

    >>> _markdown_cell("a|b <i>")
    'a\\\\|b &lt;i&gt;'
    """
    line = " ".join(display.visible(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "\\|`*_[]":
        line = line.replace(sign, "\\" + sign)
    return line


def markdown_table(comparison: Comparison, lang: str = "en") -> str:
    """The table in GitHub's Markdown, the best of each column bold, notes below."""
    t = words(lang)
    head = [t("col_model"), *(t(column.key) for column in COLUMNS)]
    out = ["| " + " | ".join(head) + " |", "|---" + "|--:" * len(COLUMNS) + "|"]
    notes = []
    for line in lines(comparison, lang):
        label = _markdown_cell(line.row.label)
        cells = [f"**{c.text}**" if c.best else c.text for c in line.cells]
        out.append("| " + " | ".join([f"**{label}**" if line.cells[0].best else label, *cells]) + " |")
        if line.said:
            notes.append(f"{label}{t('colon')}{_markdown_cell(line.said)}")
    notes += [_markdown_cell(note) for note in footnotes(comparison, lang)]
    return "\n".join([*out, "", *(f"- {note}" for note in notes)]).rstrip() + "\n"
