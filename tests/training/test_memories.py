"""What memories keep of the training text: so many entries as are wanted, from all of it, also where time runs out."""

from __future__ import annotations

import numpy as np
import torch

from bimo.data.split import Split
from bimo.models.hybrid.neighbours import KnnConfig, Neighbours
from bimo.training import memories
from tests.fakes import WIDTH, FakeNeural


def text(tokens: int) -> Split:
    """One document, each tenth of which is one id again and again, growing."""
    return Split("train", [1 + np.arange(tokens) * 10 // tokens], np.array([0]), np.array([tokens]))


def memory(entries: int) -> tuple[FakeNeural, Neighbours]:
    model = FakeNeural.of(order=1)
    return model, Neighbours(KnnConfig(entries=entries, search="exact"), model.vocabulary, WIDTH)


def test_as_many_are_kept_as_are_wanted() -> None:
    for wanted in (100, 1500, 1999):
        model, kept = memory(wanted)
        assert memories.remember(model, kept, text(2000), None) == []
        assert len(kept.values) == wanted
        shares = torch.bincount(kept.values, minlength=11)[1:] / wanted
        assert float((shares - 0.1).abs().max()) < 0.04
    model, kept = memory(10_000)
    assert memories.remember(model, kept, text(2000), None) == []
    assert len(kept.values) == 1999


def test_where_time_runs_out_what_is_kept_is_of_all_of_the_text(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(memories, "_ROUND", 1024)
    (model, kept), asked = memory(100_000), []

    def late() -> bool:
        asked.append(len(asked))
        return len(asked) == 2

    (told,) = memories.remember(model, kept, text(8000), None, late)
    assert told.endswith("of 7,999 tokens are remembered, drawn from all of the training text; there was no time for more")
    assert 900 < len(kept.values) < 3000
    assert set(kept.values.tolist()) == set(range(1, 11))


def test_of_conversations_the_answers_alone_are_remembered() -> None:
    split = text(2000)
    split.answers = np.arange(2000) >= 1500
    model, kept = memory(10_000)
    assert memories.remember(model, kept, split, None) == []
    assert len(kept.values) == 500
    assert set(kept.values.tolist()) == {8, 9, 10}


def test_what_is_near_is_looked_for_once_while_a_text_is_read_again() -> None:
    model, kept = memory(100)
    memories.remember(model, kept, text(2000), None)
    queries = torch.randn(5, WIDTH)
    with kept.reading_again():
        first = kept.nearest(queries)
        assert kept.nearest(queries.clone()) is first
        assert kept.nearest(queries + 1) is not first
    after = kept.nearest(queries)
    assert after is not first
    assert all(torch.equal(a, b) for a, b in zip(after, first, strict=True))
