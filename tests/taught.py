"""The family that chapter 8 of the guide writes, known for as long as a test asks: its file, row and variants as the page has them."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bimo.core import registry
from tests.conformance import variants
from tests.shown import GUIDE, blocks

CHAPTER = "8-a-new-family.md"


def written(page: Path) -> list[str]:
    """The Python blocks of a page that are no examples: of chapter 8 the family's file, its row and its variants; of others none."""
    return [block for block in blocks(page, "python") if not block.startswith(">>>")]


@contextmanager
def taught(page: Path = GUIDE / "en" / CHAPTER) -> Iterator[str]:
    """Inside, the family that a page adds is one of Bimo's; gives its name, or nothing where the page adds none."""
    if page.name != CHAPTER:
        yield ""
        return
    file, row, table = written(page)
    calls = [node for node in ast.walk(ast.parse(f"({row})")) if isinstance(node, ast.Call)]
    added = tuple(_family(call) for call in calls)
    own: dict[str, Any] = ast.literal_eval(f"{{{table}}}")
    module = _module(added[0].target.partition(":")[0], file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        patch.setattr(registry, "_FAMILIES", (*registry._FAMILIES, *added))
        for name, its in own.items():
            patch.setitem(variants.VARIANTS, name, its)
        yield added[0].name


def _family(call: ast.Call) -> registry.Family:
    """The row that `Family(…)` with plain values says."""
    named = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    return registry.Family(*map(ast.literal_eval, call.args), **named)


@functools.cache
def _module(name: str, file: str) -> ModuleType:
    """A module of that name and text; the same each time, since `variants.make` keeps the models of its class."""
    module = ModuleType(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, module)  # where pydantic looks up what annotations name
        exec(compile(file, f"{CHAPTER}: {name}", "exec"), module.__dict__)
    return module
