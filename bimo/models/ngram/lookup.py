"""Scoring token after token without ever building a distribution: the trie as an automaton over one hash table.

A state is the longest suffix of what was read that can matter: a node of the trie with children (or a back-off weight).
Reading a word takes one probe for each context tried, longest first, as in KenLM (Heafield 2011), but forwards: the table is
keyed by (state, word) and holds log p and the next state, so that no n-gram is hashed twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import types

from bimo.models.ngram.config import Rule
from bimo.models.ngram.trie import Trie, search
from bimo.text.kernels import compiled, in_threads, readonly

_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_U32 = np.uint64(32)
_LANES = 8  # places of the text that one thread scores in turn, so that their memory accesses overlap
_I32, _I64, _F32 = types.int32, types.int64, types.float32


@compiled(types.void(readonly(_I32), readonly(_I64), _I64, _I64[::1]))
def _link(words, first, inner, link):  # pragma: no cover - compiled
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


@compiled(
    types.void(
        readonly(_I32), readonly(_I64), readonly(_F32), readonly(_I64), readonly(_I32), _I64, _I64, _I64,
        types.uint64[::1], _F32[::1], _I32[::1], _I32[::1],
    )
)  # fmt: skip
def _fill(words, first, logprob, link, state, inner, eos, after_end, keys, floats, ints, next_of_word):  # pragma: no cover
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
            floats[4 * slot + 2] = logprob[child]
            ints[4 * slot + 3] = after_end if word == eos else (state[at] if at >= 0 else 0)


@compiled(
    types.void(
        readonly(_I32), readonly(types.uint8), _I64, _I64, _I64,
        readonly(types.uint64), readonly(_F32), readonly(_I32), readonly(_F32), readonly(_I32),
        readonly(_F32), readonly(_I32), _I64, types.float64[::1],
    )
)  # fmt: skip
def _score(
    ids, begins, start, stop, memory, keys, floats, ints, logprob, next_of_word, backoff, shorter, lanes, nats
):  # pragma: no cover - compiled
    """Nats of ids[start:stop] under Rule.BACK_OFF. Each lane reads `memory` tokens ahead of its part without scoring them."""
    capacity = np.int64(len(keys) // 2)
    length = (stop - start + lanes - 1) // lanes
    states = np.zeros(lanes, np.int64)
    for step in range(-memory, length):
        for lane in range(lanes):
            at = start + lane * length + step
            if at < 0 or at >= stop or (step >= 0 and at >= start + (lane + 1) * length):
                continue
            word = ids[at]
            state = states[lane]
            if begins[at]:
                states[lane] = next_of_word[word]
                if step >= 0:
                    nats[at] = 0.0
                continue
            total = 0.0
            while True:
                if state == 0:
                    total += logprob[word]
                    state = np.int64(next_of_word[word])
                    break
                key = (np.uint64(state) << _U32) | np.uint64(word)
                slot = _slot(key, capacity)
                held = keys[2 * slot]
                while held != key and held != _EMPTY:
                    slot = slot + 1 if slot + 1 < capacity else 0
                    held = keys[2 * slot]
                if held == key:
                    total += floats[4 * slot + 2]
                    state = np.int64(ints[4 * slot + 3])
                    break
                total += backoff[state]
                state = np.int64(shorter[state])
            states[lane] = state
            if step >= 0:
                nats[at] = -total


@compiled(
    types.void(
        readonly(_I32), readonly(types.uint8), _I64, _I64, _I64,
        readonly(types.uint64), readonly(_F32), readonly(_I32), readonly(_F32), readonly(_I32),
        readonly(_F32), readonly(_I32), readonly(types.int16), _I64, _F32, _F32, _I64, _I64, types.float64[::1],
    )
)  # fmt: skip
def _score_by_length(
    ids, begins, start, stop, memory, keys, floats, ints, logprob, next_of_word, backoff, shorter, length_of, rule, penalty, uniform,
    bos, eos, nats,
):  # fmt: skip  # pragma: no cover - compiled
    """Nats of ids[start:stop] under the rules that need to know how many words of context there were."""
    capacity = np.int64(len(keys) // 2)
    state, available = np.int64(0), np.int64(0)
    for at in range(max(0, start - memory), stop):
        word = ids[at]
        if begins[at]:
            state, available = np.int64(0), np.int64(0)
        floor = backoff[state] if state and length_of[state] == available else uniform
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
            state = np.int64(shorter[state])
        if rule == 1:
            total += penalty * lost
        elif lost > 0 and total != -np.inf:
            total = np.float64(floor)
        if at >= start:
            nats[at] = 0.0 if begins[at] else -total
        if word == eos or word == bos:
            available = np.int64(min(memory, 1)) if bos >= 0 else np.int64(0)
        else:
            available = np.int64(min(memory, available + 1))


@dataclass
class Lookup:
    """The automaton of one trie. State 0 is the empty context; S states in all.

    slots: [capacity] rows of (key, log p, next state), 16 bytes each, seen through three views; logprob, next_of_word: of
    unigrams [V]; backoff, shorter, length_of: of states [S].
    """

    keys: np.ndarray
    floats: np.ndarray
    ints: np.ndarray
    logprob: np.ndarray
    next_of_word: np.ndarray
    backoff: np.ndarray
    shorter: np.ndarray
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
        _link(trie.words, trie.first, inner, link)
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
        next_of_word = np.zeros(size, np.int32)
        after_end = int(state[bos]) if 0 <= bos < inner else 0
        keys, floats, ints = slots, slots.view(np.float32), slots.view(np.int32)
        _fill(trie.words, trie.first, trie.logprob, link, state, inner, eos, after_end, keys, floats, ints, next_of_word)
        return cls(
            keys, floats, ints, trie.logprob[:size], next_of_word,
            np.concatenate([np.zeros(1, np.float32), trie.backoff[nodes]]),
            np.concatenate([[0], shorter]).astype(np.int32), np.concatenate([[0], lengths]).astype(np.int16),
            trie.order - 1, rule, penalty, uniform, bos, eos,
        )  # fmt: skip

    def score(self, ids: np.ndarray, begins: np.ndarray, threads: int) -> np.ndarray:
        """Nats, float64 [N], of ids int32 [N]; begins: uint8 [N], 1 where a document begins (not scored, nothing known before)."""
        nats = np.empty(len(ids))
        parts = max(1, min(threads, len(ids) >> 12))

        def work(part: int) -> None:
            start, stop = len(ids) * part // parts, len(ids) * (part + 1) // parts
            tables = self.keys, self.floats, self.ints, self.logprob, self.next_of_word, self.backoff, self.shorter
            if self.rule == Rule.BACK_OFF:
                lanes = _LANES if stop - start > 64 * (self.memory + 1) else 1
                _score(ids, begins, start, stop, self.memory, *tables, lanes, nats)
            else:
                rule = int(self.rule), self.penalty, self.uniform, self.bos, self.eos
                _score_by_length(ids, begins, start, stop, self.memory, *tables, self.length_of, *rule, nats)

        in_threads(work, parts)
        return nats
