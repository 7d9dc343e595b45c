"""What a model needs to know of a tokenizer: how many ids there are and which of them are special."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Vocabulary:
    """Ids of the special tokens; `None` where the tokenizer has no such token.

    `suppressed` ids are never predicted: their logit is -inf (in vocabularies that Bimo makes, `<s>` and padding).
    """

    size: int
    bos: int | None = None
    eos: int | None = None
    pad: int | None = None
    unk: int | None = None
    suppressed: tuple[int, ...] = ()
