"""The table at 80 and 120 columns, as Markdown, and as JSON."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from bimo.evaluation import display
from bimo.evaluation.report.tables import COLUMNS, footnotes, lines, markdown_table, terminal_table
from bimo.evaluation.report.wording import WORDS
from bimo.evaluation.results import Row
from tests.evaluation.example import comparison, row


def shown(c, width: int, lang: str = "en") -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(terminal_table(c, lang))
    return out.getvalue()


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [80, 120])
def test_every_figure_is_readable_at_this_width(width, lang):
    said = shown(comparison(), width, lang)
    assert all(display.width(line) <= width for line in said.splitlines())
    assert "…" not in said
    for line in lines(comparison()):
        printed = next(p for p in said.splitlines() if p.startswith(line.row.label))
        assert all(cell.text in printed for cell in line.cells)


def test_winners_are_starred_and_speeds_compare_only_like_with_like():
    assert "2.222*" in shown(comparison(), 80)
    c = comparison()
    c.rows[1].generation_batch = 1
    generation = [column.key for column in COLUMNS].index("col_generation_speed")
    assert not any(line.cells[generation].best for line in lines(c))
    assert any("different settings" in note for note in footnotes(c))


def test_perplexity_is_not_compared_across_tokenizers():
    c = comparison()
    c.rows[1].tokenizer = c.text.tokenizer.model_copy(update={"fingerprint": "other"})
    assert [line.cells[0].best for line in lines(c)] == [True, False, False]
    assert not any(line.cells[1].best for line in lines(c))


def test_failed_capped_and_lossy_rows_say_so():
    failed = Row(family="x", label="X", error="the disk is full")
    c = comparison([*comparison().rows, row("y", "Y", 2.9, 30, 4, capped=True, lost_bytes=12), failed])
    said = shown(c, 120)
    assert "X: the disk is full" in said
    assert "capped; 12 bytes lost" in said
    assert lines(c)[-1].row is failed


def test_what_all_have_lost_alike_is_said_once():
    c = comparison()
    for made in c.rows:
        made.unknown_tokens, made.lost_bytes = 7, 21
    assert not any(line.marks for line in lines(c))
    assert "Of the test text, by the tokenizer of them all: 7 unknown tokens, 21 bytes lost." in footnotes(c)
    c.rows[0].lost_bytes = 20
    assert all("7 unknown tokens" in line.marks for line in lines(c))
    assert not any("tokenizer of them all" in note for note in footnotes(c))


def test_a_bound_says_of_how_many_samples():
    c = comparison()
    c.rows[0].kind, c.rows[0].score_samples = "bound", 1
    assert "bound, an ELBO" in markdown_table(c)
    c.rows[0].score_samples = 20
    assert "bound, of 20 samples" in shown(c, 120)
    assert "20 个样本" in shown(c, 120, "zh")
    for other in c.rows[1:]:
        other.error = "it failed"
    assert "bound, of 20 samples" in markdown_table(c), "where nothing else is ranked, too"


def test_terminal_is_safe_from_escape_codes_and_markup():
    said = shown(comparison([row("x", "[red]\x1b[31mX", 2.0, 3, 1), row("y", "Y", 2.5, 3, 2)]), 120)
    assert "\x1b" not in said
    assert "[red]␛[31mX" in said


def test_markdown_is_a_table_that_nothing_breaks():
    c = comparison([*comparison().rows, Row(family="x", label="a|b<i>\n`c`", error="line one\nline two <b>")])
    text = markdown_table(c)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 4
    assert {line.replace("\\|", "").count("|") for line in table} == {len(COLUMNS) + 2}
    assert "**2.222**" in text
    assert "a\\|b&lt;i&gt; \\`c\\`" in text
    assert "<b>" not in text


def test_every_column_has_a_wide_and_a_short_header():
    assert all(c.key in WORDS and c.key.replace("col_", "short_") in WORDS for c in COLUMNS)


@pytest.mark.parametrize(
    ("value", "said"),
    [(999, "999"), (999.9, "1.00 k"), (1_000, "1.00 k"), (1.2e6, "1.20 M"), (0, "0"), (3.4e9, "3.40 B"), (-5, "−5"), (math.inf, "∞")],
)
def test_counts_in_human_units(value, said):
    assert display.count(value) == said
