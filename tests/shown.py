"""What README and guide show: their code blocks, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from bimo.cli import app
from bimo.core.recipe import make_recipe, parse_overrides, read_recipe
from bimo.generation.sampling import GenerationConfig

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "docs" / "guide"
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
_BLOCK = re.compile(r"^[ ]*```(\w+)\n(.*?)^[ ]*```", re.M | re.S)
_LINK = re.compile(r"\]\(([^)#\s]+)")


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language, without their comments."""
    found = [text for kind, text in _BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]
    return [re.sub(r"[ \t]+# .*$", "", text, flags=re.M) if language in ("sh", "python") else text for text in found]


def commands(page: Path) -> list[list[str]]:
    """The commands of all shell blocks, as words; what is piped or redirected is parted, and settings in front are left out."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines() if line.strip()]
    return [words for line in lines for words in _parted(shlex.split(line))]


def _parted(words: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in [*words, "|"]:
        if word in ("|", "&&", ">"):
            while part and re.fullmatch(r"[A-Z_]+=\S*", part[0]):
                part = part[1:]
            yield part
            part = []
        else:
            part.append(word)


def check_bimo(words: list[str], recipes: Path) -> None:
    """Raise what the command line would raise for these words (files need not exist; recipes are looked for in `recipes`)."""
    group: Any = typer.main.get_command(app)
    with group.make_context("bimo", words[1:2], resilient_parsing=True) as context:
        verb = group.get_command(context, words[1])
        assert verb is not None, f"bimo {words[1]}: no such command"
        given = verb.make_context(words[1], words[2:], parent=context).params
    if words[1] == "generate":
        GenerationConfig.of(**parse_overrides(given.get("options") or []))
    elif words[1] in ("train", "plan", "compare", "prepare"):
        sources = given.get("sources") or []
        overrides = [s for s in sources if "=" in s]
        asked: dict[str, Any] = {k: given[k] for k in ("family",) if given.get(k)}
        asked["training"] = {k: given[k] for k in ("budget", "seed") if given.get(k)}
        asked["text"] = {k: given[k] for k in ("valid", "test", "documents", "tokenizer", "vocab_size") if given.get(k)}
        named = [read_recipe(recipes / s) for s in sources if s.endswith(".yaml")]
        make_recipe(*named, asked, parse_overrides(overrides))
        for family in (given.get("families") or "").split(","):
            if family and not family.endswith(".yaml"):
                make_recipe({"family": family}, asked)


def broken_links(page: Path) -> list[str]:
    """Links of a page to files that do not exist."""
    targets = [t for t in _LINK.findall(page.read_text(encoding="utf-8")) if "://" not in t]
    return [t for t in targets if not (page.parent / t).exists()]
