"""Every notice that a report may hold is said in Chinese too, and nothing is translated that is said nowhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

import bimo
from bimo.evaluation.report import render_report
from bimo.evaluation.report.wording_notices import NOTICES, noticed
from tests.evaluation.example import comparison

ROOT = Path(bimo.__file__).parent
LISTS = {"notices", "notes"}  # what notices are gathered in, and functions that give some
GIVEN = {"summary", "settle", "tags_told", "_ended", "_compile", "_keep_adapter", "_not_found", "remember", "_cut"}
ELSEWHERE = {"console.py", "perplexity.py", "results.py", "writing.py"}  # shown by commands, not in a report
ERRORS = {"its process ended with {}", " (killed; was there memory enough?)", "{}", "; ", ""}  # no notices, or pieces


def skeleton(node: ast.AST) -> str | None:
    """A string as the catalogue has it."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def strings(node: ast.AST) -> Iterator[str]:
    """Those of an expression, but for the pieces of a formatted one and what it is asked about."""
    if (found := skeleton(node)) is not None:
        yield found
    elif isinstance(node, ast.IfExp):
        yield from (*strings(node.body), *strings(node.orelse))
    elif isinstance(node, ast.List | ast.Tuple):
        yield from (found for item in node.elts for found in strings(item))
    elif isinstance(node, ast.BinOp):
        yield from (*strings(node.left), *strings(node.right))
    elif isinstance(node, ast.Starred):
        yield from strings(node.value)
    elif isinstance(node, ast.ListComp | ast.GeneratorExp):
        yield from strings(node.elt)


def name_of(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def told(tree: ast.AST, lists: set[str]) -> Iterator[str]:
    """What is put into lists of these names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            if name_of(node.func.value) in lists:
                yield from strings(node.args[0])
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from strings(node.value) if lists & set(map(name_of, targets)) else ()
        elif isinstance(node, ast.FunctionDef) and node.name in GIVEN:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield from strings(inner.value)
            if lists == LISTS:
                yield from told(node, {"lines", "told"})


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        if "report" not in path.parts:
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_every_notice_is_said_in_chinese() -> None:
    found = {
        (path.name, text.removeprefix("{}: "))
        for path, tree in sources()
        if path.name not in ELSEWHERE and "cli" not in path.parts
        for text in told(tree, LISTS)
    }
    assert len(found) > 40
    assert {(name, text) for name, text in found if text not in NOTICES and text not in ERRORS} == set()


def test_nothing_is_translated_that_is_said_nowhere() -> None:
    said = {text for _, tree in sources() for node in ast.walk(tree) if (text := skeleton(node)) is not None}
    assert {key for key in NOTICES if key not in said and f"{{}}: {key}" not in said} == set()


@pytest.mark.parametrize("english", NOTICES)
def test_fields_are_kept(english: str) -> None:
    """What is filled in is told in Chinese too, each once, and nothing is left in English but that."""
    fields = [f"«{n}»" for n in range(english.count("{}"))]
    chinese = noticed(english.format(*fields), "zh")
    assert all(chinese.count(field) == 1 for field in fields), chinese
    assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese)
    named = [name for _, name, _, _ in Formatter().parse(NOTICES[english]) if name is not None]
    assert len(named) == len(fields)


def test_what_is_not_known_stays_and_names_are_not_translated() -> None:
    assert noticed("something new happened", "zh") == "something new happened"
    assert noticed("corpus: something new", "zh") == "corpus: something new"
    assert noticed("hidden: read 1 file(s) (utf-8): 2 documents, 9 bytes", "zh") == "hidden：读入 1 个文件（utf-8）：2 篇文档，9 字节"
    assert noticed("skipped documents: hidden", "zh") == "跳过 documents：隐藏文件"
    overlap = "valid: 3 of 9 lines (33.3%) also stand in the training text"
    assert noticed(overlap, "zh") == "valid：9 个行中有 3 个（33.3%）也出现在训练文本里"
    assert noticed("{0} of {x}: stopped early, at step 3", "zh") == "{0} of {x}：在第 3 步提前停止"


def test_a_chinese_report_says_them_in_chinese() -> None:
    made = comparison()
    made.notices = ["no hybrid is made: none promises more on validation text than the best model alone"]
    made.rows[0].notices = ["stopped early at step 7: no improvement on validation text"]
    made.text.notices = ["skipped 2 record(s)"]
    html = render_report(made, "zh")
    assert all(chinese in html for chinese in ("在第 7 步提前停止", "没有做混合模型", "跳过 2 条记录"))
    assert not any(english in html for english in ("stopped early", "no hybrid", "record(s)"))
