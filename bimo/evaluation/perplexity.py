"""Perplexity and bits per byte of a text under any model, by `score` alone.

perplexity = exp(nats / scored tokens); bits per byte = nats / ln 2 / UTF-8 bytes of the user's text (docs/principles/perplexity.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bimo.core.errors import UserError
from bimo.data.split import Split
from bimo.evaluation import metrics
from bimo.evaluation.latents import LatentUse
from bimo.evaluation.translation import Translation
from bimo.models.base import Kind, LanguageModel
from bimo.models.latent import with_latent
from bimo.models.scoring import token_nats

_BLOCKS = 64  # parts of a text that has too few documents to draw them again
_FEWEST_DOCUMENTS = 30


@dataclass
class Evaluation:
    """How well a model predicts a text. unit_nats and unit_bytes [U]: of each document, or of equal blocks of tokens.

    samples: of a bound, how many each document's is made of. Where that was asked for, latent: how the model's latent is used,
    and translation: how near what it writes for each source comes to the text.
    """

    nats: float
    tokens: int
    bytes: int
    kind: str
    documents: int
    unknown_tokens: int = 0
    lost_bytes: int = 0
    impossible_tokens: int = 0
    context: int | None = None
    stride: int | None = None
    samples: int | None = None
    latent: LatentUse | None = None
    notices: list[str] = field(default_factory=list)
    unit: str = "document"
    unit_nats: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False)
    unit_bytes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    translation: Translation | None = None

    @property
    def nats_per_token(self) -> float:
        """Mean nats of a scored token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp of the mean nats of a scored token.

        >>> Evaluation(nats=math.log(8) * 5, tokens=5, bytes=10, kind="exact", documents=1).perplexity.__round__(9)
        8.0
        """
        return metrics.perplexity(self.nats, self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """Bits for each UTF-8 byte of the user's text.

        >>> Evaluation(nats=math.log(2) * 5, tokens=5, bytes=10, kind="exact", documents=1).bits_per_byte
        0.5
        """
        return metrics.bits_per_byte(self.nats, self.bytes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; infinity becomes None."""
        real = {"perplexity": self.perplexity, "bits_per_byte": self.bits_per_byte, "nats": self.nats}
        counts = ("tokens", "bytes", "kind", "documents", "unknown_tokens", "lost_bytes", "impossible_tokens")
        plain = (*counts, "context", "stride", "samples", "notices")
        asked = {k: told.to_dict() for k in ("latent", "translation") if (told := getattr(self, k)) is not None}
        return {**{k: v if math.isfinite(v) else None for k, v in real.items()}, **{k: getattr(self, k) for k in plain}, **asked}

    def describe(self) -> str:
        """A few lines for a person."""
        lines = [
            f"perplexity    {self.perplexity:,.2f}",
            f"bits per byte {self.bits_per_byte:.4f}",
            f"scored        {self.tokens:,} tokens, {self.bytes:,} bytes, {self.documents:,} documents ({self.kind})",
        ]
        if self.unknown_tokens or self.lost_bytes:
            lines.append(f"lost          {self.unknown_tokens:,} unknown tokens, {self.lost_bytes:,} bytes the tokenizer cannot give back")
        if self.impossible_tokens:
            lines.append(f"impossible    {self.impossible_tokens:,} tokens have probability zero")
        lines += [told.describe() for told in (self.latent, self.translation) if told is not None]
        return "\n".join(lines + self.notices)


def evaluate(model: LanguageModel, split: Split, context: int | None = None, stride: int | None = None) -> Evaluation:
    """Score every document of `split` once; see `Evaluation`.

    context: fed tokens of a window (the model's own if None); a longer document is scored in windows without overlap, or
    with `stride` new tokens a window. A model without a context reads each document whole and takes no stride. One that reads
    whole documents gets them with what they are given; a document beyond its context is its `ContextError`.
    """
    if split.scored_tokens < 1 or split.bytes < 1:
        raise UserError(f"{split.name}: nothing to score (no documents with text)")
    nats = token_nats(model, split, context, stride)
    return _summed(model, split, nats, min(context or model.context, model.context) if model.context is not None else None, stride)


def _summed(model: LanguageModel, split: Split, nats: NDArray[np.float64], context: int | None, stride: int | None) -> Evaluation:
    impossible = int(np.isinf(nats).sum())
    samples = with_latent(model).score_samples if "latent" in model.capabilities else None
    notices = [] if stride is None else [f"windows overlap: {stride} new tokens each, {context} at most in sight"]
    if samples is not None:
        notices.append(
            f"a bound: at most so many nats, on average; of {samples:,} sample{'s' * (samples > 1)} a document, and more tighten it"
        )
    if split.given is not None and model.kind is not Kind.CONDITIONAL:
        notices.append("what each text is given was left out: this model reads texts alone")
    if split.documents >= _FEWEST_DOCUMENTS:
        unit, unit_nats, unit_bytes = "document", np.add.reduceat(nats, split.starts), split.document_bytes
    else:
        unit = "block"
        edges = np.arange(_BLOCKS) * split.tokens // _BLOCKS if split.tokens >= _BLOCKS else np.arange(split.tokens)
        unit_nats = np.add.reduceat(nats, edges)
        unit_bytes = np.diff(np.append(edges, split.tokens) * split.bytes // split.tokens)
    return Evaluation(
        float(nats.sum()), split.scored_tokens, split.bytes, str(model.kind), split.documents, split.unknown_tokens,
        split.lost_bytes, impossible, context, stride, samples, None, notices, unit, unit_nats, np.asarray(unit_bytes),
    )  # fmt: skip
