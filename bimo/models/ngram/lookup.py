"""Scoring token after token without ever building a distribution: the trie as an automaton over one hash table.

A state is the longest suffix of what was read that can matter: a node of the trie with children (or a back-off weight).
Reading a word takes one probe for each context tried, longest first, as in KenLM (Heafield 2011), but forwards: the table is
keyed by (state, word) and holds log p and the next state, so that no n-gram is hashed twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from bimo.models.ngram.config import Rule
from bimo.models.ngram.trie import Trie, search
from bimo.text.kernels import compiled, in_threads, readonly

_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_U32, _U58 = np.uint64(32), np.uint64(58)
_LANES = 16  # places of the text that one thread scores in turn, so that their memory accesses overlap
_I32, _I64, _F32 = types.int32, types.int64, types.float32


@compiled(types.void(readonly(_I32), readonly(_I64), _I64, _I64[::1]))
def links(words, first, inner, link):  # pragma: no cover - compiled
    """link[g] = the longest proper suffix of g that is a node; -1 = the empty context."""
    size = first[0]
    link[:size] = -1
    for g in range(inner):
        for child in range(first[g], first[g + 1]):
            word = words[child]
            at = link[g]
            while True:
                if at < 0:
                    link[child] = word
                    break
                found = search(words, first[at], first[at + 1], word)
                if found >= 0:
                    link[child] = found
                    break
                at = link[at]


@compiled(types.int64(types.uint64, types.int64))
def _slot(key, capacity):  # pragma: no cover - compiled
    return np.int64((((key ^ (key >> _U32)) * _MIX) >> _U32) * np.uint64(capacity) >> _U32)


@compiled(types.uint64(types.int64))
def _bit(word):  # pragma: no cover - compiled
    """One of 64 bits for each word: a state's filter holds the bits of its children."""
    return np.uint64(1) << ((np.uint64(word) * _MIX) >> _U58)


