"""A part of a split, evenly drawn: for looks during training, and for what is learned from held-out text; or all of it, part by part."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from bimo.data.split import Split

_MANY = 64  # documents from which on whole ones are drawn


def excerpt(split: Split, max_tokens: int, rows: int = 16, whole: bool = False) -> Split:
    """About `max_tokens` tokens of `split`, evenly drawn, for a quick look during training.

    Whole documents, with what they are given, where there are many and `rows` of them at least are no more than that, or `whole` asks
    for them; otherwise `rows` pieces of the text (their first tokens are fed, not scored).
    """
    if split.tokens <= max_tokens and (split.documents >= rows or split.tokens < 64 * rows):
        return split
    wanted = max(1, min(split.documents, int(max_tokens * split.documents / split.tokens)))
    if whole or split.answers is not None or (split.documents >= max(_MANY, 4 * rows) and wanted >= rows):
        return split.only(np.arange(wanted) * split.documents // wanted)
    rows = max(1, min(rows, max_tokens // 2, split.tokens // 2))
    size = max(2, min(max_tokens, split.tokens) // rows)
    return _cut(split, (np.arange(rows) * split.tokens // rows).tolist(), size)


def rows_for(tokens: int, reach: int) -> int:
    """Pieces that an excerpt of so many tokens should have, for a model that remembers the last `reach` tokens of the text at hand.

    16, or as few as let its memory be full for three quarters of each.

    >>> rows_for(100_000, 0), rows_for(100_000, 2000), rows_for(4000, 2000)
    (16, 12, 1)
    """
    return 16 if not reach else max(1, min(16, tokens // (4 * reach)))


def rounds(split: Split, tokens: int, rows: int = 16, whole: bool = False) -> Iterator[Split]:
    """All of `split` in parts of about so many tokens, each evenly drawn, and so are the first few of them together.

    Whole documents where there are many, `whole` asks for them, or they are given something; otherwise pieces of the text, whose
    first tokens are fed, not scored.
    """
    count = max(1, -(-split.tokens // tokens))
    turns = sorted(range(count), key=lambda turn: turn * 0.618034 % 1)  # by the golden ratio: any first few lie far apart
    if whole or split.given is not None or split.documents >= 4 * rows * count:
        yield from (split.only(np.arange(turn, split.documents, count)) for turn in turns if turn < split.documents)
        return
    size = max(64, -(-split.tokens // (rows * count)))
    starts = range(0, split.tokens, size)
    yield from (_cut(split, starts[turn::count], size) for turn in turns if turn < len(starts) and split.tokens - starts[turn] > 1)


def _cut(split: Split, starts: Sequence[int], size: int) -> Split:
    """Pieces of `size` tokens of the text; each ends where a document does."""
    chosen = []
    for start in starts:
        stop = min(start + size, split.tokens)
        inner = split.starts[(split.starts > start) & (split.starts < stop)]
        edges = [start, *inner.tolist(), stop]
        chosen += [split.read(low, high) for low, high in itertools.pairwise(edges) if high - low > 1]
    sizes = np.array([split.bytes * len(piece) // split.tokens for piece in chosen])
    return Split(split.name, [np.concatenate(chosen)], np.cumsum([0, *map(len, chosen[:-1])]), np.asarray(sizes))
