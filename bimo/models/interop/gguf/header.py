"""The header of a GGUF file, read so that no file can make it take more than the file's size warrants.

A GGUF file (github.com/ggml-org/ggml, docs/gguf.md) holds, little-endian: the letters GGUF, its version, how many tensors and facts there
are; the facts (name, type, value); each tensor's name, shape, type and place; and, from the next multiple of `general.alignment` on, the
tensors' data. Every length is held against the bytes that are left before anything is made of it.

Memory: what is made of a header takes at most 32 bytes per byte of it (dense lists of short numbers, each a Python object in the end, cost
most: 20), and a header is at most 256 MiB; the tensors' data is not touched.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from bimo.core import store
from bimo.core.errors import ModelError, UserError

TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K")  # what tensors may be stored as
LONGEST = 256 << 20  # bytes of a header; that of a model with 256,000 tokens is 15 MiB
_VERSIONS = (2, 3)
_WIDEST_ALIGNMENT = 1 << 20
_TEXT, _ARRAY, _BOOL, _FLOAT32 = 8, 9, 7, 6
_NUMBERS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "<u1", 10: "<u8", 11: "<i8", 12: "<f8"}
_LEAST_FACT = 8 + 4 + 1  # bytes: the length of a name, a type, a value
_LEAST_TENSOR = 8 + 4 + 8 + 4 + 8  # bytes: the length of a name, how many dimensions, one of them, a type, a place


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as it lies in the file: its shape as torch has it (GGUF's reversed), its type, and where its bytes are."""

    shape: tuple[int, ...]
    type: str  # one of TYPES
    start: int  # byte of the file
    size: int  # bytes


@dataclass(frozen=True)
class Header:
    """What a file says of itself: facts (numbers, text, lists of text, numpy arrays of numbers) and tensors, by name."""

    path: Path
    facts: dict[str, Any]
    tensors: dict[str, Stored]

    def fail(self, found: str) -> NoReturn:
        """Raise a `ModelError` that names the file."""
        raise ModelError(f"{self.path}: {found}")


def library() -> Any:
    """The gguf package: its constants, its quantisation, its writer (never its reader, which trusts a file's lengths)."""
    try:
        import gguf
    except ImportError:
        raise UserError("GGUF files need the library gguf, which is not installed; pip install 'bimo[gguf]'") from None
    return gguf


@contextmanager
def opened(path: Path) -> Iterator[tuple[Header, mmap.mmap]]:
    """The header of the file at `path`, and all its bytes, mapped, not read; raises `ModelError` that names the file and what is wrong."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except OSError as cause:
        raise ModelError(f"{path}: cannot be read ({cause.strerror})") from None
    with file:
        if file.read(4) != b"GGUF":
            store.refuse_pointer(path)
            raise ModelError(f"{path}: does not begin with GGUF; is it a GGUF file?")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield _read(path, data), data


def shown(value: Any) -> str:
    """What a file says, for an error: on one line, and cut where it is long.

    >>> shown("llama\\n"), shown(["a", "b"]), shown("a" * 99)
    ("'llama\\\\n'", "['a', 'b']", "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…'")
    """
    if isinstance(value, str):
        return repr(value if len(value) <= 64 else value[:40] + "…")
    return " ".join(repr(value[:8] if isinstance(value, list | np.ndarray) else value).split())[:80]


class _Cursor:
    """Reads on from a place, up to the end of the file or of the longest header."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.place, self.end = path, data, 4, min(len(data), LONGEST)

    def fail(self, found: str) -> NoReturn:
        raise ModelError(f"{self.path}: {found}")

    def need(self, size: int, what: str) -> None:
        """Fail where fewer than `size` bytes are left."""
        if size > self.end - self.place:
            where = f"{size} bytes at byte {self.place}, and {self.end - self.place} are left"
            longest = f" of the {LONGEST} that a header may have" if self.end < len(self.data) else "; is the file whole?"
            self.fail(f"{what} needs {where}{longest}")

    def take(self, size: int, what: str) -> bytes:
        self.need(size, what)
        self.place += size
        return self.data[self.place - size : self.place]

    def integer(self, size: int, what: str) -> int:
        return int.from_bytes(self.take(size, what), "little")

    def text(self, what: str) -> str:
        raw = self.take(self.integer(8, what), what)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self.fail(f"{what} is not UTF-8: {raw[:40]!r}")

    def numbers(self, kind: int, count: int, what: str) -> np.ndarray:
        dtype = np.dtype(_NUMBERS[kind])
        found = np.frombuffer(self.take(count * dtype.itemsize, what), dtype)
        if kind == _BOOL:
            if len(found) and int(found.max()) > 1:
                self.fail(f"{what} is to be true (1) or false (0), found {int(found.max())}")
            return found.astype(bool)
        return found

    def value(self, what: str) -> Any:
        """A fact's value. A 32-bit number is told by its shortest decimal: 1e-05, as it was written, not 9.999999747378752e-06."""
        kind = self.integer(4, what)
        if kind == _TEXT:
            return self.text(what)
        if kind == _ARRAY:
            inner, count = self.integer(4, what), self.integer(8, what)
            if inner == _TEXT:
                self.need(8 * count, f"{what} (of {count} texts)")
                return [self.text(what) for _ in range(count)]
            if inner not in _NUMBERS:
                self.fail(f"{what} is a list of {'lists' if inner == _ARRAY else f'the unknown type {inner}'}, which is not supported")
            return self.numbers(inner, count, what)
        if kind not in _NUMBERS:
            self.fail(f"{what} has the unknown type {kind}")
        number = self.numbers(kind, 1, what)[0]
        return float(str(number)) if kind == _FLOAT32 else number.item()


