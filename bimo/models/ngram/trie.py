"""The n-grams of all orders as one sorted trie, and the next word's whole distribution from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import types

from bimo.models.ngram.estimation import Estimate, Level
from bimo.text.kernels import compiled, readonly

NOTHING = -1  # in a context: no word stands here


@dataclass
class Trie:
    """All n-grams, order after order; within an order sorted by (prefix, word), so that children lie side by side.

    sizes: n-grams of each order (the first is V: every id is a unigram). G nodes in all, C of them below the highest order.
    words: int32 [G], the last word; first: int64 [C + 1], node g's children are first[g] … first[g + 1] - 1;
    logprob: float32 [G], natural logarithm of p(word | the words before); backoff: float32 [C], logarithm of the weight
    that a node as a context gives to the shorter one (under Rule.FLOOR: of the probability of each unseen word);
    counts: int [G], how often each stands in the training text (a start of a document is none), or None where that is not known.
    """

    sizes: list[int]
    words: np.ndarray
    first: np.ndarray
    logprob: np.ndarray
    backoff: np.ndarray
    counts: np.ndarray | None = None

    @classmethod
    def from_estimate(cls, rows: list[Level], result: Estimate) -> Trie:
        """Leave out what the cut-offs drop, and lay the orders one after another."""
        sizes, words, children, logprob, backoff, counts = [], [], [], [], [], []
        narrow = max(int(level.counts.max(initial=0)) for level in rows) < 2**31
        above = None  # new rows of the order below; -1 where dropped
        with np.errstate(divide="ignore"):
            for level, probabilities, gamma in zip(rows, result.probabilities, result.backoffs, strict=True):
                kept = slice(None) if level.kept.all() else level.kept
                if level.order > 1:
                    children.append(np.bincount(level.prefix[kept], minlength=level.contexts)[above])
                    backoff.append(np.log(gamma)[above].astype(np.float32))
                words.append(level.word[kept].astype(np.int32))
                logprob.append(np.log(probabilities[kept]).astype(np.float32))
                counts.append(level.counts[kept].astype(np.int32 if narrow else np.int64))
                sizes.append(len(words[-1]))
                above = kept
        return cls.from_tables(sizes, words, children, logprob, backoff, counts)

    @classmethod
    def from_tables(
        cls,
        sizes: list[int],
        words: list[np.ndarray],
        children: list[np.ndarray],
        logprob: list[np.ndarray],
        backoff: list[np.ndarray],
        counts: list[np.ndarray] | None = None,
    ) -> Trie:
        """The trie of a table per order; children: how many n-grams of the next order begin with each row."""
        first = np.concatenate([[sizes[0]], *children]).astype(np.int64)
        none = np.zeros(0, np.float32)
        known = None if counts is None else np.concatenate(counts)
        return cls(sizes, np.concatenate(words), np.cumsum(first), np.concatenate(logprob), np.concatenate([none, *backoff]), known)

    @property
    def order(self) -> int:
        """The longest n-grams' length."""
        return len(self.sizes)

    def rows(self, order: int) -> slice:
        """Where the nodes of one order lie."""
        begin = sum(self.sizes[: order - 1])
        return slice(begin, begin + self.sizes[order - 1])


@compiled(types.int64(readonly(types.int32), types.int64, types.int64, types.int64))
def search(words, begin, end, word):  # pragma: no cover - compiled
    """The node among begin … end - 1 whose word is `word`, or -1."""
    stop = end
    while begin < stop:
        middle = (begin + stop) >> 1
        if words[middle] < word:
            begin = middle + 1
        else:
            stop = middle
    return begin if begin < end and words[begin] == word else -1


@compiled(types.void(types.int64[::1], types.int64, types.int64, types.int64))
def push(context, word, bos, eos):  # pragma: no cover - compiled
    """Read one word into a context [n - 1] in place; after an end (and at a start) nothing but `<s>` is remembered."""
    n = len(context)
    if word == eos or word == bos:  # noqa: SIM109
        for i in range(n):
            context[i] = -1
        if n and bos >= 0:
            context[n - 1] = bos
    elif n:
        for i in range(n - 1):
            context[i] = context[i + 1]
        context[n - 1] = word


@compiled(
    types.void(
        readonly(types.int64), readonly(types.int32), readonly(types.int64), readonly(types.float32), readonly(types.float32),
        types.int64, types.float32, types.float32, types.float32[::1],
    )
)  # fmt: skip
def distribution(context, words, first, logprob, backoff, rule, penalty, uniform, out):  # pragma: no cover - compiled
    """Fill out [V] with log p(word | context) of every word: from the unigrams up, longer contexts overwrite shorter ones."""
    size, inner, n = len(out), len(backoff), len(context)
    out[:] = logprob[:size]
    node = np.int64(-1)
    available = 0
    for length in range(1, n + 1):
        word = context[n - length]
        if word < 0:
            break
        available = length
        node = word if word < inner else -1
        for i in range(n - length + 1, n):
            if node < 0:
                break
            node = search(words, first[node], first[node + 1], context[i])
            node = node if node < inner else -1
        seen = node >= 0 and first[node + 1] > first[node]
        if rule == 0:
            if node >= 0 and backoff[node] != 0:
                out += backoff[node]
        elif rule == 1:
            out += penalty
        if seen and rule != 2:
            for child in range(first[node], first[node + 1]):
                out[words[child]] = logprob[child]
    if rule == 2 and available:
        seen = node >= 0 and first[node + 1] > first[node]
        fill = backoff[node] if seen else uniform
        for word in range(size):
            if logprob[word] != -np.inf:
                out[word] = fill
        if seen:
            for child in range(first[node], first[node + 1]):
                out[words[child]] = logprob[child]


@compiled(
    types.void(
        readonly(types.int64), readonly(types.int64), types.int64[::1], types.int64, types.int64, types.int64,
        readonly(types.int32), readonly(types.int64), readonly(types.float32), readonly(types.float32),
        types.int64, types.float32, types.float32, types.float32[::1],
    )
)  # fmt: skip
def read(
    tokens, lengths, contexts, width, bos, eos, words, first, logprob, backoff, rule, penalty, uniform, out
):  # pragma: no cover - compiled
    """Read tokens [B * width] into contexts [B * (n - 1)] (in place); fill out [B * kept * V], kept 0 (nothing), 1 (last) or width."""
    batch, size = len(lengths), first[0]
    n = len(contexts) // batch
    kept = len(out) // (batch * size)
    for b in range(batch):
        context = contexts[b * n : (b + 1) * n]
        for t in range(lengths[b]):
            push(context, tokens[b * width + t], bos, eos)
            if kept == width or (kept == 1 and t == lengths[b] - 1):
                at = (b * kept + (t if kept == width else 0)) * size
                distribution(context, words, first, logprob, backoff, rule, penalty, uniform, out[at : at + size])
