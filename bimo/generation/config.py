"""The options of generation that everyone knows, checked without anything heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from bimo.core.errors import RecipeError, UserError
from bimo.core.recipe import parse_overrides
from bimo.core.validation import Section, validated
from bimo.models.interop.generation import DRAWING

if TYPE_CHECKING:
    from bimo.text.tokenizer import Tokenizer

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
    bad_words: list[str] = Field([], description="texts that are never written in the tokens that the tokenizer makes of them")
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

    @classmethod
    def over(cls, defaults: Mapping[str, Any], options: Mapping[str, Any], streams: bool = False) -> Self:
        """The config of `options` over a model's own `defaults`, of which those give way that do not go with an option.

        streams: one text, piece by piece, which beam search has none of.

        >>> GenerationConfig.over({"temperature": 0.6, "top_k": 20}, {"top_k": 5}).model_dump(exclude_defaults=True)
        {'temperature': 0.6, 'top_k': 5}
        >>> GenerationConfig.over({"temperature": 0.6, "top_k": 20}, {"num_beams": 4}).num_beams
        4
        """
        given = {name: value for name, value in options.items() if value is not None}
        drawing, beams = set(DRAWING), {"num_beams", "length_penalty", "early_stopping"}
        kept = {name: value for name, value in defaults.items() if name not in given}
        searches = {**kept, **given}.get("num_beams", 1) != 1
        if "num_beams" not in given and (streams or drawing & given.keys() or given.get("num_return_sequences", 1) != 1):
            searches = False
        gone = drawing if searches else beams
        kept = {name: value for name, value in kept.items() if name not in gone}
        if "min_new_tokens" in kept and "max_new_tokens" in given:
            del kept["min_new_tokens"]
        return cls.of(**{**kept, **options})

    @field_validator("stop", "bad_words", "bad_words_ids", mode="before")
    @classmethod
    def _one_or_none(cls, value: Any) -> Any:
        return [] if value is None else [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if "" in self.stop:
            raise RecipeError("generation.stop: an empty text would stop at once; leave it out")
        if any(not word.strip() for word in self.bad_words):
            raise RecipeError("generation.bad_words: a blank text cannot be forbidden; leave it out")
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
        if named := [name for name in DRAWING if getattr(self, name) not in (None, 0, 1.0)]:
            raise RecipeError(f"generation.{named[0]}: beam search does not draw; leave it out or set num_beams=1")

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn at random."""
        return self.temperature == 0 and self.num_beams == 1

    def forbidding(self, tokenizer: Tokenizer) -> Self:
        """The config with the texts of `bad_words` as ids: as they stand after a space (as in transformers), and without one."""
        words = list(self.bad_words_ids)
        for word in self.bad_words:
            for ids in (tokenizer.encode(word), tokenizer.encode(f" {word}")):
                if not ids or tokenizer.vocabulary.unk in ids:
                    raise UserError(f"bad_words: {word!r} is written with tokens that the model does not know; leave it out")
                words += [ids] if ids not in words else []
        return self.model_copy(update={"bad_words": [], "bad_words_ids": words}) if self.bad_words else self

    def check_ids(self, vocab_size: int, eos: Sequence[int]) -> None:
        """Raise `UserError` where `bad_words_ids` cannot be meant for this vocabulary."""
        if self.bad_words:
            raise UserError("bad_words: texts are forbidden where a tokenizer is known; give their ids as bad_words_ids")
        for word in self.bad_words_ids:
            if max(word) >= vocab_size:
                raise UserError(f"bad_words_ids: ids must lie in 0…{vocab_size - 1}, found {max(word)}")
            if len(word) == 1 and word[0] in eos:
                raise UserError(f"bad_words_ids: {word[0]} ends the text and cannot be forbidden; use min_new_tokens")


def generation_options(named: Mapping[str, Any], words: Iterable[str]) -> dict[str, Any]:
    """Named options that were given, and `key=value` words for the rest; unknown or impossible ones raise `RecipeError`."""
    extra = parse_overrides(words)
    chosen = {**extra, **{k: v for k, v in named.items() if v is not None}}
    GenerationConfig.of(**{"max_new_tokens": 2**31, **chosen})  # how long a text may be is known with the model
    return chosen
