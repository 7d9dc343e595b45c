"""Which encoding bytes are in: their form first (escapes, UTF-16, UTF-8), the statistics of languages last."""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np

CONTROL = bytes([*range(9), *range(14, 27), *range(28, 32), 127])
HIGH = bytes(range(128, 256))
_SAMPLE = 1 << 13  # bytes that the statistics look at
_PIECE = 256  # bytes of a line that are judged together
_PIECES = 128
UNLIKE = 0.08  # a text whose score is below this is like no language: the next one is named as well
SEARCHED = 1 << 18  # bytes of a block in which escapes of HZ and UTF-7 are looked for
DOUBT = 0.3  # another encoding is named where its score is lower by less than this share, for each character that differs

# The names that stand for several encodings which read the same bytes as the same text, the commonest first.
_PREFERRED = (
    "cp1252", "gb18030", "big5hkscs", "cp932", "euc_jp", "cp949", "cp1251", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256",
    "cp1257", "cp1258", "cp874", "iso8859-15", "iso8859-2", "koi8-r", "koi8-u", "mac-roman", "cp850", "cp437", "cp866", "cp037",
)  # fmt: skip
_DOUBLE = ("gb18030", "big5hkscs", "cp932", "euc_jis_2004", "cp949", "johab")  # encodings whose characters take several bytes


@dataclass(frozen=True)
class Verdict:
    """An encoding, others that are nearly as likely and give another text, and bytes to skip as the rest of a cut character."""

    encoding: str
    alternatives: tuple[str, ...] = ()
    skip: int = 0


# -- forms ----------------------------------------------------------------------------------------------------------------


def escaped_encoding(data: bytes) -> str | None:
    """The encoding of ASCII bytes that stand for other characters: ISO-2022, HZ or UTF-7; None where they are plain.

    >>> escaped_encoding("こんにちは".encode("iso2022_jp")), escaped_encoding("你好吗".encode("hz")), escaped_encoding(b"a+b-c ~{")
    ('iso2022_jp_ext', 'hz', None)
    """
    if b"\x1b" in data:
        return next((codec for form, codec in _ISO_2022 if form.search(data)), None)
    for sign, form, codec in ((b"~{", _HZ, "hz"), (b"+", _UTF7, "utf-7")):
        if sign[:1] in data and sign in data and (found := form.findall(data[:SEARCHED])):  # one byte is looked for faster
            text = re.sub("[\x00-\x7f]", "", b" ".join(found).decode(codec, "replace"))
            if len(text) >= len(found) and _plausible_wide(np.frombuffer(text.encode("utf-16-le", "replace"), "<u2")):
                return codec
    return None


_ISO_2022 = (
    (re.compile(rb"\x1b\$\)C"), "iso2022_kr"), (re.compile(rb"\x1b\$(\)[AGE]|\*H)"), "iso-2022-cn"),
    (re.compile(rb"\x1b\$\([OPQ]"), "iso2022_jp_2004"), (re.compile(rb"\x1b(\$A|\$\(C|\.[AF])"), "iso2022_jp_2"),
    (re.compile(rb"\x1b(\$\(?[@BD]|\([JI])"), "iso2022_jp_ext"),
)  # fmt: skip
_HZ = re.compile(rb"~\{(?:[\x21-\x77][\x21-\x7e])+~\}")
_UTF7 = re.compile(rb"\+(?:[A-Za-z0-9/+]{8})*(?:[A-Za-z0-9/+]{3}|[A-Za-z0-9/+]{6}|[A-Za-z0-9/+]{8})-?(?![A-Za-z0-9/+])")


