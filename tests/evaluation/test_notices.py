"""Notices of a report in Chinese: what the code is seen to put into lists of notices is known, and nothing that is said nowhere."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import bimo
from bimo.evaluation.report import render_report
from bimo.evaluation.report.wording_notices import NOTICES, in_chinese
from tests.evaluation.example import comparison

ROOT = Path(bimo.__file__).parent
LISTS = {"notices", "notes"}  # what notices are gathered in, and functions and exceptions that give some
GIVEN = {"summary", "settle", "tags_told", "_ended", "_compile", "_keep_adapter", "_not_found", "remember", "_cut", "said_after"}
RAISED = {"Unreadable", "NoConversation"}
ELSEWHERE = {"console.py", "perplexity.py", "results.py", "writing.py", "lexicon.py"}  # shown by commands, not in a report
ERRORS = {"its process ended with {}", " (killed; was there memory enough?)"}  # why a model failed stays as it is


def skeleton(node: ast.AST) -> str | None:
    """A string with `{}` for what is filled in."""
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
    elif isinstance(node, ast.BoolOp):
        yield from (found for value in node.values for found in strings(value))
    elif isinstance(node, ast.Starred):
        yield from strings(node.value)
    elif isinstance(node, ast.ListComp | ast.GeneratorExp):
        yield from strings(node.elt)


def name_of(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def told(tree: ast.AST, lists: set[str]) -> Iterator[str]:
    """What is put into lists of these names, raised as a reason, or given by the functions that give notices."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            appended = (
                isinstance(node.func, ast.Attribute) and node.func.attr == "append" and name_of(node.func.value) in lists | {"skipped"}
            )
            if appended or name_of(node.func) in RAISED | {"_skip", "_note"}:
                yield from (found for argument in node.args for found in strings(argument))
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


def fits(text: str, key: str) -> bool:
    """Whether a notice of the catalogue is one of this skeleton, parts of which may be words that its code chooses."""
    text = text.removeprefix("{}: ")
    return max(text.split("{}"), key=len) in key and re.fullmatch(".*".join(map(re.escape, text.split("{}"))), key, re.DOTALL) is not None


def says_something(text: str) -> bool:
    return len(re.findall("[A-Za-z]", text.replace("{}", ""))) > 4


def test_every_notice_that_is_found_is_said_in_chinese() -> None:
    found = {
        (path.name, text)
        for path, tree in sources()
        if path.name not in ELSEWHERE and "cli" not in path.parts
        for text in told(tree, LISTS)
        if says_something(text) and text not in ERRORS and not text.startswith(("line {}", "row {}"))
    }
    assert len(found) > 80
    assert {(name, text) for name, text in found if not any(fits(text, key) for key in NOTICES)} == set()


def test_nothing_is_translated_that_is_said_nowhere() -> None:
    sentences = {text for _, tree in sources() for node in ast.walk(tree) if (text := skeleton(node)) is not None and says_something(text)}
    assert {key for key in NOTICES if not any(fits(text, key.removesuffix(" (no header)")) for text in sentences)} == set()


@pytest.mark.parametrize("english", NOTICES)
def test_fields_are_kept(english: str) -> None:
    """What is filled in is told in Chinese too, each once."""
    fields = iter(range(1001, 2000))
    notice = re.sub(r"\{[nw]?\}", lambda found: str(next(fields)), english)
    chinese = in_chinese(notice)
    count = len(re.findall(r"\{[nw]?\}", english))
    assert all(chinese.count(str(number)) == 1 for number in range(1001, 1001 + count)), chinese
    assert re.search("[\u4e00-\u9fff]", chinese)


