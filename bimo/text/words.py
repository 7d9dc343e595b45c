"""Words: white space for most scripts, segmentation by rjieba for runs of Han characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache

from bimo.core.errors import UserError

_HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HAN_RUN = re.compile(f"[{_HAN}]")
# Characters that touch their neighbours without a space: Han, its punctuation, full-width forms, kana.
_TIGHT = re.compile(f"[{_HAN}\u3000-\u3006\u3008-\u30ff\uff00-\uffef“”‘’…—·]")


def has_han(text: str) -> bool:
    """True where the text holds a Chinese character.

    >>> has_han("a word"), has_han("一个 word")
    (False, True)
    """
    return not text.isascii() and _HAN_RUN.search(text) is not None


def is_tight(character: str) -> bool:
    """True for a character that is written without spaces around it: Han, its punctuation, full-width forms.

    >>> is_tight("中"), is_tight("。"), is_tight("a")
    (True, True, False)
    """
    return _TIGHT.match(character) is not None


@cache
def _segmenter() -> Callable[[str], list[str]]:
    try:
        import rjieba
    except ImportError:
        raise UserError(
            "words: this text holds Chinese, and its words are found by the library rjieba, which is not installed; "
            "pip install 'bimo[zh]', or choose --tokenizer char or bpe"
        ) from None
    return rjieba.cut


def split_words(text: str) -> list[str]:
    """The words of a text: parted by white space; parts that hold Han characters are segmented by rjieba.

    >>> split_words(" no it was n't ")
    ['no', 'it', 'was', "n't"]
    >>> split_words("今天天气 good")
    ['今天天气', 'good']
    """
    if not has_han(text):
        return text.split()
    cut = _segmenter()
    words: list[str] = []
    for part in text.split():
        if has_han(part):
            words.extend(cut(part))
        else:
            words.append(part)
    return words


def join_words(words: Sequence[str]) -> str:
    """Words put together again: a space between two words, none where both edges are Chinese.

    >>> join_words(["no", "it", "was"]), join_words(["天气", "真", "好", "。"])
    ('no it was', '天气真好。')
    """
    spaced = " ".join(words)
    if spaced.isascii():
        return spaced
    out: list[str] = []
    tight = False
    for word in words:
        if not word:
            continue
        if out and not (tight and is_tight(word[0])):
            out.append(" ")
        out.append(word)
        tight = is_tight(word[-1])
    return "".join(out)


_ENGLISH = frozenset(["the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "was", "on", "as", "with", "be", "by", "at"])


def guess_language(text: str) -> str | None:
    """A guess by script: zh, ja or ko, or en where every tenth word or more is a common English one; None: no guess.

    >>> guess_language("床前明月光，疑是地上霜。"), guess_language("The cat sat on the mat."), guess_language("3.14")
    ('zh', 'en', None)
    """
    letters = [c for c in text if c.isalpha()]
    kana, hangul, han = (sum(low <= c <= high for c in letters) for low, high in ("ぁヿ", "가힣", "㐀鿿"))
    if kana + hangul + han > 0.3 * len(letters):
        return "ja" if kana > 0.1 * len(letters) else "ko" if hangul > han else "zh"
    words = re.findall(r"[a-z]+", text.lower())
    return "en" if words and sum(word in _ENGLISH for word in words) >= 0.1 * len(words) else None
