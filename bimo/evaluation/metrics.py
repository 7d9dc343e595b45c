"""Small measures on numbers and token lists: perplexity, bits per byte, variety of generated text, bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bimo.core.errors import UserError

_CHUNK = 1 << 22  # drawn counts held at once
FEWEST_UNITS = 10  # with fewer texts, documents or blocks a bootstrap says nothing


def perplexity(nats: float, tokens: int) -> float:
    """exp(nats / tokens): how many equally likely next tokens would be as hard (Jelinek et al. 1977).

    nats: −log-likelihood of all scored tokens, summed. Infinite where some token has probability zero.

    >>> round(perplexity(4 * math.log(10), 4), 6)
    10.0
    """
    if tokens <= 0:
        raise UserError(f"perplexity: expected at least one scored token, found {tokens}")
    try:
        return math.exp(nats / tokens)
    except OverflowError:
        return math.inf


def bits_per_byte(nats: float, byte_count: int) -> float:
    """nats / (bytes · ln 2): comparable between tokenizers that lose nothing, since the bytes are the user's.

    >>> bits_per_byte(16 * math.log(2), 8)
    2.0
    """
    if byte_count <= 0:
        raise UserError(f"bits per byte: expected at least one byte of text, found {byte_count}")
    return nats / (byte_count * math.log(2))


def _ngrams(tokens: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    if n < 1:
        raise UserError(f"n: expected 1 or more, found {n}")
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def distinct_n(texts: Sequence[Sequence[Hashable]], n: int) -> float | None:
    """Distinct n-grams over all n-grams of all texts, between 0 and 1 (Li et al. 2016); None where there is no n-gram.

    >>> distinct_n([["a", "b", "a"], ["a", "b"]], 2)  # ab ba ab: two of three
    0.6666666666666666
    """
    found = [gram for text in texts for gram in _ngrams(text, n)]
    return len(set(found)) / len(found) if found else None


def repetition(texts: Sequence[Sequence[Hashable]], n: int = 4) -> float | None:
    """Share of n-grams that stood earlier in the same text, averaged over texts (seq-rep-n, Welleck et al. 2020).

    Texts shorter than n are left out; None where nothing is left.

    >>> repetition([["a", "b", "a", "b"]], 2)  # ab ba ab: one of three came before
    0.33333333333333337
    """
    shares = [1 - len(set(grams)) / len(grams) for grams in (_ngrams(text, n) for text in texts) if grams]
    return sum(shares) / len(shares) if shares else None


@dataclass(frozen=True)
class Interval:
    """A figure and the interval that holds it with the given level."""

    estimate: float
    low: float
    high: float
    level: float = 0.95

    @property
    def holds_zero(self) -> bool:
        """True where zero lies inside."""
        return self.low <= 0 <= self.high


def _resampled_sums(columns: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Sums [resamples, K] of the columns [K, N] over N units drawn with replacement, the same draw for every column."""
    count = columns.shape[1]
    generator = np.random.default_rng(seed)
    sums = np.empty((resamples, len(columns)))
    step = max(1, _CHUNK // count)
    for start in range(0, resamples, step):
        stop = min(resamples, start + step)
        drawn = generator.multinomial(count, np.full(count, 1 / count), size=stop - start)  # [resamples, N]
        sums[start:stop] = drawn @ columns.T
    return sums


def _columns(*values: ArrayLike) -> NDArray[np.float64]:
    arrays = [np.asarray(v, dtype=np.float64) for v in values]
    if any(a.ndim != 1 or a.shape != arrays[0].shape for a in arrays) or len(arrays[0]) == 0:
        raise UserError(f"bootstrap: expected equally long, non-empty lists, found lengths {[a.shape for a in arrays]}")
    return np.stack(arrays)


def _interval(estimate: float, drawn: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(estimate), float(low), float(high), level)


def bootstrap_interval(
    nats: ArrayLike, byte_counts: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval | None:
    """Percentile bootstrap of bits per byte over units (documents, or blocks of text): Σ nats / (Σ bytes · ln 2).

    nats, byte_counts: one number a unit. None where a unit's nats are infinite.

    >>> bootstrap_interval([math.log(2)] * 20, [1] * 20)
    Interval(estimate=1.0, low=1.0, high=1.0, level=0.95)
    """
    columns = _columns(nats, byte_counts)
    if not np.isfinite(columns).all():
        return None
    if columns[1].sum() <= 0 or (columns[1] < 0).any():
        raise UserError("bootstrap: the byte counts must not be negative, and not all zero")
    sums = _resampled_sums(columns, resamples, seed)
    sums = sums[sums[:, 1] > 0]
    return _interval(bits_per_byte(columns[0].sum(), columns[1].sum()), sums[:, 0] / sums[:, 1] / math.log(2), level)


def paired_bootstrap(ours: ArrayLike, theirs: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval | None:
    """How much less `ours` needs than `theirs` on the same units: 1 − Σ ours / Σ theirs, with its interval.

    Both are nats of the same documents, in order; every draw takes the same documents for both (Koehn 2004), so that
    what is hard for both does not blur the difference. None where a unit's nats are infinite.

    >>> paired_bootstrap([9.0, 18.0] * 10, [10.0, 20.0] * 10).low > 0.09
    True
    """
    columns = _columns(ours, theirs)
    if not np.isfinite(columns).all() or columns[1].sum() <= 0:
        return None
    sums = _resampled_sums(columns, resamples, seed)
    sums = sums[sums[:, 1] > 0]
    return _interval(1 - columns[0].sum() / columns[1].sum(), 1 - sums[:, 0] / sums[:, 1], level)
