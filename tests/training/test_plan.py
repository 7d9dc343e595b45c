"""What is told ahead of a run, and that telling it changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bimo.data.batches import WindowBatches
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
    assert plan.disk_peak_bytes > plan.disk_bytes > sum(p.nbytes for p in model.parameters())
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
