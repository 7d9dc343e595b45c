"""File formats: what a path holds, as leaves (a file, or a member of an archive) that open as streams of bytes."""

from __future__ import annotations

import gzip
import io
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
_FORMATS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
    ".html": "html", ".htm": "html", ".xhtml": "html", ".md": "markdown",
}  # fmt: skip
_PACKED = (".gz", ".zst")


@dataclass(frozen=True)
class Leaf:
    """Something to read: its name, its format (text, markdown, html, json, jsonl, csv, tsv, parquet) and how to open it."""

    name: str
    format: str
    open: Callable[[], BinaryIO]


def standard_input() -> BinaryIO:
    """The bytes of standard input; where this process has none, a `SourceError`."""
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise SourceError("standard input: closed; send text to it, or name a file instead of -")
    return stream


def leaves(path: Path) -> Iterator[Leaf]:
    """What a file holds: itself, or the members of a zip archive. Raises `Unreadable` for a damaged archive."""
    if path.suffix.lower() == ".zip":
        yield from _zip_leaves(path)
    else:
        size = path.stat().st_size if path.is_file() else 0
        yield _leaf(printable(path), path.name, lambda: open(path, "rb"), size)  # noqa: SIM115


def _leaf(name: str, file_name: str, opened: Callable[[], BinaryIO], size: int) -> Leaf:
    suffixes = [s.lower() for s in Path(file_name).suffixes]
    packing = suffixes.pop() if suffixes and suffixes[-1] in _PACKED else ""
    kind = _FORMATS.get(suffixes[-1], "text") if suffixes else "text"
    if not packing:
        return Leaf(name, kind, opened)
    return Leaf(name, kind, lambda: cast(BinaryIO, io.BufferedReader(_Bounded(_unpacked(opened(), packing), size))))


def _unpacked(stream: BinaryIO, packing: str) -> Any:
    if packing == ".gz":
        return gzip.GzipFile(fileobj=stream)
    try:
        import zstandard
    except ImportError:
        raise Unreadable("needs the library zstandard; pip install 'bimo[text]'") from None
    return zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)


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


def _zip_leaves(path: Path) -> Iterator[Leaf]:
    with reading():
        archive = zipfile.ZipFile(path)
    with archive:
        members = sorted((m for m in archive.infolist() if not m.is_dir()), key=lambda m: m.filename)
        if len(members) > MAX_MEMBERS:
            raise Unreadable(f"{len(members):,} members, more than {MAX_MEMBERS:,}; unpack it yourself")
        for member in members:
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
