"""The smallest run of each timing: both sides do the same work, and the figures are what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import bench, cli_start, interleave, recurrent_speed, tokenizer_speed, training_speed
from benchmarks.desk import Desk


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(interleave.runtime, "matrix_rate", lambda *_, **__: 1e12)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_sides_take_turns_and_who_begins_changes() -> None:
    order: list[str] = []
    seconds = interleave.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2, warmup=1)
    assert "".join(order) == "abbaab"
    assert [len(times) for times in seconds.values()] == [2, 2]


def test_medians_ratio_and_share() -> None:
    found = interleave.compared({"ours": [1.0, 2.0, 9.0], "theirs": [3.0, 3.0, 4.0]}, tokens=100, precision="fp32", flops=1e12)
    assert (found["ratio"], found["ratio_of_fastest"], found["ours_tokens_per_second"]) == (1.5, 3.0, 50.0)
    assert found["ours_share_of_matrix_rate"] == 0.5


def test_what_is_asked_is_asked_of_the_same_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path)
    monkeypatch.setattr(desk, "module", lambda *_: {"ratio": 1.1, "ratio_shuffled": 1.7})
    assert {e.name: e for e in bench.ENTRIES}["translation-speed"].work(desk)["reached"] is False


def test_training_steps_are_of_one_function() -> None:
    pytest.importorskip("transformers")
    small = ["--layers", "1", "--heads", "2", "--width", "16", "--context", "8", "--batch", "2", "--vocab", "32", "--rounds", "1"]
    found = training_speed.measure(training_speed.parser().parse_args([*small, "--warmup", "0", "--precision", "fp32"]))
    assert found["ours_parameters"] == found["theirs_parameters"]
    assert found["first_loss_difference"] < 1e-4
    assert found["ratio"] > 0


def test_recurrent_steps_are_of_one_size() -> None:
    small = ["--layers", "1", "--width", "16", "--context", "5", "--batch", "2", "--vocab", "32", "--rounds", "1", "--warmup", "0"]
    options = recurrent_speed.parser().parse_args([*small, "--precision", "fp32"])
    found = recurrent_speed.measure(options)
    assert found["theirs_parameters"] - found["ours_parameters"] == 4 * 16  # torch's second bias
    assert found["ratio"] > 0


def test_our_lstm_is_torchs() -> None:
    small = ["--layers", "1", "--width", "8", "--vocab", "16", "--precision", "fp32"]
    options = recurrent_speed.parser().parse_args(small)
    ours, theirs = recurrent_speed.Ours(options, "fp32"), recurrent_speed.Theirs(options, "fp32")
    part = ours.model.layers[0]
    with torch.no_grad():
        theirs.embedding.weight.copy_(ours.model.embedding.weight)
        theirs.lstm.weight_ih_l0.copy_(part.weight_input)
        theirs.lstm.weight_hh_l0.copy_(part.weight_hidden)
        theirs.lstm.bias_ih_l0.copy_(part.bias_input)
        theirs.lstm.bias_hh_l0.zero_()
    tokens = torch.randint(16, (3, 6))
    assert ours.step(tokens) == pytest.approx(theirs.step(tokens), abs=1e-5)
    assert ours.step(tokens) == pytest.approx(theirs.step(tokens), abs=1e-2)  # carried state; the second bias learns too


def test_tokenizers_give_the_same_ids() -> None:
    found = tokenizer_speed.measure_text("the cat sat on the mat\n笔墨纸砚 and ink\n" * 20, rounds=1, vocab_size=300)
    assert found["equal"]
    assert found["ratio_one"] > 0
    assert found["ours_lines_megabytes_per_s"] > 0


def test_the_command_line_answers() -> None:
    found = cli_start.measure(rounds=1)
    assert 0 < found["python_seconds"] < found["help_seconds"]
    assert 0 < found["help_processor_seconds"] < 5
