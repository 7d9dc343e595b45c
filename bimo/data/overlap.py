"""How much of the held-out text also stands in the training text: exact duplicates, counted and told, never removed."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

_LONG_LINE = 30  # characters: shorter lines (names, headings) repeat by nature
_FEW = 200  # with fewer documents in either split, lines are compared


class Overlap:
    """Gathers a 64-bit number per document and per long line of each split.

    >>> o = Overlap()
    >>> for i in range(200): o.add("train", f"text {i}"); o.add("test", f"text {i * 2}")
    >>> o.to_dict()
    {'test': {'unit': 'documents', 'of': 200, 'in_training': 100}}
    """

    def __init__(self) -> None:
        self.documents: dict[str, array[int]] = {}
        self.lines: dict[str, array[int]] = {}

    def add(self, split: str, text: str) -> None:
        """Take a document of a split. Numbers are Python's own hashes: they mean nothing in another process."""
        self.documents.setdefault(split, array("q")).append(hash(text.strip()))
        if "\n" in text:
            self.lines.setdefault(split, array("q")).extend(hash(line) for line in text.split("\n") if len(line) >= _LONG_LINE)

    def _numbers(self, split: str, few: bool) -> tuple[np.ndarray, str]:
        documents, lines = (np.array(table.get(split, ()), dtype=np.int64) for table in (self.documents, self.lines))
        if not few:
            return documents, "documents"
        if split == "train":
            return np.concatenate([documents, lines]), "lines"
        return (lines, "lines") if len(lines) else (documents, "documents")

    def to_dict(self) -> dict[str, Any]:
        """For each held-out split: how many of its documents (or long lines, where documents are few) are in training."""
        found = {}
        for split in ("valid", "test"):
            if not self.documents.get(split) or not self.documents.get("train"):
                continue
            few = min(len(self.documents[split]), len(self.documents["train"])) < _FEW
            train, _ = self._numbers("train", few)
            held, unit = self._numbers(split, few)
            found[split] = {"unit": unit, "of": len(held), "in_training": int(np.isin(held, train).sum())}
        return found

    def summary(self) -> list[str]:
        """One line for each held-out split that overlaps."""
        return [
            f"{split}: {o['in_training']:,} of {o['of']:,} {o['unit']} ({o['in_training'] / o['of']:.1%}) also stand in the training text"
            for split, o in self.to_dict().items()
            if o["in_training"]
        ]
