"""Conversations become tokens, of which the answers are marked: they alone are learned and scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bimo.core.errors import CorpusError, UserError
from bimo.data.documents import Document
from bimo.text.chat import encode_example
from bimo.text.tokenizer import Tokenizer

TooLong = Literal["refuse", "cut", "drop"]
Said = tuple[NDArray[np.int64], NDArray[np.bool_]]


@dataclass
class Speech:
    """How conversations are told to a model: by its tokenizer's chat template, in `most` tokens.

    too_long: what becomes of a longer one: all are refused together when all are read (`settle`), it is cut behind `most` tokens, or left
    out. Each is counted.
    """

    tokenizer: Tokenizer
    most: int
    too_long: TooLong = "refuse"
    taken: int = 0
    longest: int = 0
    over: int = 0  # longer than `most`
    lost_tokens: int = 0  # cut or left out
    without_answer: int = 0  # left out, since nothing of an answer was left to learn

    def __post_init__(self) -> None:
        self.template = self.tokenizer.template

    def said(self, document: Document) -> Said | None:
        """Ids int64 [n] of a conversation and which of them are of answers, bool [n]; None where it is left out."""
        assert document.turns is not None
        try:
            ids, answers = encode_example(self.tokenizer, self.template, document.turns)
        except UserError as cause:
            raise CorpusError(f"{document.source}: conversation {self.taken + 1}: {cause}") from None
        self.taken += 1
        self.longest = max(self.longest, len(ids))
        if len(ids) > self.most:
            self.over += 1
            if self.too_long != "cut":
                self.lost_tokens += len(ids)
                return None
            self.lost_tokens += len(ids) - self.most
            ids, answers = ids[: self.most], answers[: self.most]
        answers = answers.copy()
        answers[:1] = False  # a text's first token is fed, never scored
        if not answers.any():
            self.without_answer += 1
            return None
        return ids, answers

    def settle(self) -> list[str]:
        """What became of too long ones, in words; raises `CorpusError` where they are to be refused."""
        told = []
        if self.over and self.too_long == "refuse":
            raise CorpusError(
                f"text.too_long: {self.over:,} of {self.taken:,} conversations have more than {self.most:,} tokens (the longest "
                f"{self.longest:,}); raise training.context, or say text.too_long=cut or text.too_long=drop"
            )
        if self.over:
            what = "were cut there" if self.too_long == "cut" else "were left out"
            told.append(
                f"{self.over:,} of {self.taken:,} conversations have more than {self.most:,} tokens and {what}: {self.lost_tokens:,} tokens"
            )
        if self.without_answer:
            told.append(f"{self.without_answer:,} conversations have no answer within {self.most:,} tokens and were left out")
        return told
