"""What the writing of long texts claims of its memories is counted."""

from __future__ import annotations

from benchmarks import long_writing
from tests.conformance.variants import make


def test_entries_are_those_of_the_folder() -> None:
    model = make("hybrid/decoder+knn")
    assert long_writing.entries(model) == len(model.tensors()["parts.1.values"])
    assert long_writing.entries(make("decoder/qwen3")) == 0


def test_a_million_entries_are_asked_for() -> None:
    searches = {"exact": {"entries": 10**6, "ratio": 9.0}, "faiss": {"entries": 10**6 - 1, "ratio": 1.5}}
    assert long_writing.reached([{"flat": True}], searches) == {"flat": True, "entries": False, "neighbours": True}
