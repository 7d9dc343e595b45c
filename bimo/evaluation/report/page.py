"""The report: one HTML file that reads from the answer to the evidence, in English or Chinese, with nothing from outside.

`render_report` lays out what `Comparison` holds; words come from `wording`, numbers from `display`, pictures from `plots`,
the page itself from `templates/`. Whatever the text, a file name or a model wrote is escaped and made visible before it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import get_args

from markupsafe import Markup, escape

from bimo.core import store
from bimo.core.recipe import DocumentMode
from bimo.evaluation import display
from bimo.evaluation.ranking import Ranking, placed, rank, row_interval
from bimo.evaluation.report import frame
from bimo.evaluation.report.bars import bars
from bimo.evaluation.report.figures import comparing, learning_plots, tradeoff_plots
from bimo.evaluation.report.mixtures import mixtures
from bimo.evaluation.report.strips import strips
from bimo.evaluation.report.tables import COLUMNS, Line, footnotes, lines
from bimo.evaluation.report.verdict import answer, caveats, title
from bimo.evaluation.report.wording import words
from bimo.evaluation.report.wording_notices import in_chinese
from bimo.evaluation.report.writing import writing
from bimo.evaluation.results import Comparison, Machine, Row

_LONGEST_LABEL = 60  # columns
_LEGEND_FROM = 7  # models: a plot of so many may have no room for all their names
Words = Callable[..., str]


def write_report(comparison: Comparison, path: Path, lang: str | None = None) -> Path:
    """Write the report to `path`, whole or not at all, and return the path; lang: en, zh, or that of the text if None."""
    path = Path(path)
    store.write_text(path, render_report(comparison, lang or ("zh" if comparison.text.language == "zh" else "en")))
    return path


def render_report(comparison: Comparison, lang: str = "en") -> str:
    """The page as a string; a comparison of one row reads as the report of a single run."""
    t, said = words(lang), in_chinese if lang == "zh" else str
    ranking = rank(comparison)
    rows = placed(comparison, ranking)
    single = len(rows) == 1
    curves, cut = learning_plots(comparison, ranking, t)
    table = lines(comparison, lang)
    answered, later = answer(comparison, lang)
    page = frame.environment().get_template("page.html.jinja")
    return page.render(
        t=t,
        **frame.shared(lang),
        listed=_listed,
        unbroken=_unbroken,
        label=_label,
        whole=_whole,
        single=single,
        answer=answered,
        later=later,
        caveats=caveats(comparison, lang),
        facts=_facts(comparison, t),
        key=_key_figures(comparison.rows[0], t) if single else [],
        key_notes=_key_notes(comparison, lang) if single else [],
        bars=bars(comparison, ranking, table, t),
        whiskers=any(row_interval(comparison, row) for row in ranking.ranked),
        stamp=t("budgeted") if comparison.rows and all(r.budgeted for r in comparison.rows if not r.error) else "",
        heads=[t(column.key) for column in COLUMNS],
        lines=table,
        any_best=any(cell.best for line in table for cell in line.cells),
        footnotes=footnotes(comparison, lang),
        curves=curves,
        cut=cut,
        counted=any(len(row.curve) <= 1 and not row.error for _, row in rows),
        tradeoffs=[] if single else tradeoff_plots(comparison, ranking, t),
        legend=_legend(comparison, ranking, table),
        hybrids=mixtures(comparison, rows, t),
        surprise=strips(comparison, table, t),
        writing=writing(rows, t),
        plans=[part for i, r in rows if (part := {"label": r.label, "slot": i, "entries": _plan(r, t)})["entries"]],
        text=comparison.text,
        title=title(comparison, lang),
        mode=t(f"mode_{comparison.text.documents}") if comparison.text.documents in get_args(DocumentMode) else "",
        splits=_splits(comparison, t),
        read=list(map(said, comparison.text.notices)),
        skipped=[(item.name, said(item.why)) for item in comparison.text.skipped],
        notices=[
            *map(said, comparison.notices),
            *(f"{r.label}{t('colon')}{said(notice)}" for _, r in rows for notice in r.notices),
        ],
        recipes=[{"label": r.label, "slot": i, "recipe": r.recipe} for i, r in rows if r.recipe],
        command=comparison.command,
        machine=comparison.machine,
        machine_line=_machine_line(comparison, t),
    )


def _legend(comparison: Comparison, ranking: Ranking, table: list[Line]) -> list[tuple[str, int]]:
    """The names and places of what the plots show, where that is more than they may have room to name."""
    shown = {id(row) for row in comparing(comparison, ranking)}
    named = [(line.row.label, line.index) for line in table if id(line.row) in shown]
    return named if len(named) >= _LEGEND_FROM else []


def _listed(notes: Iterable[str]) -> Markup:
    items = [Markup("<li>") + escape(display.visible(note)) + Markup("</li>") for note in notes]
    return Markup('<ul class="notes sans">') + Markup("").join(items) + Markup("</ul>") if items else Markup("")


def _whole(number: int | None) -> str:
    return display.NONE if number is None else f"{number:,}"


def _unbroken(text: str) -> Markup:
    """Short hyphenated words are not broken at the end of a line."""
    parts = re.split(r"([A-Za-z0-9]{1,8}-[A-Za-z0-9]{1,12})", display.visible(text))
    return Markup("").join(Markup('<span class="nb">{}</span>').format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


def _label(text: str) -> Markup:
    """A model's name; a very long one is cut, and whole in its tooltip."""
    short = display.shorten(text, _LONGEST_LABEL)
    title = Markup(' title="{}"').format(display.visible(text)) if short.endswith("…") else ""
    return Markup("<bdi{}>{}</bdi>").format(title, _unbroken(short))


