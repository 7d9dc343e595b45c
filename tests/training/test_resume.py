"""Runs that are killed with SIGKILL and resumed end with the very same bits (more of it: benchmarks/kills.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import kills

MOMENTS = [("rnn", "step:7"), ("lstm", "write:3"), ("gru", "sync:2"), ("decoder", "rename:4"), ("decoder", "renamed:1")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("kills")
    return folder, kills.make_corpus(folder)


@pytest.mark.parametrize(("family", "moment"), MOMENTS)
def test_a_killed_run_resumes_to_the_bit(place: tuple[Path, Path], family: str, moment: str) -> None:
    folder, corpus = place
    result = kills.kill_and_compare(folder, corpus, family, moment)
    assert result["killed"], "the run was meant to die"
    assert result["same"]
    stage = moment.partition(":")[0]
    if stage != "write":  # a watcher kills there, which may come after the save
        assert result["inside"] == (stage in ("sync", "rename"))
