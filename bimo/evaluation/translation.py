"""Translation quality: a model writes a text for each source; BLEU and chrF say how near it comes to the one that was meant.

Source: Papineni et al. 2002 (BLEU), Popović 2015 (chrF), both as sacrebleu has them (Post 2018), whose signature tells all settings;
intervals by Koehn 2004. `pip install 'bimo[eval]'` brings sacrebleu.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from bimo.core.errors import CapabilityError, UserError, did_you_mean
from bimo.core.registry import Kind
from bimo.data.batches import Given
from bimo.data.documents import Document
from bimo.evaluation.metrics import FEWEST_UNITS, Interval
from bimo.generation.sampling import GenerationConfig
from bimo.generation.search import generate
from bimo.models.bundle import Bundle

METRICS = ("bleu", "chrf")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# Kana, Hangul, and the scripts of Thai, Lao, Tibetan, Burmese, Khmer and Tai, which put no spaces between words.
_BY_CHARACTER = re.compile("[\u3041-\u30ff\uac00-\ud7a3\u0e00-\u109f\u1780-\u17ff\u1950-\u19df\ua9e0-\ua9ff\uaa60-\uaa7f]")
Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Quality:
    """A metric over all texts, between 0 and 100; signature: sacrebleu's, which tells how it was computed.

    interval: None where there are fewer than `FEWEST_UNITS` texts, too few to draw again.
    """

    name: str
    estimate: float
    interval: Interval | None
    signature: str

    def __str__(self) -> str:
        i = self.interval
        return f"{self.name:<13} {self.estimate:.2f} ({f'{i.low:.2f} to {i.high:.2f}' if i else 'too few texts for an interval'})"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        i = self.interval
        limits = {"low": i.low, "high": i.high, "level": i.level} if i else {"low": None, "high": None, "level": None}
        return {"estimate": self.estimate, **limits, "signature": self.signature}


@dataclass
class Translation:
    """What was written for each source, what was meant, and how near the one is to the other."""

    hypotheses: list[str] = field(repr=False)
    references: list[str] = field(repr=False)
    qualities: list[Quality]
    seconds: float
    beams: int
    length_penalty: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, the texts left out."""
        plain = {"texts": len(self.hypotheses), "seconds": self.seconds, "beams": self.beams, "length_penalty": self.length_penalty}
        return {**{q.name: q.to_dict() for q in self.qualities}, **plain}

    def describe(self) -> str:
        """A few lines for a person."""
        return "\n".join([*map(str, self.qualities), f"written       {len(self.hypotheses):,} texts by {self.beams} beams"])


def evaluate_translation(
    bundle: Bundle,
    documents: Sequence[Document],
    metrics: Sequence[str] = METRICS,
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    batch_size: int = 32,
    told: Told | None = None,
) -> Translation:
    """Write a text for what each document is given, and compare it with the document's own. told(done, all): called after each batch.

    What is compared is text, whatever the tokenizer loses of it. Raises `CapabilityError` for a model that reads no source.
    """
    if bundle.model.kind is not Kind.CONDITIONAL:
        raise CapabilityError("translation: this model reads no source; train one on pairs (SOURCE::TARGET)")
    if not documents or any(document.given is None for document in documents):
        raise UserError("translation: these documents are no pairs; give SOURCE::TARGET, or records with prompt and completion")
    _score_of(metrics)
    begin = time.perf_counter()
    sources = [bundle.tokenizer.encode_document(str(document.given)) for document in documents]
    found = _written(bundle, sources, beams, length_penalty, batch_size, told)
    seconds = time.perf_counter() - begin
    references = [document.text for document in documents]
    return Translation(found, references, score_texts(found, references, metrics), seconds, beams, length_penalty)


def translate(bundle: Bundle, sources: Sequence[str], *, beams: int = 4, length_penalty: float = 1.0, batch_size: int = 32) -> list[str]:
    """A text for each source, by beam search (greedy with beams=1); those of like length are read together."""
    return _written(bundle, [bundle.tokenizer.encode_document(s) for s in sources], beams, length_penalty, batch_size, None)


def _written(
    bundle: Bundle, sources: Sequence[NDArray[Any]], beams: int, length_penalty: float, batch_size: int, told: Told | None
) -> list[str]:
    """Texts for sources, int64 [n] each."""
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    written = [""] * len(sources)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        rows = [torch.from_numpy(np.asarray(sources[i], np.int64)) for i in batch]
        given = Given(pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows]))
        prompts = [bundle.prompt("")] * len(batch)
        config = _config(bundle, given.tokens.shape[1], beams, length_penalty)
        for i, row in zip(batch, generate(bundle.model, prompts, config, given=given, eos=bundle.text_ends).rows, strict=True):
            written[i] = bundle.tokenizer.decode(row.ids, whole=True)
        if told is not None:
            told(start + len(batch), len(order))
    return written


