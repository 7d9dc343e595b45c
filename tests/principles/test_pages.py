"""What holds of every principle page: it names files that exist, its test, and a picture; the index lists it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.principles.pages import FOLDER, ROOT
from tests.shown import check_bimo

PAGES = sorted(p for p in FOLDER.glob("*.md") if p.name != "README.md")


@pytest.mark.parametrize("path", [*PAGES, FOLDER / "README.md"], ids=lambda path: path.stem)
def test_the_page_names_files_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert [target for target in links if not (FOLDER / target).exists()] == []
    named = re.findall(r"`((?:bimo|tests|docs)/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert [name for name in re.findall(r"`([\w-]+\.py)`", text) if not any(ROOT.glob(f"[bd]*/**/{name}"))] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_page_has_its_test_and_its_picture(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert f"tests/principles/test_{path.stem.replace('-', '_')}.py" in text
    assert re.search(rf"!\[[^\]]{{20,}}\]\({path.stem}\.svg\)", text), "no picture, or none that is told in words"
    assert re.search(r"^\| met as \| right \| what the difference does \|$", text, re.M)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_commands_within_sentences_parse(path: Path, tmp_path: Path) -> None:
    """`bimo …` with arguments; a verb alone is a name."""
    for words in re.findall(r"`bimo ([a-z]+ [^`]+)`", path.read_text(encoding="utf-8")):
        check_bimo(["bimo", *words.split()], tmp_path)


def test_the_index_lists_every_page() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[[^\]]+\]\(([\w-]+)\.md\) \|", index, re.M) == re.findall(r"\]\(([\w-]+)\.md\)", index)
    assert sorted(re.findall(r"\]\(([\w-]+)\.md\)", index)) == [path.stem for path in PAGES]


def test_every_picture_belongs_to_a_page() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.svg")) == [path.stem for path in PAGES]
