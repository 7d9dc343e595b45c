"""TensorBoard, where it is installed (`pip install 'bimo[tensorboard]'`), reads a run's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from bimo.training.progress import Metrics


def test_events_read_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics = Metrics(tmp_path)
    for step in (1, 5):
        metrics.write({"step": step, "loss": 3.0 / step, "sample": "a text", "learning_rate": 0.25})
    metrics.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["learning_rate", "loss"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 3.0), (5, pytest.approx(0.6))]
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 2
