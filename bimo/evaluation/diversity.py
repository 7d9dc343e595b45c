"""Quality against diversity of the texts that a model draws, over the temperatures at which it draws them.

A model that writes one good text again and again has quality and no diversity; noise has diversity and no quality. Only the curve
of both, from cool to hot, compares models (Caccia et al. 2018, "Language GANs Falling Short", arXiv 1811.02549). Texts are
lists of ids without `<s>`, with `</s>` at their end where they were ended.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from bimo.core.errors import UserError
from bimo.data.corpus import Corpus
from bimo.data.split import Split
from bimo.evaluation.metrics import distinct_n
from bimo.evaluation.report import plots
from bimo.generation.sampling import GenerationConfig
from bimo.generation.search import generate
from bimo.models.bundle import Bundle
from bimo.text.vocabulary import Vocabulary

Text = Sequence[Hashable]

_NOTHING = 0.1  # counted for a precision without a match
_LEVELS = 101  # levels of diversity at which two curves are compared


# -- overlap of words -----------------------------------------------------------------------------------------------------


def _grams(text: Text, n: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))


class _References:
    """Texts to compare with, counted once: of each n-gram the largest count in a text, whose it is, and the largest elsewhere."""

    def __init__(self, texts: Sequence[Text], n: int) -> None:
        self.lengths = Counter(map(len, texts))
        self.largest: dict[tuple[Hashable, ...], tuple[int, int, int]] = {}
        for number, text in enumerate(texts):
            for k in range(1, n + 1):
                for gram, count in _grams(text, k).items():
                    best, owner, second = self.largest.get(gram, (0, -1, 0))
                    self.largest[gram] = (count, number, best) if count > best else (best, owner, max(second, count))

    def most(self, gram: tuple[Hashable, ...], without: int) -> int:
        """The largest count of an n-gram in a text, that of number `without` left out."""
        best, owner, second = self.largest.get(gram, (0, -1, 0))
        return second if owner == without else best

    def closest(self, length: int, left_out: int | None) -> int:
        """The length of a text that is nearest to `length` (the shorter of two); one text of length `left_out` is left out."""
        return min((n for n, count in self.lengths.items() if count > (n == left_out)), key=lambda n: (abs(n - length), n))


def _bleu(text: Text, references: _References, n: int, number: int = -1) -> float:
    logs = []
    for k in range(1, min(n, len(text)) + 1):
        grams = _grams(text, k)
        matched = sum(min(count, references.most(gram, number)) for gram, count in grams.items())
        if k == 1 and not matched:
            return 0.0
        logs.append(math.log((matched or _NOTHING) / (len(text) - k + 1)))
    if not logs:
        return 0.0
    closest = references.closest(len(text), len(text) if number >= 0 else None)
    return math.exp(min(0.0, 1 - closest / len(text)) + sum(logs) / len(logs))


def bleu(texts: Sequence[Text], references: Sequence[Text], n: int = 4) -> float:
    """Mean over `texts` of each one's BLEU against all `references` (Papineni et al. 2002), between 0 and 1.

    The geometric mean of clipped n-gram precisions of orders 1 … n (a shorter text: as many as it has), times the brevity penalty
    against the reference of the nearest length. An order without a match counts 0.1 of one (Chen & Cherry 2014, method 1); no word
    in common is 0.

    >>> bleu(["abcd"], ["abce", "xbcd"], n=2)  # each letter and each pair stands in one or the other
    1.0
    >>> round(bleu(["abab"], ["ab"], n=2), 4)  # √(2/4 · 1/3)
    0.4082
    """
    if not texts or not references:
        raise UserError(f"bleu: expected texts and references, found {len(texts)} and {len(references)}")
    known = _References(references, n)
    return sum(_bleu(text, known, n) for text in texts) / len(texts)


def self_bleu(texts: Sequence[Text], n: int = 4) -> float:
    """Mean BLEU of each text against all others: 1 where all are alike (Zhu et al. 2018, "Texygen").

    >>> self_bleu(["abc", "abc"], n=3), self_bleu(["abc", "xyz"], n=3)
    (1.0, 0.0)
    """
    if len(texts) < 2:
        raise UserError(f"self-BLEU: expected two texts or more, found {len(texts)}")
    known = _References(texts, n)
    return sum(_bleu(text, known, n, number) for number, text in enumerate(texts)) / len(texts)


# -- likelihood under n-grams ---------------------------------------------------------------------------------------------


def ngram_nats(learned: Sequence[Sequence[int]], read: Sequence[Sequence[int]], vocabulary: Vocabulary, order: int = 4) -> float:
    """Nats per token of the texts `read` under an n-gram counted on the texts `learned` (Witten-Bell, so that none is infinite)."""
    if vocabulary.bos is None:
        raise UserError("diversity: texts begin with <s>, which this tokenizer does not have")
    from bimo.models.ngram import NGram, NGramConfig  # numba behind it takes a second

    model = NGram.build(NGramConfig(order=order, smoothing="witten-bell"), vocabulary)
    model.count([_joined(learned, vocabulary.bos)])
    model.estimate()
    offsets = np.cumsum([0, *(len(text) + 1 for text in read)])
    return float(model.score_documents(_joined(read, vocabulary.bos), offsets).sum() / sum(map(len, read)))


def _joined(texts: Sequence[Sequence[int]], bos: int) -> np.ndarray:
    return np.concatenate([np.array([bos, *text], dtype=np.int64) for text in texts])


# -- the measures together ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """What drawn texts are held against: texts that were learned from, and texts that were not."""

    train: list[list[int]]
    held_out: list[list[int]]

    @classmethod
    def of(cls, corpus: Corpus, held_out: str = "test") -> Self:
        """The documents of a corpus' training text and of another of its splits."""
        if held_out not in corpus.splits:
            raise UserError(f"diversity: the corpus has no split {held_out!r}; it has {', '.join(corpus.splits)}")
        return cls(_texts(corpus.splits["train"]), _texts(corpus.splits[held_out]))


