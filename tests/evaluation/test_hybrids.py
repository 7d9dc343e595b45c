"""Which hybrid gains what: the best part, the difference in bits per byte, its interval, in words and as a picture."""

from __future__ import annotations

import math

import pytest

from bimo.evaluation.hybrids import gain_said, gains, weights_said
from bimo.evaluation.report import render_report
from bimo.evaluation.report.mixtures import mixtures
from bimo.evaluation.report.tables import lines, markdown_table
from bimo.evaluation.report.wording import words
from bimo.evaluation.results import Comparison, RowPart
from tests.evaluation.example import comparison, large, mixed, row
from tests.evaluation.test_report import Page
from tests.evaluation.test_tables import shown

EN = words("en")


def test_the_gain_is_over_the_best_part_on_the_same_units():
    c = large()
    first = gains(c)[0]
    assert first.best is c.rows[4], "the Transformer is better than the 5-gram"
    difference = sum(c.rows[4].unit_nats or []) - sum(first.row.unit_nats or [])  # type: ignore[arg-type]
    assert first.bits == pytest.approx(difference / math.log(2) / sum(c.unit_bytes))
    assert first.interval is not None
    assert first.interval.estimate == pytest.approx(first.bits)
    assert first.interval.low < first.bits < first.interval.high
    assert first.interval.high - first.interval.low < 0.2, "what is hard for both does not blur the difference"


def test_a_gain_that_may_be_nothing_is_said_to_be():
    found = gains(large())
    assert [bool(g.interval and g.interval.holds_zero) for g in found] == [False, True, False]
    assert gain_said(found[0], EN).startswith("saves 0.119 bits per byte over its best part, the Transformer (95")
    assert gain_said(found[1], EN).startswith("no sure gain over its best part, the Transformer: what it saves may be nothing (95")
    assert "未必有所得" in gain_said(found[1], words("zh"))
    drawn = mixtures(large(), list(enumerate(large().rows)), EN)["lines"]
    assert [line["sure"] for line in drawn] == [True, False, True]


def test_a_loss_is_no_gain():
    c = comparison([row("ngram", "5-gram", 2.0, 1, 1), row("lstm", "LSTM", 2.4, 30, 2)])
    c.rows.append(mixed({"ngram": ("5-gram", 0.5), "lstm": ("LSTM", 0.5)}, 2.3, 30, 3))
    (gain,) = gains(c)
    assert gain.bits is not None
    assert gain.bits < 0
    assert "more than its best part, the 5-gram" in gain_said(gain, EN)


def test_memories_have_no_row_and_missing_models_no_gain():
    c = large()
    assert [[place for _, place in gain.parts] for gain in gains(c)] == [[0, 4], [4, None], [0, 4, 2, None]]
    c.rows = [made for made in c.rows if made.family != "ngram"]
    without = gains(c)
    assert [gain.best is None for gain in without] == [True, False, True]
    assert gain_said(without[0], EN) == ""
    assert "0.40\u00a0Transformer" in weights_said(without[0], EN)
    assert "not all of its parts stand in this comparison" in Page(render_report(c)).words


def test_what_does_not_compare_gives_no_gain():
    for change in ({"kind": "bound"}, {"bytes": 12}, {"bits_per_byte": math.inf}, {"error": "it failed"}):
        c = large()
        for name, value in change.items():
            setattr(c.rows[0], name, value)
            setattr(c.rows[4], name, value)
        assert gains(c)[0].bits is None, change


def test_a_part_is_the_row_of_its_own_run_and_no_other_of_its_family_or_name():
    c = comparison([row("ngram", "5-gram", 2.2, 1, 1), row("ngram", "5-gram", 2.4, 1, 2, run="ngram-2"), row("lstm", "LSTM", 2.5, 30, 3)])
    c.rows.append(mixed({"ngram": ("5-gram", 0.5), "lstm": ("LSTM", 0.5)}, 2.3, 30, 4))
    c.rows[3].parts[0].run = "ngram-2"
    assert gains(c)[0].best is c.rows[1]
    c.rows[3].parts[0].run = None
    assert gains(c)[0].best is None, "learned inside the hybrid, or somewhere else"


def test_few_units_give_a_gain_without_an_interval():
    c = large()
    c.unit_bytes = c.unit_bytes[:5]
    for made in c.rows:
        made.unit_nats = (made.unit_nats or [])[:5]
    gain = gains(c)[0]
    assert gain.bits is not None
    assert gain.interval is None
    assert "interval" not in gain_said(gain, EN)


def test_terminal_and_markdown_tell_weights_and_gain():
    c = large()
    for said in (shown(c, 120), markdown_table(c)):
        line = " ".join(said.replace("\u00a0", " ").split())
        assert "0.30 5-gram, 0.40 Transformer: saves 0.119 bits per byte over its best part, the Transformer" in line
    assert "no sure gain" in next(line.said for line in lines(c) if line.row.label == "Transformer + cache")
    assert all(not line.mixed for line in lines(c) if not line.row.parts)


def test_weights_fill_a_bar_in_the_inks_of_their_rows():
    drawn = mixtures(large(), list(enumerate(large().rows)), EN)["lines"]
    assert 'class="s0"' in drawn[0]["shares"]
    assert 'class="s4"' in drawn[0]["shares"]
    assert 'class="none"' in drawn[1]["shares"]
    assert 'x="42.86%" width="57.14%"' in drawn[0]["shares"]
    assert 'class="zero"' in drawn[0]["drawn"]


def test_weights_that_are_no_shares_of_a_token_are_explained():
    said = {"product": "are exponents", "gate": "from token to token", "documents": "whole documents are mixed", "linear": "counts"}
    for mixture in said:
        c = large()
        c.rows[7].mixture = mixture
        page = Page(render_report(c)).words
        assert {name for name, words_of in said.items() if words_of in page} == {mixture, "linear"}


def test_a_single_hybrid_shows_what_it_is_mixed_of():
    c = large()
    c.rows = c.rows[7:8]
    said = Page(render_report(c)).words
    assert "What it is mixed of" in said
    assert "0.30 5-gram" in said
    assert "comparison by themselves" not in said
    assert "over its best part" not in said


def test_hostile_parts_stay_text_and_a_weight_may_be_unknown():
    hostile = "</span><script>alert(1)</script>"
    c = large()
    c.rows[7].parts = [RowPart(family=hostile, label=hostile), RowPart(family="lstm", label="LSTM")]
    page = Page(render_report(Comparison.from_dict(c.to_dict())))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "–\u00a0LSTM" in weights_said(gains(c)[0], EN)
