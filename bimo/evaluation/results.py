"""What a comparison (or a single run) measured: the data that tables, plots and the report show, and nothing computed.

`Comparison.to_dict()` is what `--json` prints and `comparison.json` holds; `Comparison.from_dict` reads it back.
Infinity and NaN are `null` in JSON.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from bimo.core.errors import UserError
from bimo.core.registry import Kind

KindName = Annotated[str, AfterValidator(lambda name: Kind(name).value)]
Real = Annotated[
    float | None,
    PlainSerializer(lambda v: v if v is not None and math.isfinite(v) else None, return_type=float | None, when_used="json"),
]


class _Result(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TokenizerFacts(_Result):
    """Which tokenizer a score was measured with."""

    kind: str = Field(description="byte, char, word, bpe, wordpiece, unigram or loaded")
    vocab_size: int = Field(description="ids, special ones included")
    fingerprint: str = Field(default="", description="hash of tokenizer.json; two rows with one fingerprint share a tokenizer")


class SplitFacts(_Result):
    """One part of the text."""

    documents: int
    tokens: int = Field(description="special tokens included")
    bytes: int = Field(description="UTF-8 bytes of the user's text before cleaning, newlines included")


class ReadFile(_Result):
    """A file that was read."""

    name: str
    format: str = ""
    encoding: str = ""
    documents: int | None = None
    bytes: int | None = None


class Skipped(_Result):
    """A file or record that was not read, and why."""

    name: str
    why: str


class TextFacts(_Result):
    """The text, as it was read, split and encoded."""

    name: str = Field(description="how the report calls the text")
    measured: str | None = Field(
        default=None, description="the file of the test text that was measured; empty where that is a held-out part of the text itself"
    )
    sources: list[str] = Field(default_factory=list, description="as given on the command line")
    language: str | None = Field(default=None, description="a guess: en, zh, …")
    documents: str = Field(default="file", description="file, line, paragraph or stream")
    tokenizer: TokenizerFacts
    splits: dict[str, SplitFacts] = Field(default_factory=dict, description="train, valid, test")
    read: list[ReadFile] = Field(default_factory=list)
    skipped: list[Skipped] = Field(default_factory=list)
    notices: list[str] = Field(default_factory=list, description="overlap of the splits, records dropped by cleaning, …")


class Machine(_Result):
    """Where and when it was measured."""

    cpu: str = ""
    cores: int | None = None
    threads: int | None = None
    memory_bytes: int | None = None
    torch: str = ""
    python: str = ""
    system: str = ""
    bimo: str = ""
    date: str = Field(default="", description="ISO date of the measurement")


class Point(_Result):
    """One moment of training."""

    step: int | None = None
    tokens: int | None = Field(default=None, description="training tokens seen so far")
    seconds: Real = Field(default=None, description="on the budget's clock")
    train_loss: Real = Field(default=None, description="nats per token of the training text")
    valid_loss: Real = Field(default=None, description="nats per token of the validation text")
    valid_bits_per_byte: Real = None


class Estimate(_Result):
    """What `plan` predicted before the run; its truth stands in the row's fields of the same meaning."""

    seconds: Real = None
    parameters: int | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    tokens_per_second: Real = None


class Sample(_Result):
    """A text the model wrote."""

    prompt: str = ""
    continuation: str
    settings: str = Field(default="", description="such as: temperature 0.8, top-k 50, seed 0")


class Passage(_Result):
    """One held-out passage that every model was asked about: `Row.surprise` has a number for each piece."""

    split: str = Field(default="test", description="which part of the text it is from: test or valid")
    before: str = Field(default="", description="the end of what stands before it in its document")
    given: str = Field(default="", description="of pairs: what the text is given")
    pieces: list[str] = Field(description="whole characters each: a token, or several that only together make one; empty: a document's end")


class RowPart(_Result):
    """A part of a hybrid, and how much it counts: its share, or its exponent in a product."""

    family: str = Field(description="as the part is called in a+b")
    label: str
    weight: Real = None
    run: str | None = Field(default=None, description="the Row.run that it was taken from; none, where it is no row of this comparison")