def _texts(split: Split) -> list[list[int]]:
    found = [split.document(i)[1:].tolist() for i in range(split.documents)]
    return [text for text in found if text]


@dataclass(frozen=True)
class Measures:
    """What `texts` texts drawn at one temperature are like.

    forward: nats per token under an n-gram of held-out text (quality: low is good); reverse: nats per token of held-out text under
    an n-gram of the drawn ones (diversity: low is good). bleu: against held-out text (quality); self_bleu: against one
    another (low is various); novelty: share not in the training text; validity: share that stands in held-out text; ended: share that
    the model ended itself. temperature: None for real texts.
    """

    temperature: float | None
    texts: int
    forward: float
    reverse: float
    bleu: float
    self_bleu: float
    distinct_1: float | None
    distinct_2: float | None
    novelty: float
    validity: float
    ended: float
    mean_length: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def measure(
    texts: Sequence[Sequence[int]], reference: Reference, vocabulary: Vocabulary, *, temperature: float | None = None, n: int = 4
) -> Measures:
    """All measures of drawn `texts`, with n-grams of up to `n` tokens."""
    eos = vocabulary.eos
    bare = [tuple(text[:-1] if text and text[-1] == eos else text) for text in texts]
    train, held_out = ([tuple(t[:-1] if t[-1] == eos else t) for t in group] for group in (reference.train, reference.held_out))
    known, right = set(train), set(held_out)
    return Measures(
        temperature=temperature,
        texts=len(texts),
        forward=ngram_nats(reference.held_out, texts, vocabulary, n),
        reverse=ngram_nats(texts, reference.held_out, vocabulary, n),
        bleu=bleu(bare, held_out, n),
        self_bleu=self_bleu(bare, n),
        distinct_1=distinct_n(bare, 1),
        distinct_2=distinct_n(bare, 2),
        novelty=sum(text not in known for text in bare) / len(bare),
        validity=sum(text in right for text in bare) / len(bare),
        ended=sum(bool(text) and text[-1] == eos for text in texts) / len(texts),
        mean_length=sum(map(len, bare)) / len(bare),
    )


