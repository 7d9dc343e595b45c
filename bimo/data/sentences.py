"""Sentences that belong together, from records, and the batches that contrast them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bimo.core.errors import SourceError
from bimo.data.batches import Given
from bimo.data.documents import Document, utf8_length
from bimo.data.encodings import Found, Unreadable, decode_blocks
from bimo.data.formats import byte_chunks, leaves
from bimo.data.rows import DocumentBatches, gather_documents
from bimo.data.split import Split
from bimo.data.writing import encode_documents
from bimo.text.tokenizer import Tokenizer

FIELDS = (("anchor", "positive", "negative"), ("sent0", "sent1", "hard_neg"), ("prompt", "chosen", "rejected"))


@dataclass(frozen=True)
class Related:
    """A sentence, one that means the same, and perhaps one that looks like it and does not (a hard negative)."""

    anchor: str
    positive: str
    negative: str | None = None


# -- reading --------------------------------------------------------------------------------------------------------------


def read_related(path: Path | str) -> list[Related]:
    """The records of a JSON Lines, CSV or TSV file (packed or not) whose fields are anchor, positive and, in all or none, negative.

    Also under the names sent0, sent1, hard_neg and prompt, chosen, rejected. Raises `SourceError`, which names the record.
    """
    records = list(_records(Path(path)))
    if not records:
        raise SourceError(f"{path}: no records")
    present = {name.lower(): name for name in records[0][1]}
    fields = next(([present.get(name) for name in names] for names in FIELDS if {names[0], names[1]} <= set(present)), None)
    if fields is None:
        raise SourceError(f"{path}: fields {', '.join(records[0][1])}; expected anchor, positive and, where there is one, negative")
    found = [Related(*(_text(record, field, f"{path}: {where}") for field in fields if field)) for where, record in records]
    return found


def _text(record: Mapping[str, Any], field: str, where: str) -> str:
    value = record.get(field)
    if not isinstance(value, str) or not value.strip():
        raise SourceError(f"{where}: no text in field {field!r}")
    return value


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where each record stands, and what it holds."""
    kind, text = _read(path)
    if kind in ("csv", "tsv"):
        rows = read_rows(path)
        head = next(rows, [])
        for number, row in enumerate(rows, 2):
            yield f"row {number}", dict(zip(head, row, strict=False))
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as cause:
                raise SourceError(f"{path}: line {number} is not JSON ({cause}); expected a record a line") from None
            if not isinstance(record, Mapping):
                raise SourceError(f"{path}: line {number} holds a {type(record).__name__}, not a record")
            yield f"line {number}", record


def read_rows(path: Path | str) -> Iterator[list[str]]:
    """The rows of a CSV or TSV file, packed or not; a field in quotes may span lines. Blank rows are left out."""
    kind, text = _read(Path(path))
    csv.field_size_limit(2**31 - 1)
    try:
        yield from (row for row in csv.reader(io.StringIO(text, newline=""), delimiter="\t" if kind == "tsv" else ",") if row)
    except csv.Error as cause:
        raise SourceError(f"{path}: not a table ({cause})") from None


def _read(path: Path) -> tuple[str, str]:
    """The format of a file and all its text."""
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    try:
        (leaf,) = leaves(path)
        with leaf.open() as stream:
            return leaf.format, "".join(decode_blocks(byte_chunks(stream), Found()))
    except (Unreadable, ValueError) as cause:
        raise SourceError(f"{path}: cannot be read ({cause})") from None


# -- batches --------------------------------------------------------------------------------------------------------------


def encode_related(related: Sequence[Related], tokenizer: Tokenizer) -> tuple[Split, Split, Split | None]:
    """Anchors, positives and negatives (None where there are none) as splits, document by document."""

    def split(texts: Sequence[str], name: str) -> Split:
        return encode_documents((Document(text, name, utf8_length(text)) for text in texts), tokenizer, name=name)

    negatives = [r.negative for r in related if r.negative is not None]
    return (
        split([r.anchor for r in related], "anchors"),
        split([r.positive for r in related], "positives"),
        split(negatives, "negatives") if negatives else None,
    )


@dataclass(frozen=True)
class SentenceBatch:
    """Whole texts. tokens: int64 [B, T], padded on the right; lengths: int64 [B]; positives, negatives: a text for each row, or None."""

    tokens: Tensor
    lengths: Tensor
    positives: Given | None = None
    negatives: Given | None = None
    fresh: bool = True

    @property
    def count(self) -> int:
        """Texts to be told apart."""
        return len(self.lengths)

    @property
    def read(self) -> int:
        """Tokens that are fed, padding left out; of the texts themselves, as `tokens_per_epoch` counts."""
        return int(self.lengths.sum()) - len(self.lengths)

    def to(self, device: torch.device) -> SentenceBatch:
        """The same, there."""
        related = {name: None if (g := getattr(self, name)) is None else g.to(device) for name in ("positives", "negatives")}
        return replace(self, tokens=self.tokens.to(device), lengths=self.lengths.to(device), **related)


class SentenceBatches:
    """Batches of whole texts, each with its positive and its negative where there are such: a pure function of (seed, epoch, index).

    Texts are shuffled as `DocumentBatches` has it; each is cut to `context` + 1 tokens.
    """

    def __init__(
        self,
        anchors: Split,
        batch_size: int,
        context: int | None,
        seed: int = 0,
        positives: Split | None = None,
        negatives: Split | None = None,
    ) -> None:
        self.source = DocumentBatches(anchors, batch_size, context, seed)
        self.positives, self.negatives, self.limit = positives, negatives, None if context is None else context + 1
        self.context, self.steps_per_epoch, self.notes = self.source.context, self.source.steps_per_epoch, self.source.notes

    @property
    def tokens_per_epoch(self) -> int:
        """Tokens of the texts themselves in one epoch, padding left out."""
        return self.source.tokens_per_epoch

    def batch(self, epoch: int, index: int) -> SentenceBatch:
        """Batch `index` of `epoch`."""
        rows = self.source.rows(epoch, index)
        tokens, lengths = gather_documents(self.source.split, rows, self.limit)
        return SentenceBatch(tokens, lengths, self._related(self.positives, rows), self._related(self.negatives, rows))

    def _related(self, split: Split | None, rows: NDArray[np.int64]) -> Given | None:
        return None if split is None else Given(*gather_documents(split, rows, self.limit))
