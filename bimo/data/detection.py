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
DOUBT = 5.0  # log-odds: another encoding is named where the evidence against it is less
_MUCH = 2048  # bytes from which on a score far below the best one is not looked at
_A_LETTER = 10.0  # log-odds of a letter that makes a score e times as high

# The names that stand for several encodings which read the same bytes as the same text, the commonest first.
_PREFERRED = (
    "cp1252", "gb18030", "big5hkscs", "cp932", "euc_jp", "cp949", "cp1251", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256",
    "cp1257", "cp1258", "cp874", "iso8859-15", "iso8859-2", "koi8-r", "koi8-u", "mac-roman", "cp850", "cp437", "cp866", "cp037",
)  # fmt: skip
# Encodings that are the usual ones of a script on some system; the others are hardly met.
_USUAL = (
    "gb18030", "big5hkscs", "cp932", "euc_jis_2004", "euc_kr", "cp949", "johab", "cp1250", "cp1251", "cp1252",
    "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874", "tis-620", "iso8859-1", "iso8859-2",
    "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-9", "iso8859-13", "iso8859-15", "iso8859-16",
    "koi8-r", "koi8-u", "mac-roman", "mac-cyrillic", "mac-greek", "mac-turkish", "mac-latin2", "cp437", "cp720",
    "cp737", "cp775", "cp850", "cp852", "cp855", "cp857", "cp862", "cp865", "cp866", "cp1140", "cp500",
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
    lines = [line for line in sample.split(b"\n") if not line.isascii()]
    found: list[tuple[bytes, bool]] = []  # a piece, and whether it was cut
    for line in lines[:: len(lines) // _PIECES or 1]:
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
        for skip in (0, 1) if sample[:1] > b"\x7f" else (0,):  # the rest of a cut character; an ASCII one reads by itself
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
    """The likeliest encoding, and others that the sample does not rule out.

    Log-odds of two encodings: chardet's scores for the letters that differ, how common all characters are, how much an encoding is used.
    """
    judged: dict[str, list[tuple[float, str, int]]] = {}  # by the text that encodings make of the sample
    far = ranked[0][0] / 4 if ranked and len(sample) > _MUCH else 0.0  # scores below this are out of the question
    for score, name, skip in [*ranked[:16], *(one for one in ranked[16:] if one[1] == "cp1252")]:
        if score < far:
            continue
        judged.setdefault(sample[skip:].decode(name, "replace"), []).append((score, name, skip))
    if not judged:
        return Verdict("cp1252")
    texts = list(judged)
    scores = np.array([max(max(judged[text])[0] * (1 - _oddness(text[:4096])), 1e-6) for text in texts])
    units = [_same()[np.minimum(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4"), 0xFFFF)] for text in texts]
    prior = np.array([max(_usage(name) - 3 * skip for _, name, skip in judged[text]) for text in texts])
    own = np.log(scores), np.array([float(_commonness()[u].sum()) for u in units])
    fresh = _freshness(sample)

    def odds(one: int) -> np.ndarray:
        """The log-odds of one encoding against each."""
        letters = np.array([_differing_letters(units[one], other) for other in units])
        seen = _A_LETTER * letters * (own[0][one] - own[0]) + own[1][one] - own[1]
        return fresh * seen + prior[one] - prior

    best = int(scores.argmax())
    for _ in range(3):
        against = odds(best)
        if against.min() >= 0:
            break
        best = int(against.argmin())
    text, against = texts[best], odds(best)
    _, name, skip = max(judged[text])
    preferred = next((known for known in _PREFERRED if sample[skip:].decode(known, "replace") == text), name)
    near = [i for i in np.argsort(against) if i != best and (against[i] < DOUBT or scores[best] < UNLIKE)]
    others = dict.fromkeys(max(judged[texts[i]])[1] for i in near)
    return Verdict(preferred, tuple(other for other in others if other not in (name, preferred))[:3], skip)


def _freshness(sample: bytes) -> float:
    """1 where words vary as in a text; less where the same few stand again and again, which is no further evidence.

    >>> _freshness("l’été à Gênes".encode()), _freshness("25°C ".encode("cp1252") * 30)
    (1.0, 0.1)
    """
    words = [word for word in sample.split() if not word.isascii()]
    return min(1.0, 3 * len(set(words)) / len(words)) if words else 1.0


@cache
def _same() -> np.ndarray:
    """Codes of characters, those of Romanian with commas as with cedillas: they are the same letters."""
    table = np.arange(1 << 16)
    table[[ord(letter) for letter in "ȘșȚț"]] = [ord(letter) for letter in "ŞşŢţ"]
    return table


def _differing_letters(one: np.ndarray, other: np.ndarray) -> int:
    """In how many places two texts differ where either has a letter: statistics of languages know nothing of symbols."""
    size = min(len(one), len(other))
    letters = _is_letter()[one[:size]] | _is_letter()[other[:size]]
    return int(((one[:size] != other[:size]) & letters).sum()) + abs(len(one) - len(other))


@cache
def _is_letter() -> np.ndarray:
    return np.array([chr(code).isalpha() for code in range(1 << 16)])


@cache
def _usage(name: str) -> float:
    """How much an encoding is used, as a rough log-probability: by chardet's era of it, and whether it is the usual one of its era."""
    from chardet.registry import REGISTRY

    era = int(REGISTRY[name].era) if name in REGISTRY else 1
    return {1: 0.0, 2: -0.3, 32: -1.5}.get(era, -1.0) + (0.3 if name == "cp1252" else 0.0) - (0.0 if name in _USUAL else 3.0)


@cache
def _commonness() -> np.ndarray:
    """Rough log-probabilities of characters against letters, float32 [65536]: symbols that hardly any text has are far below 0."""
    table = np.full(1 << 16, -8, np.float32)
    for low, high, value in (
        (0x20, 0x7E, 0), (0xA0, 0xBF, -4), (0xC0, 0x24F, 0), (0x250, 0x2AF, -1.5), (0x2B0, 0x2FF, -6), (0x300, 0x36F, -1.5),
        (0x370, 0x6FF, 0), (0x700, 0x8FF, -6), (0x900, 0xDFF, -1), (0xE00, 0xE7F, 0), (0xE80, 0x13FF, -1.5), (0x1E00, 0x1FFF, -1),
        (0x2000, 0x25FF, -4), (0x2600, 0x27BF, -5), (0x3000, 0x30FF, 0), (0x3100, 0x33FF, -2), (0x3400, 0x4DBF, -6), (0x4E00, 0x9FFF, 0),
        (0xAC00, 0xD7A3, 0), (0xD800, 0xDFFF, -4), (0xFB00, 0xFDFF, -5), (0xFE70, 0xFEFF, -3), (0xFF00, 0xFF5E, 0), (0xFF61, 0xFFEF, -3),
    ):  # fmt: skip
        table[low : high + 1] = value
    table[[0x09, 0x0A, 0x0D]] = 0
    for characters, value in (
        ("[]!<>#@$%&=+*_“”’„«»–°\u200c", -0.5), ("|~^`{}\\‘…—€£§©·•\xa0¿¡™º½®", -1.5), ("´ÿŸƒªµ×÷\u200e\u200f", -3),
    ):  # fmt: skip
        table[[ord(character) for character in characters]] = value
    return 0.7 * table


class _Classes(dict[int, int]):
    """Characters by what may stand beside them in a word, as codes for `str.translate`."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        category, name = unicodedata.category(character), unicodedata.name(character, "")
        letter = {"LATIN": "l", "GREEK": "g", "CYRILLIC": "c", "HEBREW": "h", "ARABIC": "r", "THAI": "t"}.get(name.split(" ")[0])
        if category in ("Cn", "Cc", "Co", "Cs") and not character.isspace():
            found = "x"
        elif 0x2500 <= code < 0x25A0 or 0x2B0 <= code < 0x300 or character in "¨¸΄΅":
            found = "b"  # lines of tables, and accents without their letter
        elif category[0] == "L" and letter:
            found = letter.upper() if category == "Lu" else letter
            found = {"l": "a", "L": "A"}.get(found, found) if code < 128 else found
        elif category == "Lo":
            found = "k" if name.startswith("CJK") else "j"  # Chinese characters; kana, Korean and others
        else:
            found = "s" if code > 127 and category[0] in "SNP" and character not in "’‘·–—´" else " "
        self[code] = ord(found)
        return self[code]


_CLASSES = _Classes()
_ODD = re.compile(  # no character, a symbol in or a line at a word, a capital after a small letter, two scripts, a lone foreign letter
    "x|(?<=[aAlLgGcChrt])s+(?=[aAlLgGcChrt])|(?<=[aAlLgGcChrt])b+|b+(?=[aAlLgGcChrt])|(?<=[al])L|(?<=g)G|(?<=c)C|(?<=[aAlL])[gGcChrt]"
    "|(?<=[gGcChrt])[aAlL]|(?<=[aAl])k{1,2}(?=[al])|(?<=[gG])[cChr]|(?<=[cC])[gGhr]|(?<=[hrt])[gGcC]|(?<![kj])k(?![kj])"
    "|(?<![gGcChrt])(?<![gGcChrt] )[gGcChrt](?! ?[gGcChrt])"
)


def _oddness(text: str) -> float:
    """The share of characters beyond ASCII that stand where no text has them.

    >>> _oddness("l’été"), _oddness("lвt"), _oddness("f„r Gr„fin")
    (0.0, 1.0, 1.0)
    """
    return min(1.0, sum(map(len, _ODD.findall(text.translate(_CLASSES)))) / max(1, _beyond_ascii(text)))


def _beyond_ascii(text: str) -> int:
    return len(text) - len(text.encode("ascii", "ignore"))


def strict_text(sample: bytes, encoding: str) -> str | None:
    """The text of a sample, whose last character may be cut; None where it does not fit."""
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(sample)
    except UnicodeDecodeError:
        return None