def draw(bundle: Bundle, count: int, temperature: float, limit: int, seed: int = 0) -> list[list[int]]:
    """`count` texts from nothing, of at most `limit` tokens, `</s>` included."""
    config = GenerationConfig.of(temperature=temperature, num_return_sequences=count, max_new_tokens=limit, seed=seed)
    return generate(bundle.model, [bundle.prompt("")], config, eos=bundle.text_ends).ids


def sweep(
    bundle: Bundle, reference: Reference, temperatures: Sequence[float], *, count: int = 1000, seed: int = 0, n: int = 4
) -> list[Measures]:
    """The curve of a model: what `count` texts drawn at each temperature are like.

    A text is cut where it grows longer than the longest that was learned from; `ended` tells how many were not.
    """
    if not temperatures or min(temperatures) <= 0:
        raise UserError(f"temperatures: expected some above 0, found {list(temperatures)}")
    limit, vocabulary = max(map(len, reference.train)), bundle.tokenizer.vocabulary
    return [measure(draw(bundle, count, t, limit, seed), reference, vocabulary, temperature=t, n=n) for t in temperatures]


def real(reference: Reference, vocabulary: Vocabulary, *, count: int = 1000, seed: int = 0, n: int = 4) -> Measures:
    """The measures of as many training texts, drawn without repetition: where a perfect generator would stand."""
    chosen = np.random.default_rng(seed).permutation(len(reference.train))[:count]
    return measure([reference.train[i] for i in chosen], reference, vocabulary, n=n)


# -- two curves -----------------------------------------------------------------------------------------------------------


def quality_gap(ours: Sequence[Measures], theirs: Sequence[Measures]) -> float | None:
    """By how many nats per token our texts are better (above 0) or worse at equal diversity; None where no diversity is common.

    Each curve is its Pareto front of reverse and forward nats, joined by straight lines; the gap, forward nats of theirs minus ours,
    is the mean over evenly spaced levels of reverse nats that both fronts reach.
    """
    mine, other = (np.array(plots.pareto([(m.reverse, m.forward) for m in curve], -1)) for curve in (ours, theirs))  # [points, 2]
    low, high = max(mine[0, 0], other[0, 0]), min(mine[-1, 0], other[-1, 0])
    if not low <= high:
        return None
    levels = np.linspace(low, high, _LEVELS)
    return float((np.interp(levels, *other.T) - np.interp(levels, *mine.T)).mean())


_STYLE = (
    "text{font-family:sans-serif;font-size:12px;fill:#1b1a17}.grid{stroke:#d9d3c5}.axis,.lead{stroke:#625d54}"
    ".line{fill:none;stroke-width:2}.lead{stroke-width:.6}"
)


def picture(curves: Mapping[str, Sequence[Measures]], described: str) -> str:
    """The curves as an SVG file of its own, from cool on the right to hot on the left: the better curve lies lower and further left."""

    def shown(value: float) -> str:
        return f"{value:.2f}"

    hottest = [sorted(((m.reverse, m.forward) for m in curve), key=lambda point: point[1]) for curve in curves.values()]  # is the last
    series = [plots.Series(name, slot, points) for slot, (name, points) in enumerate(zip(curves, hottest, strict=True))]
    x, y = (plots.Axis(f"{name} (nats per token, lower is better)", shown) for name in ("diversity: reverse", "quality: forward"))
    drawn = str(plots.line_plot(series, x, y, described))
    inks = "".join(
        f".s{i}{{stroke:{ink}}}g.s{i} path{{fill:{ink}}}text.s{i}{{stroke:none;fill:{ink}}}" for i, ink in enumerate(plots.PALETTE["light"])
    )
    head, body = drawn.split(">", 1)
    return (
        f'{head} xmlns="http://www.w3.org/2000/svg"><style>{_STYLE}{inks}</style><rect width="100%" height="100%" fill="#faf8f3"/>{body}\n'
    )
