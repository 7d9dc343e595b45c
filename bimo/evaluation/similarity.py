"""Sentence similarity: how well the cosines of sentence vectors order pairs as people do (Spearman, as on STS-B).

Source: Spearman 1904; the benchmark: Cer et al. 2017. Intervals are percentile bootstraps over pairs, as in `metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn import functional as F

from bimo.core.errors import CapabilityError, ContextError, SourceError, UserError, did_you_mean
from bimo.data.documents import Document, utf8_length
from bimo.data.rows import gather_documents
from bimo.data.sentences import read_rows
from bimo.data.writing import encode_documents
from bimo.evaluation.metrics import Interval
from bimo.models.base import NeuralLanguageModel, check_numbers
from bimo.models.bundle import Bundle
from bimo.models.layers import Pooling, pool

_ROWS = 64  # sentences read together
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RatedPair:
    """Two sentences and how alike people find them."""

    first: str
    second: str
    rating: float


@dataclass(frozen=True)
class Similarity:
    """Spearman's correlation of cosines [pairs] with ratings [pairs], with its interval."""

    spearman: Interval
    pairs: int
    pooling: str
    cosines: Floats = field(repr=False)
    ratings: Floats = field(repr=False)
    truncated: int = 0  # sentences

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"spearman": vars(self.spearman), "pairs": self.pairs, "pooling": self.pooling, "truncated": self.truncated}

    def describe(self) -> str:
        """A line for a person."""
        s = self.spearman
        cut = f", {self.truncated:,} sentences cut at the context" if self.truncated else ""
        told = f"Spearman {100 * s.estimate:.2f} ({100 * s.low:.2f} to {100 * s.high:.2f}) on {self.pairs:,} pairs"
        return f"{told}, pooling {self.pooling}{cut}"


def read_rated_pairs(path: Path | str) -> list[RatedPair]:
    """The pairs of a table whose rows are first sentence, second sentence, rating (STS-B's files have no header; one is skipped).

    Raises `SourceError`, which names the row.
    """
    pairs = []
    for number, row in enumerate(read_rows(path), 1):
        rating = _number(row[2]) if len(row) == 3 else None
        if rating is not None:
            pairs.append(RatedPair(row[0], row[1], rating))
        elif number > 1 or len(row) != 3:
            raise SourceError(f"{path}: row {number} is {row!r}; expected a sentence, another sentence and a number")
    if not pairs:
        raise SourceError(f"{path}: no pairs of sentences")
    return pairs


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


# -- correlation ----------------------------------------------------------------------------------------------------------


def ranks(values: ArrayLike) -> Floats:
    """Rank of each value, from 1; equal values share the mean of theirs. Along the last dimension.

    >>> ranks([10.0, 30.0, 20.0, 20.0]).tolist()
    [1.0, 4.0, 2.5, 2.5]
    """
    x = np.asarray(values, dtype=np.float64)
    order = np.argsort(x, axis=-1, kind="stable")
    ordered = np.take_along_axis(x, order, -1)
    places = np.broadcast_to(np.arange(x.shape[-1]), x.shape)
    begins = np.ones(x.shape, bool)
    begins[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    ends = np.roll(begins, -1, axis=-1)  # the last place of each run of equals
    ends[..., -1] = True
    first = np.maximum.accumulate(np.where(begins, places, 0), axis=-1)
    last = np.flip(np.minimum.accumulate(np.flip(np.where(ends, places, x.shape[-1]), -1), axis=-1), -1)
    found = np.empty(x.shape)
    np.put_along_axis(found, order, (first + last) / 2 + 1, -1)
    return found


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's correlation of the ranks; NaN where all of one side are equal.

    Without ties it is 1 − 6 Σ d² / (n (n² − 1)), d the difference of ranks:

    >>> spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7])  # ranks 1 2 3.5 5 3.5: Σ d² = 2.5, tied, so not 0.875
    0.8207826816681233
    """
    return float(_correlations(np.asarray(x, np.float64)[None], np.asarray(y, np.float64)[None])[0])


def _correlations(x: Floats, y: Floats) -> Floats:
    """Spearman's correlations [R] of the rows of x and y [R, N]."""
    if x.shape != y.shape or x.shape[-1] < 2:
        raise UserError(f"spearman: expected two equally long lists of 2 numbers or more, found {x.shape[-1]} and {y.shape[-1]}")
    a, b = (ranks(side) - (x.shape[-1] + 1) / 2 for side in (x, y))
    with np.errstate(invalid="ignore"):
        return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


