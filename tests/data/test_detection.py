"""Encodings are found: 300 files of twenty-three texts in fifty encodings, cut, damaged, mixed, marked, declared, long and of one line."""

from __future__ import annotations

import codecs
import random
import unicodedata
from dataclasses import dataclass
from functools import cache

import pytest

from bimo.data.detection import detect, is_utf8
from bimo.data.encodings import Found, Unreadable, decode_blocks
from tests.data.texts import TEXTS

UNICODE = ["utf-8", "utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-7"]
WESTERN = ["cp1252", "iso8859-1", "iso8859-15", "mac-roman", "cp850", "cp437", "cp858", "cp500", "cp037"]
CENTRAL = ["cp1250", "iso8859-2", "cp852", "mac-latin2"]
CYRILLIC = ["cp1251", "koi8-r", "iso8859-5", "cp866", "mac-cyrillic", "cp855"]
ENCODINGS = {
    **dict.fromkeys(["en", "de", "fr", "es", "pt", "sv"], WESTERN),
    **dict.fromkeys(["pl", "cs", "hu"], CENTRAL),
    "ro": ["cp1250", "iso8859-2", "cp852"],
    "tr": ["cp1254", "iso8859-9", "cp857", "mac-turkish"],
    "lt": ["cp1257", "iso8859-13", "cp775"],
    "ru": CYRILLIC,
    "uk": ["cp1251", "koi8-u", "mac-cyrillic", "cp1125"],
    "bg": ["cp1251", "iso8859-5", "cp866", "mac-cyrillic"],
    "el": ["cp1253", "iso8859-7", "cp737", "mac-greek", "cp869"],
    "he": ["cp1255", "iso8859-8", "cp862"],
    "ar": ["cp1256", "iso8859-6", "cp720"],
    "th": ["cp874", "tis-620"],
    "vi": ["cp1258"],
    "zh": ["gb18030", "gbk", "gb2312", "hz"],
    "zh-tw": ["big5", "big5hkscs", "gb18030"],
    "ja": ["shift_jis", "cp932", "euc_jp", "iso2022_jp"],
    "ko": ["euc_kr", "cp949", "johab", "iso2022_kr"],
}
KINDS = ["whole", "whole", "short", "line", "long", "cut", "damaged", "mixed", "marked", "declared"]
MARKS = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
ONE_BYTE_ASCII = {*WESTERN, *CENTRAL, *CYRILLIC, "utf-8", "gbk", "big5", "euc_jp", "euc_kr", "cp1253", "cp1255"} - {"cp500", "cp037"}


