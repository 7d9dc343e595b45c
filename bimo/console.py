"""What the command line shows of results, in a terminal."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from bimo.core.registry import Kind
from bimo.evaluation import display
from bimo.models.folders import REPORT

if TYPE_CHECKING:
    from bimo.data.corpus import Corpus
    from bimo.evaluation.results import Comparison, Row
    from bimo.evaluation.runs import Run
    from bimo.explanation.results import Explanation
    from bimo.generation.filling import Candidate


def describe_corpus(corpus: Corpus) -> str:
    """A few lines for a person."""
    lines = [f"{corpus.folder}: {corpus.tokenizer.kind} tokenizer of {corpus.tokenizer.vocabulary.size:,}, documents: {corpus.documents}"]
    figures = {name: (f"{s.documents:,}", f"{s.tokens:,}", f"{s.bytes:,}") for name, s in corpus.splits.items()}
    widths = [max(map(len, column)) for column in zip(*figures.values(), strict=True)]
    for name, s in corpus.splits.items():
        documents, tokens, size = (text.rjust(width) for text, width in zip(figures[name], widths, strict=True))
        lines.append(f"  {name:<5}  {documents} documents  {tokens} tokens  {size} bytes  {s.bytes / max(1, s.tokens):.2f} a token")
    return "\n".join(lines + [f"  {line}" for line in corpus.manifest["summary"]])


def show_run(run: Run) -> None:
    """A finished run: its figures, a sample, what is to be known beside them, where it lies and what comes next."""
    console = Console()
    if run.finished_before:
        _say(console, f"{run.folder}: already finished")
    _show_figures(console, run.result, "en")
    for notice in run.row.notices:
        _say(console, f"- {display.visible(notice)}", soft_wrap=not console.is_terminal)
    _say(console, f"model and report: {run.folder}")
    _say(console, f"next: {_command(run.folder, run.row)}")


def show_comparison(comparison: Comparison, lang: str = "en") -> None:
    """The table, a sample of each row, the verdict; where the report lies, and what puts the best to use."""
    from bimo.evaluation.ranking import rank
    from bimo.evaluation.report.wording import words

    console, t, best = Console(), words(lang), rank(comparison).best
    _show_figures(console, comparison, lang)
    if comparison.folder is not None:
        _say(console, t("terminal_report", path=comparison.folder / REPORT))
        if best is not None:
            _say(console, t("terminal_next", command=_command(comparison.folder / best.run, best)))


def _show_figures(console: Console, comparison: Comparison, lang: str) -> None:
    from bimo.evaluation.report.tables import terminal_table
    from bimo.evaluation.report.verdict import verdict
    from bimo.evaluation.report.wording import words

    t = words(lang)
    console.print(terminal_table(comparison, lang))
    for row in comparison.rows:
        for sample in row.samples[:1]:
            console.print()
            _say(console, t("terminal_writes", label=row.label), style="bold", end="")
            _say(console, f"{sample.prompt}|{sample.continuation}")
    console.print()
    _say(console, verdict(comparison, lang), style="bold", soft_wrap=not console.is_terminal)


def _command(folder: Path, row: Row) -> str:
    """What puts a model to use, as it is typed."""
    where = shlex.quote(str(folder))
    if (yaml.safe_load(row.recipe) or {}).get("text", {}).get("conversations", False):
        return f"bimo chat {where}"
    if row.kind == Kind.PSEUDO:
        return f'bimo fill {where} "… <mask> …"'
    if row.kind == Kind.CONDITIONAL:
        return f'bimo generate {where} --given "…"'
    prompt = row.samples[0].prompt if row.samples else ""
    plain = prompt and display.in_line(prompt) == prompt and not prompt.startswith("-")
    said = shlex.quote(prompt) if plain else '"…"'
    return f"bimo generate {where} {said} --max-new-tokens 200"


def _say(console: Console, text: str, **how: Any) -> None:
    console.print(text, markup=False, highlight=False, **{"soft_wrap": True, **how})


_PIPED = 160  # columns where no terminal says how many there are


def show_explanation(explanation: Explanation, lang: str = "en") -> None:
    """What a model thinks of a text, a line a token."""
    from bimo.evaluation.report.explained_table import explained_table

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=_PIPED)
    console.print(explained_table(explanation, lang), highlight=False)


def show_fills(found: Sequence[Sequence[Candidate]]) -> None:
    """What may stand in each gap, a line a candidate; the gaps are numbered where there are several.

    >>> from bimo.generation.filling import Candidate
    >>> show_fills([[Candidate("cat", 7, 0.75, "the cat"), Candidate("\\n", 8, 0.1249, "the\\n")]])
     75.0 %  cat  the cat
     12.5 %  ↵    the↵
    """
    for number, gap in enumerate(found, 1):
        tokens = [display.in_line(candidate.token) for candidate in gap]
        width = max(map(display.width, tokens), default=0)
        if len(found) > 1:
            print(f"gap {number}")
        for token, candidate in zip(tokens, gap, strict=True):
            space = " " * (width - display.width(token))
            print(f"{100 * candidate.probability:>5.1f} %  {token}{space}  {display.in_line(candidate.text)}")


_MOST = 12  # items of a list that are shown


_OF_A_PART = ("model_type", "num_hidden_layers", "hidden_size", "num_attention_heads", "max_position_embeddings", "order", "smoothing")


def show_model(facts: Mapping[str, Any]) -> None:
    """What `info` says; of a hybrid its parts as a table, in place of all their settings."""
    config = facts.get("config")
    config = config if isinstance(config, Mapping) else {}
    parts = config.get("parts")
    if not (isinstance(parts, list) and parts and all(isinstance(part, Mapping) for part in parts)):
        show_facts(facts)
        return
    show_facts({**facts, "config": {name: value for name, value in config.items() if name != "parts"}})
    from rich import box
    from rich.table import Table

    own = [{**part, **(part.get("config") or {})} for part in parts]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in ("", *(_shown(part.get("name")) for part in own)):
        table.add_column(title, overflow="fold")
    for name in _OF_A_PART:
        if any(name in part for part in own):
            table.add_row(name, *(_shown(part.get(name)) for part in own))
    print("parts (all settings: --json):")
    Console().print(table, markup=False, highlight=False)


_UNITS = {  # of a plan's figures, where the name does not say them
    "disk_peak_bytes": " while a checkpoint is written", "flops": " floating-point operations", "seconds_per_step": " s",
    "matrix_rate": " floating-point operations a second, this machine's best", "utilisation": " of that rate",
}  # fmt: skip


def show_facts(facts: Mapping[str, Any], indent: str = "") -> None:
    """A mapping as aligned lines, numbers in groups of three."""
    width = max((len(key) for key in facts), default=0)
    for key, value in facts.items():
        if isinstance(value, Mapping) and value:
            print(f"{indent}{key}:")
            show_facts(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping | str) and len(str(value)) > 60:
            print(f"{indent}{key}:")
            for item in value[:_MOST]:
                print(f"{indent}  {_shown(item)}")
            if len(value) > _MOST:
                print(f"{indent}  … and {len(value) - _MOST:,} more")
        else:
            print(f"{indent}{key.removesuffix('_bytes'):<{width}}  {_shown(value, key)}{_UNITS.get(key, '')}")


def _shown(value: Any, key: str = "") -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if key.endswith("_bytes"):
            return display.size(value)
        if key == "seconds" or key.endswith("_seconds"):
            return display.seconds(value)
        if key in ("flops", "matrix_rate") or key.endswith("_per_second"):
            return display.count(value)
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        shown = [_shown(v) for v in value[:_MOST]] + (["…"] if len(value) > _MOST else [])
        return ", ".join(shown) or "–"
    if isinstance(value, Mapping):
        return " ".join(f"{k}={_shown(v)}" for k, v in value.items()) or "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ("no", "yes")[value] if isinstance(value, bool) else str(value)
    return f"{value:,}" if isinstance(value, int) or (value == int(value) and abs(value) < 1e15) else f"{value:,.4g}"
