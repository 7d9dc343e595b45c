"""File formats: what a path holds, as blocks of text or as records."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path


def text_blocks(path: Path) -> Iterator[str]:
    """Blocks of text of a file."""
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
            while block := file.read(1 << 20):
                yield block
    else:
        with open(path, encoding="utf-8-sig", newline="") as file:
            while block := file.read(1 << 20):
                yield block
