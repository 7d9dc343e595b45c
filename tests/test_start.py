"""Runs that go on from a trained model: its shape, tokenizer and weights, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import bimo
from bimo.core.errors import RecipeError
from bimo.core.recipe import make_recipe
from bimo.models.base import load_model

TINY = ["model.layers=1", "model.width=16", "training.context=16", "training.batch_size=4", "training.evaluations=1", "training.samples=0",
        "training.threads=1"]  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "t.txt"
    file.write_text("\n".join(f"the {w} ink flows over paper {i}" for i in range(60) for w in ("black", "red", "old")), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def first(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    bimo.train(text, family="gru", tokenizer="char", budget="20steps", out=folder, overrides=[*TINY, "training.learning_rate=0.01"])
    return folder


def go_on(text: Path, first: Path, out: Path, *overrides: str, **options: object):  # type: ignore[no-untyped-def]
    fewer = [o for o in TINY if not o.startswith("model.")]
    return bimo.train(text, budget="2steps", out=out, overrides=[f"start={first}", *fewer, *overrides], **options)


def test_it_begins_with_the_weights_and_the_tokenizer(text: Path, first: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("\n".join(f"zinc and ink {i}" for i in range(200)), encoding="utf-8")
    run = go_on(other, first, tmp_path / "second", "training.learning_rate=1e-9")
    before, after = load_model(first).state_dict(), load_model(run.folder).state_dict()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert bimo.load(run.folder).bundle.tokenizer.fingerprint == bimo.load(first).bundle.tokenizer.fingerprint


KINDS = {
    "decoder": [], "encoder": [], "seq2seq": [], "relative": ["model.positions=relative"], "lstm": [], "vae": [],
    "vae of blocks": ["model.body=transformer"], "gan": [],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_goes_on(kind: str, tmp_path: Path) -> None:
    """All that a model is made of is there, what no file holds too: the second run reads and writes as the first."""
    family = {"relative": "seq2seq", "vae of blocks": "vae"}.get(kind, kind)
    file = tmp_path / ("pairs.jsonl" if family == "seq2seq" else "t.txt")
    pair = '{{"prompt": "ink {i}", "completion": "paper {i}"}}' if family == "seq2seq" else "ink flows over paper {i}"
    file.write_text("\n".join(pair.format(i=i) for i in range(120)), encoding="utf-8")
    options = {} if family == "seq2seq" else {"documents": "line"}
    small = [*TINY[1:], *KINDS[kind], *([] if family in ("lstm", "gan") else ["model.heads=2"])]
    begun = bimo.train(file, family=family, tokenizer="char", budget="2steps", out=tmp_path / "first", overrides=small, **options)
    fewer = [word for word in TINY if not word.startswith("model.")]
    again = bimo.train(file, budget="2steps", out=tmp_path / "second", **options,
                       overrides=[f"start={begun.folder}", *fewer, "training.learning_rate=1e-9"])  # fmt: skip
    before, after = load_model(begun.folder).state_dict(), load_model(again.folder).state_dict()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert again.row.bits_per_byte == pytest.approx(begun.row.bits_per_byte, rel=1e-4)


def test_fields_that_leave_the_shape_may_change_and_a_run_resumes_without_the_first(text: Path, first: Path, tmp_path: Path) -> None:
    moved = tmp_path / "first"
    first_again = bimo.train(text, family="gru", tokenizer="char", budget="2steps", out=moved, overrides=TINY)
    run = go_on(text, first_again.folder, tmp_path / "second", "model.output_dropout=0.25")
    assert load_model(run.folder).config.output_dropout == 0.25  # type: ignore[attr-defined]
    (moved / "recipe.yaml").unlink()
    assert bimo.resume(run.folder).folder == run.folder


@pytest.mark.parametrize(
    ("overrides", "options", "said"),
    [
        (["model.width=24"], {}, r"start: embedding.weight is \[\d+, 16\] in .* and \[\d+, 24\] here"),
        ([], {"family": "lstm"}, "start: .* is of family gru, not lstm"),
        ([], {"tokenizer": "byte"}, "text.tokenizer: a run with a start"),
    ],
)
def test_what_does_not_fit_is_refused(
    text: Path, first: Path, tmp_path: Path, overrides: list[str], options: dict[str, str], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        go_on(text, first, tmp_path / "second", *overrides, **options)


def test_what_is_no_run_is_refused(text: Path, first: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"start: .*not a model folder"):
        go_on(text, tmp_path, tmp_path / "second")
    corpus = bimo.prepare(text, tmp_path / "corpus", tokenizer="char", vocab_size=20)
    with pytest.raises(RecipeError, match="has another tokenizer than the text"):
        go_on(corpus.folder, first, tmp_path / "second")
    counted = bimo.train(text, family="ngram", tokenizer="char", out=tmp_path / "counted")
    with pytest.raises(RecipeError, match="start: ngram counts"):
        go_on(text, counted.folder, tmp_path / "third")


@pytest.mark.parametrize("family", [None, "ngram+lstm"])
def test_a_hybrid_is_named_as_a_part_instead(text: Path, tmp_path: Path, family: str | None) -> None:
    make_recipe({"family": "ngram+gru"}).save(tmp_path / "mixed" / "recipe.yaml")
    with pytest.raises(RecipeError, match=r"is a hybrid, which has no weights to go on from; name it as a part: --family ngram\+.*/mixed"):
        bimo.train(text, family=family, out=tmp_path / "run", overrides=[f"start={tmp_path / 'mixed'}"])
