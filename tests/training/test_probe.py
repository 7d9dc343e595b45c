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


def test_what_is_open_is_tried_and_the_fastest_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = {("fp32", 1): 3.0, ("fp32", 4): 2.0, ("bf16", 1): 5.0, ("bf16", 4): 1.0}
    tried = []

    def timed(model: Any, objective: Any, batches: Any, section: Any, precision: Any, seconds: float, limit: float) -> probing.Probe:
        tried.append((precision, torch.get_num_threads()))
        return probing.Probe(precision, torch.get_num_threads(), cost[tried[-1]], 0)

    monkeypatch.setattr(probing, "_time_steps", timed)
    monkeypatch.setattr(probing, "bf16_is_native", lambda device: True)
    monkeypatch.setattr(runtime, "cores", lambda: 4)
    found = probing.probe(Toy(), Likelihood(source()), training(precision=None, threads=None), 0.1)
    assert (found.precision, found.threads) == ("bf16", 4)
    assert sorted(tried) == sorted(cost)
    assert torch.get_num_threads() == 4
    tried.clear()
    probing.probe(Toy(), Likelihood(source()), training(precision="fp32", threads=1), 0.1)
    assert tried == [("fp32", 1)]
