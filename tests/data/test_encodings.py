"""Encodings are found, and decoding streams."""

from __future__ import annotations

import codecs
import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bimo.core.errors import RecipeError
from bimo.data.detection import detect
from bimo.data.encodings import Found, Unreadable, decode_blocks


def decoded(data: bytes, chunk: int = 1 << 20) -> tuple[str, Found]:
    found = Found()
    return "".join(decode_blocks((data[i : i + chunk] for i in range(0, len(data), chunk)), found)), found


@given(st.text(), st.integers(1, 7))
def test_utf8_passes_whatever_the_chunks(text: str, chunk: int) -> None:
    text = "plain text first " * 3 + text.replace("\x00", "")
    data = text.encode("utf-8")
    if sum(c < 32 or c == 127 for c in data) * 20 < len(data):
        assert decoded(data, chunk)[0] == text


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_a_mark_decides(mark: bytes, encoding: str, chunk: int) -> None:
    text = "Hello 世界🙂\n" * 9
    got, found = decoded(mark + text.encode(encoding), chunk)
    assert (got, found.encoding, found.replaced) == (text, encoding, 0)


def test_utf16_without_a_mark() -> None:
    text = "Hello, this is plain text\n" * 4
    for encoding in ("utf-16-le", "utf-16-be"):
        assert decoded(text.encode(encoding))[0] == text


def test_chinese_encodings_of_real_text(data_folder: Path) -> None:
    simplified = (data_folder / "lm-zh-wiki/valid.txt").read_text(encoding="utf-8")
    opencc = pytest.importorskip("opencc")
    traditional = opencc.OpenCC("s2t").convert(simplified)
    for start in range(0, 60_000, 3_000):
        part = simplified[start : start + 200]
        assert detect(part.encode("gb18030")).encoding == "gb18030"
        assert detect(traditional[start : start + 200].encode("big5hkscs", "ignore")).encoding == "big5hkscs"
    for chunk in (1000, 1 << 20):
        got, found = decoded(b"ascii head\n" * 300 + simplified.encode("gb18030"), chunk)
        assert (got, found.encoding) == ("ascii head\n" * 300 + simplified, "gb18030")
    big5 = traditional.encode("big5hkscs", "ignore")
    assert decoded(big5)[0] == big5.decode("big5hkscs")


def test_western_and_other_encodings(data_folder: Path) -> None:
    films = (data_folder / "rec-movielens-100k/u.item").read_bytes()
    assert decoded(films)[0] == films.decode("latin-1")
    for text, encoding in {
        "Où est l'été? Ça va très bien à l’hôtel": "cp1252",
        "Ich weiß nicht, was soll es bedeuten, daß ich so traurig bin": "cp1252",
        "Привет, как дела? Всё хорошо, спасибо": "cp1251",
        "日本語のテキストです。今日はいい天気": "shift_jis",
        "한국어 텍스트입니다. 오늘 날씨가 좋네요": "euc-kr",
    }.items():
        assert decoded(text.encode(encoding))[0] == text


def test_damaged_utf8_is_mended_and_counted() -> None:
    text = "今天天气很好，我们去公园看花。\n" * 50
    data = bytearray(text.encode("utf-8"))
    data[100] = 0xFF
    got, found = decoded(bytes(data))
    assert found.encoding == "utf-8"
    assert 1 <= found.replaced <= 3
    assert got.endswith(text[-200:])
    whole, found = decoded("a \ufffd of its own 今天\n".encode())
    assert (found.replaced, "\ufffd" in whole) == (0, True)
    late = ("plain ascii\n" * 200_000).encode() + "今天天气\n".encode() * 200_000 + b"\xff\xfe end"
    assert decoded(late)[1].replaced == 2


@pytest.mark.parametrize(
    "data", [b"\x00" * 100, bytes(range(256)) * 20, b"%PDF-1.7\n...", b"\x89PNG\r\n\x1a\n", gzip.compress(b"x", mtime=0), b"PK\x03\x04zz"]
)
def test_binary_is_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(Unreadable, match="binary"):
        decoded(data)


def test_a_few_nul_bytes_are_text() -> None:
    assert decoded(b"some text with a NUL \x00 in it, and more text after it")[0].count("\x00") == 1
    assert decoded(b"") == ("", Found())


def test_a_stated_encoding_is_obeyed() -> None:
    def stated(data: bytes, encoding: str) -> tuple[str, str, int]:
        found = Found()
        return "".join(decode_blocks([data], found, encoding=encoding)), found.encoding, found.replaced

    assert stated("你好".encode(), "latin-1") == ("ä½\xa0å¥½", "cp1252", 0)
    assert stated("Zażółć gęślą jaźń".encode("cp852"), "cp852") == ("Zażółć gęślą jaźń", "cp852", 0)
    assert stated(codecs.BOM_UTF16_BE + "Hi".encode("utf-16-be"), "utf-16") == ("Hi", "utf-16-be", 0)
    assert stated("안녕".encode("iso2022_kr"), "iso-2022-kr") == ("안녕", "iso2022_kr", 0)
    assert stated(b"caf\xe9!", "utf-8") == ("caf\ufffd!", "utf-8", 1)
    assert stated(b"ascii", "gb2312")[:2] == ("ascii", "gb18030")
    with pytest.raises(RecipeError, match="encoding: unknown name 'base64'"):
        stated(b"abc", "base64")
