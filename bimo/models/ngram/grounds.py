"""The counts behind an n-gram model's predictions: from the longest context that was seen to the one after which the word was.

What a count is of: `count` and `total` are of the training text, c(hw) and c(h). Kneser-Ney's shorter contexts use continuation counts
instead (Chen & Goodman 1998, section 4.1.6: a(hw), in how many different contexts hw stands); they are told beside, as `left`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bimo.models.grounds import Count
from bimo.models.ngram.config import NGramConfig, Rule
from bimo.models.ngram.lookup import links
from bimo.models.ngram.trie import NOTHING, Trie, search


class Counted:
    """Answers for one trie. bos: the id that begins a document, or -1."""

    def __init__(self, trie: Trie, config: NGramConfig, bos: int) -> None:
        self.trie, self.config, self.bos = trie, config, bos
        self._left: np.ndarray | None = None

    def behind(self, context: Sequence[int], word: int) -> tuple[Count, ...]:
        """What p(word | context) is made of; context: the last ids, the oldest first, with `NOTHING` where no id stands.

        The last `Count` is of the n-gram that decides: with interpolation its probability has a share of each shorter one's, too.
        """
        seen = [int(id) for id in context if id != NOTHING]
        config = self.config
        if config.rule == Rule.FLOOR:  # whole contexts or nothing
            return (self._count(seen, self._node(seen), word),)
        longest = next(length for length in range(len(seen), -1, -1) if not length or self._follows(self._node(seen[-length:])))
        found: list[Count] = []
        for length in range(longest, -1, -1):
            part = seen[len(seen) - length :]
            node = self._node(part)
            if not self._follows(node):
                continue
            found.append(self._count(part, node, word))
            if config.smoothing == "mle" or self._child(node, word) >= 0:
                break
        return tuple(found)

    def _node(self, context: Sequence[int]) -> int:
        """The node of a context: -1 of the empty one, -2 where it was not seen."""
        inner, node = len(self.trie.backoff), -1
        for place, id in enumerate(context):
            node = id if place == 0 else self._child(node, id)
            if not 0 <= node < inner:
                return -2
        return int(node)

    def _child(self, node: int, word: int) -> int:
        """The node of a word after a context's, or -1."""
        trie = self.trie
        if node == -1:
            return word
        return -1 if node == -2 else int(search(trie.words, int(trie.first[node]), int(trie.first[node + 1]), word))

    def _follows(self, node: int) -> bool:
        """Whether anything was seen after a context."""
        return node == -1 or (node >= 0 and bool(self.trie.first[node + 1] > self.trie.first[node]))

    def _children(self, node: int) -> slice:
        first = self.trie.first
        return self.trie.rows(1) if node == -1 else slice(int(first[node]), int(first[node + 1])) if node >= 0 else slice(0, 0)

    def _count(self, context: Sequence[int], node: int, word: int) -> Count:
        counts, order = self.trie.counts, len(context) + 1
        if counts is None:
            return Count(tuple(context), None, None)
        child, cut = self._child(node, word), self.config.cutoff(order) > 0
        count = int(counts[child]) if child >= 0 else None if cut else 0
        whole = self._children(node)
        if not cut:
            total: int | None = int(counts[whole].sum(dtype=np.int64))
        else:  # some that followed are gone; the context itself is counted, but where it begins a document
            total = int(counts[node]) if node >= 0 and list(context) != [self.bos] else None
        if not self._continued(context, order):
            return Count(tuple(context), count, total)
        left = self._lefts()
        return Count(tuple(context), count, total, int(left[child]) if child >= 0 else 0, int(left[whole].sum()))

    def _continued(self, context: Sequence[int], order: int) -> bool:
        """Whether Kneser-Ney uses continuation counts here, and they can be told: nothing of the next order was dropped."""
        config = self.config
        at_start = bool(context) and context[0] == self.bos  # nothing stands on the left of a document
        return config.smoothing == "kneser-ney" and order < config.order and not at_start and config.cutoff(order + 1) == 0

    def _lefts(self) -> np.ndarray:
        """How many different tokens stand before each n-gram below the highest order, int64 [C]."""
        if self._left is None:
            trie, size = self.trie, self.trie.sizes[0]
            suffix = np.empty(len(trie.words), np.int64)
            links(trie.words, trie.first, len(trie.backoff), suffix)
            assert trie.counts is not None
            left = np.bincount(suffix[size:], minlength=len(trie.backoff))
            self._left = np.maximum(left, trie.counts[: len(trie.backoff)] > 0)
        return self._left
