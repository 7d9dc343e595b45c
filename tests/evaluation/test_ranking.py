"""Who is ranked against whom, and what the verdict says of it."""

from __future__ import annotations

import math
import random

import pytest

from bimo.core.errors import RecipeError, UserError
from bimo.evaluation.ranking import rank, row_interval
from bimo.evaluation.report.tables import lines
from bimo.evaluation.report.verdict import answer, budget, caveats, verdict
from bimo.evaluation.results import Comparison, Row, TextFacts, TokenizerFacts
from tests.evaluation.example import comparison, large, row


def named(rows: list[Row]) -> list[str]:
    return [r.label for r in rows]


def plain(label: str, bits: float, **more: object) -> Row:
    return row("x", label, 2.0, 10.0, 1, **{"bits_per_byte": bits, "unit_nats": None, **more})


def test_best_first_with_an_interval_and_the_sentence():
    c = comparison()
    ranking = rank(c)
    assert named(ranking.ranked) == ["5-gram", "LSTM", "Transformer"]
    assert named(ranking.level) == ["5-gram"]
    assert ranking.lead.low > 0
    said = verdict(c)
    assert said.startswith("On Python's language manual, in 30 seconds each on two cores, the 5-gram wins: 2.22 bits per byte, 4.2")
    assert "the next, the LSTM (95\u00a0% interval" in said
    assert "5-gram 胜出：每字节 2.22 比特" in verdict(c, "zh")
    interval = row_interval(c, ranking.ranked[0])
    assert interval.low < 2.22 < interval.high


def test_kinds_are_never_mixed():
    c = comparison([plain("A", 2.5), plain("B", 2.0, kind="pseudo"), plain("C", 1.0, kind="unnormalised")])
    ranking = rank(c)
    assert named(ranking.ranked) == ["A"]
    assert [(r.label, why) for r, why in ranking.apart] == [("B", "kind"), ("C", "kind")]
    assert "only the A can be ranked" in verdict(c)
    assert "Measured but not ranked: B, C." in caveats(c)


def test_lost_bytes_are_ranked_only_under_their_own_tokenizer():
    word = TokenizerFacts(kind="word", vocab_size=100, fingerprint="w")
    other = TokenizerFacts(kind="char", vocab_size=100, fingerprint="c")
    c = comparison([plain("A", 2.5), plain("B", 2.0, tokenizer=word, unknown_tokens=3), plain("C", 2.4, tokenizer=other)])
    assert named(rank(c).ranked) == ["C", "A"]  # lossless ones compare in bits per byte
    assert [(r.label, why) for r, why in rank(c).apart] == [("B", "tokenizer")]
    both = comparison([plain("A", 2.5, lost_bytes=4), plain("B", 2.0, lost_bytes=4)])
    assert named(rank(both).ranked) == ["B", "A"]


def test_another_amount_of_text_and_a_row_put_aside_stand_apart():
    c = comparison([plain("A", 2.5), plain("A2", 2.6), plain("B", 2.0, bytes=7), plain("D", 1.9, apart="needed twice the time")])
    assert named(rank(c).ranked) == ["A", "A2"]
    assert {r.label: why for r, why in rank(c).apart} == {"B": "text", "D": "asked"}


def test_ties_are_said_by_interval_or_by_closeness():
    level = comparison([row("a", "A", 2.4, 30, 1, ), row("b", "B", 2.44, 30, 2), row("c", "C", 2.9, 30, 3)])  # fmt: skip
    said = verdict(level)
    assert "are level at" in said
    assert "within chance" in said
    assert "The next, the C, needs" in said
    close = verdict(comparison([plain("A", 2.400), plain("B", 2.404)], unit_bytes=[]))
    assert "are level at 2.400–2.404" in close
    assert "less than half a percent" in close
    assert "wins" in verdict(comparison([plain("A", 2.40), plain("B", 2.44)], unit_bytes=[]))


def test_a_hybrid_wins_like_any_other_and_what_took_more_time_comes_after():
    c = large()
    said = verdict(c).replace("\u00a0", " ")
    assert "the 5-gram + Transformer wins: 1.99 bits per byte" in said
    assert "the next, the Transformer + cache" in said
    later = (
        "With more time (9 min 43 s, its parts included) the 5-gram + Transformer + LSTM + cache comes to 1.90, 4.8 % fewer than the 5-gram"
    )
    assert f". {later}" in said
    assert "Transformer (95 % interval" in said.split(later)[1]
    assert answer(c)[1].replace("\u00a0", " ").startswith(later)
    chinese = verdict(c, "zh").replace("\u00a0", " ")
    assert "5-gram + Transformer 胜出" in chinese
    assert (
        "。若给更多时间（连同各部分共 9 min 43 s），5-gram + Transformer + LSTM + cache 可达 1.90，比 5-gram + Transformer 少 4.8%"
        in chinese
    )


