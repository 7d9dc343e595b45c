"""Bytes become text: the encoding is found from the bytes themselves, and decoding streams."""

from __future__ import annotations

import codecs
import contextlib
import difflib
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import webencodings

from bimo.core.errors import RecipeError
from bimo.core.store import LFS_POINTER
from bimo.data.detection import CONTROL, HIGH, Verdict, detect, escaped_encoding, strict_text, wide_encoding

SAMPLE = 1 << 20  # bytes that are looked at to find an encoding
FEW = 64  # bytes that are not ASCII: where a sample has fewer, more of the file is looked at
FURTHEST = 1 << 25  # bytes that are held back at most
_BOMS = (  # the longer ones first: UTF-32's begins like UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_MAGIC = (
    (b"%PDF", "a PDF; save its text first"), (b"\x89PNG", "a PNG picture"), (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"), (b"PK\x03\x04", "a zip archive or an office document without the ending .zip"),
    (b"\xd0\xcf\x11\xe0", "an office document; save its text first"), (b"\x7fELF", "a program"), (b"MZ\x90", "a program"),
    (b"\x1f\x8b", "gzip data without the ending .gz"), (b"\x28\xb5\x2f\xfd", "zstd data without the ending .zst"),
    (b"BZh", "bzip2 data; unpack it first"), (b"\xfd7zXZ", "xz data; unpack it first"), (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive; unpack it first"), (b"\x1f\x9d", "compress data; unpack it first"),
    (b"\x04\x22\x4d\x18", "LZ4 data; unpack it first"), (b"!<arch>\n", "an ar archive; unpack it first"),
    (b"070701", "a cpio archive; unpack it first"), (b"SQLite format 3", "a database"), (b"ARROW1", "an Arrow file"),
    (b"PAR1", "Parquet data without the ending .parquet"), (b"GGUF", "a model"),
)  # fmt: skip
_MARKUP = (
    (rb"\{\\rtf", "an RTF document; save its text first"), (rb"%!PS", "a PostScript program; save its text first"),
    (re.escape(LFS_POINTER), "a Git LFS pointer in place of the file; fetch the file with git lfs pull"),
    (
        rb"<\?xml[^>]*>\s*(?:<!--.*?-->\s*)?(?:<\?mso-application|<w:wordDocument|<pkg:package|<office:document)",
        "an office document in XML; save its text first",
    ),
)  # fmt: skip
_WIDER = {"gbk": "gb18030"}  # browsers decode it so: Python's codec of this name knows fewer characters
_DECLARATION = re.compile(
    rb"""<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([\w.:-]+)|<meta\s[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]+)""", re.I | re.A
)
_INSIDE = re.compile(rb"[\x21-\x7e]+(?=\x1b\([BJ])")
_NO_CHARSET = ("punycode", "idna", "unicode_escape", "raw_unicode_escape")  # Python's codecs of ASCII that stands for other text


class Unreadable(Exception):  # a finding, not a fault: it becomes a line of the report
    """Why a file, or what follows in it, cannot be read."""


@dataclass
class Found:
    """The encoding of a file, filled while it is decoded."""

    encoding: str = "utf-8"
    alternatives: tuple[str, ...] = ()  # encodings that are nearly as likely and give another text
    replaced: int = 0  # sequences that are no text in this encoding and became U+FFFD
    utf8_from: int = 0  # where bytes begin that are UTF-8 although the file began in another encoding

    def remarks(self) -> list[str]:
        """What the reader of the file should know."""
        notes = []
        if self.alternatives:
            other = " or ".join(self.alternatives)
            notes.append(
                f"read as {self.encoding}, but it may be {other}; state which with --encoding, such as --encoding {self.alternatives[0]}"
            )
        if self.replaced:
            notes.append(f"{self.replaced} byte sequences are not {self.encoding} and became U+FFFD")
        if self.utf8_from:
            notes.append(
                f"read as {self.encoding}, but from byte {self.utf8_from:,} on it is UTF-8; state one with --encoding, or split the file"
            )
        return notes


def decode_blocks(chunks: Iterable[bytes], found: Found, declared: str | None = None, encoding: str | None = None) -> Iterator[str]:
    """Text of successive byte chunks; binary data raises `Unreadable`.

    encoding: what the user states, obeyed whatever the bytes are. declared: what is stated of the file elsewhere; like a declaration
    of XML or HTML in its first bytes it is evidence only. Without `encoding` a byte-order mark decides; ASCII is passed on as it is until
    the first other byte, and there a megabyte is looked at, or up to 32 where it has few such bytes. Bytes that do not fit become U+FFFD
    and are counted in `found.replaced`. `found.remarks()` has what the reader should know when all is decoded.

    >>> found = Found()
    >>> "".join(decode_blocks([b"abc ", "今天天气很好".encode("gb18030")], found)), found.encoding
    ('abc 今天天气很好', 'gb18030')
    """
    source = iter(chunks)
    head = _lookahead(source, b"")
    if not head:
        return
    codec, skip = _from_form(head, encoding)
    label = declared or _declared_label(head)
    declared = codec_of(label) if label else None
    data = head[skip:]
    position = len(head)
    if not codec:
        while data.isascii() and not escaped_encoding(data):
            yield data.decode("ascii")
            data = next(source, b"")
            position += len(data)
            if not data:
                return
        size = len(data)
        data, verdict = _look_further(source, data, declared)
        position += len(data) - size
        codec, skip, found.alternatives = verdict.encoding, verdict.skip, verdict.alternatives
        data = data[skip:]
        found.replaced += skip > 0
    if codec == "iso-2022-cn":
        raise Unreadable("its encoding is ISO-2022-CN; convert it first, for example with iconv -f ISO-2022-CN -t UTF-8")
    found.encoding = codec
    if codec.startswith("iso2022_jp") and (cut := _INSIDE.match(data)):
        data = b"\x1b$B" + data[len(cut.group()) % 2 :]  # the file begins within the Japanese
    decoder = codecs.getincrementaldecoder(codec)("replace")
    while data:
        yield _counted(decoder.decode(data), data, found)
        data = next(source, b"")
        if not (found.utf8_from or encoding or codec == "utf-8" or data.isascii()) and strict_text(data, "utf-8") is not None:
            found.utf8_from = position
        position += len(data)
    rest = decoder.decode(b"", final=True)
    if rest:
        yield _counted(rest, b"", found)


def _from_form(head: bytes, stated: str | None) -> tuple[str, int]:
    """The encoding that is stated or that the form of the first bytes shows ("" for none), and the bytes of it that are no text."""
    refuse_known(head)
    if stated is not None:
        codec = refuse_unknown_encoding(stated) or ""
        # A mark of the same family is no text, and decides the byte order of "utf-16".
        return next(((e, len(m)) for m, e in _BOMS if head.startswith(m) and e[:6] == codec[:6]), (codec, 0))
    marked = next(((e, len(m)) for m, e in _BOMS if head.startswith(m)), None)
    if marked is None:
        marked = wide_encoding(head)
    if marked is None and not re.search(rb"\x1b\$\)[ACEG]", head[:1024]):  # ISO-2022-KR and -CN, which shift by control characters
        refuse_controls(head)
    return marked or ("", 0)


def _declared_label(head: bytes) -> str | None:
    """The encoding that a text in XML or HTML declares."""
    if not head[:512].lstrip().startswith(b"<"):
        return None
    found = _DECLARATION.search(head[:4096])
    return (found[1] or found[2]).decode() if found else None


def _look_further(source: Iterator[bytes], data: bytes, declared: str | None) -> tuple[bytes, Verdict]:
    """Bytes from the first that are not ASCII on, and their encoding; more of them where few say what it is."""
    data = _lookahead(source, data)
    while True:
        verdict = detect(data, declared)
        few = len(data) - len(data.translate(None, HIGH)) < FEW
        if verdict.encoding == "utf-8" or not few or len(data) >= FURTHEST or not (more := next(source, b"")):
            return data, verdict
        data += _lookahead(source, more)


def codec_of(label: str) -> str | None:
    """The Python codec that a label of an encoding means, as browsers read labels; None where it names no text encoding.

    >>> codec_of("ISO-8859-1"), codec_of("gb2312"), codec_of("utf-16"), codec_of("cp437"), codec_of("base64")
    ('cp1252', 'gb18030', 'utf-16-le', 'cp437', None)
    """
    try:
        known = webencodings.lookup(label) or webencodings.lookup(codecs.lookup(label).name)
        codec = codecs.lookup(label).name if known is None or known.name == "replacement" else _WIDER.get(known.name, known.codec_info.name)
        "A".encode(codec)  # refuses "undefined", and what is no text encoding, such as base64
    except (LookupError, ValueError):
        return None
    return None if codec in _NO_CHARSET else codec


def refuse_unknown_encoding(label: str | None) -> str | None:
    """The codec of a label that the user states; one that names no text encoding is a `RecipeError`."""
    codec = None if label is None else codec_of(label)
    if label is not None and codec is None:
        known = ("utf-8", "utf-16", "gb18030", "gbk", "big5", "shift_jis", "euc-jp", "euc-kr", "windows-1251", "windows-1252", "latin-1")
        near = difflib.get_close_matches(label.lower(), known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise RecipeError(f"encoding: unknown name {label!r}; {hint}Examples: {', '.join(known)}")
    return codec


def _counted(text: str, data: bytes, found: Found) -> str:
    if "\ufffd" in text:
        own = "\ufffd".encode(found.encoding, "ignore")  # U+FFFD that the file itself holds
        found.replaced += max(0, text.count("\ufffd") - (data.count(own) if own else 0))
    return text


def _lookahead(source: Iterator[bytes], data: bytes) -> bytes:
    parts, size = [data], len(data)
    while size < SAMPLE:
        more = next(source, b"")
        if not more:
            break
        parts.append(more)
        size += len(more)
    return b"".join(parts)


def refuse_known(head: bytes) -> None:
    """Raise `Unreadable` where a file begins as a known kind does that is no text."""
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise Unreadable(f"binary: {what}")
    with contextlib.suppress(tarfile.TarError):  # its checksum is right
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
        what = "a tar archive; unpack it first"
        raise Unreadable(f"binary: {what}")
    for form, what in _MARKUP:
        if re.match(form, head[:4096].removeprefix(codecs.BOM_UTF8).lstrip(), re.S):
            raise Unreadable(what)


def refuse_controls(head: bytes) -> None:
    """Raise `Unreadable` where many of the first bytes are control characters."""
    sample = head[:65536]
    controls = len(sample) - len(sample.translate(None, CONTROL))
    if controls * 20 > len(sample):
        raise Unreadable(f"binary: {controls / len(sample):.0%} of its first bytes are control characters")
