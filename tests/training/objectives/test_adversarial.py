"""The game in the one loop: whose turn it is, resume to the bit, what is read, what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import bimo
from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe, make_recipe
from bimo.models.gan import GAN
from bimo.training.checkpoint import Checkpoint
from bimo.training.objectives.adversarial import Adversarial, AdversarialConfig, MixedDocuments, Turn, turn_of
from bimo.training.objectives.causal import causal_likelihood
from bimo.training.probe import probe
from tests.training.players import gradient, loop, objective, players, weights
from tests.training.toy import text, training

GAME = {"pretraining": 0.2, "discriminator_pretraining": 0.1}


@pytest.mark.parametrize("steps", [1, 7, 200, 1234])
def test_turns_are_as_many_as_their_shares(steps):
    config = AdversarialConfig(pretraining=0.55, discriminator_pretraining=0.05, generator_turns=2, discriminator_turns=3)
    turns = [turn_of(step, steps, config) for step in range(steps)]
    assert abs(turns.count(Turn.LIKELIHOOD) - 0.55 * steps) <= 1
    game = turns[turns.count(Turn.LIKELIHOOD) :]
    alone = next((i for i, turn in enumerate(game) if turn is Turn.GENERATOR), len(game))
    assert abs(alone - 0.05 * steps) <= 1
    assert all(turn is (Turn.GENERATOR if i % 5 < 2 else Turn.DISCRIMINATOR) for i, turn in enumerate(game[alone:]))


def test_shares_of_more_than_the_run_are_refused():
    with pytest.raises(RecipeError, match=r"sum must be 1 or less"):
        make_recipe({"family": "gan", "objective": {"pretraining": 0.8, "discriminator_pretraining": 0.3}})
    with pytest.raises(RecipeError, match="did you mean estimator"):
        make_recipe({"family": "gan", "objective": {"estimatr": "policy"}})


def test_pretraining_alone_is_the_causal_likelihood():
    model = players().double()
    task = objective(model, pretraining=1.0, discriminator_pretraining=0.0)
    for step in (0, 10, 19):
        batch = task.source.batch(0, step % 10)
        loss = task.loss(model, batch, None, step / 20)
        assert not loss.told
        expected = causal_likelihood(model, batch).nats
        assert torch.equal(loss.nats, expected)
        assert torch.equal(gradient(loss.nats, model.generator), gradient(expected, model.generator))
        assert not gradient(task.loss(model, batch, None, step / 20).nats, model.discriminator).any()


def test_the_steps_are_those_of_the_turns(tmp_path: Path) -> None:
    """Each step of the loop moves the player whose turn it is, and no other."""
    run = loop(tmp_path, players(), steps=20, **GAME)
    seen, step = [], run._step

    def watched() -> None:
        assert isinstance(run.model, GAN)
        before = weights(run.model.generator), weights(run.model.discriminator)
        step()
        after = weights(run.model.generator), weights(run.model.discriminator)
        moved = tuple(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
        seen.append({(True, False): "generator", (False, True): "discriminator"}[moved])

    run._step = watched  # type: ignore[method-assign]
    run.run()
    config = AdversarialConfig(**GAME)
    said = {Turn.LIKELIHOOD: "generator", Turn.GENERATOR: "generator", Turn.DISCRIMINATOR: "discriminator"}
    assert seen == [said[turn_of(i, 20, config)] for i in range(20)]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert "reward" not in lines[3]
    assert all({"reward", "discriminator_loss", "discriminator_accuracy", "distinct_2"} <= set(line) for line in lines[4:])
    assert all(0 < line["reward"] < 1 and 1 < line["loss"] < 4 for line in lines[4:])


@pytest.mark.parametrize("fields", [{"estimator": "policy"}, {"estimator": "gumbel"}, {"rollouts": 0, "generator_turns": 2}])
@pytest.mark.parametrize("dies", [6, 9, 13])
def test_a_resumed_game_is_the_uninterrupted_one(tmp_path: Path, dies: int, fields: dict[str, Any]) -> None:
    """Killed within the game, whichever turn it was, with dropout on both sides and several batches a step."""
    shape: dict[str, Any] = {"output_dropout": 0.2, "discriminator_dropout": 0.3}
    given = {"accumulation": 2, "checkpoint_every": 4}
    whole = loop(tmp_path / "whole", players(**shape), 16, given, **GAME, **fields)
    whole.run()
    cut = loop(tmp_path / "cut", players(**shape), 16, given, **GAME, **fields)
    step = cut._step

    def until() -> None:
        step()
        if cut.progress.step == dies:
            raise ZeroDivisionError

    cut._step = until  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        cut.run()
    torch.manual_seed(99)
    resumed = loop(tmp_path / "cut", players(seed=5, **shape), 16, given, **GAME, **fields)
    resumed.restore(Checkpoint.load(tmp_path / "cut"))
    assert resumed.progress.step == dies // 4 * 4
    resumed.run(resumed=True)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    told = [[json.loads(line) for line in (tmp_path / n / "metrics.jsonl").read_text().splitlines()] for n in ("whole", "cut")]
    for a, b in zip(*told, strict=True):
        assert {k: v for k, v in a.items() if k in _EXACT} == {k: v for k, v in b.items() if k in _EXACT}


_EXACT = ("step", "loss", "gradient_norm", "reward", "discriminator_loss", "discriminator_accuracy", "distinct_2")


def test_a_probe_meets_every_turn(caplog: pytest.LogCaptureFixture):
    model = players()
    task = objective(model, steps=None, least_variety=1.0, **GAME)
    assert [share for _, share in task.moments()] == pytest.approx([0.2, 0.1 + 0.7 * 2 / 3, 0.7 / 3], abs=0.002)
    moved = []
    for done, _ in task.moments():
        task.loss(model, task.source.batch(0, 0), None, done).nats.backward()
        players_of = (model.generator, model.discriminator)
        moved.append(tuple(any(p.grad is not None and bool(p.grad.any()) for p in player.parameters()) for player in players_of))
        model.zero_grad()
    assert moved == [(True, False), (False, True), (True, False)]
    before, buffers = weights(model), {n: b.clone() for n, b in model.named_buffers()}
    assert probe(model, task, task.training, 0.0).seconds_per_step > 0
    assert torch.equal(weights(model), before)
    assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())
    assert not caplog.records, "the texts of a model that has not learned yet are not watched"


def test_turns_that_never_come_are_not_probed():
    assert len(objective(players(), steps=None, pretraining=1.0, discriminator_pretraining=0.0).moments()) == 1
    assert [round(20 * done) for done, _ in objective(players(), steps=20, **GAME).moments()] == [0, 4, 6]


def test_batches_hold_all_documents_long_and_short_together():
    documents = [text(1, length, seed=length).read(0, 99) for length in (2, 9) * 16]
    starts = np.cumsum([0, *map(len, documents[:-1])])
    split = dataclasses.replace(text(), shards=[np.concatenate(documents)], starts=starts, document_bytes=np.ones(32, np.int64))
    source = MixedDocuments(split, 8, 20, seed=1)
    for epoch in range(3):
        rows = [source.rows(epoch, index).tolist() for index in range(source.steps_per_epoch)]
        assert sorted(row for part in rows for row in part) == list(range(32))
        mixed = [len(set(source.batch(epoch, index).lengths.tolist())) for index in range(source.steps_per_epoch)]
        assert set(mixed) == {2}
    assert source.rows(1, 0).tolist() != source.rows(2, 0).tolist()
    assert source.lost == 0


def test_a_text_that_would_mostly_be_lost_is_refused():
    recipe = Recipe(training=training(context=4))
    corpus: Any = SimpleNamespace(splits={"train": text(length=30)})
    with pytest.raises(RecipeError, match=r"training\.context: 87% .*token 4 .*--documents line"):
        Adversarial(AdversarialConfig(), players(), recipe, corpus)


def test_a_vocabulary_without_a_beginning_is_refused():
    model = players()
    model.vocabulary = dataclasses.replace(model.vocabulary, bos=None)
    with pytest.raises(RecipeError, match="<s>"):
        objective(model)


def test_the_discriminators_rate_is_its_own():
    model = players()
    judging, writing = objective(model, discriminator_rate=0.5).optimizers(model, training(learning_rate=0.01))
    assert {g["peak"] for g in judging.param_groups} == {0.005}
    assert {g["peak"] for g in writing.param_groups} == {0.01}
    held = [{id(p) for g in o.param_groups for p in g["params"]} for o in (judging, writing)]
    assert held == [{id(p) for p in player.parameters()} for player in (model.discriminator, model.generator)]


@pytest.mark.slow
def test_a_run_from_text_to_writing(tmp_path: Path) -> None:
    ends = ("na", "ia", "ma", "bel", "cy", "ra", "vi")
    names = "\n".join(a + b + c for a in ("an", "ol", "em", "is", "lu", "to") for b in ends for c in ends)
    (tmp_path / "names.txt").write_text(names + "\n")
    run = bimo.train(
        tmp_path / "names.txt", family="gan", documents="line", tokenizer="char", budget="12steps", out=tmp_path / "run",
        overrides=["model.width=16", "model.discriminator_width=8", "training.batch_size=8", "objective.pretraining=0.5"],
    )  # fmt: skip
    assert run.row.label == "GAN"
    model = bimo.load(tmp_path / "run")
    assert isinstance(model.bundle.model, GAN)
    assert run.row.parameters == model.bundle.model.generator.parameter_count()
    assert len(set(model.write([""] * 8, max_new_tokens=8, seed=1).texts)) > 1
    assert model.info()["config"]["discriminator_parameters"] > 0
