"""What a prediction rests on, as far as a family can tell: counts, places that a memory found, the words of a hybrid's parts.

`LanguageModel.grounds` gives one `Grounds` for each token of a text; whoever shows them needs to know no family.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST = 3  # places of a memory that are told


@dataclass(frozen=True)
class Count:
    """How often a token came after a context in the training text.

    context: ids, the oldest first (none: the context is empty); count: of the token after it, total: of the context, None where it is not
    known. Kneser-Ney's shorter contexts use other numbers than these, which are told beside them: left, how many different tokens stood
    before the context with the token; left_total, the sum of that over all tokens after the context.

    >>> Count((5, 7), count=2, total=8).order
    3
    """

    context: tuple[int, ...]
    count: int | None
    total: int | None
    left: int | None = None
    left_total: int | None = None

    @property
    def order(self) -> int:
        """Tokens of the n-gram, the predicted one included."""
        return len(self.context) + 1


@dataclass(frozen=True)
class Recalled:
    """A token that a memory remembers to have come next, and its share of what the memory says.

    back: how many places before the predicted token it stands in the same text; None: in the training text.
    """

    token: int
    share: float
    back: int | None = None


@dataclass(frozen=True)
class PartSaid:
    """What one part of a hybrid said of a token.

    weight: how much the part counts here (of a product: its exponent); nats: of the token by the part alone, None where it says nothing;
    share: wₖ Pₖ / Σ wⱼ Pⱼ, None where there is no such sum.
    """

    name: str
    weight: float
    nats: float | None
    share: float | None
    grounds: Grounds


@dataclass(frozen=True)
class Grounds:
    """What a model's word on one token rests on; all empty where the family tells nothing.

    counts: from the longest context that was seen to the one after which the token was; recalled: the largest shares first.
    """

    counts: tuple[Count, ...] = ()
    recalled: tuple[Recalled, ...] = ()
    parts: tuple[PartSaid, ...] = ()


NOTHING_TOLD = Grounds()
