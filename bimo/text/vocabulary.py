"""What a model needs to know of a tokenizer: how many ids there are, which of them are special, and what tags they have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True)
class Vocabulary:
    """Ids of the special tokens; `None` where the tokenizer has no such token.

    `suppressed` ids are never predicted: their logit is -inf (in vocabularies that Bimo makes, `<s>` and padding).
    tags: names of the tags that a model reads beside the tokens (none: it reads tokens alone); tag_of: which of them each id has,
    empty where the model's own file holds it.
    """

    size: int
    bos: int | None = None
    eos: int | None = None
    pad: int | None = None
    unk: int | None = None
    suppressed: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    tag_of: tuple[int, ...] = field(default=(), compare=False, repr=False)


class SpecialToken(NamedTuple):
    """A special token's id, and whether it takes the white space before or behind it to itself."""

    id: int
    lstrip: bool = False
    rstrip: bool = False
