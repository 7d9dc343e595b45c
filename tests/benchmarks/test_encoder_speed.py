"""The smallest run of the timing: both sides learn the same function from the same hidden tokens."""

from __future__ import annotations

import pytest
import torch

from benchmarks import encoder_speed

SMALL = ["--layers", "1", "--heads", "2", "--width", "16", "--context", "20", "--vocab", "50", "--batch", "4", "--rounds", "2",
         "--warmup", "0", "--precision", "fp32"]  # fmt: skip


def test_steps_are_of_one_function() -> None:
    found = encoder_speed.measure(encoder_speed.parser().parse_args(SMALL))
    assert found["ours_parameters"] == found["theirs_parameters"]
    assert found["first_loss_difference"] < 1e-5
    assert found["ratio"] > 0


def test_both_learn_alike() -> None:
    asked = encoder_speed.parser().parse_args(SMALL)
    torch.manual_seed(0)
    ours = encoder_speed.Ours(asked, "fp32")
    theirs = encoder_speed.Theirs(ours.model, "fp32")
    batch = encoder_speed.hidden_batch(asked)
    losses = [(ours.step(batch), theirs.step(batch)) for _ in range(3)]
    assert losses[-1][0] < losses[0][0]
    assert losses[-1][0] == pytest.approx(losses[-1][1], abs=1e-3)
    assert 0.1 < batch.count / batch.tokens.numel() < 0.2
