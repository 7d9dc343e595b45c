"""Reading options: declared once, the same in the recipe, in Python and on the command line, and remembered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bimo
from bimo.core.errors import RecipeError
from bimo.core.reading import READ_OPTIONS, ReadKeywords, ReadOptions
from bimo.core.recipe import TextSection
from bimo.data.corpus import Corpus
from tests.conftest import Ran


def test_the_names_are_the_same_everywhere() -> None:
    assert set(READ_OPTIONS) == set(ReadKeywords.__annotations__) < set(TextSection.model_fields)
    values: dict[str, Any] = {"encoding": "gbk", "delimiter": "tab", "source_column": 1, "target_column": "b", "header": False}
    found = TextSection(**values).reading
    assert found == ReadOptions("gbk", "\t", None, "1", "b", False)
    assert found.to_dict() == {**values, "delimiter": "\t", "source_column": "1"}


@pytest.mark.parametrize(("options", "said"), [
    ({"delimiter": "ab"}, "'ab' is not one character"),
    ({"delimiter": '"'}, "is not one character"),
    ({"source_column": "a"}, "target_column"),
    ({"target_column": "a"}, "source_column"),
    ({"text_column": "a", "source_column": "b", "target_column": "c"}, "leave one of them out"),
])  # fmt: skip
def test_options_that_contradict_each_other(options: ReadKeywords, said: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=said):
        ReadOptions(**options)
    (tmp_path / "a.txt").write_text("text\n")
    with pytest.raises(RecipeError, match=said):
        bimo.prepare(tmp_path / "a.txt", tmp_path / "out", **options)


def test_an_unknown_encoding_is_refused(tmp_path: Path, bimo_cli: Callable[..., Ran]) -> None:
    (tmp_path / "a.txt").write_text("text\n")
    ran = bimo_cli("prepare", tmp_path / "a.txt", "--out", tmp_path / "out", "--encoding", "gb18031")
    assert ran.code == 2
    assert "'gb18031'; did you mean gb18030?" in ran.err


def test_columns_that_are_given_replace_those_remembered() -> None:
    learned = ReadOptions(encoding="gbk", delimiter=";", source_column="en", target_column="de", header=True)
    assert learned.columns == ReadOptions(source_column="en", target_column="de", header=True)
    assert ReadOptions(text_column="de").over(learned.columns) == ReadOptions(text_column="de", header=True)
    assert ReadOptions(encoding="big5").over(learned.columns) == ReadOptions("big5", None, None, "en", "de", True)


TABLE = "stars;review;reply\n" + "".join(f"{i};the ink of brush {i} is dry;buy water, please\n" for i in range(8))


def test_options_travel_with_corpus_and_model(tmp_path: Path, bimo_cli: Callable[..., Ran]) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    words = ["--delimiter", ";", "--text-column", "reply", "--tokenizer", "char"]
    assert bimo_cli("prepare", tmp_path / "a.csv", "--out", tmp_path / "corpus", *words).code == 0
    corpus = Corpus.open(tmp_path / "corpus")
    assert corpus.reading == ReadOptions(delimiter=";", text_column="reply")
    assert "buy water" in corpus.tokenizer.decode(corpus.splits["train"].document(0))
    with pytest.raises(RecipeError, match=r"text\.text_column is reply there, not review"):
        bimo.train(tmp_path / "corpus", family="ngram", text_column="review", out=tmp_path / "no")
    run = bimo.train(tmp_path / "corpus", family="ngram", out=tmp_path / "model", overrides="model.order=2")
    model = bimo.load(run.folder)
    assert model.bundle.reading == ReadOptions(text_column="reply")
    found = model.evaluate(tmp_path / "a.csv")
    assert found.bytes == 8 * len("buy water, please")
    assert model.evaluate(tmp_path / "a.csv", text_column=2).bytes == 8 * len("the ink of brush 1 is dry")
