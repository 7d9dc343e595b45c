"""How the next token is chosen: the options everyone knows, and the distribution and the draw that follow from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from bimo.core.errors import RecipeError, UserError
from bimo.core.validation import Section, validated
from bimo.generation import processors

Ids = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class GenerationConfig(Section):
    """Options of generation, with transformers' names and meanings. temperature=0 is greedy, num_beams > 1 beam search."""

    max_new_tokens: int = Field(256, ge=1, description="most tokens that are written after the prompt")
    min_new_tokens: int = Field(0, ge=0, description="no end of text before so many new tokens")
    temperature: float = Field(1.0, ge=0, description="below 1 is safer, above 1 wilder; 0: always the likeliest")
    top_k: int | None = Field(None, ge=0, description="draw from the k likeliest tokens; 0: from all")
    top_p: float | None = Field(None, ge=0, le=1, description="draw from the likeliest tokens that reach this probability together")
    min_p: float | None = Field(None, ge=0, le=1, description="draw from tokens at least this share as likely as the likeliest")
    typical_p: float | None = Field(None, gt=0, le=1, description="draw from the most typical tokens that reach this probability together")
    repetition_penalty: float = Field(1.0, gt=0, description="above 1: tokens of the text so far become less likely")
    frequency_penalty: float = Field(0.0, ge=-2, le=2, description="subtracted from a token's logit each time it was written")
    presence_penalty: float = Field(0.0, ge=-2, le=2, description="subtracted from a token's logit once it was written")
    no_repeat_ngram_size: int = Field(0, ge=0, description="no run of so many tokens occurs twice; 0: off")
    bad_words_ids: list[Ids] = Field([], description="runs of ids that are never written")
    num_return_sequences: int = Field(1, ge=1, description="texts for each prompt")
    num_beams: int = Field(1, ge=1, description="beams of beam search; 1: no search")
    length_penalty: float = Field(1.0, description="beam search: scores are divided by length to this power")
    early_stopping: bool | Literal["never"] = Field(
        False, description="beam search: true: stop at num_beams finished texts; never: only when no better one can come"
    )
    seed: int | None = Field(None, ge=0, lt=2**63, description="same seed, same text; drawn and told if not given")
    stop: list[str] = Field([], description="texts at which writing stops; they are left out")

    @classmethod
    def of(cls, **options: Any) -> Self:
        """The config of these options; unknown or impossible ones raise `RecipeError`.

        >>> GenerationConfig.of(temprature=0.5)
        Traceback (most recent call last):
        bimo.core.errors.RecipeError: generation.temprature: unknown key; did you mean temperature? ...
        """
        return validated(cls, options, "generation")

    @field_validator("stop", "bad_words_ids", mode="before")
    @classmethod
    def _one_or_none(cls, value: Any) -> Any:
        return [] if value is None else [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if "" in self.stop:
            raise RecipeError("generation.stop: an empty text would stop at once; leave it out")
        if self.min_new_tokens > self.max_new_tokens:
            raise RecipeError(f"generation.min_new_tokens: {self.min_new_tokens} is more than max_new_tokens={self.max_new_tokens}")
        if self.num_beams > 1:
            self._beams_agree()
        else:
            for name in ("length_penalty", "early_stopping"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise RecipeError(f"generation.{name}: is for beam search; set num_beams above 1 or leave it out")
        return self

    def _beams_agree(self) -> None:
        if self.num_return_sequences > self.num_beams:
            raise RecipeError(f"generation.num_return_sequences: {self.num_return_sequences} is more than num_beams={self.num_beams}")
        named = [name for name in ("top_k", "top_p", "min_p", "typical_p") if getattr(self, name) not in (None, 0, 1.0)]
        named += ["temperature"] if self.temperature not in (0, 1) else []
        if named:
            raise RecipeError(f"generation.{named[0]}: beam search does not draw; leave it out or set num_beams=1")

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn at random."""
        return self.temperature == 0 and self.num_beams == 1

    def check_ids(self, vocab_size: int, eos: Sequence[int]) -> None:
        """Raise `UserError` where `bad_words_ids` cannot be meant for this vocabulary."""
        for word in self.bad_words_ids:
            if max(word) >= vocab_size:
                raise UserError(f"bad_words_ids: ids must lie in 0…{vocab_size - 1}, found {max(word)}")
            if len(word) == 1 and word[0] in eos:
                raise UserError(f"bad_words_ids: {word[0]} ends the text and cannot be forbidden; use min_new_tokens")


def process(logits: Tensor, history: Tensor, generated: int, config: GenerationConfig, eos: Sequence[int] = ()) -> Tensor:
    """Logits [B, V] after penalties and prohibitions, for greedy choice, beams and drawing alike.

    history: int64 [B, L], aligned on the right, -1 where a row is shorter; its last `generated` columns were written.
    """
    if config.repetition_penalty != 1:
        logits = processors.repetition_penalty(logits, history, config.repetition_penalty)
    if generated and (config.frequency_penalty or config.presence_penalty):
        logits = processors.count_penalties(logits, history[:, -generated:], config.frequency_penalty, config.presence_penalty)
    if config.no_repeat_ngram_size:
        logits = processors.no_repeat_ngram(logits, history, config.no_repeat_ngram_size)
    if config.bad_words_ids:
        logits = processors.bad_words(logits, history, config.bad_words_ids)
    if eos and generated < config.min_new_tokens:
        logits = processors.without(logits, eos)
    return logits


def warp(logits: Tensor, config: GenerationConfig) -> Tensor:
    """Logits [B, V] after temperature and truncation, for drawing; each row keeps at least its likeliest id."""
    return _truncated(_head(logits, config), config)


def _head(logits: Tensor, config: GenerationConfig) -> Tensor:
    if config.temperature != 1:
        logits = processors.temperature(logits, config.temperature)
    return processors.top_k(logits, config.top_k) if config.top_k else logits


def _truncated(logits: Tensor, config: GenerationConfig) -> Tensor:
    if config.top_p is not None and config.top_p < 1:
        logits = processors.top_p(logits, config.top_p)
    if config.min_p:
        logits = processors.min_p(logits, config.min_p)
    if config.typical_p is not None and config.typical_p < 1:
        logits = processors.typical_p(logits, config.typical_p)
    return logits


def sample(logits: Tensor, uniforms: Tensor, config: GenerationConfig) -> Tensor:
    """Ids [B] drawn from warp(logits) [B, V]; with top_k only the ids it keeps are sorted and summed."""
    logits = _head(logits, config)
    if not config.top_k or 2 * (kept := int((logits > float("-inf")).sum(-1).max())) > logits.shape[1]:
        return draw(_truncated(logits, config), uniforms)
    places = logits.topk(kept).indices.sort(dim=-1).values  # [B, kept], in the order of the ids, as ties ask for
    return places.gather(1, draw(_truncated(logits.gather(1, places), config), uniforms)[:, None]).squeeze(1)


def draw(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Ids [B] of softmax(logits) [B, V] by inversion, from one uniform number in [0, 1) a row, float64 [B].

    >>> draw(torch.tensor([[0.0, float("-inf"), 0.0]] * 2), torch.tensor([0.49, 0.51], dtype=torch.float64)).tolist()
    [0, 2]
    """
    cumulative = logits.softmax(-1).cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    target = torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target[:, None], right=True).squeeze(1)


def row_generators(prompts: Sequence[Sequence[int]], copies: int, seed: int) -> list[np.random.Generator]:
    """One generator a row, prompt by prompt and `copies` rows a prompt.

    A row's numbers depend on the seed, its prompt and how many rows with the same prompt stand before it, not on the
    batch: n copies of a prompt draw what num_return_sequences=n draws.
    """
    before: dict[bytes, int] = {}
    generators = []
    for prompt in prompts:
        key = hashlib.blake2b(np.asarray(prompt, dtype=np.int64).tobytes(), digest_size=8).digest()
        for _ in range(copies):
            number = before.get(key, 0)
            before[key] = number + 1
            generators.append(np.random.default_rng([seed, int.from_bytes(key, "little"), number]))
    return generators
