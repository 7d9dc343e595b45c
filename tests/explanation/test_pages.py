"""The page and the terminal's table: whole, offline, in both languages, readable without colour, safe whatever the text holds."""

from __future__ import annotations

import math
import re
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from bimo.core.errors import RecipeError, UserError
from bimo.evaluation.report import explained, frame
from bimo.evaluation.report.explained import render_explanation, write_explanation
from bimo.evaluation.report.explained_table import explained_table
from bimo.evaluation.report.wording import WORDS
from bimo.explanation.results import Counted, Explanation, Likely, Reasons, Remembered, Said, Token
from tests.evaluation.test_report import HOSTILE, Page
from tests.explanation.test_texts import explained as of

PARTS = ["hybrid", "product", "nested"]
both = pytest.mark.parametrize("lang", ["en", "zh"])


def hostile() -> Explanation:
    reasons = Reasons((Counted(HOSTILE, 3, 1, 2, 3, 4),), (Remembered(HOSTILE, 0.5, 1), Remembered(HOSTILE, 0.2, None)))
    parts = tuple(Said(HOSTILE + str(i), 0.5, 1.0, 0.4, share, reasons) for i, share in enumerate((0.7, 0.3)))
    tokens = [Token(0, "", "<s>", special=True)]
    tokens += [Token(i, HOSTILE, HOSTILE, False, n, math.exp(-n), 3, (Likely(HOSTILE, 1, 0.5),), Reasons(parts=parts))
               for i, n in enumerate((0.1, 1.0, 2.0, 4.0, 7.0, 9.0, math.inf))]  # fmt: skip
    return Explanation(HOSTILE, "conditional", HOSTILE, tokens, given=HOSTILE, parts=[HOSTILE])


def terminal(explanation: Explanation, lang: str = "en", width: int = 200, **options: Any) -> str:
    out = StringIO()
    Console(file=out, width=width, **options).print(explained_table(explanation, lang), highlight=False)
    return out.getvalue()


@both
@pytest.mark.parametrize("name", ["ngram-bpe", "lstm", "encoder", "vae", "stupid-backoff", "mle", "seq2seq", *PARTS])
def test_the_page_is_whole_and_in_its_language(name: str, lang: str) -> None:
    found = of(name, "月光 and ink\n霜")
    html = render_explanation(found, lang)
    page = Page(html)
    assert f'<html lang="{"zh-CN" if lang == "zh" else "en"}">' in html
    for key in ("marked", "marked_note", "one_by_one", "col_bits", f"kind_{found.kind}", "one_by_one_note"):
        assert WORDS[key][lang == "zh"] in page.words
        assert WORDS[key][lang != "zh"] not in page.words
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "href", "srcset", "action"} & set(attributes)
    assert not re.search(r"url\(|@import|https?://", html)
    assert html.count("<tr>") == 1 + len(found.scored)
    assert ("∞" in page.words) == math.isinf(found.nats)
    assert "nan" not in page.words


def test_the_marked_text_is_the_text_in_whole_characters() -> None:
    for name in ("ngram-byte", "ngram-bpe"):
        html = render_explanation(of(name, "月光\n<b>龘</b> ink"))
        (quote,) = re.findall(r'<div class="strip marked".*?</div>', html, re.S)
        shown = Page(quote).text
        assert "".join(shown).replace("↵\n", "\n").removesuffix("¶") == "月光\n<b>龘</b> ink"
        assert [piece for piece in shown if "\ufffd" in piece or "⟨" in piece] == []


def test_a_character_of_several_tokens_has_their_sum() -> None:
    found = of("ngram-byte", "龘")
    (piece, _) = explained.marked(found.tokens, explained.words("en"))
    assert piece.text == "龘"
    assert piece.bits == pytest.approx(sum(token.bits or 0.0 for token in found.scored[:3]))
    assert "⟨E9⟩ ⟨BE⟩ 龘" in piece.title


@both
def test_hostile_text_is_shown_as_text(lang: str) -> None:
    html = render_explanation(hostile(), lang)
    html.encode()
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "img" not in {tag for tag, _ in page.tags}
    assert "<script>alert('x')</script>" in page.words
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ud800]", html)
    assert "{{ 7*7 }}" in page.words
    said = terminal(hostile(), lang)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ud800]", said)


