"""Spoiled texts to learn from: spans of a text are replaced, and a model learns to write the whole (Raffel 2020, §3.1.4; Lewis 2020, §2.2).

Bimo's vocabularies have no sentinels, with which T5 numbers the spans that are missing; so the spans are spoiled as BART's are ("text
infilling"): each becomes one mask, whatever its length, and what is learned is the whole text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from bimo.data.batches import Given

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Spoiling:
    """How texts are spoiled. mask: the id that stands for a span; share: of the tokens that are replaced; span: mean length of one
    (Poisson); whole: share of the texts of which nothing is left but one mask; keep: special ids, left alone at both ends.
    """

    mask: int
    share: float = 0.3
    span: float = 3.0
    whole: float = 0.0
    keep: frozenset[int] = frozenset()


def text_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of batch `index` of `epoch`: the same whenever it is asked for.

    >>> float(text_generator(0, 1, 2).random()) == float(text_generator(0, 1, 2).random())
    True
    """
    return np.random.default_rng([seed, epoch, index])


def spoil(text: Ids, how: Spoiling, generator: np.random.Generator) -> Ids:
    """A text int64 [n] with spans replaced by one mask each, int64 [m], m ≤ n (but for an empty text that is wholly missing).

    On average `share` of the tokens go. Lengths of spans are drawn until they cover the number that is to go; spans of length zero
    insert a mask. Spans lie anywhere, no two side by side. Here a span of none and a span of two:

    >>> spoil(np.array([0, 5, 6, 7, 8, 1]), Spoiling(9, share=0.5, span=2, keep=frozenset({0, 1})), text_generator(0, 0, 0)).tolist()
    [0, 9, 5, 6, 9, 1]
    """
    begin = int(len(text) > 0 and text[0] in how.keep)
    end = len(text) - int(len(text) > begin and text[-1] in how.keep)
    inner, missing = text[begin:end], np.array([how.mask], np.int64)
    if generator.random() < how.whole:
        return np.concatenate([text[:begin], missing, text[end:]])
    count = int(how.share * len(inner) + generator.random())  # rounded up or down, so that its mean is exact
    if count == 0:
        return text
    lengths = _span_lengths(count, len(inner) - count + 1, how.span, generator)
    gaps = np.sort(generator.choice(len(inner) - count + 1, len(lengths), replace=False))  # tokens left before each span
    starts = gaps + np.cumsum(lengths) - lengths
    parts, at = [text[:begin]], 0
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        parts += [inner[at:start], missing]
        at = start + length
    return np.concatenate([*parts, inner[at:], text[end:]])


def _span_lengths(count: int, most: int, mean: float, generator: np.random.Generator) -> Ids:
    """Lengths of at most `most` (and at most `count`) spans that cover `count` tokens together."""
    drawn = np.zeros(0, np.int64)
    while drawn.sum() < count:
        drawn = np.append(drawn, generator.poisson(mean, size=8))
    ends = np.minimum(np.cumsum(drawn), count)
    lengths = np.diff(ends, prepend=0)[: int(np.searchsorted(ends, count)) + 1]
    kept = lengths[: min(most, count)].copy()
    kept[-1] += lengths[len(kept) :].sum()
    return kept


def spoiled(texts: list[Ids], how: Spoiling, generator: np.random.Generator) -> Given:
    """Sources for texts int64 [n] each: the same, spoiled one after the other."""
    rows = [torch.from_numpy(spoil(text, how, generator)) for text in texts]
    return Given(pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows]))
