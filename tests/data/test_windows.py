"""Evaluation: each scored token of each document exactly once, with the context it should have."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bimo.core.errors import UserError
from bimo.data.windows import EvaluationBatch, evaluation_streams, evaluation_windows
from tests.data.test_batches import make_split

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=12)


def check_rows(batch: EvaluationBatch) -> None:
    for row, length in zip(batch.tokens, batch.lengths.tolist(), strict=True):
        assert row[:length].tolist() == list(range(int(row[0]), int(row[0]) + length))
        assert not row[length:].any()


@settings(max_examples=150, deadline=None)
@given(LENGTHS, st.one_of(st.none(), st.integers(1, 12)), st.integers(1, 5), st.integers(1, 12), st.booleans())
def test_each_token_once(lengths: list[int], context: int | None, batch_size: int, stride: int, strided: bool) -> None:
    split = make_split(lengths)
    step = min(stride, context) if strided and context else None
    scored: Counter[int] = Counter()
    for b in evaluation_windows(split, context, step, batch_size):
        assert b.tokens.shape[0] <= batch_size
        assert context is None or b.tokens.shape[1] <= context + 1
        check_rows(b)
        scored.update(b.tokens[b.scored()].tolist())
        for row, document, first in zip(b.tokens, b.documents.tolist(), b.first_scored.tolist(), strict=True):
            begin = int(split.starts[document])
            assert int(row[0]) >= begin
            if context and int(row[first]) - begin >= context and step:  # what is scored first sees a full context where there is one
                assert first >= context - step + 1 or int(row[0]) == begin
    assert scored == Counter(set(range(split.tokens)) - set(split.starts.tolist()))


@settings(max_examples=100, deadline=None)
@given(LENGTHS, st.integers(1, 12), st.integers(1, 5))
def test_streams_go_on_from_the_rows_they_name(lengths: list[int], chunk: int, batch_size: int) -> None:
    split = make_split(lengths)
    scored: Counter[int] = Counter()
    for group in evaluation_streams(split, chunk, batch_size):
        ends: torch.Tensor | None = None
        for b in group:
            check_rows(b)
            assert b.tokens.shape[1] <= chunk + 1
            if ends is None:
                assert b.tokens[:, 0].tolist() == split.starts[b.documents.numpy()].tolist()
            else:
                assert b.tokens[:, 0].tolist() == ends[b.rows].tolist()
            scored.update(b.tokens[b.scored()].tolist())
            ends = b.tokens.gather(1, b.lengths[:, None] - 1).squeeze(1)
    assert scored == Counter(set(range(split.tokens)) - set(split.starts.tolist()))


@pytest.mark.parametrize("streams", [False, True])
def test_where_answers_alone_count_no_other_token_is_scored(streams: bool) -> None:
    split = make_split([9, 4, 12])
    split.answers = np.arange(split.tokens) % 3 == 1
    groups = evaluation_streams(split, 5) if streams else [evaluation_windows(split, 6, 2)]
    scored = Counter(int(i) for group in groups for b in group for i in b.tokens[b.scored()])
    assert scored == Counter((np.flatnonzero(split.answers & ~split.begins(np.arange(split.tokens)))).tolist())


def test_windows_without_overlap_begin_with_the_token_not_yet_fed() -> None:
    (batch,) = evaluation_windows(make_split([10]), 4, batch_size=8)
    assert sorted(batch.tokens[:, 0].tolist()) == [0, 4, 8]
    assert batch.first_scored.tolist() == [1, 1, 1]


def test_rows_are_bounded_and_of_like_length() -> None:
    split = make_split(np.random.default_rng(0).integers(2, 400, 2000).tolist())
    batches = list(evaluation_windows(split, None, batch_size=64, max_tokens=4096))
    assert all(b.tokens.numel() <= 4096 for b in batches)
    assert sum(b.tokens.numel() for b in batches) < 1.05 * split.tokens


def test_bad_asks() -> None:
    split = make_split([10])
    for context, stride in ((0, None), (4, 5), (4, 0), (None, 3)):
        with pytest.raises(UserError):
            list(evaluation_windows(split, context, stride))
    with pytest.raises(UserError):
        list(evaluation_streams(split, 0))
