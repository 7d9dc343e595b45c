"""File formats: what a path holds, as leaves (a file, or a member of an archive) that open as streams of bytes."""

from __future__ import annotations

import io
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from bimo.core import progress
from bimo.core.errors import SourceError
from bimo.core.store import printable
from bimo.data.encodings import Unreadable

CHUNK = 1 << 20
MAX_EXPANSION = 200  # a packed file may unpack to this many times its size, or to FREE_EXPANSION bytes, whichever is more
FREE_EXPANSION = 1 << 28
MAX_MEMBERS = 1_000_000
_OF_FILE_MANAGERS = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini")
_FORMATS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
    ".html": "html", ".htm": "html", ".xhtml": "html", ".md": "markdown",
}  # fmt: skip
_PACKED = {".gz": ".gz", ".tgz": ".gz", ".zst": ".zst", ".tzst": ".zst"}
_WINDOW = 1 << 31  # bytes that a zstd frame may look back: as many as zstd --long=31 writes


@dataclass(frozen=True)
class Leaf:
    """Something to read: its name, its format (text, markdown, html, json, jsonl, csv, tsv, parquet) and how to open it."""

    name: str
    format: str
    open: Callable[[], BinaryIO]
    notes: list[str] = field(default_factory=list, compare=False)  # what was found while it was read


def standard_input() -> BinaryIO:
    """The bytes of standard input; where this process has none, a `SourceError`."""
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise SourceError("standard input: closed; send text to it, or name a file instead of -")
    return stream


def leaves(path: Path, skipped: list[tuple[str, str]] | None = None) -> Iterator[Leaf]:
    """What a file holds: itself, or the members of a zip archive but for hidden ones, which are listed in `skipped`.

    Raises `Unreadable` for a damaged archive.
    """
    if path.suffix.lower() == ".zip":
        yield from _zip_leaves(path, [] if skipped is None else skipped)
    else:
        size = path.stat().st_size if path.is_file() else 0
        yield _leaf(printable(path), path.name, lambda: open(path, "rb"), size)  # noqa: SIM115


def _leaf(name: str, file_name: str, opened: Callable[[], BinaryIO], size: int) -> Leaf:
    suffixes = [s.lower() for s in Path(file_name).suffixes]
    if suffixes[-1:] == [".ipynb"]:
        return Leaf(name, "text", _refused("a Jupyter notebook; convert it first, for example with jupyter nbconvert --to markdown"))
    packing = _PACKED.get(suffixes.pop()) if suffixes and suffixes[-1] in _PACKED else None
    kind = _FORMATS.get(suffixes[-1], "text") if suffixes else "text"
    if packing is None:
        return Leaf(name, kind, opened)
    notes: list[str] = []
    return Leaf(name, kind, lambda: cast(BinaryIO, io.BufferedReader(_Bounded(_unpacked(opened(), packing, notes), size))), notes)


def _refused(why: str) -> Callable[[], BinaryIO]:
    def opened() -> BinaryIO:
        raise Unreadable(why)

    return opened


def _unpacked(stream: BinaryIO, packing: str, notes: list[str]) -> Any:
    if packing == ".gz":
        return _Gzip(stream, notes)
    try:
        import zstandard
    except ImportError:
        raise Unreadable("needs the library zstandard; pip install 'bimo[text]'") from None
    return zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(stream, read_across_frames=True)


class _Gzip:
    """The data of gzip members one after the other; bytes behind them that are no gzip data are left out and noted."""

    def __init__(self, stream: BinaryIO, notes: list[str]) -> None:
        self.stream, self.notes = stream, notes
        self.member = zlib.decompressobj(wbits=31)
        self.packed = b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; b"" at the end."""
        while True:
            if self.member.eof and not self._next_member():
                return b""
            if not self.packed:
                self.packed = self.stream.read(1 << 16)
                if not self.packed:
                    raise EOFError("the gzip data ends before its end")
            data = self.member.decompress(self.packed, size)
            self.packed = self.member.unused_data if self.member.eof else self.member.unconsumed_tail
            if data:
                return data

    def _next_member(self) -> bool:
        """Whether another member follows, perhaps after padding with NUL."""
        self.packed = self.packed.lstrip(b"\0")
        while len(self.packed) < 2 and (more := self.stream.read(1 << 16)):
            self.packed = (self.packed + more).lstrip(b"\0")
        if self.packed.startswith(b"\x1f\x8b"):
            self.member = zlib.decompressobj(wbits=31)
            return True
        behind = len(self.packed)
        while more := self.stream.read(1 << 20):
            behind += len(more)
        if behind:
            self.notes[:] = [f"{behind:,} bytes behind the gzip data are no gzip data and were left out"]
        self.packed = b""
        return False


class _Bounded(io.RawIOBase):
    """A stream that refuses to unpack without end (a zip bomb)."""

    def __init__(self, stream: Any, packed_size: int) -> None:
        self.stream, self.left = stream, max(FREE_EXPANSION, packed_size * MAX_EXPANSION)
        self.limit = self.left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(len(buffer))
        self.left -= len(data)
        if self.left < 0:
            raise Unreadable(f"unpacks to more than {self.limit:,} bytes ({MAX_EXPANSION} times its size): a zip bomb? unpack it yourself")
        buffer[: len(data)] = data
        return len(data)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or one that a file manager keeps for itself.

    >>> is_hidden(".git"), is_hidden("Thumbs.db"), is_hidden("text.txt")
    (True, True, False)
    """
    return name.startswith(".") or name.lower() in _OF_FILE_MANAGERS


def _zip_leaves(path: Path, skipped: list[tuple[str, str]]) -> Iterator[Leaf]:
    with reading():
        archive = zipfile.ZipFile(path)
    with archive:
        members = sorted((m for m in archive.infolist() if not m.is_dir()), key=lambda m: m.filename)
        if len(members) > MAX_MEMBERS:
            raise Unreadable(f"{len(members):,} members, more than {MAX_MEMBERS:,}; unpack it yourself")
        for member in members:
            if any(map(is_hidden, member.filename.split("/"))):
                skipped.append((printable(f"{path}:{member.filename}"), "hidden"))
                continue
            yield _member(archive, member, printable(f"{path}:{member.filename}"))


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Leaf:
    def opened() -> BinaryIO:
        if member.flag_bits & 1:
            raise Unreadable("encrypted; unpack it first")
        if member.filename.lower().endswith(".zip"):
            raise Unreadable("an archive within an archive; unpack it first")
        return cast(BinaryIO, io.BufferedReader(_Bounded(archive.open(member), member.compress_size)))

    return _leaf(name, Path(member.filename).name, opened, member.compress_size)


class reading:  # noqa: N801 - used as a statement
    """What goes wrong inside while reading becomes `Unreadable`, with the reason."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raise Unreadable(f"cannot be read ({error.strerror or error})") from error
        if isinstance(error, EOFError | zlib.error | zipfile.BadZipFile | NotImplementedError | RuntimeError | MemoryError):
            raise Unreadable(f"damaged or of an unknown kind ({error or type(error).__name__})") from error
        if error is not None and type(error).__module__.startswith(("zstandard", "backports.zstd", "pyarrow")):
            raise Unreadable(f"damaged ({error})") from error


def byte_chunks(stream: BinaryIO) -> Iterator[bytes]:
    """The bytes of a stream, a megabyte at a time."""
    while True:
        with reading():
            data = stream.read(CHUNK)
        if not data:
            return
        progress.count_bytes(len(data))
        yield data
