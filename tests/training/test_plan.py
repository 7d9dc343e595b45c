"""What is told ahead of a run, and that telling it changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bimo.core import runtime
from bimo.data.batches import WindowBatches
from bimo.training import plan as planning
from bimo.training.plan import flops_per_token, make_plan, plan_counted
from tests.training.toy import Likelihood, Toy, text, training


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def source() -> WindowBatches:
    return WindowBatches(text(), 4, 8, 0)


def test_a_plan_is_consistent_and_changes_nothing() -> None:
    torch.manual_seed(0)
    model, section = Toy(), training(steps=None, budget="40steps")
    weights = [p.detach().clone() for p in model.parameters()]
    state = torch.get_rng_state()
    plan = make_plan(model, Likelihood(source()), section, probe_seconds=0.05)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert section == training(steps=None, budget="40steps")
    assert plan.steps == 40
    assert plan.tokens == 40 * 32
    assert plan.parameters == sum(p.numel() for p in model.parameters())
    assert plan.epochs == pytest.approx(40 / source().steps_per_epoch)
    assert plan.flops == pytest.approx(flops_per_token(model) * plan.tokens)
    assert plan.seconds >= 40 * plan.seconds_per_step
    assert plan.threads == 1
    assert plan.precision == "fp32"


def test_the_steps_of_a_time_fill_nineteen_twentieths_of_it() -> None:
    plan = make_plan(Toy(), Likelihood(source()), training(steps=None, budget="20s"))
    assert plan.seconds == pytest.approx(0.95 * 20, abs=1.5)


def test_operations_are_six_a_weight_that_multiplies() -> None:
    model = Toy(width=8)
    assert flops_per_token(model) == 6 * (8 * 8 + 8 * model.vocabulary.size)  # the embedding is looked up, biases add


def test_what_is_open_is_tried_and_the_fastest_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = {("fp32", 1): 3.0, ("fp32", 4): 2.0, ("bf16", 1): 5.0, ("bf16", 4): 1.0}
    tried = []

    def timed(model: Any, objective: Any, batches: Any, section: Any, precision: Any, seconds: float, limit: float) -> planning.Probe:
        tried.append((precision, torch.get_num_threads()))
        return planning.Probe(precision, torch.get_num_threads(), cost[tried[-1]], 0)

    monkeypatch.setattr(planning, "_time_steps", timed)
    monkeypatch.setattr(planning, "bf16_is_native", lambda device: True)
    monkeypatch.setattr(runtime, "cores", lambda: 4)
    found = planning.probe(Toy(), Likelihood(source()), training(precision=None, threads=None), 0.1)
    assert (found.precision, found.threads) == ("bf16", 4)
    assert sorted(tried) == sorted(cost)
    assert torch.get_num_threads() == 4
    tried.clear()
    planning.probe(Toy(), Likelihood(source()), training(precision="fp32", threads=1), 0.1)
    assert tried == [("fp32", 1)]


class Counter:
    """Counts pairs."""

    def __init__(self) -> None:
        self.pairs: set[tuple[int, int]] = set()
        self.estimated = False

    def count(self, chunks: Any) -> None:
        for ids in chunks:
            self.pairs |= set(zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True))

    def estimate(self) -> None:
        self.estimated = True

    def tensors(self) -> dict[str, torch.Tensor]:
        assert self.estimated
        return {"pairs": torch.zeros(len(self.pairs), 2)}

    def parameter_count(self) -> int:
        return len(self.pairs)


def test_a_counted_family_is_told_by_a_sample() -> None:
    split = text(documents=2000, length=10)
    sample = split.read(0, 3000)
    pairs = len(set(zip(sample[:-1].tolist(), sample[1:].tolist(), strict=True)))
    plan = plan_counted(Counter, split, 3000)
    assert plan.sample_tokens == 3000
    assert plan.tokens == split.tokens == 24_000
    assert plan.parameters == 8 * pairs
    assert plan.disk_bytes == 8 * 8 * pairs
    assert plan.seconds == pytest.approx(plan.tokens / plan.tokens_per_second)
    assert plan.memory_bytes > 1 << 20
    whole = Counter()
    whole.count(split.chunks())
    assert plan.parameters >= len(whole.pairs), "an upper bound"
    assert plan_counted(Counter, split, 0).sample_tokens == 2000
    assert np.isfinite(list(plan.to_dict().values())).all()
