"""Conversations become tokens, of which the answers are marked: they alone are learned and scored."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bimo.core.errors import CorpusError, UserError
from bimo.data.conversations import learned_answers
from bimo.data.documents import Document
from bimo.text.chat import ChatTemplate, encode_example
from bimo.text.runners import Ids
from bimo.text.tokenizer import Tokenizer

TooLong = Literal["refuse", "cut", "drop"]


@dataclass(frozen=True)
class Said:
    """A conversation as it is told: ids int64 [n], and which are of answers, bool [n]; of these the bytes, unknown tokens, lost bytes."""

    ids: Ids
    answers: NDArray[np.bool_]
    bytes: int
    unknown: int
    lost: int


@dataclass
class Speech:
    """How conversations are told to a model: by its tokenizer's chat template, in `most` tokens.

    A tokenizer without a template is given a plain one (`Tokenizer.talking`). too_long: what becomes of a longer one: all are refused
    together when all are read (`settle`), it is cut behind `most` tokens, or left out. Each is counted. What is held out is never cut.
    """

    tokenizer: Tokenizer
    most: int
    too_long: TooLong = "refuse"
    taken: int = 0
    longest: int = 0
    over: int = 0  # longer than `most`
    lost_tokens: int = 0  # cut or left out
    marked: bool = False  # whether a special token ends an answer
    without_answer: int = 0  # left out, since nothing of an answer was left to learn
    plain: bool = False  # whether the tokenizer had no template
    _of_source: Counter[str] = field(default_factory=Counter)
    _special: frozenset[int] = frozenset()
    _template: ChatTemplate | None = None  # made at the first conversation: texts need none, nor a token that ends them

    def said(self, document: Document, held_out: bool = False) -> Said | None:
        """A conversation as it is told to the model; None where it is left out."""
        assert document.turns is not None
        self._of_source[document.source] += 1
        try:
            ids, answers = encode_example(self.tokenizer, self._by(), document.turns)
        except UserError as cause:
            raise CorpusError(f"{document.source}: conversation {self._of_source[document.source]}: {cause}") from None
        self.taken += 1
        self.marked = self.marked or any(int(i) in self._special for i in ids[answers][-1:])
        self.longest = max(self.longest, len(ids))
        size = document.bytes
        if len(ids) > self.most and not (held_out and self.too_long == "cut"):
            self.over += 1
            if self.too_long != "cut":
                self.lost_tokens += len(ids)
                return None
            self.lost_tokens += len(ids) - self.most
            ids, answers = ids[: self.most], answers[: self.most]
            size = min(size, self._bytes(ids[answers]))
        answers = answers.copy()
        answers[:1] = False  # a text's first token is fed, never scored
        if not answers.any():
            self.without_answer += 1
            return None
        return Said(ids, answers, size, *(self._losses(document) if held_out else (self._unknown(ids[answers]), 0)))

    def _by(self) -> ChatTemplate:
        if self._template is None:
            self.plain = self.tokenizer.chat_template is None
            self.tokenizer = self.tokenizer.talking()
            self._special = frozenset(token.id for token in self.tokenizer.special_tokens.values())
            self._template = self.tokenizer.template
            assert self._template is not None
        return self._template

    def _unknown(self, ids: Ids) -> int:
        return 0 if self.tokenizer.lossless else self.tokenizer.losses([""], ids, np.array([0, len(ids)]), measure=False)[0]

    def _losses(self, document: Document) -> tuple[int, int]:
        """Unknown tokens and lost bytes of the answers as they are."""
        if self.tokenizer.lossless:
            return 0, 0
        texts = learned_answers(document.turns or ())
        ids, offsets = self.tokenizer.encode_documents(texts)
        return self.tokenizer.losses(texts, ids, offsets)

    def _bytes(self, ids: Ids) -> int:
        """Bytes of the text of these ids."""
        return len(self.tokenizer.decode(ids.tolist()).encode("utf-8"))

    def settle(self) -> list[str]:
        """What became of too long ones, in words; raises `CorpusError` where they are to be refused."""
        told = []
        if self.plain and self.taken:
            told.append("the model has no chat template, and is given a plain one: each text as it is, a token that ends texts behind it")
        elif self.taken and not self.marked:
            told.append(
                "the chat template ends an answer with no special token, so that an answer that is written ends at max_new_tokens; "
                "text.add_special_tokens adds one for it"
            )
        if self.over and self.too_long == "refuse":
            raise CorpusError(
                f"text.too_long: {self.over:,} of {self.taken:,} conversations have more than {self.most:,} tokens (the longest "
                f"{self.longest:,}); raise training.context, or say text.too_long=cut or text.too_long=drop"
            )
        if 2 * self.over > self.taken:
            what = "be cut there" if self.too_long == "cut" else "be left out"
            raise CorpusError(
                f"text.too_long: {self.over:,} of {self.taken:,} conversations, more than half, have more than {self.most:,} tokens "
                f"(the longest {self.longest:,}) and would {what}; raise training.context (to the model's own at most), or shorten them"
            )
        if self.over:
            what = "were cut there" if self.too_long == "cut" else "were left out"
            told.append(
                f"{self.over:,} of {self.taken:,} conversations have more than {self.most:,} tokens and {what}: {self.lost_tokens:,} tokens"
            )
        if self.without_answer:
            told.append(f"{self.without_answer:,} conversations have no answer within {self.most:,} tokens and were left out")
        return told
