"""What the writing of long texts claims of its memories is counted."""

from __future__ import annotations

import pytest
import torch

from benchmarks import long_writing
from bimo.models.hybrid.neighbours import Neighbours, has_faiss
from tests.conformance.variants import make


def test_entries_are_those_of_the_folder() -> None:
    model = make("hybrid/decoder+knn")
    assert long_writing.entries(model) == len(model.tensors()["parts.1.values"])
    assert long_writing.entries(make("decoder/qwen3")) == 0


def test_a_million_entries_are_asked_for() -> None:
    searches = {"exact": {"entries": 10**6, "ratio": 9.0}, "faiss": {"entries": 10**6 - 1, "ratio": 1.5}}
    assert long_writing.reached([{"flat": True}], searches) == {"flat": True, "entries": False, "neighbours": True}


@pytest.mark.skipif(not has_faiss(), reason="faiss is not installed (the extra retrieval)")
def test_all_entries_are_looked_at_in_a_folder_that_has_cells() -> None:
    model = make("hybrid/decoder+knn")
    knn = long_writing.memories(model)[0]
    assert isinstance(knn, Neighbours)
    keys, values = knn.tensors()["keys"], knn.tensors()["values"]
    knn.config = knn.config.model_copy(update={"search": "faiss", "probes": 1})
    knn.keep(keys.repeat(40, 1), values.repeat(40))
    assert len(knn.tensors()["centres"]) > 1
    long_writing.look_at_all(model)
    knn._index = "is not asked"
    queries = torch.randn(3, knn.width, generator=torch.Generator().manual_seed(0))
    distances = knn.nearest(queries)[0]
    torch.testing.assert_close(distances, torch.cdist(queries, knn.keys.float()).square().topk(3, largest=False)[0])