@intrinsic
def _fetch(context, array, index):  # pragma: no cover - compiled
    """Ask the processor to bring array[index] near, without waiting for it."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.bitcast(builder.gep(view.data, [arguments[1]]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [address.type, ir.IntType(32), ir.IntType(32), ir.IntType(32)])
        hint = get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(hint, [address, *(ir.Constant(ir.IntType(32), n) for n in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.int64), code


@compiled(
    types.void(
        readonly(_I32), readonly(_I64), readonly(_F32), readonly(_I64), readonly(_I32), _I64, _I64, _I64,
        types.uint64[::1], _F32[::1], _I32[::1], types.uint64[::1], _I32[::1],
    )
)  # fmt: skip
def _fill(words, first, logprob, link, state, inner, eos, after_end, keys, floats, ints, states, next_of_word):  # pragma: no cover
    """Put every n-gram of two words or more into the hash table; next_of_word [V] are the states after unigrams."""
    capacity = len(keys) // 2
    for g in range(first[0]):
        next_of_word[g] = after_end if g == eos else (state[g] if g < inner else 0)
    for g in range(inner):
        for child in range(first[g], first[g + 1]):
            word = words[child]
            at = child
            while at >= 0 and (at >= inner or state[at] == 0):
                at = link[at]
            key = (np.uint64(state[g]) << _U32) | np.uint64(word)
            slot = _slot(key, capacity)
            while keys[2 * slot] != _EMPTY:
                slot = slot + 1 if slot + 1 < capacity else 0
            keys[2 * slot] = key
            states[2 * state[g] + 1] |= _bit(word)
            floats[4 * slot + 2] = logprob[child]
            ints[4 * slot + 3] = after_end if word == eos else (state[at] if at >= 0 else 0)


@compiled(
    types.void(
        readonly(_I32), readonly(types.uint8), _I64, _I64, _I64,
        readonly(types.uint64), readonly(_F32), readonly(_I32), readonly(types.uint64), readonly(_F32), readonly(_I32),
        readonly(_F32), readonly(_I32), _I64, types.float64[::1],
    )
)  # fmt: skip
def _score(
    ids, begins, start, stop, memory, keys, floats, ints, filters, backoffs, shorter, logprob, next_of_word, lanes, nats
):  # pragma: no cover - compiled
    """Nats of ids[start:stop] under Rule.BACK_OFF. Each lane reads `memory` tokens ahead of its part without scoring them."""
    capacity = np.int64(len(keys) // 2)
    length = (stop - start + lanes - 1) // lanes
    states = np.zeros(lanes, np.int64)
    totals, slots = np.zeros(lanes), np.zeros(lanes, np.int64)
    for step in range(-memory, length):
        for lane in range(lanes):  # back off while the filter says no; ask for the slot of the first yes
            at = start + lane * length + step
            slots[lane] = -2
            if at < 0 or at >= stop:
                continue
            state = 0 if begins[at] else states[lane]
            bit = _bit(ids[at])
            total = 0.0
            while state and not filters[2 * state + 1] & bit:
                total += backoffs[4 * state]
                state = np.int64(shorter[4 * state + 1])
            states[lane] = state
            totals[lane] = total
            slots[lane] = -1
            if state:
                slot = _slot((np.uint64(state) << _U32) | np.uint64(ids[at]), capacity)
                _fetch(keys, 2 * slot)  # pyright: ignore[reportCallIssue]
                slots[lane] = slot
        for lane in range(lanes):  # read the slots; ask for the next states
            slot = slots[lane]
            if slot == -2:
                continue
            at = start + lane * length + step
            word, state, total = ids[at], states[lane], totals[lane]
            while state:
                key = (np.uint64(state) << _U32) | np.uint64(word)
                held = keys[2 * slot]
                while held != key and held != _EMPTY:
                    slot = slot + 1 if slot + 1 < capacity else 0
                    held = keys[2 * slot]
                if held == key:
                    total += floats[4 * slot + 2]
                    state = np.int64(ints[4 * slot + 3])
                    break
                total += backoffs[4 * state]
                state = np.int64(shorter[4 * state + 1])
                slot = _slot((np.uint64(state) << _U32) | np.uint64(word), capacity)
            else:
                total += logprob[word]
                state = np.int64(next_of_word[word])
            _fetch(filters, 2 * state)  # pyright: ignore[reportCallIssue]
            states[lane] = state
            if step >= 0:
                nats[at] = 0.0 if begins[at] else -total


@compiled(
    types.void(
        readonly(_I32), readonly(types.uint8), _I64, _I64, _I64,
        readonly(types.uint64), readonly(_F32), readonly(_I32), readonly(types.uint64), readonly(_F32), readonly(_I32),
        readonly(_F32), readonly(_I32), readonly(types.int16), _I64, _F32, _F32, _I64, _I64, types.float64[::1],
    )
)  # fmt: skip
def _score_by_length(
    ids, begins, start, stop, memory, keys, floats, ints, filters, backoffs, shorter, logprob, next_of_word,
    length_of, rule, penalty, uniform, bos, eos, nats,
):  # fmt: skip  # pragma: no cover - compiled
    """Nats of ids[start:stop] under the rules that need to know how many words of context there were."""
    capacity = np.int64(len(keys) // 2)
    state, available = np.int64(0), np.int64(0)
    for at in range(max(0, start - memory), stop):
        word = ids[at]
        if begins[at]:
            state, available = np.int64(0), np.int64(0)
        floor = backoffs[4 * state] if state and length_of[state] == available else uniform
        while True:
            lost = available - length_of[state]
            if state == 0:
                total = np.float64(logprob[word])
                state = np.int64(next_of_word[word])
                break
            key = (np.uint64(state) << _U32) | np.uint64(word)
            slot = _slot(key, capacity)
            held = keys[2 * slot]
            while held != key and held != _EMPTY:
                slot = slot + 1 if slot + 1 < capacity else 0
                held = keys[2 * slot]
            if held == key:
                total = np.float64(floats[4 * slot + 2])
                state = np.int64(ints[4 * slot + 3])
                break
            state = np.int64(shorter[4 * state + 1])
        if rule == 1:
            total += penalty * lost
        elif lost > 0 and total != -np.inf:
            total = np.float64(floor)
        if at >= start:
            nats[at] = 0.0 if begins[at] else -total
        if word == eos or word == bos:  # noqa: SIM109
            available = np.int64(min(memory, 1)) if bos >= 0 else np.int64(0)
        else:
            available = np.int64(min(memory, available + 1))


@dataclass
class Lookup:
    """The automaton of one trie. State 0 is the empty context; S states in all.

    slots: uint64 [2 * capacity], rows of (key, (log p, next state)); states: uint64 [2 * S], rows of ((log back-off weight,
    next shorter state), filter of the words that may follow); logprob, next_of_word: of unigrams [V]; length_of: words of
    each state [S].
    """

    slots: np.ndarray
    states: np.ndarray
    logprob: np.ndarray
    next_of_word: np.ndarray
    length_of: np.ndarray
    memory: int
    rule: Rule
    penalty: float
    uniform: float
    bos: int
    eos: int

    @classmethod
    def of(cls, trie: Trie, rule: Rule, penalty: float, uniform: float, bos: int, eos: int) -> Self:
        """Build the automaton (about 0.2 s for a million n-grams)."""
        inner, size = len(trie.backoff), trie.sizes[0]
        link = np.empty(len(trie.words), np.int64)
        links(trie.words, trie.first, inner, link)
        matters = np.diff(trie.first) > 0
        if rule == Rule.BACK_OFF:
            matters |= trie.backoff != 0
        state = np.where(matters, np.cumsum(matters), 0).astype(np.int32)
        nodes = np.flatnonzero(matters)
        up = link[nodes]
        while len(low := np.flatnonzero((up >= 0) & (state[np.maximum(up, 0)] == 0 if inner else False))):
            up[low] = link[up[low]]
        shorter = np.where(up >= 0, state[np.maximum(up, 0)] if inner else 0, 0)
        lengths = np.repeat(np.arange(1, trie.order + 1), trie.sizes)[nodes]
        slots = np.empty(2 * max(16, 3 * (len(trie.words) - size) // 2), np.uint64)
        slots[0::2] = _EMPTY
        states = np.zeros(2 * (len(nodes) + 1), np.uint64)
        states.view(np.float32)[4::4] = trie.backoff[nodes]
        states.view(np.int32)[5::4] = shorter
        next_of_word = np.zeros(size, np.int32)
        after_end = int(state[bos]) if 0 <= bos < inner else 0
        views = _views(slots)
        _fill(trie.words, trie.first, trie.logprob, link, state, inner, eos, after_end, *views, states, next_of_word)
        length_of = np.concatenate([[0], lengths]).astype(np.int16)
        return cls(slots, states, trie.logprob[:size], next_of_word, length_of, trie.order - 1, rule, penalty, uniform, bos, eos)

    def score(self, ids: np.ndarray, begins: np.ndarray, threads: int) -> np.ndarray:
        """Nats, float64 [N], of ids int32 [N]; begins: uint8 [N], 1 where a document begins (not scored, nothing known before)."""
        nats = np.empty(len(ids))
        parts = max(1, min(threads, len(ids) >> 12))

        def work(part: int) -> None:
            start, stop = len(ids) * part // parts, len(ids) * (part + 1) // parts
            tables = *_views(self.slots), *_views(self.states), self.logprob, self.next_of_word
            if self.rule == Rule.BACK_OFF:
                lanes = _LANES if stop - start > 64 * (self.memory + 1) else 1
                _score(ids, begins, start, stop, self.memory, *tables, lanes, nats)
            else:
                rule = int(self.rule), self.penalty, self.uniform, self.bos, self.eos
                _score_by_length(ids, begins, start, stop, self.memory, *tables, self.length_of, *rule, nats)

        in_threads(work, parts)
        return nats


def _views(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same memory as uint64, float32 and int32."""
    return rows, rows.view(np.float32), rows.view(np.int32)
