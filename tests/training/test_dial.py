"""The dial: what a text, a budget and a machine pick where nothing else is said, and what it leaves alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import bimo
from bimo.core.budget import Budget
from bimo.core.recipe import Recipe, make_recipe, parse_overrides
from bimo.data.corpus import Corpus
from bimo.training import dial, fit
from bimo.training.probe import Probe


def timed(rate: float, seen: list[str] | None = None) -> dial.Timed:
    """A machine that does `rate` operations a second whatever the shape."""

    def measure(recipe: Recipe, seconds: float) -> Probe:
        shape = recipe.model_section()
        tokens = recipe.training.batch_size * shape.context
        if seen is not None:
            seen.append(f"{shape.width}")
        width, layers = shape.width, shape.layers
        return Probe("fp32", 1, tokens * 6 * (12 * layers * width**2 + 60 * width) / rate, 0, 6)

    return measure


def picked(place: Path, budget: str, rate: float = 5e10) -> Recipe:
    return dial.turn(make_recipe({"training": {"budget": budget}}), Corpus.open(place / "corpus"), timed(rate))[0]


def shape(recipe: Recipe) -> dict[str, int]:
    return recipe.model_section().parts[1].model


def test_more_time_and_faster_machines_get_larger_models(place: Path) -> None:
    parameters = [shape(picked(place, budget))["width"] for budget in ("1m", "10m", "2h", "2000m")]
    assert parameters == sorted(parameters)
    assert parameters[0] < parameters[-1]
    assert shape(picked(place, "10m", 5e13))["width"] > shape(picked(place, "10m", 5e10))["width"]


def test_every_shape_is_a_model_and_every_run_has_steps(place: Path) -> None:
    for width in dial.WIDTHS:
        for tokens in (1e5, 1e7, 1e10):
            found = dial.shape_of(width, tokens)
            recipe = make_recipe({"family": "decoder", **dial.settings(found, 1.0)})
            assert recipe.model_section().width == width
            assert found.steps > 50
            assert 0.7 <= recipe.training.momentum <= 0.95


def test_the_rule_is_what_the_page_says() -> None:
    """docs/scaling.md gives scale and power; the nearest shape is picked."""
    page = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert f"N = {dial.SCALE:g} · C^{dial.POWER:g}" in page
    shapes = [dial.Shape(1, 1, 1, 64, 8, parameters=n, tokens=1e6) for n in (10_000, 100_000, 1_000_000)]
    wanted = [abs(s.parameters - dial.SCALE * s.operations**dial.POWER) / s.parameters for s in shapes]
    assert dial.nearest(shapes) is shapes[wanted.index(min(wanted))] or len(set(wanted)) < 3


def test_speed_is_measured_on_two_shapes_within_their_share(place: Path) -> None:
    seen: list[str] = []
    recipe = make_recipe({"training": {"budget": "5m"}})
    _, told = dial.turn(recipe, Corpus.open(place / "corpus"), timed(5e10, seen))
    assert seen == [*map(str, dial.MEASURED), str(told["shape"]["width"])]
    assert told["seconds"] <= dial.PROBES * 300
    assert told["shape"]["tokens"] * 1.0 / told["shape"]["tokens_per_second"] == pytest.approx(dial.LEARNING * 300, rel=0.02)


def test_the_size_is_picked_on_the_speed_that_the_run_will_have(place: Path) -> None:
    """Where the two shapes that are timed first mislead, as on a machine that was cold, the one that is picked is timed itself."""
    told_by, machine = [], timed(5e11)

    def measure(recipe: Recipe, seconds: float) -> Probe:
        found = machine(recipe, seconds)
        told_by.append(recipe.model_section().width)
        return replace(found, seconds_per_step=found.seconds_per_step * (6 if len(told_by) <= 2 else 1))

    corpus, recipe = Corpus.open(place / "corpus"), make_recipe({"training": {"budget": "10m"}})
    cold, told = dial.turn(recipe, corpus, measure)
    warm, truth = dial.turn(recipe, corpus, machine)
    assert shape(cold)["width"] == shape(warm)["width"]
    assert told["shape"]["tokens_per_second"] == pytest.approx(truth["shape"]["tokens_per_second"], rel=0.01)


def test_a_machine_that_is_hardly_there_still_gets_a_shape(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, machine = [0.0], timed(5e10)

    def measure(recipe: Recipe, seconds: float) -> Probe:
        clock[0] += 30.0
        return machine(recipe, seconds)

    monkeypatch.setattr(dial.time, "perf_counter", lambda: clock[0])
    _, told = dial.turn(make_recipe({"training": {"budget": "20s"}}), Corpus.open(place / "corpus"), measure)
    assert told["shape"]["tokens"] > 0


@pytest.mark.parametrize("slow", [0.0, 0.3])
def test_no_more_is_asked_for_than_a_twenty_fifth_of_the_budget(place: Path, monkeypatch: pytest.MonkeyPatch, slow: float) -> None:
    """What one shape takes beyond its quarter, the next has not."""
    clock, asked, machine = [0.0], [], timed(5e10)

    def measure(recipe: Recipe, seconds: float) -> Probe:
        asked.append(seconds)
        clock[0] += seconds + slow
        return machine(recipe, seconds)

    monkeypatch.setattr(dial.time, "perf_counter", lambda: clock[0])
    _, told = dial.turn(make_recipe({"training": {"budget": "20s"}}), Corpus.open(place / "corpus"), measure)
    assert asked == pytest.approx([0.2, 0.2 - slow, 0.2 - slow])
    assert told["seconds"] == pytest.approx(0.6 + slow)


def test_a_probe_ends_with_the_seconds_that_it_was_given(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(fit, "probe", lambda model, objective, training, seconds, most: asked.extend([seconds, most]))
    fit._timed(Corpus.open(place / "corpus"), make_recipe({"family": "decoder", "model": {"layers": 1, "width": 16, "heads": 2}}), 60.0)
    assert asked[0] < asked[1] < 60.0, "making the model counts too"


def test_a_budget_of_steps_is_tuned_for_those_steps(place: Path) -> None:
    for steps in (50, 200, 3000):
        recipe, told = dial.turn(make_recipe({"training": {"budget": f"{steps}steps"}}), Corpus.open(place / "corpus"), timed(5e10))
        decoder = recipe.model_section().parts[1]
        tokens = steps * decoder.training["batch_size"] * decoder.model["context"]
        assert told["shape"]["tokens"] == tokens
        assert told["shape"]["rows"] == pytest.approx(dial.shape_of(decoder.model["width"], tokens).rows, abs=1)
        found = dial.Shape(**told["shape"])
        assert found.steps == steps
        assert decoder.training["momentum"] == dial.settings(found, 1.0)["training"]["momentum"]


@pytest.mark.parametrize("budget", ["200steps", "3epochs", "1Mtokens"])
def test_budgets_that_are_no_time_need_no_measuring(place: Path, budget: str) -> None:
    seen: list[str] = []
    recipe, _ = dial.turn(make_recipe({"training": {"budget": budget}}), Corpus.open(place / "corpus"), timed(5e10, seen))
    assert not seen
    assert recipe.training.budget == budget
    assert Budget.parse(recipe.training.budget).seconds is None


def test_short_texts_and_short_budgets_are_counted(place: Path, tmp_path: Path) -> None:
    assert picked(place, "3s").family == "ngram"
    (tmp_path / "short.txt").write_text("the cat sat on the mat. " * 60)
    corpus = bimo.prepare(tmp_path / "short.txt", tmp_path / "short", tokenizer="char")
    recipe, told = dial.turn(make_recipe({"training": {"budget": "10m"}}), corpus, timed(5e10))
    assert (recipe.family, told["why"]) == ("ngram", "the text is short: an n-gram alone")


def test_pairs_get_a_family_that_reads_them(tmp_path: Path) -> None:
    for side in ("source", "target"):
        (tmp_path / f"{side}.txt").write_text("".join(f"one two {i}\n" for i in range(3000)))
    corpus = bimo.prepare(f"{tmp_path}/source.txt::{tmp_path}/target.txt", tmp_path / "pairs", tokenizer="char")
    assert dial.turn(make_recipe({"training": {"budget": "10m"}}), corpus, timed(5e10))[0].family == "seq2seq"


@pytest.mark.parametrize(
    ("words", "family"),
    [
        ([], None),
        (["training.budget=5m", "training.seed=3", "training.threads=1", "text.documents=line"], None),
        (["training.learning_rate=0.1"], "decoder"),
        (["model.width=64"], "decoder"),
        (["preset=lstm-small"], "lstm"),
        (["objective.label_smoothing=0.1"], "decoder"),
        (["text.tags=jieba"], "decoder"),
        (["family=gru"], "gru"),
    ],
)
def test_who_says_what_to_train_is_obeyed(words: list[str], family: str | None) -> None:
    assert make_recipe(parse_overrides(words)).family == family


def test_a_run_without_a_family(place: Path, tmp_path: Path) -> None:
    """The pick is in the run's recipe and in run.json; its time is the budget's; the run goes on without picking again."""
    run = bimo.train(str(place / "corpus"), out=tmp_path / "run", budget="12s", overrides=["training.evaluation_tokens=1000"])
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run.row.family == "ngram+decoder"
    assert told["dial"]["seconds"] > 0
    assert "matrix parameters" in told["dial"]["why"]
    assert run.row.used_seconds is not None
    assert told["dial"]["seconds"] < run.row.used_seconds
    assert bimo.resume(tmp_path / "run").finished_before
    assert bimo.info(tmp_path / "run")["run"]["dial"] == told["dial"]["why"]
    planned = bimo.plan(str(place / "corpus"), budget="60s", overrides=["training.threads=1"])
    assert set(planned) == {"auto-selected", "parts"}
    assert set(planned["parts"]) == {"ngram", "decoder"}