def _drawn(count: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Places of units drawn with replacement, int64 [resamples, count]."""
    return np.random.default_rng(seed).integers(count, size=(resamples, count))


def spearman_interval(x: ArrayLike, y: ArrayLike, *, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> Interval:
    """Spearman's correlation with its percentile bootstrap over pairs.

    >>> spearman_interval([1.0, 2.0, 3.0] * 9, [2.0, 4.0, 8.0] * 9).low > 0.999
    True
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    drawn = _drawn(len(a), resamples, seed)
    return _interval(spearman(a, b), _correlations(a[drawn], b[drawn]), level)


def paired_difference(ours: Similarity, theirs: Similarity, *, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> Interval:
    """Spearman of `ours` less that of `theirs` on the same pairs; every draw takes the same pairs for both."""
    if not np.array_equal(ours.ratings, theirs.ratings):
        raise UserError("similarity: the two were measured on different pairs; measure both on the same ones")
    drawn = _drawn(ours.pairs, resamples, seed)
    ratings = ours.ratings[drawn]
    difference = _correlations(ours.cosines[drawn], ratings) - _correlations(theirs.cosines[drawn], ratings)
    return _interval(ours.spearman.estimate - theirs.spearman.estimate, difference, level)


def _interval(estimate: float, drawn: Floats, level: float) -> Interval:
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(estimate), float(low), float(high), level)


# -- models ---------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def sentence_vectors(bundle: Bundle, texts: Sequence[str], pooling: Pooling | None = None, truncation: bool = False) -> torch.Tensor:
    """Vectors [N, D] of texts, each read as a document, those of like length together, without dropout.

    pooling: mean, first or last; the model's own if None, with vectors of length 1 where its makers have them so. A text beyond the
    model's context is a `ContextError`, or is cut there if `truncation` says so. Raises `CapabilityError` for a model without features.
    """
    if not texts:
        raise UserError("sentence vectors: no texts given")
    how = _pooling(bundle, pooling)
    model: Any = bundle.model
    if "features" not in model.capabilities or not isinstance(model, NeuralLanguageModel):
        raise CapabilityError("this model gives no features, of which a sentence's vector is made; train one that does")
    documents = (Document(text, "sentences", utf8_length(text)) for text in texts)
    split = encode_documents(documents, bundle.tokenizer, "stream" if bundle.stream else "line")
    sizes = np.diff(split.starts, append=split.tokens)
    order = np.argsort(sizes, kind="stable")
    learning, limit = model.training, None if model.context is None else model.context + 1
    if limit is not None and not truncation and sizes.max() > limit:
        place = int(sizes.argmax())
        raise ContextError(
            f"text {place} has {sizes[place]:,} tokens, and the model reads {limit:,}; truncation=True cuts such texts there"
        )
    model.eval()
    try:
        found = []
        for at in range(0, len(order), _ROWS):
            tokens, lengths = (t.to(model.device) for t in gather_documents(split, order[at : at + _ROWS], limit))
            found.append(pool(model.features(tokens, lengths), lengths, how).cpu())  # type: ignore[operator]
    finally:
        model.train(learning)
    vectors = check_numbers(model, torch.cat(found)[torch.from_numpy(np.argsort(order))], "features")
    return F.normalize(vectors, dim=-1) if bundle.unit_vectors and pooling is None else vectors


def _pooling(bundle: Bundle, asked: str | None) -> Pooling:
    """What is asked for, or the model's own; what is neither mean, first nor last is a `UserError`."""
    how, known = bundle.pooling if asked is None else asked, get_args(Pooling)
    if how in known:
        return cast(Pooling, how)
    if asked is None:
        raise UserError(f"pooling: the model's vectors are made by {how}, which is not supported; name one: {', '.join(known)}")
    raise UserError(f"pooling: unknown name {asked!r}; {did_you_mean(asked, known)}")


def similarity(
    bundle: Bundle, pairs: Sequence[RatedPair], pooling: Pooling | None = None, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Similarity:
    """How well the cosines of the model's sentence vectors order `pairs`; a sentence beyond the context is cut, and counted."""
    if len(pairs) < 2:
        raise UserError(f"similarity: {len(pairs)} pairs cannot be ordered; give 2 or more")
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.first, pair.second)))
    places = {text: i for i, text in enumerate(texts)}
    vectors = sentence_vectors(bundle, texts, pooling, truncation=True).double()
    first, second = (vectors[[places[getattr(pair, side)] for pair in pairs]] for side in ("first", "second"))
    cosines, ratings = F.cosine_similarity(first, second, dim=-1).numpy(), np.array([pair.rating for pair in pairs])
    interval = spearman_interval(cosines, ratings, level=level, resamples=resamples, seed=seed)
    return Similarity(interval, len(pairs), _pooling(bundle, pooling), cosines, ratings, _beyond(bundle, texts))


def _beyond(bundle: Bundle, texts: Sequence[str]) -> int:
    """How many texts the model cannot read whole."""
    context = bundle.model.context
    return 0 if context is None else sum(len(bundle.tokenizer.encode_document(text)) > context + 1 for text in texts)