@pytest.mark.parametrize(
    "change",
    [
        {"unit_nats": None, "bits_per_byte": 2.1},  # worse than the winner
        {"unit_nats": None, "bits_per_byte": 1.992},  # too little to call
        {"kind": "bound"},
        {"bits_per_byte": math.inf},
        {"used_seconds": 290.0, "apart": "asked for"},  # it stands apart for another reason
    ],
)
def test_what_is_not_surely_better_with_more_time_is_not_named(change):
    c = large()
    for name, value in change.items():
        setattr(c.rows[9], name, value)
    assert answer(c)[1] == ""


def test_a_gain_by_more_time_that_may_be_chance_is_not_named():
    c = large()
    best, later = c.rows[7], c.rows[9]
    noise = random.Random(1)
    later.unit_nats = [(nats or 0) * (0.998 + noise.gauss(0, 0.05)) for nats in best.unit_nats or []]
    later.bits_per_byte = (best.bits_per_byte or 0) * 0.98
    assert answer(c)[1] == ""


def test_why_a_hybrid_stands_apart_is_said_in_both_languages():
    assert (
        next(line.reason for line in lines(large(), "en") if line.row.apart)
        == "took 9 min 43 s with its parts, more than the 5 min of the budget"
    )
    assert "超过预算 5 min" in next(line.reason for line in lines(large(), "zh") if line.row.apart)


def test_infinity_failure_and_nothing_measured():
    assert "gives part of the text probability zero" in verdict(comparison([plain("A", 2.4), plain("B", math.inf)]))
    assert "none of the models gives" in verdict(comparison([plain("A", math.inf), plain("B", math.inf)]))
    failed = Row(family="x", label="X", error="NaN at step 3")
    assert "no model finished" in verdict(comparison([failed, failed]))
    assert any("NaN at step 3" in note for note in caveats(comparison([failed])))
    assert "no held-out text" in verdict(comparison([Row(family="x", label="X")]))
    assert "1 of 2 failed; see below." in caveats(comparison([plain("A", 2.4), failed]))


def test_few_documents_are_said_and_give_no_interval():
    c = comparison([plain("A", 2.4, unit_nats=[1.0, 2.0]), plain("B", 2.5, unit_nats=[2.0, 3.0])], unit_bytes=[5, 5])
    assert rank(c).lead is None
    assert any("too few documents (2)" in note for note in caveats(c))


@pytest.mark.parametrize(
    ("written", "said"),
    [("30s", "in 30 seconds"), ("1h", "in one hour"), ("300steps", "in 300 steps"), ("1epoch", "in one epoch"),
     ("5Mtokens", "in 5 M tokens"), ("10min", "in 10 minutes"), ("5Gtokens", "in 5 B tokens"), ("5400s", "in 90 minutes"),
     ("a while", "with a budget of a while")],
)  # fmt: skip
def test_budgets_are_said_as_people_say_them(written, said):
    assert budget(written, "en") == said


def test_unknown_language_lists_the_known():
    with pytest.raises(RecipeError, match="Known: en, zh"):
        verdict(comparison(), "de")


def test_results_survive_json_with_infinity_as_null():
    import json

    c = comparison([plain("A", math.inf, perplexity=math.inf, nats=math.inf, impossible_tokens=3), plain("B", 2.5)])
    text = json.dumps(c.to_dict(), allow_nan=False)
    assert json.loads(text)["rows"][0]["bits_per_byte"] is None
    again = Comparison.from_dict(json.loads(text))
    assert again.rows[0].bits_per_byte == math.inf
    assert again == c


def test_wrong_results_are_clear_errors():
    with pytest.raises(UserError, match="text"):
        Comparison.from_dict({"rows": []})
    text = TextFacts(name="t", tokenizer=TokenizerFacts(kind="byte", vocab_size=258))
    with pytest.raises(ValueError, match="every row needs the same units"):
        Comparison(text=text, unit_bytes=[1], rows=[Row(family="x", label="x", unit_nats=[1.0, 2.0])])


def test_the_answer_names_the_text_that_was_measured_and_the_time_that_was_used() -> None:
    c = comparison([plain("A", 2.4)], budget="10m")
    c.rows[0].budget_seconds, c.rows[0].used_seconds = 600.0, 11.7
    c.text.name, c.text.measured = "train.txt.gz", "test.txt"
    assert verdict(c).startswith("On test.txt, in 11.7 seconds")
    assert verdict(c, "zh").startswith("在“test.txt”上，训练 11.7 秒")
    c.text.measured, c.rows[0].used_seconds = "", 598.0
    assert verdict(c).startswith("On the held-out part of train.txt.gz, in 10 minutes")
    assert verdict(c, "zh").startswith("在“train.txt.gz 的留出部分”上，训练 10 分钟")
