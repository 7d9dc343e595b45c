"""Batches: pure functions of their position that meet every token."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bimo.core.errors import CorpusError
from bimo.data.batches import CarriedBatches, WindowBatches
from bimo.data.split import Split


def make_split(lengths: list[int], shards: int = 1) -> Split:
    """Documents whose tokens are their own global positions (so that a token says where it came from)."""
    total = sum(lengths)
    starts = np.cumsum([0, *lengths])[:-1]
    parts = np.array_split(np.arange(total, dtype=np.uint32), shards)
    return Split("train", parts, starts.astype(np.int64), np.array(lengths, dtype=np.int64))


LENGTHS = st.lists(st.integers(2, 9), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 5), st.integers(1, 8), st.integers(0, 3), st.integers(1, 3))
def test_windows_meet_every_token(lengths: list[int], batch_size: int, context: int, epoch: int, shards: int) -> None:
    split = make_split(lengths, shards)
    batches = WindowBatches(split, batch_size, context, seed=5)
    met: Counter[int] = Counter()
    for i in range(batches.steps_per_epoch):
        b = batches.batch(epoch, i)
        assert b.tokens.shape == (batch_size, batches.context + 1)
        assert b.tokens.dtype == torch.int64
        assert torch.equal((b.tokens[:, 1:] - b.tokens[:, :-1]) % split.tokens, torch.full_like(b.tokens[:, 1:], 1 % split.tokens))
        starts = torch.isin(b.tokens, torch.from_numpy(split.starts))
        assert torch.equal(b.boundaries, starts[:, :-1])
        assert torch.equal(b.targets_scored, ~starts[:, 1:])
        met.update(b.tokens[:, :-1].flatten().tolist())
    assert set(met) == set(range(split.tokens))
    assert batches.tokens_per_epoch == sum(met.values())


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 5), st.integers(1, 8), st.integers(0, 3))
def test_carried_rows_go_on(lengths: list[int], batch_size: int, context: int, epoch: int) -> None:
    split = make_split(lengths)
    batches = CarriedBatches(split, batch_size, context, seed=5)
    rows = [batches.batch(epoch, i) for i in range(batches.steps_per_epoch)]
    for before, after in itertools.pairwise(rows):
        assert torch.equal(before.tokens[:, -1], after.tokens[:, 0])
    fed = torch.cat([b.tokens[:, :-1] for b in rows], dim=1)
    assert set(fed.flatten().tolist()) == set(range(split.tokens))
    # Inside a document the next position follows; after its end a boundary stands.
    bounds = torch.cat([b.boundaries for b in rows], dim=1)
    follows = fed[:, 1:] == fed[:, :-1] + 1
    assert bool((follows | bounds[:, 1:]).all())
    assert bool((torch.isin(fed, torch.from_numpy(split.starts)) == bounds).all())


@pytest.mark.parametrize("kind", [WindowBatches, CarriedBatches])
def test_a_batch_is_a_pure_function_of_its_position(kind: type[WindowBatches]) -> None:
    split = make_split([50] * 40)
    batches = kind(split, 4, 16, seed=3)
    order = [(e, i) for e in range(3) for i in range(batches.steps_per_epoch)]
    once = {p: batches.batch(*p).tokens for p in order}
    fresh = kind(split, 4, 16, seed=3)
    for place in np.random.default_rng(0).permutation(len(order)):
        p = order[place]
        assert torch.equal(fresh.batch(*p).tokens, once[p])
    assert not torch.equal(once[0, 0], once[1, 0])
    assert not torch.equal(kind(split, 4, 16, seed=4).batch(0, 0).tokens, once[0, 0])
    with pytest.raises(CorpusError):
        batches.batch(0, batches.steps_per_epoch)


def test_windows_begin_anywhere_over_epochs() -> None:
    batches = WindowBatches(make_split([100]), 2, 10)
    starts = {int(t) for e in range(200) for i in range(batches.steps_per_epoch) for t in batches.batch(e, i).tokens[:, 0]}
    assert len(starts) == 100


def test_a_stream_is_laid_as_zaremba_lays_it() -> None:
    batches = CarriedBatches(make_split([929_590]), 20, 35)
    assert batches.steps_per_epoch == 1328
    first = batches.batch(0, 0)
    assert first.tokens[:, 0].tolist() == [r * 929_590 // 20 for r in range(20)]
    assert torch.equal(batches.batch(1, 0).tokens, first.tokens)
    assert first.boundaries.sum() == 1


def test_small_texts_are_told() -> None:
    few = WindowBatches(make_split([5]), 4, 64)
    assert few.context == 5
    assert len(few.notes) == 2
    assert few.batch(0, 0).tokens.shape == (4, 6)
    assert CarriedBatches(make_split([5]), 4, 3).notes
    assert not WindowBatches(make_split([500]), 4, 64).notes
    with pytest.raises(CorpusError, match="no tokens"):
        WindowBatches(make_split([1]), 4, 8)
    with pytest.raises(CorpusError, match="at least 1"):
        WindowBatches(make_split([10]), 0, 8)


def test_large_corpora_are_quick() -> None:
    import time

    split = make_split([200_000] * 100)
    batches = WindowBatches(split, 32, 256)
    batches.batch(0, 0)
    start = time.process_time()
    for i in range(50):
        batches.batch(0, i)
    assert (time.process_time() - start) / 50 < 0.02


@pytest.mark.parametrize("shards", [1, 3])
def test_chunks_hold_whole_documents(shards: int) -> None:
    split = make_split([5, 9, 2, 30, 4], shards)
    chunks = list(split.chunks(8))
    assert np.concatenate(chunks).tolist() == split.read(0, split.tokens).tolist()
    assert set(np.cumsum([0, *map(len, chunks)])[:-1].tolist()) <= set(split.starts.tolist())
    assert len(chunks) == 1 if shards == 1 else len(chunks) > 1
