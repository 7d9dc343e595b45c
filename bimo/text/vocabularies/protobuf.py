"""The wire format of protocol buffers, read with bounds: every length is checked before anything is made of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bimo.core.errors import ModelError

Value = int | float | bytes
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_SIZES = {FIXED64: 8, FIXED32: 4}
_NAMES = {VARINT: "a number", FIXED64: "8 bytes", BYTES: "a run of bytes", FIXED32: "4 bytes"}


def fields(data: bytes, where: str) -> Iterator[tuple[int, int, Value]]:
    """(field number, wire type, value) of a message, in order: integers, floats of 4 or 8 bytes, or bytes.

    Raises `ModelError`, which begins with `where`, for a message that is cut off or is none.

    >>> list(fields(bytes([0x08, 0x96, 0x01, 0x12, 0x02]) + b"hi", "x"))
    [(1, 0, 150), (2, 2, b'hi')]
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at, where)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ModelError(f"{where}: field number 0 at byte {at}, which no protocol buffer has; this is another kind of file")
        if wire == VARINT:
            value, at = _varint(data, at, where)
            yield number, wire, value
            continue
        if wire == BYTES:
            size, at = _varint(data, at, where)
        elif wire in _SIZES:
            size = _SIZES[wire]
        else:
            raise ModelError(f"{where}: wire type {wire} at byte {at}, which is not known; this is another kind of file, or damaged")
        if size > len(data) - at:
            raise ModelError(f"{where}: field {number} wants {size:,} bytes, {len(data) - at:,} are left; the file is cut off or damaged")
        part = data[at : at + size]
        at += size
        yield number, wire, part if wire == BYTES else struct.unpack("<d" if wire == FIXED64 else "<f", part)[0]


def _varint(data: bytes, at: int, where: str) -> tuple[int, int]:
    """A number of 64 bits at most, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ModelError(f"{where}: ends inside a number; the file is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (2**64 - 1), at
    raise ModelError(f"{where}: a number of more than 64 bits at byte {at}; the file is damaged")


def message(data: bytes, kinds: dict[int, tuple[str, int]], where: str) -> dict[str, list[Value]]:
    """The fields of a message that `kinds` (number → name and wire type) knows, by name; the others are passed over.

    >>> message(bytes([0x08, 0x05, 0x08, 0x07, 0x10, 0x01]), {1: ("size", 0)}, "x")
    {'size': [5, 7]}
    """
    found: dict[str, list[Value]] = {}
    for number, wire, value in fields(data, where):
        name, wanted = kinds.get(number, ("", wire))
        if wire != wanted:
            raise ModelError(f"{where}: {name} is {_NAMES[wire]}, expected {_NAMES[wanted]}; this is another kind of file, or damaged")
        if name:
            found.setdefault(name, []).append(value)
    return found
