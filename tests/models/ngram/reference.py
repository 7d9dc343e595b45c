"""n-grams as a book writes them: dictionaries, recursion, nothing fast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from bimo.text.vocabulary import Vocabulary

BOS, EOS, PAD, UNK = 0, 1, 2, 3
Gram = tuple[int, ...]


def vocabulary(words: int) -> Vocabulary:
    """`words` ordinary words after the four special tokens."""
    return Vocabulary(4 + words, bos=BOS, eos=EOS, pad=PAD, unk=UNK, suppressed=(BOS, PAD))


def chunk(documents: Iterable[Sequence[int]], dtype: type = np.int32) -> np.ndarray:
    """Documents of ordinary ids, one after another, each from `<s>` to `</s>`."""
    return np.array([id for document in documents for id in (BOS, *document, EOS)], dtype=dtype)


class Reference:
    """p(w | context) of one smoothing, straight from its definition."""

    def __init__(
        self,
        documents: Iterable[Sequence[int]],
        order: int,
        size: int,
        smoothing: str = "kneser-ney",
        cutoffs: Sequence[int] = (0,),
        k: float = 0.1,
        alpha: float = 0.4,
        fallback: Sequence[float] = (0.5, 1.0, 1.5),
    ) -> None:
        self.order, self.smoothing, self.k, self.alpha, self.fallback = order, smoothing, k, alpha, fallback
        self.words = [w for w in range(size) if w not in (BOS, PAD)]
        self.raw: dict[int, Counter[Gram]] = {n: Counter() for n in range(1, order + 2)}
        for document in documents:
            text = (BOS, *document, EOS)
            for n in self.raw:
                self.raw[n].update(text[i : i + n] for i in range(len(text) - n + 1))
        del self.raw[1][(BOS,)]  # never predicted
        self.kept = {
            n: {gram for gram, count in grams.items() if count > cutoffs[min(n, len(cutoffs)) - 1]} for n, grams in self.raw.items()
        }
        self.adjusted = {n: {gram: self._adjusted(n, gram) for gram in grams} for n, grams in self.raw.items() if n <= order}
        self.discounts = {n: self._discounts(n) for n in self.adjusted}

    def _adjusted(self, n: int, gram: Gram) -> int:
        if n == self.order or gram[0] == BOS:
            return self.raw[n][gram]
        return len({longer[0] for longer in self.raw[n + 1] if longer[1:] == gram})

    def _discounts(self, n: int) -> Sequence[float]:
        n1, n2, n3, n4 = (sum(count == c for count in self.adjusted[n].values()) for c in (1, 2, 3, 4))
        if 0 in (n1, n2, n3):
            return self.fallback
        y = n1 / (n1 + 2 * n2)
        found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        return found if all(0 <= d <= c for d, c in zip(found, (1, 2, 3), strict=True)) else self.fallback

    def p(self, word: int, context: Gram) -> float:
        """Probability (of stupid back-off: score) of `word` after `context`."""
        if word not in self.words:
            return 0.0
        return getattr(self, "_" + self.smoothing.replace("-", "_"))(word, context[-(self.order - 1) :] if self.order > 1 else ())

    def _after(self, counts: dict[Gram, int], context: Gram) -> dict[int, int]:
        return {gram[-1]: count for gram, count in counts.items() if gram[:-1] == context}

    def _kneser_ney(self, word: int, context: Gram) -> float:
        lower = self._kneser_ney(word, context[1:]) if context else 1 / len(self.words)
        n = len(context) + 1
        after = self._after(self.adjusted[n], context)
        if not after:
            return lower

        def discount(w: int) -> float:
            return self.discounts[n][min(after[w], 3) - 1] if (*context, w) in self.kept[n] else after[w]

        own = after[word] - discount(word) if word in after else 0.0
        return (own + sum(map(discount, after)) * lower) / sum(after.values())

    def _witten_bell(self, word: int, context: Gram) -> float:
        lower = self._witten_bell(word, context[1:]) if context else 1 / len(self.words)
        n = len(context) + 1
        after = self._after(self.raw[n], context)
        if not after:
            return lower
        dropped = sum(count for w, count in after.items() if (*context, w) not in self.kept[n])
        own = after[word] if word in after and (*context, word) in self.kept[n] else 0
        return (own + (len(after) + dropped) * lower) / (sum(after.values()) + len(after))

    def _seen(self, context: Gram) -> dict[int, int]:
        n = len(context) + 1
        return self._after({gram: self.raw[n][gram] for gram in self.kept[n]}, context)

    def _mle(self, word: int, context: Gram) -> float:
        after = self._seen(context)
        if not after:
            return self._mle(word, context[1:])
        return after.get(word, 0) / sum(after.values())

    def _add_k(self, word: int, context: Gram) -> float:
        after = self._seen(context)
        return (after.get(word, 0) + self.k) / (sum(after.values()) + self.k * len(self.words))

    def _stupid_backoff(self, word: int, context: Gram) -> float:
        n = len(context) + 1
        if (*context, word) in self.kept[n]:
            return self.raw[n][(*context, word)] / sum(self._after(self.raw[n], context).values())
        return self.alpha * self._stupid_backoff(word, context[1:]) if context else 0.0
