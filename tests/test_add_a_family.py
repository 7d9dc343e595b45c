"""Chapter 8 of the guide as it stands: the family that it writes is one of Bimo's."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import bimo
from bimo.core import registry
from bimo.core.errors import CapabilityError, ModelError, RecipeError
from bimo.models.base import NeuralLanguageModel
from tests.conformance.properties import PROPERTIES
from tests.conformance.variants import VARIANTS, make
from tests.shown import GUIDE, ROOT, commands
from tests.taught import CHAPTER, taught, written

ONE_AFTER_ANOTHER = """
import json, sys
from bimo.cli import main
for sys.argv in json.loads(sys.argv[1]):
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""


@pytest.fixture
def family() -> Iterator[str]:
    with taught() as name:
        yield name


def test_the_page_shows_a_file_a_row_and_variants() -> None:
    assert len(written(GUIDE / "en" / CHAPTER)) == 3
    assert "bag" not in registry.families()
    with taught() as name:
        assert name in registry.families()
        assert name in VARIANTS
    assert name not in registry.families()
    assert name not in VARIANTS
    with pytest.raises(RecipeError, match="bag"):
        registry.family("bag")


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
def test_conformance(check: Any, family: str) -> None:
    for variant in VARIANTS[family]:
        model = make(f"{family}/{variant}")
        assert isinstance(model, NeuralLanguageModel)
        check(model)


def test_five_steps(family: str, tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text("the cat sat on the mat. the dog sat on the log.\n" * 60, encoding="utf-8")
    asked = ["model.width=16", "training.context=16", "training.threads=1", "training.precision=fp32", "training.learning_rate=0.05"]
    run = bimo.train(tmp_path / "my.txt", family=family, budget="5steps", out=tmp_path / "run", tokenizer="char", overrides=asked)
    assert (run.row.steps, run.row.label) == (5, "fading bag")
    model = bimo.load(tmp_path / "run")
    assert model.info()["model_type"] == "bimo-bag"
    known, strange = model.score(["the cat sat on the mat.", "eht tac tas no eht tam."])
    assert known < strange < math.inf


def test_its_commands_run_where_its_file_and_row_stand(tmp_path: Path) -> None:
    """In a copy of the package with the page's file and row, so that processes of a comparison know the family too; 30 s become 2."""
    page = GUIDE / "en" / CHAPTER
    file, row, _ = written(page)
    shutil.copytree(ROOT / "bimo", tmp_path / "bimo")  # with what numba has compiled: times of change are kept
    (tmp_path / "bimo" / "models" / "bag.py").write_text(file, encoding="utf-8")
    registered = tmp_path / "bimo" / "core" / "registry.py"
    registered.write_text(
        re.sub(r"^_FAMILIES: .*? = ", f"\\g<0>{row.strip()} + ", registered.read_text(encoding="utf-8"), count=1, flags=re.M),
        encoding="utf-8",
    )
    (tmp_path / "my.txt").write_text("The with statement is read. The for statement is not.\n" * 300, encoding="utf-8")
    (tmp_path / "README.md").write_text("The with statement is not read.\n", encoding="utf-8")
    shown = [words for words in commands(page) if "bag" in " ".join(words)]
    assert [words[1] for words in shown] == ["train", "generate", "evaluate", "compare"]
    lines = [["2s" if word == "30s" else word for word in words] for words in shown]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(lines)], cwd=tmp_path, env=environment, capture_output=True)
    assert found.returncode == 0, found.stderr.decode("utf-8")
    assert "fading bag" in found.stdout.decode("utf-8")


def test_its_errors_say_what_is_wrong(family: str) -> None:
    model = make(f"{family}/narrow")
    with pytest.raises(CapabilityError, match="given"):
        model.start(1, given="a source")
    tensors = {**model.tensors(), "fading": torch.zeros(4)}
    with pytest.raises(ModelError, match="fading"):
        type(model).from_tensors(model.config_dict(), tensors)


def test_the_files_that_it_names() -> None:
    page = (GUIDE / "en" / CHAPTER).read_text(encoding="utf-8")
    assert "_FAMILIES" in page
    assert "_FAMILIES: tuple[Family, ...] = (" in (ROOT / "bimo" / "core" / "registry.py").read_text(encoding="utf-8")