def test_the_text_is_marked_by_ground_and_bar_and_styled_for_all() -> None:
    html = render_explanation(hostile())
    grounds = re.findall(r'<i class="(b\w)[" ]', html.split('class="strip marked"')[1])
    assert [grounds[i] for i in range(7)] == ["b0", "b1", "b1", "b3", "b5", "b6", "bx"]
    for part in ("prefers-color-scheme: dark", '[data-theme="dark"]', "@media print", "@media (max-width", 'name="viewport"', ".strip .b8"):
        assert part in html


def test_shares_are_bars_with_a_legend_and_in_words() -> None:
    found = of("hybrid", "月光")
    html = render_explanation(found)
    bars = re.findall(r'<svg class="bar stack".*?</svg>', html)
    assert len(bars) == len(found.scored)
    for bar, token in zip(bars, found.scored, strict=True):
        widths = [float(w) for w in re.findall(r'<rect class="s\d" x="[\d.]+%" width="([\d.]+)%"', bar)]
        assert widths == pytest.approx([100 * (p.share or 0.0) for p in token.reasons.parts if (p.share or 0.0) >= 0.005], abs=0.01)
    (legend,) = re.findall(r'<ul class="legend.*?</ul>', html, re.S)
    assert [name for name in found.parts if name not in legend] == []
    assert legend.count("<svg") == 3
    for token in found.scored:
        for part in token.reasons.parts:
            assert f"{100 * (part.share or 0.0):.0f}\u00a0%" in html
    assert "bar stack" not in render_explanation(of("product", "月光"))
    assert WORDS["product_note"][0] in Page(render_explanation(of("product", "月光"))).words


def test_the_script_is_the_one_the_policy_allows() -> None:
    script, hashed = frame.script()
    html = render_explanation(of("lstm"))
    assert f"script-src '{hashed}'" in html
    assert f"<script>{script}</script>" in html


def test_long_texts_are_cut_on_the_page_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explained, "_MOST_ROWS", 5)
    monkeypatch.setattr(explained, "_MOST_MARKED", 8)
    found = of("lstm")
    page = Page(render_explanation(found))
    assert f"… {len(found.tokens) - 5} more tokens" in page.words
    assert f"… {len(found.tokens) - 8} more tokens" in page.words


def test_it_is_written_whole(tmp_path: Any) -> None:
    found = of("lstm", "床前明月光")
    path = write_explanation(found, tmp_path / "deep" / "text.html")
    assert path.read_text(encoding="utf-8") == render_explanation(found, "zh")
    assert [p.name for p in path.parent.iterdir()] == ["text.html"]
    assert 'lang="en"' in write_explanation(of("lstm", "the ink"), tmp_path / "en.html").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="a folder; name the HTML file"):
        write_explanation(found, tmp_path)
    with pytest.raises(RecipeError, match="unknown language"):
        write_explanation(found, tmp_path / "x.html", "fr")


# -- the terminal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("name", ["ngram-bpe", "lstm", "encoder", "vae", *PARTS])
def test_a_row_a_token_at_any_width(name: str, width: int) -> None:
    found = of(name, "月光 and ink\n霜")
    body = terminal(found, width=width).split("─\n")[1].splitlines()
    rows = [line for line in body if not line.startswith(" ")]  # the others are what was folded
    assert len(rows) == len(found.scored)
    for line, token in zip(rows, found.scored, strict=True):
        assert f"{token.bits:.2f}" in line
    assert "…" not in "".join(body)
    assert "\x1b" not in terminal(found, width=width)
    assert terminal(found, force_terminal=True, color_system="standard").count("\x1b") > 0


def test_counts_and_shares_are_told_in_words() -> None:
    said = terminal(of("ngram-char", "明月", top_k=0))
    assert "2-gram: 0 of 3 after “<s>”" not in said  # the word was not there: the one that decides is told
    assert "1-gram: 2 of 109 (continuations 2 of 69)" in said
    assert "2-gram: 2 of 2 after “明” (continuations 2 of 2)" in said
    assert "2 元：“明”后 2 次中 2 次（续接计数 2 中 2）" in terminal(of("ngram-char", "明月"), "zh")
    last = terminal(of("hybrid", "明月")).splitlines()[-1]
    shares = [int(share) for share in re.findall(r"(?:m\d|cache) (\d+)\u00a0%", last)]
    assert 99 <= sum(shares) <= 101
    assert shares == sorted(shares, reverse=True)
