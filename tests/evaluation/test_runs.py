"""A whole run: what it measures, what it tells, and what stays on disk."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import yaml

import bimo
from bimo.core import store
from bimo.core.errors import CheckpointError
from bimo.core.recipe import make_recipe, parse_overrides
from bimo.data.corpus import Corpus
from bimo.evaluation import runs, samples
from bimo.evaluation.perplexity import evaluate
from bimo.models.base import NeuralLanguageModel
from bimo.models.bundle import Bundle
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
