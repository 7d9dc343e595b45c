"""Numbers and foreign text as people read them: human units, and nothing invisible or dangerous in a name or a sample."""

from __future__ import annotations

import math
import re
import unicodedata

NONE = "–"
_MINUS = "\u2212"
# Direction marks, embeddings, overrides, isolates, and characters without a body: shown as their code point.
_UNSEEN = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200B, 0x200E, 0x200F, 0x061C, 0x2060, 0xFEFF, *range(0xE0000, 0xE0080)}


def significant(value: float, digits: int = 3) -> str:
    """`value` with so many significant digits, never in powers of ten.

    >>> significant(1234.5), significant(12.345), significant(0.0123)
    ('1,230', '12.3', '0.0123')
    """
    value = float(f"{value:.{digits}g}")
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace("-", _MINUS)


def _scaled(value: float, base: int, names: tuple[str, ...]) -> str:
    size = abs(value)
    for power in range(len(names) - 1, 0, -1):
        if size >= base**power * 0.9995:
            return f"{significant(value / base**power)} {names[power]}"
    number = f"{value:.0f}" if value == int(value) or size >= 100 else significant(value)
    return f"{number} {names[0]}".strip().replace("-", _MINUS)


def count(value: float | None) -> str:
    """A number of things.

    >>> count(1234567), count(8192), count(42), count(None)
    ('1.23 M', '8.19 k', '42', '–')
    """
    if value is None or math.isnan(value):
        return NONE
    return "∞" if math.isinf(value) else _scaled(value, 1000, ("", "k", "M", "B", "T"))


def size(value: float | None) -> str:
    """A number of bytes, in decimal units.

    >>> size(34_200_000), size(512)
    ('34.2 MB', '512 B')
    """
    return NONE if value is None or not math.isfinite(value) else _scaled(value, 1000, ("B", "kB", "MB", "GB", "TB"))


def seconds(value: float | None) -> str:
    """A stretch of time.

    >>> seconds(0.0123), seconds(29.44), seconds(252), seconds(4000)
    ('12.3 ms', '29.4 s', '4 min 12 s', '1 h 7 min')
    """
    if value is None or not math.isfinite(value):
        return NONE
    if value < 1:
        return f"{significant(value * 1000)} ms" if value else "0 s"
    if value < 99.5:
        return f"{significant(value)} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def tick(said: str) -> str:
    """A number on an axis, without the zeros that only show precision.

    >>> tick("5.00 s"), tick("1.25 M"), tick("100 k"), tick("2.50")
    ('5 s', '1.25 M', '100 k', '2.5')
    """
    return re.sub(r"(\.\d*?)0+(?= |$)", r"\1", said).replace(". ", " ").rstrip(".")


def bits(value: float | None, decimals: int = 3) -> str:
    """Bits per byte.

    >>> bits(2.3119), bits(float("inf")), bits(None)
    ('2.312', '∞', '–')
    """
    if value is None or math.isnan(value):
        return NONE
    return "∞" if math.isinf(value) else f"{value:.{decimals}f}"


def perplexity(value: float | None) -> str:
    """A perplexity: two decimals when small, human units when huge.

    >>> perplexity(4.713), perplexity(141.19), perplexity(2345.6), perplexity(1.5e7)
    ('4.71', '141.2', '2,346', '15.0 M')
    """
    if value is None or not math.isfinite(value):
        return bits(value)
    if value >= 100_000:
        return count(value)
    return f"{value:,.{2 if value < 100 else 1 if value < 1000 else 0}f}"


def percent(share: float, decimals: int = 1, space: str = "\u00a0") -> str:
    """A share of one as percent.

    >>> percent(-0.0314, space=" ")
    '−3.1 %'
    """
    return f"{share * 100:.{decimals}f}{space}%".replace("-", _MINUS)


def visible(text: str) -> str:
    """`text` with control, direction and bodiless characters made visible; newlines and tabs stay, CR LF is a newline.

    >>> visible("a\\x1b[31m\\u202eb\\r\\n")
    'a␛[31m⟨U+202E⟩b\\n'
    """
    out: list[str] = []
    for char in text.replace("\r\n", "\n"):
        code = ord(char)
        if char in "\n\t" or 0x20 <= code < 0x7F:
            out.append(char)
        elif code < 0x20:
            out.append(chr(0x2400 + code))
        elif code == 0x7F:
            out.append("␡")
        elif 0xD800 <= code < 0xE000:
            out.append("\ufffd")
        elif code < 0xA0 or code in _UNSEEN:
            out.append(f"⟨U+{code:04X}⟩")
        else:
            out.append(char)
    return "".join(out)


_SIGNS = str.maketrans({"\n": "↵", "\t": "⇥"})


def in_line(text: str) -> str:
    """`text` made visible, with signs for new lines and tabs.

    >>> in_line("a\\tb\\r\\n")
    'a⇥b↵'
    """
    return visible(text).translate(_SIGNS)


def width(text: str) -> int:
    """Columns that `text` takes: two for an ideograph.

    >>> width("笔墨 ab")
    7
    """
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def shorten(text: str, columns: int) -> str:
    """One line of at most so many columns; what is cut off is marked by an ellipsis.

    >>> shorten("interpolation", 8)
    'interpo…'
    """
    line = " ".join(visible(text).split())
    if width(line) <= columns:
        return line
    while line and width(line) > columns - 1:
        line = line[:-1]
    return line + "…"
