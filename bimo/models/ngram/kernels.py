"""Compiled kernels of counting: marking where n-grams break, numbering them order by order, merging two tables.

An n-gram is known by where it starts. `node[s]` is the number of the (k-1)-gram that starts at position s; the k-gram that
starts there is the pair (node[s], its last word), packed into one 64-bit key. Sorting the keys numbers the k-grams.
"""

from __future__ import annotations

import numpy as np
from numba import types

from bimo.text.kernels import compiled, readonly

_I32, _I64, _U8 = types.int32, types.int64, types.uint8


@compiled(
    types.UniTuple(_I64, 3)(readonly(_I32), _I64, _I64, _I64, readonly(_U8), _I64, _I32[::1], _U8[::1]),
)
def mark(tokens, limit, bos, eos, skip, inside_before, out, last):  # pragma: no cover - compiled
    """Copy `tokens` to `out`, putting `bos` after each end that no `bos` follows; last[t] = 1 where n-grams may not go past t.

    Returns how many were written, how many of them come from tokens[:limit], and whether tokens[limit] stands inside a
    document (0 no, 1 yes, 2 just after an end). Tokens with skip[w] = 1 (padding) are left out and break n-grams.
    """
    written, counted = 0, 0
    inside, inside_at_limit = inside_before, inside_before
    for t in range(len(tokens)):
        if t == limit:
            counted, inside_at_limit = written, inside
        w = tokens[t]
        if skip[w] and w != bos:
            if written:
                last[written - 1] = 1
            continue
        begins = w == bos and (bos != eos or inside != 1)
        ends = w == eos and not begins
        if begins:
            if written:
                last[written - 1] = 1
        elif inside == 2 and bos >= 0:
            out[written] = bos
            last[written] = 0
            written += 1
        out[written] = w
        last[written] = ends
        written += 1
        inside = 2 if ends else 1
    if limit >= len(tokens):
        counted, inside_at_limit = written, inside
    if written:
        last[written - 1] = 1
    return written, counted, inside_at_limit


@compiled(_I64(readonly(_I32), readonly(_U8), readonly(_I32), _I64, _I64, _I64[::1], _I32[::1]))
def gather(words, last, node, order, size, keys, places):  # pragma: no cover - compiled
    """Keys node * size + word, and start places, of all n-grams of `order`; returns how many."""
    found = 0
    for s in range(len(node) - order + 1):
        if node[s] >= 0 and not last[s + order - 2]:
            keys[found] = np.int64(node[s]) * size + words[s + order - 1]
            places[found] = s
            found += 1
    return found


@compiled(types.void(_I64[::1], _I32[::1], _I64[::1], _I32[::1], _I64, _I64))
def radix_sort(keys, places, spare_keys, spare_places, count, bits):  # pragma: no cover - compiled
    """Sort the first `count` keys (below 2**bits) with their places, stably, eleven bits at a time; the result is in `keys`."""
    passes = (bits + 10) // 11
    width = (bits + passes - 1) // passes if passes else 0
    mask = (1 << width) - 1
    begins = np.empty(mask + 2, np.int64)
    a, pa, b, pb = keys, places, spare_keys, spare_places
    for step in range(passes):
        shift = step * width
        begins[:] = 0
        for i in range(count):
            begins[((a[i] >> shift) & mask) + 1] += 1
        for digit in range(mask):
            begins[digit + 1] += begins[digit]
        for i in range(count):
            digit = (a[i] >> shift) & mask
            at = begins[digit]
            begins[digit] = at + 1
            b[at] = a[i]
            pb[at] = pa[i]
        a, pa, b, pb = b, pb, a, pa
    if passes & 1:
        keys[:count] = spare_keys[:count]
        places[:count] = spare_places[:count]


@compiled(_I64(readonly(_I64), readonly(_I32), _I64, _I64, readonly(_I32), _I32[::1], _I64[::1], _I64[::1], _I32[::1]))
def number(keys, places, found, counted, node, new_node, out_keys, out_counts, out_suffix):  # pragma: no cover - compiled
    """Number the distinct sorted keys; count those that start before `counted`; suffix = the same n-gram without its first word."""
    new_node[:] = -1
    distinct = -1
    previous = np.int64(-1)
    for i in range(found):
        s = places[i]
        if keys[i] != previous:
            distinct += 1
            previous = keys[i]
            out_keys[distinct] = previous
            out_counts[distinct] = 0
            out_suffix[distinct] = node[s + 1]
        if s < counted:
            out_counts[distinct] += 1
        new_node[s] = distinct
    return distinct + 1


@compiled(
    _I64(
        readonly(_I64), readonly(_I64), readonly(_I32), readonly(_I64), readonly(_I64), readonly(_I32),
        _I64[::1], _I64[::1], _I32[::1], _I32[::1], _I32[::1],
    )
)  # fmt: skip
def merge(keys_a, counts_a, suffix_a, keys_b, counts_b, suffix_b, keys, counts, suffix, map_a, map_b):  # pragma: no cover
    """Merge two sorted tables; map_a and map_b tell the new number of each old row. Returns the number of rows."""
    i, j, n = 0, 0, 0
    while i < len(keys_a) or j < len(keys_b):
        take_a = j == len(keys_b) or (i < len(keys_a) and keys_a[i] <= keys_b[j])
        take_b = i == len(keys_a) or (j < len(keys_b) and keys_b[j] <= keys_a[i])
        counts[n] = 0
        if take_a:
            keys[n], suffix[n] = keys_a[i], suffix_a[i]
            counts[n] += counts_a[i]
            map_a[i] = n
            i += 1
        if take_b:
            keys[n], suffix[n] = keys_b[j], suffix_b[j]
            counts[n] += counts_b[j]
            map_b[j] = n
            j += 1
        n += 1
    return n
