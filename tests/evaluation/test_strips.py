"""Surprise token by token, as the page shows it."""

from __future__ import annotations

import math
import re

import pytest

from bimo.evaluation.report import render_report
from bimo.evaluation.report.strips import LEVELS, strips
from bimo.evaluation.report.tables import lines
from bimo.evaluation.report.wording import WORDS, words
from bimo.evaluation.results import Comparison, Passage
from tests.evaluation.example import PIECES, comparison, large, row
from tests.evaluation.test_plots import luminance
from tests.evaluation.test_report import HOSTILE, Page


def told(c: Comparison, lang: str = "en") -> dict:
    return strips(c, lines(c, lang), words(lang))


def two(bits: list[float | None], pieces: list[str] | None = None) -> Comparison:
    """Two rows under one passage, the second at one bit a piece."""
    rows = [row("a", "A", 2.4, 30, 1), row("b", "B", 2.5, 30, 2)]
    rows[0].surprise, rows[1].surprise = bits, [1.0] * len(bits)
    return comparison(rows, passage=Passage(pieces=pieces or [f" w{i}" for i in range(len(bits))]))


def test_every_row_that_was_asked_has_a_strip_in_the_order_of_the_table():
    c = large()
    found = told(c)
    assert [line["label"] for line in found["lines"]] == [line.row.label for line in lines(c)]
    for line in found["lines"]:
        strip = Page(f"<p>{line['strip']}</p>")
        assert "".join(strip.text) == "".join("↵" if p == "\n" else p or "¶" for p in PIECES)
    assert any("bound" in line["kind"] for line in found["lines"])


def test_more_bits_are_a_higher_bar_which_needs_no_colour():
    c = two([0.0, 1.0, 2.0, 4.0, 7.0, 8.0, 9.0, 30.0] * 4)
    levels = [int(level) for level in re.findall(r'class="b(\d)"', str(told(c)["lines"][0]["strip"]))]
    assert levels == sorted(levels[:8]) * 4
    assert (levels[0], levels[7]) == (0, LEVELS)
    assert len(set(levels)) > 5
    style = re.search(r"<style>(.*?)</style>", render_report(c), re.S)[1]  # type: ignore[index]
    heights = [re.search(rf"\.b{level} {{ --h: (\d);", style)[1] for level in range(1, LEVELS + 1)]  # type: ignore[index]
    assert [int(h) for h in heights] == list(range(1, LEVELS + 1))


def test_the_numbers_are_told_on_hover_and_in_a_table():
    c = two([0.04, 3.26, 12.0])
    page = Page(render_report(c))
    hovers = [a["title"] for tag, a in page.tags if tag == "i" and a.get("title")]
    assert hovers == ["0.0 bits", "3.3 bits", "12.0 bits", "1.0 bits", "1.0 bits", "1.0 bits"]
    assert told(c)["table"] == [(" w0", ["0.0", "1.0"]), (" w1", ["3.3", "1.0"]), (" w2", ["12.0", "1.0"])]
    assert told(c)["lines"][0]["total"] == "15 bits in all"
    assert any(tag == "details" and "numbers" in (a.get("class") or "") for tag, a in page.tags)


def test_probability_zero_is_infinite_and_marked():
    c = Comparison.from_dict(two([1.0, math.inf]).to_dict())
    line = told(c)["lines"][0]
    assert 'class="bx" title="∞ bits"' in str(line["strip"])
    assert line["total"] == "∞ bits in all"


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_hostile_tokens_stay_text(lang: str):
    pieces = [HOSTILE, '"><b onmouseover=x>', "\u202e", "\x1b[31m", "\ud800", "\t", "中"]
    c = two([1.0] * len(pieces), pieces)
    assert c.passage is not None
    c.passage.before = c.passage.given = c.passage.split = HOSTILE
    html = render_report(c, lang)
    html.encode()
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not {"img", "b onmouseover=x"} & {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", html)
    assert "⟨U+202E⟩" in page.words


def test_rows_of_another_passage_and_old_results_are_left_out():
    c = two([1.0, 2.0, 3.0])
    c.rows[1].surprise = [1.0]
    assert [line["label"] for line in told(c)["lines"]] == ["A"]
    old = comparison().to_dict()
    del old["passage"]
    for found in old["rows"]:
        for name in ("surprise", "mixture", "self_bleu_texts"):
            del found[name]
    again = Comparison.from_dict(old)
    assert told(again)["lines"] == []
    assert WORDS["surprise"][0] not in Page(render_report(again)).words


def test_the_page_says_which_text_and_what_stood_before():
    said = Page(render_report(large())).words
    assert "One passage of the test text" in said
    assert "8.5. The with statement" in said
    assert "¶: a document's end. ↵: a new line." in said
    chinese = Page(render_report(large(), "zh")).words
    assert "测试文本中的一段" in chinese
    assert "比特" in chinese


def test_the_scale_follows_the_text():
    small = told(two([0.5, 1.0, 1.5] * 9))["legend"]
    great = told(two([5.0, 19.0, 18.0] * 9))["legend"]
    assert small[-1][1] == "2+"
    assert great[-1][1] == "20+"
    assert small[0][1] == "0"


def test_the_reddest_ground_leaves_the_text_readable():
    style = re.search(r"<style>(.*?)</style>", render_report(large()), re.S)[1]  # type: ignore[index]
    share = LEVELS * float(re.search(r"calc\(var\(--h\) \* ([\d.]+)%\)", style)[1]) / 100  # type: ignore[index]
    grounds = re.findall(r"--paper: (#\w{6}).*?--ink: (#\w{6}).*?--heat: (\d+) (\d+) (\d+);", style)
    assert len(grounds) >= 2
    for paper, ink, *heat in grounds:
        mixed = [round((1 - share) * int(paper[i : i + 2], 16) + share * int(h)) for i, h in zip((1, 3, 5), heat, strict=True)]
        dark, light = sorted([luminance(ink), luminance("#" + "".join(f"{v:02x}" for v in mixed))])
        assert (light + 0.05) / (dark + 0.05) >= 4.5
