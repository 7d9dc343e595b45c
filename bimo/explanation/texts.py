"""A text explained by a model of any family, over the interface alone."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch

from bimo.core import registry
from bimo.core.errors import UserError
from bimo.data.corpus import encode_documents
from bimo.data.documents import Document
from bimo.data.split import Split
from bimo.explanation.likeliest import Place, likeliest
from bimo.explanation.pieces import Pieces
from bimo.explanation.results import Counted, Explanation, Likely, Reasons, Remembered, Said, Token
from bimo.models.base import Kind
from bimo.models.bundle import Bundle
from bimo.models.grounds import Grounds
from bimo.models.scoring import place, readings
from bimo.text.runners import utf8


def explain_text(bundle: Bundle, text: str, given: str | None = None, top_k: int = 5) -> Explanation:
    """What the model thinks of `text` as a document: of each token its nats (those of `score`), the `top_k` likeliest, and its reasons.

    given: the source text, for a model that is given one. A text beyond the context is scored in windows. top_k=0 looks for no
    other tokens, and no rank. Raises `UserError` for an empty text, or one of which nothing is scored.
    """
    if top_k < 0:
        raise UserError(f"top_k: must be 0 or more, found {top_k}")
    if not text:
        raise UserError("explain: the text is empty; give the text that is to be explained, or - to read it from standard input")
    if given is not None and bundle.model.kind is not Kind.CONDITIONAL:
        raise UserError("given: this model reads a text alone, without a source; leave --given out")
    split = encode_documents([Document(text, "text", len(utf8(text)), given)], bundle.tokenizer, cast(Any, bundle.documents))
    if split.scored_tokens < 1:
        raise UserError("explain: the text is one token, the first, which is read and never scored; give a longer text")
    return _Explaining(bundle, split, top_k).explanation(text, given)


class _Explaining:
    """A split of one document while it is read."""

    def __init__(self, bundle: Bundle, split: Split, top_k: int) -> None:
        self.bundle, self.split, self.top_k, self.pieces = bundle, split, top_k, Pieces(bundle)
        self.nats, self.kind = np.zeros(split.tokens), bundle.model.kind
        self.ids: list[int] = split.read(0, split.tokens).tolist()
        self.grounds = [Grounds() for _ in self.ids]
        self.places: list[Place | None] = [None] * len(self.ids)
        self.windows = 0
        with torch.no_grad():
            self._read()

    def _read(self) -> None:
        model = self.bundle.model
        for batch, begin in readings(model, self.split, self.bundle.context):
            rows = torch.arange(len(batch.tokens), device=model.device)

            def kept(state: Any = begin.state, rows: torch.Tensor = rows) -> Any:
                """A copy of what the rows go on from, since reading consumes it."""
                return None if state is None else model.select(state, rows)

            grounds = model.grounds(batch.tokens, batch.lengths, begin.given, kept())
            again = kept()
            score = model.score(batch.tokens, batch.lengths, begin.given, begin.state)
            begin.went_on(score.state)
            place(self.nats, batch, score.nats)
            self.kind = score.kind
            self.windows += len(rows)
            for row in range(len(rows)):
                self._keep(batch, row, score.nats[row].tolist(), grounds[row], begin.given, again)

    def _keep(self, batch: Any, row: int, nats: list[float], grounds: list[Grounds], given: Any, state: Any) -> None:
        model, one = self.bundle.model, torch.tensor([row], device=self.bundle.model.device)
        start, length = int(batch.starts[row]), int(batch.lengths[row])
        self.grounds[start + 1 : start + length] = grounds[1:length]
        if self.top_k:
            own = None if state is None else model.select(state, one)
            found = likeliest(model, batch.tokens[row, :length], nats, self.top_k, None if given is None else given[one], own)
            self.places[start + 1 : start + length] = found or [None] * (length - 1)

    def explanation(self, text: str, given: str | None) -> Explanation:
        """All that was found, as text."""
        texts, shown = self.pieces.of(self.ids)
        special = [self.pieces.special(id) for id in self.ids]
        tokens = [Token(self.ids[0], texts[0], shown[0], special[0])]
        for i in range(1, len(self.ids)):
            nats, at = float(self.nats[i]), self.places[i]
            top = () if at is None else tuple(Likely(self.pieces.after(self.ids[i - 1 : i], id), id, p) for id, p in at.top)
            rank = None if at is None else at.rank
            reasons = self._reasons(self.grounds[i], i)
            tokens.append(Token(self.ids[i], texts[i], shown[i], special[i], nats, self._probability(nats), rank, top, reasons))
        parts = [part.name for part in tokens[1].reasons.parts]
        context = self.bundle.context or self.bundle.model.context
        windows = 1 if context is None else self.windows
        lost = self.split.unknown_tokens, self.split.lost_bytes
        return Explanation(self._name(parts), str(self.kind), text, tokens, context if windows > 1 else None, windows, *lost, given, parts)

    def _name(self, parts: list[str]) -> str:
        """What people call the model."""
        config = self.bundle.model.config_dict()
        row = registry.family_of_model_type(config["model_type"])
        try:
            return " + ".join(parts) or row.label.format(**config)
        except KeyError:
            return row.name

    def _probability(self, nats: float | None) -> float | None:
        return None if nats is None or self.kind is Kind.BOUND else math.exp(-nats)

    def _reasons(self, grounds: Grounds, place: int) -> Reasons:
        told = self.pieces.told
        counts = tuple(Counted(told(c.context), c.order, c.count, c.total, c.left, c.left_total) for c in grounds.counts)
        recalled = tuple(Remembered(told([r.token]), r.share, None if r.back is None else place - r.back) for r in grounds.recalled)
        parts = tuple(
            Said(p.name, p.weight, p.nats, self._probability(p.nats), p.share, self._reasons(p.grounds, place)) for p in grounds.parts
        )
        return Reasons(counts, recalled, parts)
