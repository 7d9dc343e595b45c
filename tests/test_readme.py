"""The READMEs say what is so: the tree is the tree, commands parse, links lead somewhere, both languages show the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bimo.core import registry
from bimo.quickstart import built_in_text
from tests.shown import READMES, ROOT, blocks, broken_links, check_bimo, commands

both = pytest.mark.parametrize("page", READMES, ids=lambda p: p.name)


def tree(page: Path) -> list[str]:
    """The paths of the tree that a README shows."""
    (block,) = blocks(page, "text")
    paths: list[str] = []
    folders: list[str] = []
    for line in block.splitlines():
        marks, name = re.match(r"([│├└─ ]*)(\S+)  +\S", line).groups()  # type: ignore[union-attr]
        folders = folders[: len(marks) // 4]
        paths.append("/".join([*folders, name]))
        if name.endswith("/"):
            folders.append(name.rstrip("/"))
    return paths


@both
def test_every_module_is_in_the_tree_and_every_path_of_the_tree_exists(page: Path) -> None:
    shown = tree(page)
    assert len(shown) == len(set(shown))
    assert [path for path in shown if not (ROOT / path).exists()] == []
    files = (p for p in (ROOT / "bimo").rglob("*.py") if p.name != "__init__.py" or p.stat().st_size)
    assert sorted({p.relative_to(ROOT).as_posix() for p in files} - set(shown)) == []


@both
def test_the_opening_names_every_family(page: Path) -> None:
    opening = page.read_text(encoding="utf-8").split("\n- ")[0].lower()
    labels = [registry.family(name).label.lower() for name in registry.families()]
    assert [label for label in labels if label.removeprefix("{order}-") not in opening.replace("n 元", "gram")] == []


@both
def test_commands_parse(page: Path, tmp_path: Path) -> None:
    shown = commands(page)
    assert {words[1] for words in shown if words[0] == "bimo"} == {
        "prepare", "train", "finetune", "generate", "chat", "convert", "evaluate", "explain", "compare", "plan", "info", "env",
    }  # fmt: skip
    for words in shown:
        if words[0] == "bimo":
            check_bimo(words, tmp_path)


@both
def test_commands_within_sentences_parse(page: Path, tmp_path: Path) -> None:
    shown = re.findall(r"`bimo ([a-z].*?)`", page.read_text(encoding="utf-8"))
    assert shown
    for words in shown:
        if " " in words:
            check_bimo(["bimo", *words.split()], tmp_path)


@both
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.M))
    assert {"quickstart", "test", "evidence", "bench"} <= shown
    assert [name for name in shown if not re.search(rf"^{name}:", makefile, re.M)] == []


@both
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_both_languages_show_the_same() -> None:
    english, chinese = READMES
    assert commands(english) == commands(chinese)
    assert blocks(english, "python") == blocks(chinese, "python")
    assert tree(english) == tree(chinese)
    marks = re.compile(r"<!-- evidence:([\w-]+) -->")
    assert marks.findall(english.read_text(encoding="utf-8")) == marks.findall(chinese.read_text(encoding="utf-8"))


def test_extras_and_versions_are_those_of_the_project() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for page in READMES:
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r'"\.\[(\w+)\]"', text)) == set(project["optional-dependencies"]) - {"dev", "peers"}
        assert f'"{next(d for d in project["dependencies"] if d.startswith("torch"))}"' in text
        assert project["requires-python"].removeprefix(">=") in text


@pytest.mark.slow
@pytest.mark.usefixtures("compare_in_process")
def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.txt").write_text(built_in_text()[:8_000], encoding="utf-8")
    (code,) = blocks(READMES[0], "python")
    exec(compile(re.sub(r'budget="\w+"', 'budget="1steps"', code), "README.md", "exec"), {})
    assert (tmp_path / "runs" / "my-1" / "model.safetensors").exists()
