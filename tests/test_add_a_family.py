"""Chapter 8 of the guide as it stands: the family that it writes is one of Bimo's."""

from __future__ import annotations

import math
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
from tests.shown import GUIDE, ROOT
from tests.taught import CHAPTER, taught, written


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