def _read(path: Path, data: mmap.mmap) -> Header:
    cursor = _Cursor(path, data)
    version = cursor.integer(4, "the version")
    if version not in _VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "big"), "little")
        if swapped in _VERSIONS:
            cursor.fail("is big-endian; convert it to little-endian (gguf-convert-endian)")
        cursor.fail(f"version {version} of GGUF is not supported; versions {_VERSIONS[0]} and {_VERSIONS[1]} are")
    tensors, facts = cursor.integer(8, "the number of tensors"), cursor.integer(8, "the number of facts")
    cursor.need(tensors * _LEAST_TENSOR + facts * _LEAST_FACT, f"a header of {tensors} tensors and {facts} facts")
    found: dict[str, Any] = {}
    for _ in range(facts):
        key = cursor.text("a fact's name")
        if key in found:
            cursor.fail(f"{shown(key)} stands twice")
        found[key] = cursor.value(shown(key))
    return Header(path, found, _tensors(cursor, tensors, _alignment(cursor, found)))


def _alignment(cursor: _Cursor, facts: dict[str, Any]) -> int:
    """Of what each tensor's place is a multiple, bytes."""
    found = facts.get("general.alignment", 32)
    if type(found) is not int or not 0 < found <= _WIDEST_ALIGNMENT or found & (found - 1):
        cursor.fail(f"general.alignment must be a power of two up to {_WIDEST_ALIGNMENT}, found {found!r}")
    return found


def _tensors(cursor: _Cursor, count: int, alignment: int) -> dict[str, Stored]:
    constants = library()
    known = {int(kind): kind.name for kind in constants.GGMLQuantizationType}
    sizes = {name: constants.GGML_QUANT_SIZES[constants.GGMLQuantizationType[name]] for name in TYPES}  # values, bytes of a block
    read: dict[str, tuple[tuple[int, ...], str, int, int]] = {}  # shape, type, place in the data, bytes
    for _ in range(count):
        name = cursor.text("a tensor's name")
        what = f"tensor {shown(name)}"
        if name in read:
            cursor.fail(f"{what} stands twice")
        dimensions = cursor.integer(4, what)
        if not 1 <= dimensions <= 4:
            cursor.fail(f"{what} has {dimensions} dimensions; 1 to 4 are possible")
        shape = tuple(cursor.integer(8, what) for _ in range(dimensions))[::-1]
        if not 0 < math.prod(shape) < 1 << 63:
            cursor.fail(f"{what} has the shape {list(shape)}, which no tensor can have")
        kind, place = cursor.integer(4, what), cursor.integer(8, what)
        if known.get(kind) not in TYPES:
            cursor.fail(f"{what} is of type {known.get(kind, kind)}, which is not supported; give one of {', '.join(TYPES)}")
        block, size = sizes[known[kind]]
        if shape[-1] % block:
            cursor.fail(f"{what} has rows of {shape[-1]} values, no multiple of the {block} of a block of {known[kind]}")
        read[name] = shape, known[kind], place, math.prod(shape) // block * size
    return _placed(cursor, read, alignment)


def _placed(cursor: _Cursor, read: dict[str, tuple[tuple[int, ...], str, int, int]], alignment: int) -> dict[str, Stored]:
    """The tensors with their places in the file, each within it and none over another."""
    start = -(-cursor.place // alignment) * alignment
    found: dict[str, Stored] = {}
    for name, (shape, kind, place, size) in read.items():
        if place % alignment:
            cursor.fail(f"tensor {shown(name)} lies at byte {place} of the data, no multiple of the alignment {alignment}")
        if start + place + size > len(cursor.data):
            ends = f"ends at byte {start + place + size}, and the file has {len(cursor.data)}"
            cursor.fail(f"tensor {shown(name)} of shape {list(shape)} {ends}; is the file whole?")
        found[name] = Stored(shape, kind, start + place, size)
    end, before = start, ""
    for name, tensor in sorted(found.items(), key=lambda item: item[1].start):
        if tensor.start < end:
            cursor.fail(f"tensors {shown(before)} and {shown(name)} overlap")
        end, before = tensor.start + tensor.size, name
    return found
