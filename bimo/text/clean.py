"""Cleaning: what is done to a text before it becomes ids, with a count for each thing done.

By default only what no reader would miss: half surrogates, terminal escapes, control characters, line ends, Unicode normal form C.
Repairs that change what was written (mojibake, markup, traditional ↔ simplified) are switches.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import cached_property

from bimo.core.errors import RecipeError
from bimo.core.recipe import CleanSection

_SURROGATES = re.compile("[\ud800-\udfff]")
_LINE_ENDS = re.compile("\r\n?")
_ESCAPES = re.compile(  # of terminals, whole: colours and cursors (CSI), titles and links (OSC), character sets and modes
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)|[()][AB012]|[=>78])"
)
_SPACING = re.compile("[\x0b\x0c\x85\x1c-\x1f]")  # controls that part words: they become a space
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff\ufff9-\ufffb]")
_SUSPECT = re.compile("[\x00-\x08\x0b-\x1f\x7f]")  # all that cleaning by default could change in ASCII text
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,1000}>|<!--.*?-->|<\?[A-Za-z][^<>]{0,1000}\?>|<!DOCTYPE[^<>]*>", re.S)


class Cleaner:
    """Cleans text and counts what it did.

    >>> c = Cleaner()
    >>> c("cafe\\u0301\\r\\n\\x00"), dict(c.counts)
    ('café\\n', {'line_ends': 1, 'controls': 1, 'normalised': 1})
    """

    def __init__(self, options: CleanSection | None = None) -> None:
        self.options = options or CleanSection()
        self.counts: Counter[str] = Counter()  # found (escapes, line_ends, controls, surrogates, tags) or texts (the rest)

    def leaves(self, text: str) -> bool:
        """True where it is plain at once that cleaning changes nothing (a quick look, for whole blocks of lines)."""
        o = self.options
        by_default = not (o.mojibake or o.markup or o.script != "as_is")
        return by_default and text.isascii() and not (o.controls and _SUSPECT.search(text))

    def __call__(self, text: str) -> str:
        """The cleaned text."""
        if self.leaves(text):
            return text
        o, counts = self.options, self.counts
        text = mend_surrogates(text, counts)
        if o.mojibake:
            text = self._changed("mojibake", text, self._fix_mojibake(text))
        if o.controls:
            text, escapes = _ESCAPES.subn("", text)
            text, n = _LINE_ENDS.subn("\n", text)
            text, spaced = _SPACING.subn(" ", text)
            text, removed = _CONTROLS.subn("", text)
            counts.update({k: v for k, v in (("escapes", escapes), ("line_ends", n), ("controls", spaced + removed)) if v})
        if o.markup:
            text = self._without_markup(text)
        if o.normalise != "none" and not unicodedata.is_normalized(o.normalise, text):
            text = self._changed("normalised", text, unicodedata.normalize(o.normalise, text))
        if o.script != "as_is" and not text.isascii():
            text = self._changed(o.script, text, self._convert(text))
        return text

    def _changed(self, what: str, before: str, after: str) -> str:
        if before != after:
            self.counts[what] += 1
        return after

    def _without_markup(self, text: str) -> str:
        import html

        text, tags = _TAG.subn("", text)
        unescaped = html.unescape(text)
        if tags:
            self.counts["tags"] += tags
        return self._changed("entities", text, unescaped)

    @cached_property
    def _fix_mojibake(self) -> Callable[[str], str]:
        try:
            from ftfy import TextFixerConfig, fix_text
        except ImportError:
            raise RecipeError("text.clean.mojibake: needs the library ftfy; pip install 'bimo[text]'") from None
        config = TextFixerConfig(
            unescape_html=False, uncurl_quotes=False, fix_latin_ligatures=False, fix_character_width=False, normalization=None,
            fix_line_breaks=False, remove_terminal_escapes=False, remove_control_chars=False, explain=False,
        )  # fmt: skip
        return lambda text: fix_text(text, config)

    @cached_property
    def _convert(self) -> Callable[[str], str]:
        try:
            from opencc import OpenCC
        except ImportError:
            raise RecipeError(f"text.clean.script={self.options.script}: needs the library opencc; pip install 'bimo[zh]'") from None
        return OpenCC("t2s" if self.options.script == "simplified" else "s2t").convert


def is_markup(text: str) -> bool:
    """Whether a text is XML or HTML: it begins with a tag, and a tenth or more of its beginning is tags.

    >>> is_markup("<?xml version='1.0'?><sms><text>Hello</text></sms>"), is_markup("<3 is a heart, and a < b")
    (True, False)
    """
    beginning = text[: 1 << 16].lstrip()
    return re.match(r"<[?!]?[A-Za-z]", beginning) is not None and 10 * sum(map(len, _TAG.findall(beginning))) >= len(beginning)


def mend_surrogates(text: str, counts: Counter[str]) -> str:
    """Half surrogate pairs, which are no text and cannot be written as UTF-8, become U+FFFD; always done, and counted.

    >>> mend_surrogates("a\\ud800", Counter())
    'a�'
    """
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text, n = _SURROGATES.subn("\ufffd", text)
        counts["surrogates"] += n
    return text
