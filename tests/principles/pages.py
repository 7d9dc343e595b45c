"""The principle pages and the scripts that hold their numbers, for the tests of this folder."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "principles"
ROOT = FOLDER.parents[1]


def page(name: str) -> str:
    """The text of docs/principles/<name>.md, its line breaks and doubled spaces as single ones."""
    return re.sub(r"\s+", " ", (FOLDER / f"{name}.md").read_text(encoding="utf-8"))


def script(name: str) -> ModuleType:
    """docs/principles/<name>.py as a module."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return importlib.import_module(name)


def missing(text: str, said: list[str]) -> list[str]:
    """Those of the sentences, made from numbers computed anew, that the page does not print."""
    return [sentence for sentence in said if sentence not in text]
