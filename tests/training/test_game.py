"""The game's gradients: the policy's is the expected reward's, each player's moves that player alone, and the watch sees a collapse."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch

from bimo.data.batches import Batch
from bimo.models.gan import GAN
from bimo.training.game import Game, policy_gradient
from bimo.training.objectives.adversarial import AdversarialConfig
from bimo.training.objectives.causal import causal_likelihood
from tests.training.players import SMALL, all_texts, gradient, log_probs, objective, players, weights

ESTIMATORS = ["policy", "gumbel"]


def batch_of(model: GAN, rows: int | None = None) -> Batch:
    if rows is None:
        return objective(model).source.batch(0, 0)
    texts = all_texts(2)
    tokens, lengths = texts.tokens[torch.arange(rows) % 7], texts.lengths[torch.arange(rows) % 7]
    boundaries = torch.zeros(rows, 2, dtype=torch.bool)
    boundaries[:, 0] = True
    return Batch(tokens, boundaries, torch.arange(1, 3)[None] < lengths[:, None], fresh=True)


def game(model: GAN, batch: Batch | None = None, limit: int = 11, **fields: Any) -> Game:
    return Game(AdversarialConfig(**fields), model, batch_of(model) if batch is None else batch, limit)


def exact_gradient(model: GAN) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of the expected reward, over all seven texts; with their probabilities and rewards."""
    every = all_texts(2)
    rewards = model.judge(every.tokens, every.lengths).sigmoid().detach()
    probabilities = log_probs(model, every).exp()
    return gradient((probabilities * rewards).sum(), model.generator), probabilities.detach(), rewards


