"""What a recipe leaves open is tried before the run, and the fastest kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bimo.core import runtime
from bimo.data.batches import WindowBatches
from bimo.training import probe as probing
from tests.training.toy import Likelihood, Toy, text, training


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def source() -> WindowBatches:
    return WindowBatches(text(), 4, 8, 0)


class Turns(Likelihood):
    """Two kinds of step, the second of which takes ten times as long on a clock of its own."""

    clock = 0.0

    def moments(self) -> list[tuple[float, float]]:
        return [(0.0, 0.75), (0.75, 0.25)]

    def loss(self, model: Any, batch: Any, carry: Any, done: float) -> Any:
        self.clock += 0.02 if done < 0.75 else 0.2
        return super().loss(model, batch, carry, done)


def test_kinds_of_step_count_by_their_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(source())
    monkeypatch.setattr(probing.time, "perf_counter", lambda: turns.clock)
    found = probing.probe(Toy(), turns, training(precision="fp32", threads=1), 0.0)
    assert found.seconds_per_step == pytest.approx(0.75 * 0.02 + 0.25 * 0.2)


def test_what_is_open_is_tried_and_the_fastest_wins(monkeypatch: pytest.MonkeyPatch, native_bf16: None) -> None:
    cost = {("fp32", 1): 3.0, ("fp32", 4): 2.0, ("bf16", 1): 5.0, ("bf16", 4): 1.0}
    tried = pretend(monkeypatch, cost)
    for seconds in (0.1, 0.0):  # a budget that is no time has little to spend here, and tries all the same
        tried.clear()
        found = probing.probe(Toy(), Likelihood(source()), training(precision=None, threads=None), seconds)
        assert (found.precision, found.threads) == ("bf16", 4)
        assert sorted(tried) == sorted(cost)
        assert torch.get_num_threads() == 4
    tried.clear()
    probing.probe(Toy(), Likelihood(source()), training(precision="fp32", threads=1), 0.1)
    assert tried == [("fp32", 1)]


def pretend(monkeypatch: pytest.MonkeyPatch, cost: dict[tuple[str, int], float], steps: int = 50) -> list[tuple[str, int]]:
    """Four cores on which a step costs what `cost` says; what is tried is written down."""
    tried: list[tuple[str, int]] = []

    def timed(timer: Any, precision: Any, seconds: float, least: int = 2, limit: float = 0.0) -> probing.Probe:
        tried.append((precision, torch.get_num_threads()))
        return probing.Probe(precision, tried[-1][1], cost[tried[-1]], 0, max(least, steps))

    monkeypatch.setattr(probing._Timer, "time", timed)
    monkeypatch.setattr(runtime, "cores", lambda: 4)
    return tried


def test_few_steps_are_made_more_where_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = pretend(monkeypatch, {("fp32", 1): 3.0, ("fp32", 4): 2.0}, steps=2)
    section = training(precision="fp32", threads=None)
    assert probing.probe(Toy(), Likelihood(source()), section, 1.0, most=60.0).rounds == probing._ROUNDS
    assert tried == [("fp32", 4), ("fp32", 1), ("fp32", 4)]
    tried.clear()
    assert probing.probe(Toy(), Likelihood(source()), section, 1.0).rounds == 2, "no time is to be filled"
    tried.clear()
    assert probing.probe(Toy(), Likelihood(source()), section, 1.0, most=-1.0).rounds == 2
    assert tried == [("fp32", 4)], "nothing new is begun when the time is over"


def test_one_thread_is_not_tried_where_a_step_takes_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = pretend(monkeypatch, {("fp32", 1): 1.0, ("fp32", 4): 5.0})
    assert probing.probe(Toy(), Likelihood(source()), training(precision="fp32", threads=None), 1.0).threads == 4
    assert tried == [("fp32", 4)]


def test_a_probe_ends_when_its_time_does() -> None:
    found = probing.probe(Toy(), Likelihood(source()), training(threads=1), 60.0, most=-1.0)
    assert found.rounds == 2, "a first step loads and compiles, and says nothing of the speed"


def test_planning_takes_no_more_than_its_share_beside_two_steps(monkeypatch: pytest.MonkeyPatch, native_bf16: None) -> None:
    """Steps of two seconds on a clock of their own: of six seconds, two steps take four, and a second choice would take as long."""
    clock = [0.0]

    class Slow(Likelihood):
        def loss(self, model: Any, batch: Any, carry: Any, done: float) -> Any:
            clock[0] += 2.0
            return super().loss(model, batch, carry, done)

    monkeypatch.setattr(runtime, "cores", lambda: 4)
    monkeypatch.setattr(probing.time, "perf_counter", lambda: clock[0])
    for most in (0.1, 6.0, 7.9):
        clock[0] = 0.0
        probing.probe(Toy(), Slow(source()), training(precision=None, threads=None), 0.8 * most, most=most)
        assert clock[0] <= max(4.0, most)
