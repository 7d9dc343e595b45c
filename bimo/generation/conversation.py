"""A conversation with a model: what was said so far, how it is told to the model, and what goes where its context is full.

The policy: the system's turn stays, and the oldest turns go, a user's with the answer to it, until what is left and an answer of
`max_new_tokens` fit. What went is counted (`dropped`), and is still in `turns`.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bimo.core.errors import ContextError, UserError
from bimo.data.conversations import Turn
from bimo.generation import search
from bimo.generation.config import GenerationConfig
from bimo.models.bundle import Bundle
from bimo.models.interop.generation import DRAWING

CALM = {"temperature": 0.2, "top_p": 0.9}  # what the model card of SmolLM2 draws with; at temperature 1 small models lose the thread


@dataclass
class Reply:
    """How an answer went: its tokens, the prompt's, and the turns that the model no longer saw.

    began: when its first token came, on the clock `time.perf_counter`.
    """

    tokens: int = 0
    prompt_tokens: int = 0
    dropped: int = 0
    began: float = 0.0


@dataclass
class Conversation:
    """A model with what was said. A model without a chat template is told the texts alone, one after the other, and goes on from them.

    turns: role and content of each, the system's first where there is one; reply: how the last answer went.
    """

    bundle: Bundle
    turns: list[Turn] = field(default_factory=list)
    reply: Reply = field(default_factory=Reply)

    @property
    def policy(self) -> str:
        """What goes where the context is full, in words."""
        context = self.bundle.model.context
        if context is None:
            return "what was said is read from its beginning for each answer"
        return f"it sees {context:,} tokens; where they are full the oldest turns are left out, the system's stays"

    @property
    def longest_answer(self) -> int:
        """Tokens of an answer where nothing else is said: 512, or half of a shorter context."""
        context = self.bundle.model.context
        return 512 if context is None else max(1, min(512, context // 2))

    def config(self, options: Mapping[str, Any]) -> GenerationConfig:
        """The options of an answer: those given, over what the model's makers recommend, over `CALM` where they say nothing of drawing."""
        theirs, context = dict(self.bundle.generation), self.bundle.model.context
        if context is not None and theirs.get("max_new_tokens", 0) > context // 2:
            del theirs["max_new_tokens"]  # it would leave too little for what is said
        calm = {} if _says_how_to_draw(theirs) else CALM
        return GenerationConfig.over({"max_new_tokens": self.longest_answer, **calm, **theirs}, options, streams=True)

    def settings(self, options: Mapping[str, Any]) -> str:
        """How answers are drawn with these options, in words, and whose choice that is."""
        config = self.config(options)
        said = [f"{name} {value:g}" for name in DRAWING if (value := getattr(config, name)) is not None]
        how = "greedy (temperature 0)" if config.greedy else ", ".join(said)
        if _says_how_to_draw(options):
            return how
        return f"{how}, {'as its makers recommend' if _says_how_to_draw(self.bundle.generation) else 'the default of bimo chat'}"

    def system(self, text: str) -> None:
        """Set, or with an empty text take away, what the model is told before all."""
        if text and self.bundle.tokenizer.chat_template is None:
            raise UserError("system: this model has no chat template, which says how it is told; leave it out")
        self.turns = [turn for turn in self.turns if turn["role"] != "system"]
        if text:
            self.turns.insert(0, {"role": "system", "content": text})

    def reset(self) -> None:
        """Forget all that was said but the system's turn."""
        self.turns = [turn for turn in self.turns if turn["role"] == "system"]

    def ask(self, text: str, **options: Any) -> Generator[str]:
        """Yield the answer to `text` piece by piece; options as in `GenerationConfig`, by `config` where they are not given.

        Where the reader stops early, what came until then is kept as the answer; where nothing came, or reading the question
        failed, neither is kept. Raises `ContextError` where the question does not fit, `UserError` for options that cannot be.
        """
        self.reply = Reply()
        config = self.config(options).forbidding(self.bundle.tokenizer)
        asked = {"role": "user", "content": text}
        ids, dropped = self._told([*self.turns, asked], config.max_new_tokens)
        self.reply = Reply(0, len(ids), dropped)
        pieces: list[str] = []

        def count(*_: int) -> None:
            self.reply.began = self.reply.began or time.perf_counter()
            self.reply.tokens += 1

        stream = search.stream(self.bundle.model, ids, config, eos=self.bundle.answer_ends, decoder=self.bundle.decoder, on_token=count)
        try:
            for piece in stream:
                pieces.append(piece)
                yield piece
        finally:
            if answer := "".join(pieces).strip():
                self.turns += [asked, {"role": "assistant", "content": answer}]

    def _told(self, turns: list[Turn], room: int) -> tuple[list[int], int]:
        """Ids of what the model is told, and how many of the oldest turns were left out for want of room."""
        context = self.bundle.model.context
        kept, dropped = list(turns), 0
        while True:
            ids = self.bundle.chat(kept)
            if context is None or len(ids) + room - 1 <= context:
                return ids, dropped
            oldest = next((i for i, turn in enumerate(kept[:-1]) if turn["role"] != "system"), None)
            if oldest is None:
                of_system = len(ids) - len(self.bundle.chat(kept[-1:])) if len(kept) > 1 else 0
                system = f", {of_system:,} of them what it is told before all (/system)" if of_system else ""
                raise ContextError(
                    f"the last turn has {len(ids):,} tokens{system}, and an answer may have {room:,}: more than the model's context of "
                    f"{context:,}; say it shorter, or set a smaller max_new_tokens"
                )
            gone = 1 + (kept[oldest]["role"] == "user" and oldest + 1 < len(kept) - 1 and kept[oldest + 1]["role"] == "assistant")
            del kept[oldest : oldest + gone]
            dropped += gone


def _says_how_to_draw(options: Mapping[str, Any]) -> bool:
    return any(name in options for name in DRAWING)
