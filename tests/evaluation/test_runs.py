"""A whole run: what it measures, what it tells, and what stays on disk."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import bimo
from bimo.core import progress, store
from bimo.core.errors import CheckpointError, ContextError, Interrupted, NotMeasuredError, RecipeError
from bimo.core.recipe import make_recipe, parse_overrides
from bimo.core.registry import Kind
from bimo.data.corpus import Corpus
from bimo.evaluation import heldout, runs, samples
from bimo.evaluation.perplexity import evaluate
from bimo.models.base import NeuralLanguageModel
from bimo.models.bundle import Bundle
from bimo.training.dial import turn
from bimo.training.fit import refusal
from bimo.training.loop import Hooks
from tests.conftest import small


def _run(place: Path, folder: Path, family: str, budget: str = "6steps", *overrides: str, quiet: bool = True) -> runs.Run:
    recipe = make_recipe({"family": family, "training": {"budget": budget}}, parse_overrides([*small(family), *overrides]))
    return runs.run(recipe, Corpus.open(place / "corpus"), folder, name="text", quiet=quiet)


def test_the_row_says_what_the_model_does(place: Path) -> None:
    corpus = Corpus.open(place / "corpus")
    for family in ("ngram", "lstm", "decoder"):
        row = runs.resume(place / family).row
        bundle = Bundle.load(place / family)
        again = evaluate(bundle.model, corpus.splits["test"], bundle.context)
        assert row.nats == pytest.approx(again.nats, rel=1e-6)
        assert row.perplexity == pytest.approx(math.exp(row.nats / row.tokens), rel=1e-6)  # type: ignore[operator]
        assert row.parameters == bundle.model.parameter_count()
        assert row.disk_bytes == (place / family / "model.safetensors").stat().st_size
        kept = [path.stat().st_size for name in ("model", "checkpoint") if (path := place / family / f"{name}.safetensors").exists()]
        assert row.run_bytes == sum(kept)
        assert row.generation_tokens_per_second
        assert row.plan is not None
        assert row.plan.disk_bytes
        assert row.run_bytes <= 1.1 * row.plan.disk_bytes, "what the plan said, but for the headers of files"
        assert row.plan.parameters
        assert (row.budget_seconds, row.capped) == (None, False)


def test_what_is_continued_is_the_beginning_of_one_document(tmp_path: Path) -> None:
    """Documents that are lines are not run together, and a whole one leaves nothing to write: then the model writes from nothing."""
    begun = "the cat that sleeps on the mat of the"
    for name, line, found in (("names", "hannah", ""), ("sentences", begun + " house is old and grey", begun)):
        (tmp_path / f"{name}.txt").write_text("".join(f"{line} {chr(97 + i % 26)}{i}\n" for i in range(300)))
        corpus = bimo.prepare(tmp_path / f"{name}.txt", tmp_path / name, tokenizer="char", documents="line")
        assert samples._first_prose(corpus) == found


def test_the_best_weights_are_on_disk_and_told(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nats, seen = iter([3.0, 1.0, 2.0, 2.0]), []

    def validate(model: NeuralLanguageModel) -> float:
        seen.append({name: t.clone() for name, t in model.tensors().items()})
        return next(nats)

    monkeypatch.setattr(runs, "_hooks", lambda *_: Hooks(validate))
    store.write_text(tmp_path / "run" / f".metrics.jsonl.{2**22 + 1}.part", "half")  # left by a process that was killed
    run = _run(place, tmp_path / "run", "lstm", "8steps", "training.evaluations=4")
    assert not list((tmp_path / "run").glob(".*.part"))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["best_step"] == 4
    assert any("those of step 4 of 8" in notice for notice in run.row.notices)
    saved = store.read_tensors(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(saved[name], tensor.cpu()) for name, tensor in seen[1].items())
    assert not all(torch.equal(saved[name], tensor) for name, tensor in seen[-1].items())


def test_a_short_run_is_not_watched_longer_than_it_lasts(place: Path, tmp_path: Path) -> None:
    _run(place, tmp_path / "run", "decoder", "4steps")
    recipe = make_recipe(yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text()))
    assert (recipe.training.evaluations, recipe.training.samples) == (1, 1)
    assert (recipe.training.steps, recipe.training.context) == (4, 16)


def test_a_time_that_is_met_first_marks_the_run(place: Path, tmp_path: Path) -> None:
    run = _run(place, tmp_path / "run", "lstm", "0.4s", "training.steps=100000", "training.evaluations=1")
    assert run.row.capped
    assert run.row.budget_seconds == 0.4
    assert run.row.steps is not None
    assert run.row.steps < 100_000


def test_a_run_that_was_moved_with_its_corpus_goes_on(place: Path, tmp_path: Path) -> None:
    import shutil

    import bimo

    bimo.train(str(place / "text.txt"), family="lstm", out=tmp_path / "old", budget="3steps", tokenizer="char", overrides=small("lstm"))
    shutil.move(tmp_path / "old", tmp_path / "new")
    told = json.loads((tmp_path / "new" / "run.json").read_text())
    (tmp_path / "new" / "run.json").write_text(json.dumps({**told, "status": "running"}))
    before = (tmp_path / "new" / "model.safetensors").read_bytes()
    assert runs.resume(tmp_path / "new", quiet=True).row.steps == 3
    assert (tmp_path / "new" / "model.safetensors").read_bytes() == before


def test_a_corpus_made_anew_is_seen(place: Path, tmp_path: Path) -> None:
    bimo.prepare(place / "text.txt", tmp_path / "corpus", tokenizer="char")
    bimo.train(str(tmp_path / "corpus"), family="lstm", out=tmp_path / "run", budget="2steps", overrides=small("lstm"))
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**told, "status": "running"}))
    bimo.prepare(place / "text.txt", tmp_path / "corpus", tokenizer="byte")
    with pytest.raises(CheckpointError, match="prepared anew"):
        runs.resume(tmp_path / "run")


def test_the_prompt_of_the_samples_is_known_prose(place: Path) -> None:
    prompt = samples._first_prose(Corpus.open(place / "corpus"))
    assert 0 < len(prompt) <= 40
    assert "<unk>" not in prompt
    assert "\n" not in prompt


def test_a_run_goes_on_only_with_the_splits_it_began_with(place: Path) -> None:
    corpus = Corpus.open(place / "corpus")
    known = runs._fingerprint(corpus)
    for name in corpus.splits:
        changed = Corpus.open(place / "corpus")
        changed.splits[name].fingerprint = "another"
        assert runs._fingerprint(changed) != known


def test_short_texts_are_several_without_their_ends_and_stop_in_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.load(place / "ngram")
    prompt = samples.prompt_for(bundle, Corpus.open(place / "corpus"))
    texts = samples.short_texts(bundle, prompt, 60.0)
    assert 2 <= len(texts) <= 12
    assert len(set(map(tuple, texts))) > 4, "they are drawn with seeds of their own"
    assert all(0 < len(text) <= 32 and bundle.eos not in text for text in texts)
    assert samples.short_texts(bundle, prompt, 60.0) == texts
    clock = iter(range(0, 1000, 5))
    monkeypatch.setattr(samples.time, "perf_counter", lambda: float(next(clock)))
    assert len(samples.short_texts(bundle, prompt, 1.0)) <= 4
    row = runs.resume(place / "ngram").row
    assert 0 <= (row.measures["self_bleu"] or 0) <= 1
    assert row.self_bleu_texts


@pytest.mark.parametrize("cause", [ContextError("too long"), MemoryError(), RuntimeError("a bug"), KeyboardInterrupt()])
def test_a_trained_model_is_never_lost_to_its_evaluation(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: BaseException
) -> None:
    """Whatever measuring raises: the model is there, the error says so, and a resumed run measures without learning again."""
    folder = tmp_path / "run"

    def fails(*_: object) -> None:
        raise cause

    with monkeypatch.context() as broken:
        broken.setattr(runs, "write_report" if isinstance(cause, MemoryError) else "_score_fields", fails)
        with pytest.raises((NotMeasuredError, Interrupted), match="trained, but not measured") as told:
            _run(place, folder, "ngram")
    assert told.value.exit_code == (130 if isinstance(cause, KeyboardInterrupt) else 2 if isinstance(cause, ContextError) else 1)
    assert f"--resume {folder}" in str(told.value)
    assert bimo.load(folder).generate("the", max_new_tokens=2)
    assert bimo.info(folder)["run"]["next"] == f"bimo train --resume {folder}"
    monkeypatch.setattr(runs, "fit", fails)
    resumed = runs.resume(folder, quiet=True)
    assert resumed.row.bits_per_byte == pytest.approx(runs.resume(place / "ngram").row.bits_per_byte, rel=0.2)
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"


def test_a_look_that_fails_ends_the_looks_and_not_the_run(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(model: NeuralLanguageModel) -> float:
        raise ContextError("too long")

    monkeypatch.setattr(runs, "_hooks", lambda *_: Hooks(fails, fails))  # type: ignore[arg-type]
    run = _run(place, tmp_path / "run", "lstm", "4steps", "training.evaluations=2", "training.samples=2")
    assert run.row.steps == 4
    assert sum("no more looks" in notice or "no more samples" in notice for notice in run.row.notices) == 2


@pytest.mark.parametrize(
    ("family", "overrides"),
    [("vae", ["model.body=transformer", "model.heads=2"]), ("seq2seq", ["objective.name=denoising", "model.heads=2"])],
)
def test_held_out_documents_that_do_not_fit_are_refused_before_the_first_step(tmp_path: Path, family: str, overrides: list[str]) -> None:
    (tmp_path / "long.txt").write_text("a b c d e f g h i j k l m n o p q r s t\n")
    (tmp_path / "train.txt").write_text("a b c\n" * 40)
    text = {"valid": tmp_path / "train.txt", "test": tmp_path / "long.txt", "tokenizer": "char", "documents": "line"}
    words = [*overrides, "model.context=8", "model.width=8"]
    with pytest.raises(RecipeError, match=r"a document of the test text has 40 tokens.* model\.context=40"):
        bimo.train(tmp_path / "train.txt", family=family, out=tmp_path / "run", budget="2steps", overrides=words, **text)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_sources_that_do_not_fit_are_refused_and_the_dial_makes_room(tmp_path: Path) -> None:
    lines = ["a b c"] * 9
    for name, long in (("x", "a b c d e f g h i j k l m n o p q r s t " * 8), ("y", "b c d")):
        (tmp_path / f"{name}.txt").write_text("\n".join([*lines, long] * 5) + "\n")
    corpus = bimo.prepare(f"{tmp_path / 'x.txt'}::{tmp_path / 'y.txt'}", tmp_path / "corpus", tokenizer="char", valid=None)
    corpus.splits["test"] = corpus.splits["train"]
    longest = int(np.diff(corpus.splits["train"].given.starts, append=corpus.splits["train"].given.tokens).max())  # type: ignore[union-attr]
    assert longest > 256
    recipe = make_recipe({"family": "seq2seq", "training": {"budget": "5s"}})
    assert f"a source of the test text has {longest} tokens" in (refusal(recipe, corpus) or "")
    picked, _ = turn(make_recipe({"training": {"budget": "5s"}}), corpus, lambda *_: pytest.fail("nothing is timed"))
    assert picked.model["context"] == longest
    assert refusal(picked, corpus) is None


def test_a_budget_of_time_bounds_what_is_measured(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An even sample that depends on no model, said before learning and in the row; all of the text where that is asked for."""
    said: list[str] = []
    monkeypatch.setattr(progress, "say", said.append)
    monkeypatch.setattr(heldout, "LEAST", 300)
    monkeypatch.setattr(heldout, "PER_SECOND", 1)
    corpus = Corpus.open(place / "corpus")
    tokens = corpus.splits["test"].tokens
    assert tokens > 400
    sampled = _run(place, tmp_path / "sampled", "ngram", "5s", quiet=False)
    assert any(f"on 300 of {tokens:,} tokens of the test text at most" in line for line in said)
    said.clear()
    assert sampled.row.tokens is not None
    assert sampled.row.tokens <= 300
    assert any(f"of {tokens:,} tokens of the test text, evenly drawn (95 % interval" in notice for notice in sampled.row.notices)
    whole = _run(place, tmp_path / "whole", "ngram", "5s", "training.test_tokens=all", quiet=False)
    assert not any("measured" in line for line in said)
    assert whole.row.tokens == corpus.splits["test"].scored_tokens
    assert not any("evenly drawn" in notice for notice in whole.row.notices)
    assert sampled.row.bits_per_byte == pytest.approx(whole.row.bits_per_byte, rel=0.3)
    counted = Bundle.load(tmp_path / "whole").model
    monkeypatch.setattr(type(counted), "scoring_passes", 100)
    monkeypatch.setattr(counted, "kind", Kind.BOUND)
    monkeypatch.setattr(heldout, "_LEAST_OF_MANY", 50)
    section = make_recipe({"family": "ngram", "training": {"budget": "5s"}}).training
    assert heldout.drawn_for(counted, corpus.splits["test"], section).tokens < 100