@dataclass
class File:
    language: str
    encoding: str
    kind: str
    text: str
    data: bytes

    def is_right(self, text: str) -> bool:
        """Whether a text is this file's, but for damaged places: of pieces evenly drawn from it nine in ten are in it."""
        if self.kind in ("whole", "short", "line", "long", "marked", "declared"):
            return text == self.text
        size = max(4, min(12, len(self.text) // 40))
        pieces = [self.text[at : at + size] for at in range(0, len(self.text) - size, max(size, len(self.text) // 60))]
        return sum(piece in text for piece in pieces) >= 0.85 * len(pieces)

    def would_be_right(self, encoding: str) -> bool:
        return self.is_right(self.data.decode(encoding, "replace"))


def encodable(text: str, encoding: str) -> str:
    """The text without what the encoding lacks; Vietnamese with its marks apart as in cp1258."""
    if encoding == "cp1258":
        for letter in set(text):
            marks = unicodedata.normalize("NFD", letter)
            tone = [m for m in marks if m in "\u0300\u0301\u0303\u0309\u0323"]
            text = text.replace(letter, unicodedata.normalize("NFC", "".join(m for m in marks if m not in tone)) + "".join(tone))
    for signs, plain in (("“”„«»", '"'), ("’‘", "'"), ("–", "-"), ("…", "...")):
        for sign in signs:
            text = text if sign.encode(encoding, "ignore") else text.replace(sign, plain)
    return text.encode(encoding, "ignore").decode(encoding)


def make(draw: random.Random, language: str, encoding: str, kind: str) -> File:
    lines = TEXTS[language].splitlines(keepends=True)
    if kind == "short":
        lines = [draw.choice(lines)]
    elif kind == "long":
        lines = [draw.choice(lines) for _ in range(100_000 // len(TEXTS[language].encode(encoding, "ignore")) * len(lines))]
    else:
        draw.shuffle(lines)
    text = encodable("".join(lines), encoding)
    if kind == "line":
        text = text.replace("\n", " ")
    if kind == "declared":
        text = f"<?xml version='1.0' encoding='{encoding}'?>\n<text>{text}</text>\n"
    data = text.encode(encoding)
    if kind == "marked":
        data = MARKS[encoding] + data
    elif kind == "cut":
        data = data[: -draw.randint(1, 3)]
    elif kind == "damaged":
        held = bytearray(data)
        for _ in range(draw.randint(1, 4)):
            held[draw.randrange(len(held))] = draw.choice([0x81, 0x98, 0xFF, draw.randrange(128, 256), draw.randrange(32, 127)])
        data = bytes(held)
    elif kind == "mixed":
        other = draw.choice([name for name in ("de", "ru", "zh", "el") if name != language])
        line = draw.choice(TEXTS[other].splitlines())[:40]
        data = data.replace(b"\n", b"\n" + encodable(line, ENCODINGS[other][0]).encode(ENCODINGS[other][0]) + b"\n", 1)
    return File(language, encoding, kind, text, data)


@cache
def files() -> list[File]:
    draw = random.Random(18)
    made: list[File] = []
    while len(made) < 300:
        language = draw.choice(list(TEXTS))
        encoding = draw.choice(UNICODE if draw.random() < 0.2 else ENCODINGS[language])
        kinds = [
            k for k in KINDS if (k != "marked" or encoding in MARKS) and (k not in ("mixed", "declared") or encoding in ONE_BYTE_ASCII)
        ]
        file = make(draw, language, encoding, draw.choice(kinds))
        if not file.data.isascii() or encoding in ("hz", "iso2022_jp", "iso2022_kr", "utf-7"):
            made.append(file)
    return made


@pytest.fixture(scope="module")
def read() -> list[tuple[File, str, Found]]:
    """Each file with the text that is read of it, "" where it is refused, and what is found."""
    results = []
    for file in files():
        found = Found()
        try:
            text = "".join(decode_blocks([file.data], found))
        except Unreadable:
            text = ""
        results.append((file, text, found))
    return results


def shown(results: list[tuple[File, str, Found]]) -> list[str]:
    return [
        f"{f.language} {f.encoding} {f.kind} {len(f.data)}: {found.encoding} {found.alternatives} {t[:30]!r}" for f, t, found in results
    ]


def test_nine_of_ten_files_are_right_and_hardly_one_is_wrong_in_silence(read: list[tuple[File, str, Found]]) -> None:
    assert len({f.encoding for f, *_ in read}) >= 50
    assert len({f.language for f, *_ in read}) >= 15
    wrong = [one for one in read if not one[0].is_right(one[1])]
    silent = [(f, t, found) for f, t, found in wrong if t and not any(map(f.would_be_right, found.alternatives))]
    assert len(wrong) <= 0.1 * len(read), shown(wrong)
    assert len(silent) <= 0.01 * len(read), shown(silent)


def test_few_whole_files_are_doubted(read: list[tuple[File, str, Found]]) -> None:
    whole = [one for one in read if one[0].kind in ("whole", "line", "long", "marked", "declared") and len(one[0].text) > 200]
    doubted = [one for one in whole if one[2].alternatives]
    assert len(doubted) <= 0.15 * len(whole), shown(doubted)
    for _, _, found in doubted:
        assert f"read as {found.encoding}, but it may be {found.alternatives[0]}" in found.remarks()[0]
        assert f"--encoding {found.alternatives[0]}" in found.remarks()[0]


def test_utf8_with_damage_is_never_read_as_anything_else(read: list[tuple[File, str, Found]]) -> None:
    draw = random.Random(1)
    for language in TEXTS:
        for kind in ("cut", "damaged", "mixed"):
            data = make(draw, language, "utf-8", kind).data
            assert is_utf8(data) or data.isascii()
    assert [shown([one]) for one in read if one[0].encoding == "utf-8" and one[2].encoding != "utf-8"] == []
    quotes = ("He said “no” and left.\n" * 8 + "A line of plain English text.\n" * 10_000).encode()
    assert is_utf8(quotes + b"It cost \xa35.\n" + quotes)


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        (("Жена узнала, что муж был в связи с гувернанткой. " * 30 + "TV-канал").encode("cp1251"), "Жена", "cp1251"),
        (("שלום עולם, מה שלומך היום? מזג האוויר יפה. " * 9 + "TV").encode("cp1255"), "שלום", "cp1255"),
        ("naïve café\nx".encode() + b"\xc0\x80y\n", "naïve café", "utf-8"),
        ("第一行是汉字的文本\n".encode() + "第二行是国标\n".encode("gbk"), "第一行是汉字的文本", "utf-8"),
        ("今天天气很好，我们一起去公园玩。".encode("utf-16-le")[1:], "天天气很好，我们一起去公园玩。", "utf-16-le"),
        (b"prix: 5 \x80\n", "prix: 5 €", "cp1252"),
        (b"<?xml version='1.0' encoding='windows-1251'?><a>\xe4\xe0</a>", "<?xml version='1.0' encoding='windows-1251'?><a>да", "cp1251"),
        (b"<html><meta charset=undefined><p>caf\xe9 here, and a r\xe9sum\xe9</p>", "<html><meta charset=undefined><p>café here", "cp1252"),
        ("<meta charset=latin1><p>Grüße aus Köln".encode(), "<meta charset=latin1><p>Grüße", "utf-8"),
        (b"<p>See <meta http-equiv=x content='text/html; charset=iso-8859-1'>\x93hi\x94", "<p>See", "cp1252"),
        (b"\x1b(B\x1b[m plain terminal text\n", "\x1b(B\x1b[m plain terminal", "utf-8"),
        (b"1+2+3- a+b-c ~{ C++ +AAA-\n", "1+2+3- a+b-c ~{ C++ +AAA-", "utf-8"),
    ],
)
def test_single_files(data: bytes, text: str, encoding: str) -> None:
    found = Found()
    assert "".join(decode_blocks([data], found)).lstrip("\ufffd").startswith(text)
    assert found.encoding == encoding


def test_a_declaration_that_does_not_fit_is_named_and_not_believed() -> None:
    text = "<?xml version='1.0' encoding='iso-8859-5'?>" + "Жена узнала, что муж был в связи с гувернанткой. " * 5
    verdict = detect(text.encode("cp1251"), "iso8859-5")
    assert (verdict.encoding, verdict.alternatives[0]) == ("cp1251", "iso8859-5")
    assert detect("Grüße".encode("cp850"), "cp850").encoding == "cp850"


def test_iso_2022_cn_is_refused_by_name() -> None:
    with pytest.raises(Unreadable, match="ISO-2022-CN; convert it first"):
        list(decode_blocks([b"\x1b$)A\x0e=;;;\x0f text"], Found()))


def test_a_late_byte_does_not_decide_and_a_change_is_said() -> None:
    plain = b"A line of plain English text.\n" * 40_000
    found = Found()
    text = "".join(decode_blocks([plain, b"It cost \xa35.\n", plain, "He said “no” – and left.\n".encode() * 9, plain], found))
    assert (found.encoding, found.replaced, text.count("“no”")) == ("utf-8", 1, 9)
    found = Found()
    german = TEXTS["de"] * 3000
    "".join(decode_blocks([german.encode("cp1252"), TEXTS["de"].encode()], found))
    begin = f"{len(german.encode('cp1252')):,}"
    assert found.remarks() == [f"read as cp1252, but from byte {begin} on it is UTF-8; state one with --encoding, or split the file"]


@pytest.mark.parametrize(
    ("line", "encoding"),
    [
        ("25°C " * 40, "cp1252"),
        ("Il gatto è nero ed è vecchio.\n", "cp1252"),
        ("Egy régi kútból merítettünk vizet.\n", "iso8859-2"),
        ("Ühel päeval jõudsime öösel külla.\n", "iso8859-15"),
        ("Ziet u één boom?\n", "mac-roman"),
        ("Il fuoco è spento, perché piove.\n", "cp437"),
    ],
)
def test_one_line_is_read_by_its_characters_and_by_the_use_of_encodings(line: str, encoding: str) -> None:
    assert "".join(decode_blocks([line.encode(encoding)], Found())) == line


def test_romanian_with_commas_is_named_where_its_bytes_are_those_with_cedillas() -> None:
    line = "Bunica pune mâncare și apă pentru pisică; după aceea ne așezăm toți în fața focului.\n"
    found = Found()
    "".join(decode_blocks([line.encode("iso8859-16")], found))
    assert "iso8859-16" in (found.encoding, *found.alternatives)
