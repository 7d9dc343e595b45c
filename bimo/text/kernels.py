"""Strings to ids at the speed of memory: a hash table over UTF-8 words, compiled by numba.

`compiled` is how every kernel of Bimo is compiled: once per machine, kept beside the source (or in the user's cache
folder), without the interpreter's lock, so that plain threads share the work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from numba import types

from bimo.core import runtime
from bimo.core.errors import UserError


def compiled(signature: Any = None, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a kernel for one signature (None: for each that it is called with) and keep the machine code.

    Where no folder can be written, it is compiled in memory. options: numba's own, such as fastmath.
    """

    def wrap(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(signature, cache=True, nogil=True, error_model="numpy", **options)(function)
        except (RuntimeError, OSError):  # no folder for the cache
            return numba.njit(signature, nogil=True, error_model="numpy", **options)(function)

    return wrap


def readonly(scalar: types.Type) -> types.Array:
    """The type of a contiguous array that a kernel only reads (memory maps and bytes objects pass as well)."""
    return types.Array(scalar, 1, "C", readonly=True)


def thread_count() -> int:
    """Threads that a kernel may use: torch's setting where torch is loaded, else the cores (`runtime.cores`).

    >>> thread_count() >= 1
    True
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    return runtime.cores()


def in_threads(work: Callable[[int], Any], parts: int) -> list[Any]:
    """`[work(0), work(1), …]`, each in a thread of its own (kernels hold no lock); with one part, in this thread."""
    if parts == 1:
        return [work(0)]
    with ThreadPoolExecutor(parts - 1) as pool:
        others = [pool.submit(work, part) for part in range(1, parts)]
        first = work(0)
        return [first, *(other.result() for other in others)]


_ONE, _EIGHT = np.uint64(1), np.uint64(8)
_LONG = np.uint64(1 << 63)
_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0x9E3779B97F4A7C15)


@compiled(types.uint64(types.uint64, types.int64, types.uint8))
def _absorb(h, position, byte):  # pragma: no cover - compiled
    """Take one more byte into a word's 64-bit mark. Up to seven bytes stand in it as they are: equal marks are equal words."""
    if position < 7:
        return (h << _EIGHT) | np.uint64(byte)
    return ((h ^ np.uint64(byte)) * _PRIME) | _LONG


# What a byte may begin: 0 a letter, 1 white space of one byte, 2 perhaps wider white space, 3 nothing in UTF-8 (a separator).
_BEGINS = np.zeros(256, np.uint8)
_BEGINS[[0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E, 0x1F, 0x20]] = 1
_BEGINS[[0xC2, 0xE1, 0xE2, 0xE3]] = 2
_BEGINS[0xFF] = 3


@compiled(types.int64(readonly(types.uint8), types.int64, types.int64))
def _space_width(data, at, stop):  # pragma: no cover - compiled
    """Bytes of the white-space character at `at` (as str.split sees it), 0 if none stands there."""
    byte = data[at]
    if _BEGINS[byte] != 2:
        return np.int64(_BEGINS[byte] == 1)
    if byte == 0xC2:
        return 2 if at + 1 < stop and (data[at + 1] == 0x85 or data[at + 1] == 0xA0) else 0
    if at + 2 >= stop:
        return 0
    second, third = data[at + 1], data[at + 2]
    if byte == 0xE1:
        return 3 if second == 0x9A and third == 0x80 else 0
    if byte == 0xE2:
        general = second == 0x80 and (0x80 <= third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF)
        return 3 if general or (second == 0x81 and third == 0x9F) else 0
    return 3 if second == 0x80 and third == 0x80 else 0


@compiled(types.void(readonly(types.uint8), readonly(types.int64), types.int32[::1], types.uint64[::1]))
def _fill(blob, begins, slots, hashes):  # pragma: no cover - compiled
    mask = len(slots) - 1
    for word in range(len(begins) - 1):
        h = _ONE
        for i in range(begins[word], begins[word + 1]):
            h = _absorb(h, i - begins[word], blob[i])
        at = np.int64((h * _MIX) >> np.uint64(32)) & mask
        while slots[at] >= 0:
            at = (at + 1) & mask
        slots[at] = word
        hashes[at] = h


@compiled(
    types.UniTuple(types.int64, 2)(
        readonly(types.uint8), types.int64, types.int64, types.int64,  # data, start, stop, separator
        readonly(types.uint8), readonly(types.int64), types.int32[::1], types.uint64[::1],  # blob, begins, slots, hashes
        types.int32, types.int32, types.int32, types.int32[::1], types.int64[::1],  # unknown, bos, eos, ids, ends
    )
)  # fmt: skip
def _look_up(data, start, stop, separator, blob, begins, slots, hashes, unknown, bos, eos, ids, ends):  # pragma: no cover
    """Ids of the texts in data[start:stop], each closed by `separator` or the end; returns (ids, texts) written."""
    mask = len(slots) - 1
    at, count, texts = start, 0, 0
    while True:
        if bos >= 0:
            ids[count] = bos
            count += 1
        while at < stop and data[at] != separator:
            width = _space_width(data, at, stop)
            if width:
                at += width
                continue
            begin = at
            h = _ONE
            while at < stop:
                byte = data[at]
                kind = _BEGINS[byte]
                if kind and (kind == 1 or byte == separator or (kind == 2 and _space_width(data, at, stop))):
                    break
                h = _absorb(h, at - begin, byte)
                at += 1
            slot = np.int64((h * _MIX) >> np.uint64(32)) & mask
            found = unknown
            while slots[slot] >= 0:
                if hashes[slot] == h:
                    word = slots[slot]
                    if h < _LONG:
                        found = word
                        break
                    first = begins[word]
                    if begins[word + 1] - first == at - begin:
                        i = 0
                        while i < at - begin and blob[first + i] == data[begin + i]:
                            i += 1
                        if i == at - begin:
                            found = word
                            break
                slot = (slot + 1) & mask
            ids[count] = found
            count += 1
        if eos >= 0:
            ids[count] = eos
            count += 1
        ends[texts] = count
        texts += 1
        if at >= stop:
            return count, texts
        at += 1


class WordIndex:
    """Words to ids: `words[i]` has id i. Texts are split as `str.split()` splits them.

    >>> index = WordIndex(["<s>", "</s>", "北京", "likes"])
    >>> ids, offsets = index.ids(["北京 likes 北京", "", "who"], bos=0, eos=1)
    >>> ids.tolist(), offsets.tolist()
    ([0, 2, 3, 2, 1, 0, 1, 0, -1, 1], [0, 5, 7, 10])
    """

    def __init__(self, words: Sequence[str]) -> None:
        encoded = [word.encode("utf-8", "surrogatepass") for word in words]
        if len(set(encoded)) != len(encoded):
            raise UserError("words: a word stands twice in the vocabulary; give each word one id")
        self.size = len(encoded)
        self._blob = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self._begins = np.concatenate([[0], np.cumsum([len(word) for word in encoded], dtype=np.int64)]).astype(np.int64)
        capacity = 1 << max(4, (2 * self.size).bit_length())
        self._slots = np.full(capacity, -1, dtype=np.int32)
        self._hashes = np.zeros(capacity, dtype=np.uint64)
        _fill(self._blob, self._begins, self._slots, self._hashes)

    def ids(
        self,
        texts: Sequence[str] | Sequence[bytes],
        *,
        unknown: int = -1,
        bos: int | None = None,
        eos: int | None = None,
        threads: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts, one after another: (ids int32 [N], offsets int64 [texts + 1]).

        Text i is ids[offsets[i]:offsets[i + 1]], from `bos` to `eos` where these are given; words that are not in the
        vocabulary become `unknown`. `threads`: as `thread_count()` unless said.
        """
        if not texts:
            return np.zeros(0, np.int32), np.zeros(1, np.int64)
        raw, separator = _joined(texts)
        data = np.frombuffer(raw, dtype=np.uint8)
        parts = max(1, min(threads or thread_count(), len(data) >> 16))
        cuts = [0]
        for part in range(1, parts):
            found = raw.find(separator, max(cuts[-1], len(raw) * part // parts))
            if found < 0:
                break
            cuts.append(found + 1)
        cuts.append(len(raw) + 1)

        def work(part: int) -> tuple[np.ndarray, np.ndarray]:
            start, stop = cuts[part], cuts[part + 1] - 1
            count = raw.count(separator, start, stop) + 1
            ids = np.empty((stop - start + 1) // 2 + 2 * count + 1, np.int32)
            ends = np.empty(count, np.int64)
            n, _ = _look_up(
                data, start, stop, separator[0], self._blob, self._begins, self._slots, self._hashes,
                unknown, -1 if bos is None else bos, -1 if eos is None else eos, ids, ends,
            )  # fmt: skip
            return ids[:n], ends

        found = in_threads(work, len(cuts) - 1)
        if len(found) == 1:
            return found[0][0], np.concatenate([[0], found[0][1]])
        shifts = np.cumsum([0, *(len(ids) for ids, _ in found)])
        ends = [part_ends + shift for (_, part_ends), shift in zip(found, shifts, strict=False)]
        return np.concatenate([ids for ids, _ in found]), np.concatenate([[0], *ends])


def _joined(texts: Sequence[str] | Sequence[bytes]) -> tuple[bytes, bytes]:
    """All texts in one byte string, and the separator that stands in none of them."""
    if isinstance(texts[0], bytes):
        raw = b"\n".join(texts)  # type: ignore[arg-type]
        if raw.count(b"\n") != len(texts) - 1:
            raw = b"\xff".join(texts)  # type: ignore[arg-type]  # never a byte of UTF-8
            if raw.count(b"\xff") != len(texts) - 1:
                raise UserError("texts: bytes that are not UTF-8 (0xFF); decode them first")
            return raw, b"\xff"
        return raw, b"\n"
    raw = "\n".join(texts).encode("utf-8", "surrogatepass")  # type: ignore[arg-type]
    if raw.count(b"\n") != len(texts) - 1:
        return b"\xff".join(text.encode("utf-8", "surrogatepass") for text in texts), b"\xff"  # type: ignore[union-attr]
    return raw, b"\n"
