"""A part of a split, evenly drawn: for looks during training, and for what is learned from held-out text."""

from __future__ import annotations

import itertools

import numpy as np

from bimo.data.split import Split


def excerpt(split: Split, max_tokens: int, rows: int = 16, whole: bool = False) -> Split:
    """About `max_tokens` tokens of `split`, evenly drawn, for a quick look during training.

    Whole documents, with what they are given, where there are many or `whole` asks for them; otherwise `rows` pieces of the
    text (their first tokens are fed, not scored).
    """
    if split.tokens <= max_tokens and (split.documents >= rows or split.tokens < 64 * rows):
        return split
    if whole or split.answers is not None or split.documents >= 4 * rows:
        wanted = max(1, min(split.documents, int(max_tokens * split.documents / split.tokens)))
        return split.only(np.arange(wanted) * split.documents // wanted)
    rows = max(1, min(rows, max_tokens // 2, split.tokens // 2))
    size = max(2, min(max_tokens, split.tokens) // rows)
    chosen = []
    for start in (np.arange(rows) * split.tokens // rows).tolist():  # a piece ends where a document does
        inner = split.starts[(split.starts > start) & (split.starts < start + size)]
        edges = [start, *inner.tolist(), start + size]
        chosen += [split.read(low, high) for low, high in itertools.pairwise(edges) if high - low > 1]
    sizes = np.array([split.bytes * len(piece) // split.tokens for piece in chosen])
    starts = np.cumsum([0, *map(len, chosen[:-1])])
    return Split(split.name, [np.concatenate(chosen)], starts, np.asarray(sizes))