def _facts(comparison: Comparison, t: Words) -> list[tuple[str, str]]:
    """What was measured on what, in a few words each; facts that are not known are left out."""
    text, machine = comparison.text, comparison.machine
    comma = t("comma")

    def joined(parts: Iterable[str]) -> str:  # breaks between facts, not inside them
        return comma.join(part.replace(" ", "\u00a0") for part in parts)

    def part(name: str) -> str:
        split = text.splits.get(name)
        if split is None:
            return ""
        documents = t("documents_n", n=f"{split.documents:,}")
        return joined((display.size(split.bytes), t("tokens_n", n=display.count(split.tokens)), documents))

    parts = _machine_parts(machine, t)
    facts = [
        (t("fact_train"), part("train")),
        (t("fact_test"), part("test") or part("valid")),
        (t("fact_tokenizer"), joined((text.tokenizer.kind, t("ids", n=f"{text.tokenizer.vocab_size:,}")))),
        (t("fact_budget"), t("each", n=comparison.budget) if len(comparison.rows) > 1 and comparison.budget else comparison.budget),
        (t("fact_machine"), comma.join((parts[0], joined(parts[1:3]))) if machine.cpu else joined(parts[:2])),
        (t("fact_language"), t(f"language_{text.language}") if text.language in ("en", "zh") else text.language or ""),
    ]
    return [(name, value) for name, value in facts if value]


def _machine_parts(machine: Machine, t: Words) -> list[str]:
    parts = [
        machine.cpu,
        t("cores_n", n=machine.cores) if machine.cores else "",
        t("threads_n", n=machine.threads) if machine.threads else "",
        t("memory_n", n=display.size(machine.memory_bytes)) if machine.memory_bytes else "",
        machine.system,
        f"Python {machine.python}" if machine.python else "",
        f"torch {machine.torch}" if machine.torch else "",
    ]
    return [part for part in parts if part]


def _machine_line(comparison: Comparison, t: Words) -> str:
    parts = _machine_parts(comparison.machine, t)
    if comparison.seed is not None:
        parts.append(t("seed", n=comparison.seed))
    if comparison.machine.date:
        parts.append(comparison.machine.date)
    return t("comma").join(parts)


def _key_figures(row: Row, t: Words) -> list[tuple[str, str]]:
    """The figures of a single run."""
    found = [(t(column.key), column.show(column.value(row))) for column in COLUMNS]
    found += [(t("col_seen"), display.count(row.training_tokens)), (t("col_steps"), _whole(row.steps))]
    return [(name, value) for name, value in found if value != display.NONE]


def _key_notes(comparison: Comparison, lang: str) -> list[str]:
    line = lines(comparison, lang)[0]
    interval = row_interval(comparison, line.row)
    t = words(lang)
    span = [t("bars") + t("interval", low=display.bits(interval.low), high=display.bits(interval.high))] if interval else []
    return [*span, *line.marks, *([line.reason] if line.reason else []), *footnotes(comparison, lang)]


def _plan(row: Row, t: Words) -> list[dict[str, str]]:
    """Each estimate beside what was measured."""
    if row.plan is None or row.error is not None:
        return []
    pairs: list[tuple[str, float | None, float | None, Callable[[float | None], str]]] = [
        (t("plan_time"), row.plan.seconds, row.used_seconds, display.seconds),
        (t("plan_speed"), row.plan.tokens_per_second, row.training_tokens_per_second, display.count),
        (t("col_parameters"), row.plan.parameters, row.parameters, display.count),
        (t("col_memory"), row.plan.memory_bytes, row.peak_memory_bytes, display.size),
        (t("plan_disk"), row.plan.disk_bytes, row.run_bytes, display.size),
    ]
    return [
        {"name": name, "estimate": show(guess), "truth": show(truth), "ratio": display.NONE if truth is None else f"{truth / guess:.2f}"}
        for name, guess, truth, show in pairs
        if guess
    ]


def _splits(comparison: Comparison, t: Words) -> list[tuple[str, ...]]:
    known = ("train", "valid", "test")
    return [
        (t(f"split_{name}") if name in known else name, f"{s.documents:,}", f"{s.tokens:,}", f"{s.bytes:,}")
        for name, s in comparison.text.splits.items()
    ]
