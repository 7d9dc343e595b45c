"""Which files a figure depends on: modules, and all that they import, themselves or through others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from benchmarks.desk import ROOT


def reached(*modules: str, root: Path = ROOT) -> tuple[str, ...]:
    """The files of `modules` and of what they import within `root`, as sorted paths from there.

    What is imported within a function counts too; what only type checkers read does not, nor what a string names (registry rows).
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        file = _file(name, root)
        if file is None:
            raise ValueError(f"{name}: no such module under {root}")
        if file not in found:
            found.add(file)
            waiting += [part for part in _imported(file, root) if _file(part, root)]
        if "." in name:
            waiting.append(name.rpartition(".")[0])  # a package runs before what is in it
    return tuple(sorted(found))


@cache
def _file(module: str, root: Path) -> str | None:
    stem = module.replace(".", "/")
    return next((f for f in (f"{stem}.py", f"{stem}/__init__.py") if (root / f).is_file()), None)


@cache
def _imported(file: str, root: Path) -> tuple[str, ...]:
    return tuple(_names(ast.parse((root / file).read_text(encoding="utf-8"))))


def _names(tree: ast.AST) -> Iterator[str]:
    """The modules that a tree imports; of `from a import b` both a and a.b, which may be no module."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            yield from _names(node)