REAL = {  # as the code fills them in
    "train: read 3 file(s) (utf-8 2, gb18030 1): 1,234 documents, 5,678 bytes":
        "train：读入 3 个文件（utf-8 2, gb18030 1）：1,234 篇文档，5,678 字节",
    "a.jsonl: line 3: not JSON (Extra data) (3 skipped so)": "a.jsonl：第 3 行：不是 JSON（Extra data）（因此跳过 3 条）",
    "a.jsonl: record 1: no text in field 'text' (1 skipped so)": "a.jsonl：第 1 条记录：字段 'text' 中没有文本（因此跳过 1 条）",
    "skipped a.jsonl: field 'text' read as text; line 3: no text in field 'text' (3 skipped so)":
        "跳过 a.jsonl：字段 'text' 作为文本读入；第 3 行：字段 'text' 中没有文本（因此跳过 3 条）",
    "skipped b.parquet: column 'a' read as text": "跳过 b.parquet：列 'a' 作为文本读入",
    "c.csv: column '1' read as text (no header)": "c.csv：列 '1' 作为文本读入（没有表头）",
    "d.csv: column 'y' read as text, column 'x' as what it is given": "d.csv：列 'y' 作为文本读入，列 'x' 作为给定的条件",
    "skipped documents: hidden": "跳过 documents：隐藏文件",
    "valid: 3 of 9 lines (33.3%) also stand in the training text": "valid：9 行中有 3 行（33.3%）也出现在训练文本里",
    "test: 1 of 12 documents (8.3%) also stand in the training text": "test：12 篇文档中有 1 篇（8.3%）也出现在训练文本里",
    "vocab_size: the text gives 812 of the 1000 asked for": "vocab_size：要求 1000 个，文本只能给出 812 个",
    "2,996 texts packed into 474 rows of 512 tokens, 99% filled": "2,996 段文本装进 474 行，每行 512 个词元，填满 99%",
    "57 texts packed into 4 rows of 512 tokens, 99% filled; the 24 tokens that all begin with are read once a row":
        "57 段文本装进 4 行，每行 512 个词元，填满 99%；所有文本开头相同的 24 个词元每行只读一次",
    "5 of 100 conversations have more than 512 tokens and were cut there: 321 tokens":
        "100 段对话中有 5 段超过 512 个词元，超出的部分已截去：共舍去 321 个词元",
    "knn: all 60,000 entries are looked at, as faiss is not installed (pip install 'bimo[retrieval]')":
        "knn：没有安装 faiss（pip install 'bimo[retrieval]'），每次都要查看全部 60,000 个条目",
    "order 1: too little text to estimate Kneser-Ney discounts (n-grams with count 1, 2, 3, 4: [3, 0, 0, 0]); "
    "the fallback [0.5, 1.0, 1.5] is used":
        "1 阶：文本太少，无法估计 Kneser-Ney 折扣（出现 1、2、3、4 次的 n 元组分别有 [3, 0, 0, 0] 个），改用 [0.5, 1.0, 1.5]",
    "gru: stopped early, at step 40": "gru：在第 40 步提前停止",
    "took 12.3 s of a budget of 10 s: a step took longer than the budget could tell": "预算 10 秒，用了 12.3 秒：有一步比预计的更久",
}  # fmt: skip


@pytest.mark.parametrize("english", REAL)
def test_real_notices(english: str) -> None:
    assert in_chinese(english) == REAL[english]


@pytest.mark.parametrize("notice", ["something new happened", "corpus: something new", "{0} of {x}: nothing", "", ": ", "; ; ", "a" * 400])
def test_what_is_not_known_stays(notice: str) -> None:
    assert in_chinese(notice) == notice


def test_names_that_look_like_notices_take_no_time() -> None:
    begin = time.process_time()
    for piece in (" of (", " read as text, ", ": ", "; ", "skipped ", " ({n} skipped so)", "1 of 1 "):
        in_chinese((piece * 300)[:300])
    assert time.process_time() - begin < 5  # of this process alone; the first form of these patterns took minutes


def test_a_chinese_report_says_them_in_chinese() -> None:
    made = comparison()
    made.notices = ["no hybrid is made: none promises more on validation text than the best model alone"]
    made.rows[0].notices = ["stopped early at step 7: no improvement on validation text"]
    made.text.notices = ["skipped 2 record(s)"]
    made.text.name = "a.jsonl and 2 more"
    html = render_report(made, "zh")
    assert all(chinese in html for chinese in ("在第 7 步提前停止", "没有做混合模型", "跳过 2 条记录", "在“a.jsonl 及另外 2 个”上"))
    assert not any(english in html for english in ("stopped early", "no hybrid", "record(s)", "2 more"))
    assert "stopped early at step 7" in render_report(made, "en")
    made.text.name = "hidden"
    assert "在“hidden”上" in render_report(made, "zh")