def _config(bundle: Bundle, longest: int, beams: int, length_penalty: float) -> GenerationConfig:
    """A text may have twice the tokens of its source and some, within what the model can hold."""
    most = 2 * longest + 16 if bundle.model.context is None else min(2 * longest + 16, bundle.model.context)
    if beams == 1:
        return GenerationConfig.of(max_new_tokens=most, temperature=0)
    return GenerationConfig.of(max_new_tokens=most, num_beams=beams, length_penalty=length_penalty)


# -- scores -------------------------------------------------------------------------------------------------------------


def score_texts(
    hypotheses: Sequence[str], references: Sequence[str], metrics: Sequence[str] = METRICS, *, resamples: int = 2000, seed: int = 0
) -> list[Quality]:
    """Each metric of texts against one reference each, with a 95 % percentile bootstrap over the texts.

    >>> [str(q) for q in score_texts(["a b c d e"] * 10, ["a b c d f"] * 10, ["bleu"])]  # (4/5 · 3/4 · 2/3 · 1/2)^(1/4)
    ['bleu          66.87 (66.87 to 66.87)']
    >>> [str(q) for q in score_texts(["a b c d e"], ["a b c d f"], ["bleu"])]
    ['bleu          66.87 (too few texts for an interval)']
    """
    found = []
    for name, score in _score_of(metrics, references).items():
        statistics = _statistics(score, hypotheses, references)
        estimate = float(_scores(score, statistics.sum(0)[None])[0])
        interval = None
        if len(references) >= FEWEST_UNITS:
            drawn = _scores(score, _draws(len(references), resamples, seed) @ statistics)
            low, high = np.quantile(drawn, [0.025, 0.975])
            interval = Interval(estimate, float(low), float(high))
        found.append(Quality(name, estimate, interval, str(score.get_signature())))
    return found


def compare_texts(
    ours: Sequence[str], theirs: Sequence[str], references: Sequence[str], metric: str = "bleu", *, resamples: int = 2000, seed: int = 0
) -> Interval | None:
    """How many points `ours` is ahead of `theirs`, with its interval: every draw takes the same texts of both (Koehn 2004).

    None where there are fewer than `FEWEST_UNITS` texts: of two or three that all fall to one side, every draw would say the same.

    >>> compare_texts(["a b c d"] * 10, ["a b c x"] * 10, ["a b c d"] * 10, "chrf").low > 0
    True
    """
    if len(references) < FEWEST_UNITS:
        return None
    (score,) = _score_of([metric], references).values()
    both = [_statistics(score, texts, references) for texts in (ours, theirs)]
    weights = _draws(len(references), resamples, seed)
    drawn = _scores(score, weights @ both[0]) - _scores(score, weights @ both[1])
    estimate = _scores(score, both[0].sum(0)[None])[0] - _scores(score, both[1].sum(0)[None])[0]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(estimate), float(low), float(high))


def _score_of(names: Sequence[str], references: Sequence[str] = ()) -> dict[str, Any]:
    """sacrebleu's metrics of those names; BLEU's tokens are those of the references' language."""
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise UserError("metrics: BLEU and chrF need the library sacrebleu, which is not installed; pip install 'bimo[eval]'") from None
    made: dict[str, Any] = {}
    for name in names:
        if name not in METRICS:
            raise UserError(f"metrics: unknown name {name!r}; {did_you_mean(name, METRICS)}")
        made[name] = BLEU(tokenize=_tokenization(references), force=True) if name == "bleu" else CHRF()
    return made


def _tokenization(references: Sequence[str]) -> str:
    """sacrebleu's tokenization for BLEU: by characters where a script without spaces makes a tenth of the letters, 13a elsewhere.

    `zh`, for Chinese, parts Latin words as 13a does, so that mixed texts keep theirs.

    >>> [_tokenization([text]) for text in ("the cat", "我用 Python", "猫はマット", "แมวนั่งอยู่บนเสื่อ")]
    ['13a', 'zh', 'char', 'char']
    """
    han, others = (sum(len(script.findall(text)) for text in references) for script in (_HAN, _BY_CHARACTER))
    letters = sum(character.isalpha() for text in references for character in text)
    if han + others < 0.1 * letters or not han + others:
        return "13a"
    return "zh" if others <= 0.1 * (han + others) else "char"


def _statistics(score: Any, hypotheses: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """What a metric counts in each text, [N, K]; the metric of a corpus is a function of their sums.

    sacrebleu offers no bootstrap of differences; these two methods are what each of its metrics is made of.
    """
    if len(hypotheses) != len(references) or not references:
        raise UserError(f"texts: {len(hypotheses)} written and {len(references)} meant; give as many of both, at least one")
    return np.array(score._extract_corpus_statistics(list(hypotheses), [list(references)]), dtype=np.float64)


def _scores(score: Any, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The metric of each row of summed counts [R, K], float64 [R]."""
    return np.array([score._compute_score_from_stats(row).score for row in sums.astype(np.int64).tolist()])


def _draws(count: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each text is drawn, [R, N]."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / max(1, count)), size=resamples).astype(np.float64)
