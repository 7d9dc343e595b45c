"""The guide says what is so: its examples run, its commands parse, its tables are the fields', both languages show the same."""

from __future__ import annotations

import doctest
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from bimo.core.registry import Kind
from bimo.quickstart import built_in_text
from tests.shown import GUIDE, ROOT, blocks, broken_links, check_bimo, commands
from tests.taught import CHAPTER, taught, written

ENGLISH = sorted((GUIDE / "en").glob("*.md"))
CHINESE = sorted((GUIDE / "zh").glob("*.md"))
every = pytest.mark.parametrize("page", [*ENGLISH, *CHINESE], ids=lambda p: f"{p.parent.name}-{p.stem}")


def tables() -> Any:
    """docs/guide/tables.py as a module."""
    spec = importlib.util.spec_from_file_location("guide_tables", GUIDE / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ENGLISH, ids=lambda p: p.stem)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [block for block in blocks(page, "python") if block.startswith(">>>")]
    if page.name != CHAPTER:
        assert written(page) == [], "a Python block that does not begin with >>> is never run"
    monkeypatch.chdir(tmp_path)
    Path("my.txt").write_text(built_in_text()[:30_000], encoding="utf-8")
    example = doctest.DocTestParser().get_doctest("\n".join(shown), {}, page.stem, str(page), 0)
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    with taught(page):
        result = runner.run(example, out=told.append)
    assert result.failed == 0, "".join(told)
    assert result.attempted or not shown


@every
def test_commands_parse(page: Path, tmp_path: Path) -> None:
    for recipe in blocks(page, "yaml") or ["family: gru\n"]:
        (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    shown = [words for words in commands(page) if words and words[0] == "bimo"]
    with taught(page):
        for words in shown:
            check_bimo(words, tmp_path)
    assert shown


@every
def test_tables_are_those_of_the_fields(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert tables().filled(text, page.parent.name) == text, "the fields have changed: run python docs/guide/tables.py"


def test_every_description_has_its_chinese() -> None:
    assert tables().missing() == [], "write their Chinese into docs/guide/zh/descriptions.yaml, then run python docs/guide/tables.py"


@every
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("folder", ["en", "zh"])
def test_messages_that_the_guide_explains_are_those_of_the_code(folder: str) -> None:
    text = (GUIDE / folder / "7-when-something-goes-wrong.md").read_text(encoding="utf-8")
    shown = [message for cell in re.findall(r"^\| (.*?) \|", text, re.M) for message in re.findall(r"\*(.+?)\*", cell)]
    code = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "bimo").rglob("*.py"))
    assert len(shown) > 6
    assert [part for message in shown for part in re.split("…", message) if part.strip(" :") not in code] == []


def test_kinds_of_scores_are_all_told() -> None:
    for page in (GUIDE / "en" / "5-measuring.md", GUIDE / "zh" / "5-measuring.md"):
        text = page.read_text(encoding="utf-8")
        assert [kind.value for kind in Kind if f"`{kind}`" not in text] == []


def test_both_languages_show_the_same() -> None:
    assert [p.name for p in ENGLISH] == [p.name for p in CHINESE]
    for english, chinese in zip(ENGLISH, CHINESE, strict=True):
        for language in ("sh", "python", "yaml", "text"):
            assert blocks(english, language) == blocks(chinese, language), f"{english.name}: {language}"
        heads = [len(re.findall(r"^#+ ", p.read_text(encoding="utf-8"), re.M)) for p in (english, chinese)]
        assert heads[0] == heads[1], english.name


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    assert broken_links(index) == []
    text = index.read_text(encoding="utf-8")
    pages = [*ENGLISH, *CHINESE, *(ROOT / "docs" / "principles").glob("*.md")]
    assert [p.name for p in pages if p.relative_to(ROOT / "docs").as_posix() not in text] == []
