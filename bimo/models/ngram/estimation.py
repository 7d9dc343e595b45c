"""From counts to probabilities: one short function a smoothing.

Notation of Chen & Goodman (1998, TR-10-98): h a context, w a word, c(hw) a count, h' the context without its first word.
All functions work on `Level`s, from unigrams up, and return for each order the probabilities p(w|h) of its n-grams, float64 [N],
and the back-off weights of their contexts, float64 [rows of the order below].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bimo.core.errors import ModelError
from bimo.models.ngram.config import NGramConfig
from bimo.models.ngram.counting import Counts, predictable


@dataclass
class Level:
    """The N n-grams of one order, and C rows in the order below (1 for unigrams: the empty context).

    counts: int64 [N], as found in the text; adjusted: int64 [N], distinct words seen on the left (Kneser-Ney's counts);
    prefix, suffix: int [N], rows of the order below; word: int [N]; kept: bool [N], False below the cut-off.
    """

    order: int
    counts: np.ndarray
    adjusted: np.ndarray
    prefix: np.ndarray
    suffix: np.ndarray
    word: np.ndarray
    kept: np.ndarray
    contexts: int

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sums of `values` [N] over the n-grams of each context, float64 [C]."""
        return np.bincount(self.prefix, weights=values, minlength=self.contexts)


class Estimate(NamedTuple):
    """Probabilities and back-off weights by order (see the module), Kneser-Ney's discounts, and what the user should know."""

    probabilities: list[np.ndarray]
    backoffs: list[np.ndarray]
    discounts: list[list[float]]
    notices: list[str]


def levels(counts: Counts, config: NGramConfig) -> list[Level]:
    """The counted n-grams, ready for estimation.

    As in lmplz, n-grams that start with `<s>` keep their counts: nothing stands on the left of a document. Where documents
    do not start with `<s>`, the missing neighbour counts as one word.
    """
    vocabulary, size = counts.vocabulary, counts.vocabulary.size
    bos = -1 if vocabulary.bos is None else vocabulary.bos
    everywhere = np.arange(size)
    found = [Level(1, counts.unigrams, counts.unigrams, np.zeros(size, np.int64), everywhere, everywhere, np.ones(size, bool), 1)]
    begin, end = bos, bos + 1  # rows that start with <s>
    for k, table in enumerate(counts.tables, start=2):
        below = found[-1]
        left = np.bincount(table.suffix, minlength=len(below.counts))
        if k > 2:
            left[begin:end] = below.counts[begin:end]
        below.adjusted = np.maximum(left, below.counts > 0)
        prefix = table.keys // size
        kept = table.counts > config.cutoff(k)
        found.append(Level(k, table.counts, table.counts, prefix, table.suffix, table.keys - prefix * size, kept, len(below.counts)))
        begin, end = (int(np.searchsorted(table.keys, row * size)) for row in (begin, end)) if bos >= 0 else (0, 0)
    return found


def estimate(counts: Counts, config: NGramConfig) -> tuple[list[Level], Estimate]:
    """Levels and probabilities under `config.smoothing`."""
    rows = levels(counts, config)
    allowed = predictable(counts.vocabulary)
    known = SMOOTHINGS.get(config.smoothing)
    if known is None:
        raise ModelError(f"smoothing: a model with smoothing={config.smoothing!r} cannot be estimated; use one of {', '.join(SMOOTHINGS)}")
    result = known(rows, allowed, config)
    result.probabilities[0][~allowed] = 0.0
    longest = max(level.order for level in rows if level.counts.any())
    if longest < config.order:
        result.notices.append(f"order: no document holds {longest + 1} tokens; orders {longest + 1} to {config.order} are empty")
    return rows, result


def discounts(adjusted: np.ndarray) -> list[float] | None:
    """D1, D2, D3+ from counts of counts (Chen & Goodman 1998, eq. 26), or None where these are too small.

    >>> discounts(np.repeat([1, 2, 3, 4], [40, 20, 10, 6]))
    [0.5, 1.25, 1.8]
    >>> discounts(np.array([1, 1, 2])) is None
    True
    """
    n = np.bincount(np.minimum(adjusted, 5), minlength=6).astype(float)
    if not (n[1] and n[2] and n[3]):
        return None
    y = n[1] / (n[1] + 2 * n[2])
    found = [float(c - (c + 1) * y * n[c + 1] / n[c]) for c in (1, 2, 3)]
    return found if all(0 <= d <= c for c, d in enumerate(found, start=1)) else None


def kneser_ney(rows: list[Level], allowed: np.ndarray, config: NGramConfig) -> Estimate:
    """Interpolated modified Kneser-Ney (Chen & Goodman 1998, section 4.1.6), as lmplz computes it (Heafield 2013).

    p(w|h) = (a(hw) - D(a(hw))) / Σ_v a(hv)  +  γ(h) p(w|h'),  γ(h) = Σ_v D(a(hv)) / Σ_v a(hv)
    a: counts in the highest order, distinct left neighbours below. Unigrams are interpolated with the uniform distribution.
    """
    result, lower = Estimate([], [], [], []), allowed / allowed.sum()
    for level in rows:
        found = discounts(level.adjusted)
        if found is None:
            found = list(config.discount_fallback)
            if level.counts.any():
                n = np.bincount(np.minimum(level.adjusted, 5), minlength=6)[1:5].tolist()
                result.notices.append(
                    f"order {level.order}: too little text to estimate Kneser-Ney discounts (n-grams with count 1, 2, 3, 4: {n}); "
                    f"the fallback {found} is used"
                )
        result.discounts.append(found)
        discount = np.array([0.0, *found])[np.minimum(level.adjusted, 3)]
        freed = np.where(level.kept, discount, level.adjusted)  # a dropped n-gram frees its whole count
        lower = _interpolate(result, level, level.adjusted - freed, freed, level.sum(level.adjusted), lower)
    return result


def witten_bell(rows: list[Level], allowed: np.ndarray, config: NGramConfig) -> Estimate:
    """Interpolated Witten-Bell (Witten & Bell 1991; Chen & Goodman 1998, section 2.5).

    p(w|h) = (c(hw) + T(h) p(w|h')) / (c(h) + T(h)), T(h) the number of distinct words after h.
    """
    result, lower = Estimate([], [], [], []), allowed / allowed.sum()
    for level in rows:
        seen = (level.counts > 0).astype(np.int64)
        freed = seen + np.where(level.kept, 0, level.counts)
        lower = _interpolate(result, level, np.where(level.kept, level.counts, 0), freed, level.sum(level.counts + seen), lower)
    return result


def _interpolate(result: Estimate, level: Level, own: np.ndarray, freed: np.ndarray, total: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """p = own / total + γ · lower, γ = Σ freed / total; contexts that are followed by nothing have γ = 1."""
    total = np.where(total > 0, total, 1.0)
    gamma = level.sum(freed) / total
    gamma[np.bincount(level.prefix, minlength=level.contexts) == 0] = 1.0
    probabilities = own / total[level.prefix] + gamma[level.prefix] * lower[level.suffix]
    result.probabilities.append(probabilities)
    result.backoffs.append(gamma)
    return probabilities


def mle(rows: list[Level], allowed: np.ndarray, config: NGramConfig) -> Estimate:
    """Maximum likelihood after the longest context that was seen: p(w|h) = c(hw) / c(h), zero where hw was not seen."""
    result = Estimate([], [], [], [])
    for level in rows:
        counts = np.where(level.kept, level.counts, 0)
        total = level.sum(counts)
        result.probabilities.append(counts / np.maximum(total, 1)[level.prefix])
        result.backoffs.append(np.where(total > 0, 0.0, 1.0))
    return result


def add_k(rows: list[Level], allowed: np.ndarray, config: NGramConfig) -> Estimate:
    """Add-k (Lidstone 1920): p(w|h) = (c(hw) + k) / (c(h) + k V); after a context that was not seen, 1 / V.

    Here the second list holds k / (c(h) + k V), the probability of each word that was not seen after h.
    """
    result, size = Estimate([], [], [], []), int(allowed.sum())
    for level in rows:
        counts = np.where(level.kept, level.counts, 0)
        total = level.sum(counts) + config.k * size
        result.probabilities.append((counts + config.k) / total[level.prefix])
        result.backoffs.append(config.k / total)
    return result


def stupid_backoff(rows: list[Level], allowed: np.ndarray, config: NGramConfig) -> Estimate:
    """Stupid back-off (Brants 2007): s(w|h) = c(hw) / c(h) where seen, else α s(w|h'). Not a distribution.

    The second list is all ones: α counts the words that the context loses, whether that context was seen or not.
    """
    result = Estimate([], [], [], [])
    for level in rows:
        total = level.sum(level.counts)
        result.probabilities.append(level.counts / np.maximum(total, 1)[level.prefix])
        result.backoffs.append(np.ones(level.contexts))
    return result


SMOOTHINGS: dict[str, Callable[[list[Level], np.ndarray, NGramConfig], Estimate]] = {
    "kneser-ney": kneser_ney,
    "witten-bell": witten_bell,
    "add-k": add_k,
    "mle": mle,
    "stupid-backoff": stupid_backoff,
}