@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_the_policy_gradient_is_the_expected_rewards(baseline):
    """Added up over every text, each as often as the model writes it: REINFORCE with and without a baseline, and by place."""
    model, every = players(SMALL).double(), all_texts(2)
    expected, probabilities, rewards = exact_gradient(model)
    worth = torch.where(every.drawn, rewards[:, None], 0.0)
    first = [[b for b, row in enumerate(every.tokens) if row[1] == word] for word in (1, 2, 3)]
    by_place = worth.clone()
    for same in first:
        by_place[same, 1] = (probabilities[same] * rewards[same]).sum() / probabilities[same].sum()
    for q in (worth, by_place):
        parts = []
        for b in range(7):
            one = type(every)(every.tokens[b : b + 1], every.lengths[b : b + 1])
            log_probability, _ = game(model)._chosen(one)
            parts.append(
                probabilities[b] * gradient(policy_gradient(log_probability, (q[b : b + 1] - baseline)[one.drawn]), model.generator)
            )
        torch.testing.assert_close(torch.stack(parts).sum(0), -expected, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("rollouts", [0, 3])
def test_a_turn_follows_the_expected_rewards_gradient(rollouts):
    """The whole turn, with texts, roll-outs, baseline and scale that earlier turns left."""
    model = players(SMALL).double()
    expected, probabilities, rewards = exact_gradient(model)
    model.reward_weight.fill_(0.5)
    model.reward_mean.copy_(0.5 * (mean := (probabilities * rewards).sum()))
    model.reward_square.copy_(0.5 * (mean**2 + 0.01))
    torch.manual_seed(0)
    batch = batch_of(model, 8_000)
    turn = game(model, batch, limit=2, likelihood=0.0, entropy=0.0, rollouts=rollouts, reward_clip=99.0, normalised=True)
    found = gradient(turn.generator_turn(0.5), model.generator) / 8_000
    torch.testing.assert_close(found, -expected / 0.1, atol=0.05 * float(expected.abs().max()) / 0.1, rtol=0)


def test_the_baseline_knows_earlier_turns_alone():
    model = players()
    turn = game(model, reward_decay=0.5, reward_clip=2.0, normalised=True)
    assert turn._advantage(torch.tensor([0.2, 0.6])).tolist() == pytest.approx([0.2, 0.6]), "nothing is known yet"
    mean, deviation = 0.4, 0.2
    assert turn._advantage(torch.tensor([0.5, 0.1, 9.0])).tolist() == pytest.approx([(0.5 - mean) / deviation, -1.5, 2.0])
    second = torch.tensor([0.5, 0.1, 9.0])
    expected = float((0.25 * 0.4 + 0.5 * second.mean()) / 0.75)
    assert float(model.reward_mean / model.reward_weight) == pytest.approx(expected)
    plain = game(model, reward_clip=2.0)._advantage(torch.tensor([0.5, 9.0]))
    assert plain.tolist() == pytest.approx([0.5 - expected, 2.0])


def test_the_entropy_is_that_of_what_was_drawn_from():
    model, every = players(SMALL).double(), all_texts(2)
    _, found = game(model)._chosen(every)
    expected = 0.0
    for row, length in zip(every.tokens, every.lengths.tolist(), strict=True):
        logits, _ = model.advance(model.start(1), row[None, : length - 1])
        p = logits[0].softmax(-1)[:, 1:]
        expected += float(-(p * p.log()).sum())
    assert found.item() == pytest.approx(expected)
    assert bool(gradient(found, model.generator).isfinite().all())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_turn_moves_its_player_alone(estimator):
    model = players().train()
    for judging in (True, False):
        model.zero_grad(set_to_none=True)
        turn = game(model, estimator=estimator)
        (turn.discriminator_turn() if judging else turn.generator_turn(0.5)).backward()
        moved, still = (model.discriminator, model.generator) if judging else (model.generator, model.discriminator)
        assert all(p.grad is None for p in still.parameters())
        assert all(p.grad is not None and bool((p.grad != 0).any()) for p in moved.parameters())
        assert {"discriminator_loss", "discriminator_accuracy", "reward", "distinct_2"} == set(turn.told)


def test_steps_of_one_player_leave_the_other_bit_for_bit():
    """Through the optimizers too, whose moments would go on moving what has no gradient."""
    model = players().train()
    task = objective(model, steps=100, pretraining=0.0, discriminator_pretraining=0.0, discriminator_turns=1)
    optimizers = task.optimizers(model, task.training)
    batch = task.source.batch(0, 0)
    for step in range(6):
        judged, written = weights(model.discriminator), weights(model.generator)
        (task.loss(model, batch, None, step / 100).nats / batch.count).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        assert torch.equal(weights(model.generator), written) is (step % 2 == 1)
        assert torch.equal(weights(model.discriminator), judged) is (step % 2 == 0)


@pytest.mark.parametrize("kind", ["cnn", "recurrent"])
def test_the_discriminator_learns_to_tell(kind):
    model = players(discriminator=kind, discriminator_width=8).train()
    task = objective(model, given={"batch_size": 40, "learning_rate": 0.05})
    (optimizer, *_), told = task.optimizers(model, task.training), []
    for index in range(16):
        turn = game(model, task.source.batch(index, 0))
        loss = turn.discriminator_turn()
        (loss / turn.batch.count).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        told.append(turn.told["discriminator_accuracy"])
    assert told[0] < 0.65
    assert sum(told[-4:]) / 4 > 0.75


@pytest.mark.parametrize(("estimator", "rollouts"), [("policy", 2), ("policy", 0), ("gumbel", 0)])
def test_the_generator_learns_what_is_liked(estimator, rollouts):
    """A discriminator that takes texts with a 5 for real."""
    model = players(kernels=[1], discriminator_width=1, discriminator_embedding=1)
    with torch.no_grad():
        for parameter in model.discriminator.parameters():
            parameter.zero_()
        judge: Any = model.discriminator
        judge.embedding.weight[5] = 1.0
        judge.filters[0].weight.fill_(1.0)
        judge.gate.bias.fill_(-9.0)
        judge.output.weight.fill_(4.0)
        judge.output.bias.fill_(-2.0)
    assert model.judge(torch.tensor([[0, 4, 5, 1], [0, 4, 4, 1]])).tolist() == pytest.approx([2, -2], abs=0.01)
    batch, fields = batch_of(model), {"estimator": estimator, "rollouts": rollouts, "likelihood": 0.0, "entropy": 0.0}
    batch = Batch(*(torch.cat([part] * 8) for part in (batch.tokens, batch.boundaries, batch.targets_scored)))
    optimizer, rewards = torch.optim.Adam(model.generator.parameters(), 0.05), []
    torch.manual_seed(0)
    for step in range(30):
        turn = game(model, batch, limit=4, **fields)
        (turn.generator_turn(step / 30) / batch.count).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        rewards.append(turn.told["reward"])
    assert rewards[0] < 0.5
    assert rewards[-1] > 0.8


def test_the_value_is_the_likelihood_in_every_turn():
    model = players()
    expected = causal_likelihood(model, batch_of(model)).nats.item()
    for estimator in ESTIMATORS:
        turn = game(model, estimator=estimator)
        assert turn.generator_turn(0.5).item() == pytest.approx(expected)
        assert turn.discriminator_turn().item() == pytest.approx(expected)


def test_likelihood_in_the_generators_turn_is_the_causal_gradient():
    """Beside what the discriminator says, by its weight."""
    model = players().double()
    batch = batch_of(model)
    found = []
    for share in (0.0, 0.7):
        fresh = copy.deepcopy(model)
        torch.manual_seed(4)
        found.append(gradient(game(fresh, batch, likelihood=share).generator_turn(0.5), fresh.generator))
    causal = gradient(causal_likelihood(model, batch).nats, model.generator)
    torch.testing.assert_close(found[1] - found[0], 0.7 * causal)


def test_a_collapse_stops_the_game_with_a_notice(caplog):
    model = players()
    task = objective(model, steps=100, pretraining=0.0, discriminator_pretraining=0.0, likelihood=0.0)
    batch = task.source.batch(0, 0)
    with torch.no_grad():
        model.generator.output_bias[5] = 50.0
    with caplog.at_level(logging.WARNING, "bimo"):
        for step in range(100):
            loss = task.loss(model, batch, None, step / 100)
            if int(model.stopped) >= 0:
                break
    assert 3 < step < 60, "not at once, and not never"
    assert int(model.stopped) == step
    assert len(caplog.records) == 1
    assert "collapsed" in caplog.text
    assert "objective.likelihood" in caplog.text
    state = torch.get_rng_state()
    loss = task.loss(model, batch, None, (step + 1) / 100)
    assert torch.equal(torch.get_rng_state(), state), "nothing is drawn any more"
    assert loss.nats.item() == pytest.approx(causal_likelihood(model, batch).nats.item())
    assert loss.told == {"stopped": batch.count}


def test_various_texts_do_not_stop_it():
    model = players()
    task = objective(model, steps=60, pretraining=0.0, discriminator_pretraining=0.0)
    for step in range(30):
        task.loss(model, task.source.batch(0, step % 10), None, step / 60)
    assert int(model.stopped) == -1
    assert float(model.variety) > 0.8