def wide_encoding(head: bytes) -> tuple[str, int] | None:
    """UTF-16 or UTF-32 without a mark, and the bytes before its first whole character; None for text in other encodings.

    The likelihood of the bytes as units of 16 bits is compared with that as bytes. Only text with control bytes is looked at: UTF-16
    has them in every script, other text has next to none.
    """
    sample = head[:8192]
    values = np.frombuffer(sample, np.uint8)
    controls = int(_is_control()[values].sum())
    if len(sample) < 4 or controls * 100 < len(sample):
        return None
    best, found = float(_byte_log_probs()[values].mean()), None
    for width, order, name in ((4, "<", "le"), (4, ">", "be"), (2, "<", "le"), (2, ">", "be")):
        for skip in range(width):
            units = np.frombuffer(sample[skip : skip + (len(sample) - skip) // width * width], f"{order}u{width}")
            if not len(units):
                continue
            units = np.where(units > 0x10FFFF, 0, np.where(units > 0xFFFF, 0x2600, units))  # emoji are like symbols
            if not _plausible_wide(units):
                continue
            unread = len(sample) - width * len(units)
            likely = (float(_unit_log_probs()[units].sum()) - 6.0 * unread) / len(sample)
            if likely > best + 1e-9:
                best, found = likely, (f"utf-{8 * width}-{name}", skip)
    return found


def _plausible_wide(units: np.ndarray) -> bool:
    """Whether nearly all of these UTF-16 units are characters in use."""
    return len(units) > 0 and float((_unit_log_probs()[units] < -10).mean()) <= 0.05


@cache
def _is_control() -> np.ndarray:
    return np.isin(np.arange(256), list(CONTROL))


@cache
def _byte_log_probs() -> np.ndarray:
    """Rough log-probabilities of the bytes of a text in an encoding of bytes, float32 [256]."""
    table = np.where(np.arange(256) < 128, np.float32(-3), np.float32(-3.7))
    return np.where(_is_control(), np.float32(-12), table)


@cache
def _unit_log_probs() -> np.ndarray:
    """Rough log-probabilities of the UTF-16 units of a text, float32 [65536]: what is no character in use is below -10."""
    table = np.full(1 << 16, -12, np.float32)
    for low, high, value in (
        (0x20, 0x7E, -5), (0x20, 0x20, -1.7), (0x61, 0x7A, -3), (0xA0, 0x2FF, -4.5), (0x300, 0x5FF, -4), (0x600, 0x6FF, -4),
        (0x900, 0x109F, -4.5), (0x10A0, 0x13FF, -6), (0x1780, 0x17FF, -5), (0x1E00, 0x1FFF, -5), (0x2000, 0x206F, -5),
        (0x20A0, 0x27BF, -7), (0x3000, 0x30FF, -4.5), (0x4E00, 0x9FFF, -8), (0xAC00, 0xD7A3, -7), (0xD800, 0xDFFF, -9),
        (0xFF00, 0xFFEF, -5),
    ):  # fmt: skip
        table[low : high + 1] = value
    table[[0x09, 0x0A, 0x0D]] = -4
    return table


def is_utf8(sample: bytes) -> bool:
    """Whether a text is UTF-8, perhaps damaged in places or with lines of another encoding in it.

    Sequences of several bytes that are valid UTF-8 hardly come about by chance (0.12 of pairs, 0.03 of triples of bytes above 127): about
    a nat of evidence a byte. A wrong sequence is evidence against it; a piece of a line counts for no more than a few of either kind.
    """
    if strict_text(sample, "utf-8") is not None:
        return True
    evidence = 3.0  # UTF-8 is the commonest encoding
    for piece in _pieces(sample):
        text = piece.decode("utf-8", "replace")
        own = piece.count(b"\xef\xbf\xbd")
        wrong = text.count("\ufffd") - own
        valid = len(text.encode()) - len(text.encode("ascii", "ignore")) - 3 * (wrong + own)
        evidence += min(12.0, max(-6.0, 1.05 * valid - 4.0 * wrong))
    return evidence > 0


def _pieces(sample: bytes) -> list[bytes]:
    """Pieces of the lines that are not ASCII, at most `_PIECES` of them, evenly; none begins or ends within a UTF-8 character."""
    found: list[tuple[bytes, bool]] = []  # a piece, and whether it was cut
    for line in sample.split(b"\n"):
        if not line.isascii():
            cut = len(line) > _PIECE
            found += [(line[at : at + _PIECE + 3 * cut], cut) for at in range(0, len(line), _PIECE)]
    return [_CUT.sub(b"", piece) if cut else piece for piece, cut in found[:: -(-len(found) // _PIECES) or 1]]


_CUT = re.compile(rb"^[\x80-\xbf]{1,3}(?=[^\x80-\xbf])|[\xc0-\xff][\x80-\xbf]{0,2}$")


# -- statistics -----------------------------------------------------------------------------------------------------------


def detect(sample: bytes, declared: str | None = None) -> Verdict:
    """The encoding of bytes that are not all ASCII, have no mark and are not UTF-16: UTF-8 where that is possible, else the likeliest.

    declared: an encoding that the file says it is in, believed unless its text is less than half as likely as the likeliest.

    >>> detect("naïve café".encode("utf-8")).encoding, detect("繁體中文的書".encode("big5")).encoding
    ('utf-8', 'big5hkscs')
    """
    ascii = sample.translate(None, HIGH)
    beyond = len(sample) - len(ascii)
    if not beyond or _mostly_escaped(sample):
        return Verdict(escaped_encoding(ascii) or "utf-8")
    if is_utf8(sample):
        return Verdict("utf-8")
    if beyond <= 2 + len(sample) // 200 and (escaped := escaped_encoding(ascii)):
        return Verdict(escaped)  # with damaged bytes
    typical = _typical(sample)
    ranked = _ranked(typical)
    verdict = _choose(typical, ranked)
    if declared and not declared.startswith("utf-"):
        text = typical.decode(declared, "replace")
        scores = [score for score, name, _ in ranked if name == declared or typical.decode(name, "replace") == text]
        if text.count("\ufffd") * 100 <= len(text) and (not scores or 2 * scores[0] >= ranked[0][0]):
            return Verdict(declared)
        if declared != verdict.encoding:
            return Verdict(verdict.encoding, (declared, *verdict.alternatives[:1]), verdict.skip)
    return verdict


def _mostly_escaped(sample: bytes) -> bool:
    """Whether escapes of ISO-2022 outnumber the lines that are not ASCII."""
    escapes = sample.count(b"\x1b$")
    return escapes > 0 and escapes > sum(not line.isascii() for line in sample.split(b"\n"))


def _typical(sample: bytes) -> bytes:
    """Lines that are not ASCII, evenly, and the surroundings of each byte that they lack, without control bytes."""
    lines = [line for line in sample.split(b"\n") if not line.isascii()]
    size = sum(map(len, lines)) + len(lines)
    if size > _SAMPLE:
        step = -(-size // _SAMPLE)
        lines = [line[: _SAMPLE // 4] for line in lines[::step]] if len(lines) >= 4 * step else [b"\n".join(lines)[:_SAMPLE]]
    chosen, rare = b"\n".join(lines), b""
    for byte in range(33, 256):
        at = -1 if byte in chosen else sample.find(byte)
        if at < 0:
            continue
        begin = max(sample.rfind(b"\n", 0, at) + 1, at - 40)
        end = sample.find(b"\n", at, at + 40)
        rare += sample[begin : end if end >= 0 else at + 40] + b"\n"
    # A declaration in the text is weighed in `detect`; chardet would take it for a proof.
    return re.sub(rb"(?i)charset|encoding", b"", rare + chosen).translate(None, CONTROL)


def _ranked(sample: bytes) -> list[tuple[float, str, int]]:
    """Encodings with the likeness of the text that they make of the sample to one of 49 languages, best first, and bytes to skip.

    An encoding in which only a few bytes are no text stays in: it is judged without them.
    """
    found = [(score, name, 0) for name, score in _likeness(sample).items()]
    fitting = {name for _, name, _ in found}
    limit = (len(sample) - len(sample.translate(None, HIGH))) // 10
    counts = np.bincount(np.frombuffer(sample, np.uint8), minlength=256)
    undefined = {name: bad for name, bad in _undefined().items() if name not in fitting and 0 < int(counts[list(bad)].sum()) <= limit}
    if undefined:
        wrong = {byte for bad in undefined.values() for byte in bad if counts[byte]}
        mended = _likeness(sample.translate(None, bytes(wrong)), tuple(undefined))
        found += [(score * (1 - 0.02 * int(counts[list(undefined[name])].sum())), name, 0) for name, score in mended.items()]
    for name in _DOUBLE:
        for skip in (0, 1):
            if skip == 0 and name in fitting:
                continue
            text = sample[skip:].decode(name, "replace")
            wrong = text.count("\ufffd") + skip
            if 0 < wrong * 20 <= _beyond_ascii(text):
                score = _likeness(text.replace("\ufffd", "").encode(name, "ignore"), (name,)).get(name, 0.0)
                found.append((score * (1 - 0.01 * wrong), name, skip))
    return sorted(found, key=lambda one: -one[0])


def _likeness(sample: bytes, only: tuple[str, ...] | None = None) -> dict[str, float]:
    import chardet

    known = {} if only is None else {"include_encodings": only, "no_match_encoding": only[0]}
    found = chardet.detect_all(sample, ignore_threshold=True, compat_names=False, **known)
    return {one["encoding"]: one["confidence"] for one in found if one["encoding"] is not None and not one["encoding"].startswith("utf")}


@cache
def _undefined() -> dict[str, frozenset[int]]:
    """The bytes that are no character, of each encoding of single bytes that has such."""
    from chardet.registry import REGISTRY

    found = {}
    for name in REGISTRY:
        if name.startswith(("ascii", "utf", "hz", "iso2022")):
            continue
        try:
            text = bytes(range(256)).decode(name, "replace")
        except (LookupError, UnicodeError):
            continue
        if len(text) == 256 and "\ufffd" in text:
            found[name] = frozenset(i for i, c in enumerate(text) if c == "\ufffd")
    return found


def _choose(sample: bytes, ranked: list[tuple[float, str, int]]) -> Verdict:
    """The encoding whose text is likest to a language, and others that the sample does not rule out."""
    few = max(1, len(sample) - len(sample.translate(None, HIGH)))
    judged: dict[str, tuple[float, str, int]] = {}  # the best score of each text that an encoding makes of the sample
    for score, name, skip in [*ranked[:16], *(one for one in ranked[16:] if one[1] == "cp1252")]:
        text = sample[skip:].decode(name, "replace")
        usual = 0.12 / few**2 if name == "cp1252" else 0.0  # by far the commonest, which counts where there is next to no evidence
        if text not in judged or usual:
            judged[text] = (score * (1 - _oddness(text[:4096])) + usual, name, skip)
    if not judged:
        return Verdict("cp1252")
    (text, (top, name, skip)), *rest = sorted(judged.items(), key=lambda item: -item[1][0])
    preferred = next((known for known in _PREFERRED if sample[skip:].decode(known, "replace") == text), name)
    others: list[str] = []
    for found, (score, other, _) in rest:
        differ = sum(a != b for a, b in zip(text, found, strict=False)) + abs(len(text) - len(found))
        if other not in (name, preferred, *others) and (top < UNLIKE or (1 - score / top) * differ < DOUBT):
            others.append(other)
    return Verdict(preferred, tuple(others[:2]), skip)


class _Classes(dict[int, int]):
    """Characters by what may stand beside them in a word, as codes for `str.translate`."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        category, name = unicodedata.category(character), unicodedata.name(character, "")
        letter = {"LATIN": "l", "GREEK": "g", "CYRILLIC": "c", "HEBREW": "h", "ARABIC": "r", "THAI": "t"}.get(name.split(" ")[0])
        if category in ("Cn", "Cc", "Co", "Cs") and not character.isspace():
            found = "x"
        elif category[0] == "L" and letter:
            found = letter.upper() if category == "Lu" else letter
            found = {"l": "a", "L": "A"}.get(found, found) if code < 128 else found
        elif category == "Lo":
            found = "k"  # Chinese, Japanese, Korean
        else:
            found = "s" if code > 127 and category[0] in "SNP" and character not in "’‘·–—" else " "
        self[code] = ord(found)
        return self[code]


_CLASSES = _Classes()
_ODD = re.compile(  # no character, a symbol within a word, a capital after a small letter, two scripts in one word
    "x|(?<=[aAlLgGcChrt])s(?=[aAlLgGcChrt])|(?<=[al])L|(?<=g)G|(?<=c)C|(?<=[aAlL])[gGcChrt]|(?<=[gGcChrt])[aAlL]"
    "|(?<=[aAl])k{1,2}(?=[al])|(?<=[gG])[cChr]|(?<=[cC])[gGhr]|(?<=[hrt])[gGcC]"
)


def _oddness(text: str) -> float:
    """The share of characters beyond ASCII that stand where no text has them.

    >>> _oddness("l’été"), _oddness("lвt"), _oddness("f„r Gr„fin")
    (0.0, 1.0, 1.0)
    """
    return min(1.0, len(_ODD.findall(text.translate(_CLASSES))) / max(1, _beyond_ascii(text)))


def _beyond_ascii(text: str) -> int:
    return len(text) - len(text.encode("ascii", "ignore"))


def strict_text(sample: bytes, encoding: str) -> str | None:
    """The text of a sample, whose last character may be cut; None where it does not fit."""
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(sample)
    except UnicodeDecodeError:
        return None
