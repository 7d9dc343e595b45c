"""Cleaning: what it does by default, what only on request, and that it counts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimo.core.errors import RecipeError
from bimo.core.recipe import CleanSection
from bimo.text.clean import Cleaner


def test_ordinary_texts_pass_unaltered(data_folder: Path) -> None:
    for name in ("lm-ptb/ptb.test.txt", "lm-tinyshakespeare/input.txt", "lm-zh-wiki/valid.txt"):
        text = (data_folder / name).read_text(encoding="utf-8")
        cleaner = Cleaner()
        assert cleaner(text) == text
        assert not cleaner.counts


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        ("a\r\nb\rc\n", "a\nb\nc\n", {"line_ends": 2}),
        ("a\x00b\x1b[0m\ufeff", "ab", {"escapes": 1, "controls": 2}),
        ("\x1b[1;31mred\x1b[m [0m] \x1b]8;;http://a\x07link\x1b]8;;\x1b\\", "red [0m] link", {"escapes": 4}),
        ("\x1b(Bset\x1b7\x1bDear", "setDear", {"escapes": 2, "controls": 1}),
        ("\x1b[0", "[0", {"controls": 1}),  # cut off
        ("page\x0cpage", "page page", {"controls": 1}),
        ("cafe\u0301", "café", {"normalised": 1}),
        ("x\ud800y", "x\ufffdy", {"surrogates": 1}),
        ("tab\tstays, 全角，stays <b>", "tab\tstays, 全角，stays <b>", {}),
    ],
)
def test_default_cleaning(before: str, after: str, counts: dict[str, int]) -> None:
    cleaner = Cleaner()
    assert cleaner(before) == after
    assert dict(cleaner.counts) == counts


def test_switches() -> None:
    assert Cleaner(CleanSection(mojibake=True))("schÃ¶n “ok” &amp;") == "schön “ok” &amp;"
    assert Cleaner(CleanSection(markup=True))("<p>a &lt; b</p><!-- no -->") == "a < b"
    assert Cleaner(CleanSection(script="simplified"))("繁體中文") == "繁体中文"
    assert Cleaner(CleanSection(script="traditional"))("简体") == "簡體"
    assert Cleaner(CleanSection(normalise="none", controls=False))("cafe\u0301\r") == "cafe\u0301\r"


@pytest.mark.parametrize(
    ("library", "options", "extra"), [("ftfy", CleanSection(mojibake=True), "text"), ("opencc", CleanSection(script="simplified"), "zh")]
)
def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch, library: str, options: CleanSection, extra: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(RecipeError, match=rf"bimo\[{extra}\]"):
        Cleaner(options)("é中")


@given(st.text(alphabet=st.characters(codec=None)))
def test_cleaning_is_idempotent_and_gives_utf8(text: str) -> None:
    cleaner = Cleaner()
    once = cleaner(text)
    once.encode("utf-8")
    assert Cleaner()(once) == once
    assert cleaner.leaves(text) is False or once == text
