"""The smallest run of the timing: all sides learn the same function from pairs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmarks import translation_speed
from bimo.data.rows import DocumentBatches


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def options(*more: str):  # type: ignore[no-untyped-def]
    small = ["--layers", "1", "--heads", "2", "--width", "16", "--feed-forward", "32", "--vocab", "50", "--batch", "4", "--pairs", "16"]
    return translation_speed.parser().parse_args([*small, "--rounds", "2", "--warmup", "0", "--precision", "fp32", *more])


@pytest.mark.parametrize("norms", [[], ["--post-norm"]])
def test_steps_are_of_one_function(norms: list[str]) -> None:
    found = translation_speed.measure(options(*norms))
    assert found["ours_parameters"] == found["theirs_parameters"]
    assert found["first_loss_difference"] < 1e-5
    assert found["ratio"] > 0
    assert found["ratio_shuffled"] > 0


def test_both_learn_alike() -> None:
    asked = options()
    torch.manual_seed(0)
    ours = translation_speed.Ours(asked, "fp32")
    theirs = translation_speed.Theirs(ours.model, "fp32")
    batch = DocumentBatches(translation_speed.sentences(asked), asked.batch, None).batch(0, 0)
    losses = [(ours.step(batch), theirs.step(batch)) for _ in range(3)]
    assert losses[-1][0] < losses[0][0]
    assert losses[-1][0] == pytest.approx(losses[-1][1], abs=1e-3)


def test_a_shuffling_loader_meets_every_pair() -> None:
    asked = options()
    split = translation_speed.sentences(asked)
    loaded = translation_speed.shuffled(split, asked.batch)
    batches = [next(loaded) for _ in range(4)]
    assert sum(b.count for b in batches) == split.scored_tokens