class Row(_Result):
    """One model: what it is, how well it predicts the test text, what it cost. A family that failed has `error`."""

    family: str
    label: str = Field(description="as people call it, such as a 3-gram's order or a cell's name in full")
    run: str = Field(default="", description="the name of its folder in the comparison; none, where it stands alone")
    kind: KindName = Kind.EXACT.value
    learning: str = Field(default="", description="counted, gradient or composite")
    tokenizer: TokenizerFacts | None = Field(default=None, description="where it is not the comparison's")
    error: str | None = Field(default=None, description="why the family failed; its other fields may be empty")
    parts: list[RowPart] = Field(default_factory=list, description="of a hybrid")
    mixture: str = Field(default="", description="of a hybrid: linear, gate (shares token by token), product (exponents) or documents")
    apart: str | None = Field(default=None, description="why the row is shown but not ranked, such as more time than the budget")

    bits_per_byte: Real = None
    perplexity: Real = None
    nats: Real = Field(default=None, description="of the whole test text")
    tokens: int | None = Field(default=None, description="scored tokens")
    bytes: int | None = Field(default=None, description="UTF-8 bytes of the scored text")
    unknown_tokens: int = 0
    lost_bytes: int = 0
    impossible_tokens: int = Field(default=0, description="scored tokens of probability zero; with any, nats and its kin are infinite")
    score_samples: int | None = Field(default=None, description="of a bound: how many samples each document's is made of")
    unit_nats: list[Real] | None = Field(default=None, description="nats of each unit of Comparison.unit, for the intervals")
    surprise: list[Real] | None = Field(default=None, description="bits of each piece of Comparison.passage; null: probability zero")

    parameters: int | None = None
    disk_bytes: int | None = Field(default=None, description="the model's weights")
    run_bytes: int | None = Field(default=None, description="all weights in the run's folder, the checkpoint's and those of parts too")
    peak_memory_bytes: int | None = Field(default=None, description="peak of the family's own process, or of the card that it learned on")
    peak_memory_on: str = Field(default="cpu", description="where that was measured: cpu (the process), or cuda")
    context: int | None = None
    precision: str = Field(default="", description="of training")
    batch: int | None = Field(default=None, description="rows in a training batch")
    threads: int | None = Field(default=None, description="of training")
    steps: int | None = None
    training_tokens: int | None = Field(default=None, description="tokens seen, repetitions included")
    training_tokens_per_second: Real = None
    generation_tokens_per_second: Real = None
    generation_batch: int | None = None
    generation_precision: str = ""
    generation_threads: int | None = None
    budget_seconds: Real = None
    used_seconds: Real = None
    capped: bool = Field(default=False, description="met the cap before its steps were done")
    budgeted: bool = Field(default=True, description="trained under a budget: not the best this family can do")

    plan: Estimate | None = None
    measures: dict[str, Real] = Field(
        default_factory=dict, description="of the generated texts: distinct_1, distinct_2, repetition_4, self_bleu"
    )
    self_bleu_texts: int | None = Field(default=None, description="how many texts self_bleu compares with one another")
    notices: list[str] = Field(default_factory=list)
    recipe: str = Field(default="", description="the resolved recipe, YAML")
    samples: list[Sample] = Field(default_factory=list)
    curve: list[Point] = Field(default_factory=list)

    @model_validator(mode="after")
    def _impossible_is_infinite(self) -> Row:
        """A null that came from infinity (JSON has no other sign for it) is infinity again."""
        if self.error is None and self.impossible_tokens:
            for name in ("bits_per_byte", "perplexity", "nats"):
                setattr(self, name, math.inf)
        return self


class Comparison(_Result):
    """Everything one report shows; a single run is a comparison of one row."""

    text: TextFacts
    machine: Machine = Field(default_factory=Machine)
    budget: str = Field(default="", description="as written: 30s, 10m, 300steps, …; of each row, not of all")
    seed: int | None = None
    command: str = Field(default="", description="the command line that gives this result again")
    unit: Literal["document", "block"] = Field(default="document", description="what is drawn again in the bootstrap")
    unit_bytes: list[int] = Field(default_factory=list, description="bytes of each unit; as long as every row's unit_nats")
    passage: Passage | None = Field(default=None, description="held-out text that each row's surprise is of")
    notices: list[str] = Field(default_factory=list)
    rows: list[Row] = Field(default_factory=list)
    folder: Path | None = Field(default=None, exclude=True, description="where it lies, once it does; the file does not say so of itself")

    @model_validator(mode="after")
    def _units_fit(self) -> Comparison:
        for row in self.rows:
            if row.unit_nats is not None and len(row.unit_nats) != len(self.unit_bytes):
                found = f"{len(row.unit_nats)} unit_nats, but {len(self.unit_bytes)} unit_bytes"
                raise ValueError(f"row {row.label!r}: {found}; every row needs the same units")
        return self

    def surprise_of(self, row: Row) -> list[Real] | None:
        """Bits of each piece of the passage under `row`; None where it was not asked, or was asked about another passage."""
        found = row.surprise if row.error is None else None
        return found if found and self.passage is not None and len(found) == len(self.passage.pieces) else None

    def tokenizer_of(self, row: Row) -> TokenizerFacts:
        """The tokenizer that `row` was measured with."""
        return row.tokenizer or self.text.tokenizer

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; infinity and NaN become None."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, value: Any) -> Comparison:
        """Read what `to_dict` gave; a missing, unknown or wrong field is a `UserError` that names it."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "comparison"
            raise UserError(f"comparison: {where}: {first['msg']}; was this file written by bimo compare?") from None
