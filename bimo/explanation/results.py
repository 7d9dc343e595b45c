"""An explanation as data: of each token of a text what it cost, what else was likely, and what its probability rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

_BIT = math.log(2)


@dataclass(frozen=True)
class Likely:
    """A token that might have come. text: as it is shown alone."""

    text: str
    id: int
    probability: float


@dataclass(frozen=True)
class Counted:
    """How often the token came after a context in the training text, as in `bimo.models.grounds.Count`; context: as text."""

    context: str
    order: int
    count: int | None
    total: int | None
    left: int | None = None
    left_total: int | None = None


@dataclass(frozen=True)
class Remembered:
    """A token that a memory remembers, its share of what the memory says, and its place among the explanation's tokens.

    place: None where it stands in the training text, or further back than the explanation's first token.
    """

    text: str
    share: float
    place: int | None


@dataclass(frozen=True)
class Reasons:
    """What a probability rests on, as in `bimo.models.grounds.Grounds`."""

    counts: tuple[Counted, ...] = ()
    recalled: tuple[Remembered, ...] = ()
    parts: tuple[Said, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; only what there is."""
        found: dict[str, Any] = {name: [vars(one) for one in many] for name in ("counts", "recalled") if (many := getattr(self, name))}
        return {**found, **({"parts": [part.to_dict() for part in self.parts]} if self.parts else {})}


@dataclass(frozen=True)
class Said:
    """What a part of a hybrid said: its weight, the token's probability by it alone, and wₖ Pₖ / Σ wⱼ Pⱼ; see `PartSaid`.

    nats, probability: None where the part says nothing; probability: also of a bound, whose pieces are none.
    """

    name: str
    weight: float
    nats: float | None
    probability: float | None
    share: float | None
    reasons: Reasons

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain = {"name": self.name, "weight": self.weight, "nats": _finite(self.nats)}
        return {**plain, "probability": self.probability, "share": self.share, **self.reasons.to_dict()}


@dataclass(frozen=True)
class Token:
    """One token of the text.

    text: its characters, which join to the text (a character that is several tokens belongs to the last of them); shown: what it looks
    like alone: its text, `</s>`, or bytes in hexadecimal; special: it stands for a beginning or an end, not for text.
    nats: what it cost, inf where it was thought impossible, None where it is not scored; probability: None also of a bound; rank: its
    place among all tokens, 1 the likeliest; top: the likeliest. Rank and top are None and empty where the model tells no next token.

    >>> Token(7, "a", "a", nats=math.log(8), probability=0.125).bits
    3.0
    """

    id: int
    text: str
    shown: str
    special: bool = False
    nats: float | None = None
    probability: float | None = None
    rank: int | None = None
    top: tuple[Likely, ...] = ()
    reasons: Reasons = Reasons()

    @property
    def bits(self) -> float | None:
        """nats / ln 2."""
        return None if self.nats is None else self.nats / _BIT

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; infinity becomes None."""
        plain = {"id": self.id, "text": self.text, "shown": self.shown, "special": self.special, "scored": self.nats is not None}
        costs = {"nats": _finite(self.nats), "bits": _finite(self.bits), "probability": self.probability, "rank": self.rank}
        return {**plain, **costs, "top": [vars(likely) for likely in self.top], **self.reasons.to_dict()}


@dataclass(frozen=True)
class Explanation:
    """What a model thinks of a text, token by token.

    model: what people call it; kind: of the score; tokens: all of the text's, those that are not scored too (a document's first);
    context: of a text that was scored in windows, tokens of each, and windows: how many; unknown_tokens, lost_bytes: as in `Split`;
    given: the source, of a model that is given one; parts: names of a hybrid's.
    """

    model: str
    kind: str
    text: str
    tokens: list[Token]
    context: int | None = None
    windows: int = 1
    unknown_tokens: int = 0
    lost_bytes: int = 0
    given: str | None = None
    parts: list[str] = field(default_factory=list)

    @property
    def scored(self) -> list[Token]:
        """The tokens that have a cost."""
        return [token for token in self.tokens if token.nats is not None]

    @property
    def nats(self) -> float:
        """Of the whole text, its end included."""
        return math.fsum(token.nats for token in self.tokens if token.nats is not None)

    @property
    def bits(self) -> float:
        """Of the whole text, its end included."""
        return self.nats / _BIT

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; infinity becomes None."""
        plain = {name: getattr(self, name) for name in ("model", "kind", "text", "given", "parts", "context", "windows")}
        lost = {"unknown_tokens": self.unknown_tokens, "lost_bytes": self.lost_bytes}
        costs = {"nats": _finite(self.nats), "bits": _finite(self.bits)}
        return {**plain, **lost, **costs, "tokens": [token.to_dict() for token in self.tokens]}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
