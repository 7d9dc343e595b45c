"""The loop: accumulation, NaN, Ctrl-C, patience, best and last weights, budgets, the clock, resume."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from bimo.core import store
from bimo.core.budget import Budget
from bimo.core.errors import DivergedError, Interrupted, MachineError
from bimo.data.batches import Batch, CarriedBatches, WindowBatches
from bimo.training import checkpoint
from bimo.training.averaging import RunningMean
from bimo.training.checkpoint import Checkpoint
from bimo.training.loop import Hooks, Loop, Outcome
from bimo.training.objectives.base import training_step
from bimo.training.objectives.causal import causal_likelihood
from bimo.training.plan import count_steps
from bimo.training.progress import Reporter
from tests.training.toy import Likelihood, Toy, text, training


def make(folder: Path, hooks: Hooks | None = None, model: Toy | None = None, **given: Any) -> Loop:
    """A loop of a seeded model over shuffled windows (carried ones, where the model has no context)."""
    torch.manual_seed(0)
    model = model or Toy()
    section = training(**given)
    folder.mkdir(exist_ok=True)
    kind = CarriedBatches if model.context is None else WindowBatches
    source = kind(text(), section.batch_size, section.context or 8, 0)
    return Loop(model, Likelihood(source), section, folder, hooks or Hooks(), Reporter("toy", 1, quiet=True))


def run(folder: Path, **given: Any) -> tuple[Loop, Outcome]:
    loop = make(folder, **given)
    return loop, loop.run()


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _joined(batches: list[Batch]) -> Batch:
    return Batch(*(torch.cat([getattr(b, name) for b in batches]) for name in ("tokens", "boundaries", "targets_scored")))


def test_accumulated_gradients_are_those_of_one_large_batch() -> None:
    torch.manual_seed(0)
    model = Toy()
    source = WindowBatches(text(length=5), 3, 8, 0)
    batches = [source.batch(0, i) for i in range(4)]
    assert len({int(b.targets_scored.sum()) for b in batches}) > 1, "batches with different numbers of scored tokens are the point"
    made = training_step(causal_likelihood, model, batches, None, "fp32")
    apart = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    whole = training_step(causal_likelihood, model, [_joined(batches)], None, "fp32")
    assert made.targets == whole.targets
    assert made.nats == pytest.approx(whole.nats)
    for p, g in zip(model.parameters(), apart, strict=True):
        torch.testing.assert_close(p.grad, g, atol=1e-6, rtol=1e-4)


def test_it_learns(tmp_path: Path) -> None:
    _, outcome = run(tmp_path, steps=150, budget="150steps", learning_rate=0.03)
    losses = [line["loss"] for line in lines(tmp_path)]
    assert losses[-1] < 0.7 * losses[0]
    assert outcome.progress.step == 150
    assert not outcome.capped


@pytest.mark.parametrize("context", [8, None])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, context: int | None) -> None:
    given: dict[str, Any] = {"steps": 9, "accumulation": 2, "checkpoint_every": 4, "average": 0.7}
    whole, _ = run(tmp_path / "whole", model=_seeded(context), **given)
    cut = make(tmp_path / "cut", model=_seeded(context), **given)
    step = cut._step

    def dies() -> None:
        step()
        if cut.progress.step == 6:
            raise ZeroDivisionError

    cut._step = dies  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        cut.run()
    torch.manual_seed(99)
    resumed = make(tmp_path / "cut", model=_seeded(context), **given)
    resumed.restore(Checkpoint.load(tmp_path / "cut"))
    assert resumed.progress.step == 4
    resumed.run(resumed=True)
    assert torch.equal(weights(whole.model), weights(resumed.model))
    assert whole.mean.steps == resumed.mean.steps == 7
    assert all(torch.equal(tensor, resumed.mean.weights[name]) for name, tensor in whole.mean.weights.items())
    for a, b in zip(lines(tmp_path / "whole"), lines(tmp_path / "cut"), strict=True):
        assert (a["step"], a["loss"]) == (b["step"], b["loss"])


def _seeded(context: int | None) -> Toy:
    torch.manual_seed(0)
    return Toy(context=context)


def test_nan_stops_and_the_batch_is_saved(tmp_path: Path) -> None:
    loop = make(tmp_path, steps=5)
    step = loop._step

    def poisoned() -> None:
        if loop.progress.step == 2:
            with torch.no_grad():
                loop.model.inner.weight.fill_(float("nan"))  # type: ignore[union-attr, operator]
        step()

    loop._step = poisoned  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match=r"step 3: .*diverged-step-3\.safetensors.*start anew .*--out") as found:
        loop.run()
    assert found.value.exit_code == 1
    saved = store.read_tensors(tmp_path / "diverged-step-3.safetensors")
    epoch, index = divmod(2, loop.objective.source.steps_per_epoch)
    assert torch.equal(saved["tokens.0"], loop.objective.source.batch(epoch, index).tokens)
    assert torch.isfinite(torch.cat([t.flatten() for t in Checkpoint.load(tmp_path).model.values()])).all(), "the last checkpoint stands"


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path, signal_number: int) -> None:
    loop = make(tmp_path, steps=50)
    step = loop._step

    def interrupted() -> None:
        if loop.progress.step == 3:
            os.kill(os.getpid(), signal_number)
        step()

    loop._step = interrupted  # type: ignore[method-assign]
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=f"bimo train --resume {tmp_path}") as found:
        loop.run()
    assert found.value.exit_code == 130
    assert Checkpoint.load(tmp_path).progress.step == 4
    assert signal.getsignal(signal.SIGINT) is before


class Looks:
    """A validation that gives these nats, one a look."""

    def __init__(self, *nats: float, seconds: float = 0.0) -> None:
        self.nats, self.seconds, self.seen = list(nats), seconds, []

    def __call__(self, model: Any) -> float:
        assert not model.training
        time.sleep(self.seconds)
        torch.rand(3)  # must not change what the run draws
        self.seen.append(weights(model))
        return self.nats[len(self.seen) - 1]


def test_patience_ends_the_run(tmp_path: Path) -> None:
    looks = Looks(3.0, 2.0, 2.5, 2.1, 1.0, 1.0)
    _, outcome = run(tmp_path, hooks=Hooks(looks), evaluations=6, patience=2)
    assert outcome.stopped_early
    assert outcome.progress.step == 4
    assert outcome.progress.best_step == 2


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_best_weights_are_kept_if_asked_for(tmp_path: Path, keep: str) -> None:
    looks = Looks(3.0, 1.0, 2.0)
    loop, _ = run(tmp_path, hooks=Hooks(looks), evaluations=3, keep=keep)
    if keep == "last":
        assert loop.best is None
        return
    assert loop.best is not None
    assert torch.equal(torch.cat([t.flatten() for t in loop.best.values()]), looks.seen[1])
    assert Checkpoint.load(tmp_path).best is not None


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_mean_of_the_last_steps_is_kept_where_it_is_better(tmp_path: Path, keep: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    add = RunningMean.add

    def adding(self: RunningMean, state: Any) -> None:
        add(self, state)
        seen.append(torch.cat([t.flatten().clone() for t in state.values()]))

    monkeypatch.setattr(RunningMean, "add", adding)
    looks = Looks(3.0, 2.0, 1.0)  # the third is of the mean
    loop, outcome = run(tmp_path, hooks=Hooks(looks), evaluations=2, keep=keep, average=0.5, steps=12)
    assert len(seen) == 6
    mean = torch.stack(seen).mean(dim=0)
    assert loop.kept is not None
    assert torch.allclose(torch.cat([t.flatten() for t in loop.kept.values()]), mean, atol=1e-6)
    assert torch.equal(weights(loop.model), seen[-1]), "learning went on from the weights themselves"
    assert [line["averaged"] for line in lines(tmp_path) if "averaged" in line] == ([6] if keep == "best" else [])
    assert outcome.progress.best_step == 12


def test_a_mean_that_is_worse_is_not_kept(tmp_path: Path) -> None:
    looks = Looks(3.0, 1.0, 2.0)
    loop, _ = run(tmp_path, hooks=Hooks(looks), evaluations=2, average=0.5)
    assert loop.kept is not None
    assert torch.equal(torch.cat([t.flatten() for t in loop.kept.values()]), looks.seen[1])


def test_without_validation_text_the_mean_is_what_the_run_ends_with(tmp_path: Path) -> None:
    loop, _ = run(tmp_path, average=0.5)
    assert loop.kept
    assert not torch.equal(torch.cat([t.flatten() for t in loop.kept.values()]), weights(loop.model))
    again = make(tmp_path, average=0.5)
    again.restore(Checkpoint.load(tmp_path))
    again.run(resumed=True)
    assert all(torch.equal(again.kept[name], tensor) for name, tensor in loop.kept.items())  # type: ignore[index]


def test_looks_change_nothing_and_stand_outside_the_clock(tmp_path: Path) -> None:
    plain, _ = run(tmp_path / "plain")
    looks = Looks(*[1.0] * 3, seconds=0.4)
    watched, outcome = run(tmp_path / "watched", hooks=Hooks(looks, lambda model: "a sample"), evaluations=3, samples=2, keep="last")
    assert torch.equal(weights(plain.model), weights(watched.model))
    assert outcome.progress.seconds < 1.0
    assert [line["sample"] for line in lines(tmp_path / "watched") if "sample" in line] == ["a sample"] * 2
    assert sum("valid_loss" in line for line in lines(tmp_path / "watched")) == 3


def test_a_run_that_meets_its_time_is_capped(tmp_path: Path) -> None:
    _, outcome = run(tmp_path, steps=100_000, budget="0.3s")
    assert outcome.capped
    assert outcome.progress.step < 100_000
    assert outcome.progress.seconds == pytest.approx(0.3, abs=0.5)


class Clock:
    """Time that passes by steps alone: `times[i]` seconds in step i."""

    def __init__(self, times: list[float]) -> None:
        self.now, self.times = 0.0, times

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("planned", "times", "least", "capped"),
    [
        (20, [1.0] * 200, 92, False),  # the probe met other programs: the rest of the time is used, too
        (9000, [10.0] + [0.1] * 2000, 800, False),  # the first step compiles
        (6, [1.0] * 200, 92, False),  # so many that the steps were done before the first plan
        (500, [1.0] * 200, 92, False),  # it met none: the learning rate comes down all the same
        (95, [1.0] * 30 + [2.0] * 50, 60, False),  # a program came
        (95, [1.0] * 30 + [0.5] * 200, 160, False),  # and went
        (95, [1.0] * 85 + [9.0] * 50, 85, True),  # later than the last plan
    ],
)
def test_steps_are_planned_again_at_the_speed_that_is(
    planned: int, times: list[float], least: int, capped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, step = Clock(times), Loop._step

    def stepping(self: Loop) -> None:
        step(self)
        clock.now += clock.times[self.progress.step - 1]

    monkeypatch.setattr("bimo.training.loop.time", clock)
    monkeypatch.setattr(Loop, "_step", stepping)
    loop = make(tmp_path, steps=planned, budget="100s", checkpoint_every=1000, schedule="linear", final=0.0)
    shown: list[tuple[float, float]] = []
    monkeypatch.setattr(loop.reporter, "update", lambda done, text=None: shown.append((done, clock.now)))
    outcome = loop.run(plan_again=True)
    assert [done for done, _ in shown] == sorted(done for done, _ in shown), "the bar never goes back"
    assert all(done == pytest.approx(min(1.0, now / 97)) for done, now in shown[:-1]), "it goes by the time that is used"
    assert outcome.capped == capped
    assert outcome.progress.step >= least
    assert clock.now >= 92
    rates = [line["learning_rate"] for line in lines(tmp_path) if "learning_rate" in line]
    assert capped or rates[-1] < 0.1 * max(rates), "it has come down"
    assert loop.training.steps == loop.progress.steps == loop.steps


def test_what_is_planned_again_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(self: Loop) -> None:
        step(self)
        clock.now += 1.0
        self._stop_asked = self.progress.step == 30

    clock, step = Clock([]), Loop._step
    monkeypatch.setattr("bimo.training.loop.time", clock)
    monkeypatch.setattr(Loop, "_step", stopped)
    with pytest.raises(Interrupted):
        make(tmp_path, steps=500, budget="100s").run(plan_again=True)
    again = make(tmp_path, steps=500, budget="100s")
    again.restore(Checkpoint.load(tmp_path))
    assert again.steps == again.training.steps == 10 + 87
    assert again.progress.planned_at == [30, 30.0]
    assert again.run(resumed=True).progress.step >= 92
    fixed, _ = run(tmp_path / "fixed", steps=12, budget="100s")
    assert fixed.progress.step == 12, "steps that were asked for stay"


def test_time_that_went_before_counts_and_speed_does_not_know_it(tmp_path: Path) -> None:
    loop = make(tmp_path, steps=4)
    outcome = loop.run(seconds_used=50.0)
    assert outcome.progress.seconds > 50
    assert lines(tmp_path)[0]["tokens_per_second"] > 20, "the speed is that of the steps"


@pytest.mark.parametrize(
    ("budget", "accumulation", "expected"),
    [
        ("7steps", 1, 7),
        ("3epochs", 1, 45),
        ("3epochs", 2, 23),
        ("0.5epochs", 1, 8),
        ("320tokens", 1, 10),
        ("320tokens", 2, 5),
        ("1tokens", 1, 1),
        ("10s", 1, 60),
        ("1s", 1, 1),
    ],
)
def test_budgets_in_every_unit(budget: str, accumulation: int, expected: int) -> None:
    source = WindowBatches(text(), 4, 8, 0)
    assert source.steps_per_epoch == 15
    assert count_steps(Budget.parse(budget), source, accumulation, 0.125, 2.0) == expected


def test_a_full_disk_during_the_run_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    loop = make(tmp_path, steps=9, checkpoint_every=3)
    saves = 0

    def full(stage: str, path: Path) -> None:
        nonlocal saves
        saves += stage == "sync" and path.name == checkpoint.FILE
        if saves == 3:
            raise OSError(28, "No space left on device")

    with store.observe_saves(full), pytest.raises(MachineError, match="no space left"):
        loop.run()
    assert Checkpoint.load(tmp_path).progress.step == 3


def test_what_is_carried_ends_with_the_epoch_also_within_an_accumulated_step(tmp_path: Path) -> None:
    """The last batches of an epoch go on from those before them; the first of the next one starts from nothing."""
    loop = make(tmp_path, model=_seeded(None), accumulation=2, steps=9)
    assert loop.objective.source.steps_per_epoch % 2 == 1, "an epoch that ends within a step is the point"
    seen: list[bool] = []
    hidden = loop.model.hidden

    def watched(tokens: torch.Tensor, carry: Any = None, boundaries: Any = None) -> Any:
        seen.append(carry is None)
        return hidden(tokens, carry, boundaries)

    loop.model.hidden = watched  # type: ignore[method-assign]
    loop.run()
    assert seen == [position % loop.objective.source.steps_per_epoch == 0 for position in range(len(seen))]


def test_a_look_without_a_number_is_never_the_best(tmp_path: Path) -> None:
    found = iter([math.inf, 3.0, 2.0, 4.0])
    loop = make(tmp_path, Hooks(validate=lambda model: next(found)), evaluations=4, steps=4)
    loop.run()
    assert (loop.progress.best_nats, loop.progress.best_step) == (2.0, 3)
    assert [line["valid_loss"] for line in lines(tmp_path) if "valid_loss" in line] == [None, 3.0, 2.0, 4.0]


def test_a_run_that_ended_early_stays_ended_when_resumed(tmp_path: Path) -> None:
    """Killed after its last checkpoint, while it was measured."""
    loop = make(tmp_path, Hooks(validate=lambda model: 1.0), evaluations=20, patience=2, steps=20)
    assert loop.run().stopped_early
    step = loop.progress.step
    again = make(tmp_path, Hooks(validate=lambda model: 1.0), evaluations=20, patience=2, steps=20)
    again.restore(Checkpoint.load(tmp_path))
    outcome = again.run(resumed=True)
    assert outcome.stopped_early
    assert again.progress.step == step < 20


def test_a_run_that_ends_far_above_where_it_began_has_diverged(tmp_path: Path) -> None:
    """Also where no number was infinite; weights of an earlier step that validation text found good are kept, and the run says so."""
    far: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 3.0, "momentum": 0.99, "clip": 0.0, "schedule": "constant", "steps": 40}
    with pytest.raises(DivergedError, match=r"the loss ended at .* nats a target, far above the .*learning_rate \(here 3\)"):
        run(tmp_path / "lost", **far)
    assert lines(tmp_path / "lost")[-1]["loss"] > 10 * math.log(12)
    looks = iter([1.0, *[50.0] * 9])
    loop = make(tmp_path / "kept", Hooks(lambda model: next(looks)), evaluations=8, **far)
    loop.run()
    assert loop.progress.best_step == 5
    assert ["diverged after step 5" in notice for notice in loop.notices] == [True]
    loop = make(tmp_path / "last", Hooks(lambda model: 1.0), evaluations=8, keep="last", **far)
    with pytest.raises(DivergedError):
        loop.run()
