"""Words: parted, segmented, joined."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimo.core.errors import UserError
from bimo.text import words


@given(st.text(alphabet=st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs"])))
def test_without_han_words_are_those_of_str_split(text: str) -> None:
    if not words.has_han(text):
        assert words.split_words(text) == text.split()


@given(st.text(alphabet="天地玄黄宇宙洪荒 ab,.，。 \n"))
def test_segmentation_loses_only_white_space(text: str) -> None:
    assert "".join(words.split_words(text)) == "".join(text.split())


def test_mixed_text_is_segmented_and_joined() -> None:
    text = "今天天气很好，Nexon公司 released a game。"
    found = words.split_words(text)
    assert "今天天气" in found
    assert "released" in found
    assert words.join_words(["今天", "天气", "good", "game", "好", "。"]) == "今天天气 good game 好。"


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rjieba", None)
    words._segmenter.cache_clear()
    assert words.split_words("plain English") == ["plain", "English"]
    with pytest.raises(UserError, match=r"bimo\[zh\]"):
        words.split_words("中文")
    words._segmenter.cache_clear()
