"""Perplexity and bits per byte by `score` alone: every token once, whatever the windows, streams and modes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from bimo.core.errors import UserError
from bimo.data.excerpt import excerpt
from bimo.data.split import Split
from bimo.evaluation.perplexity import Evaluation, evaluate
from bimo.models import scoring
from bimo.models.scoring import document_nats, token_nats
from tests.fakes import FakeModel


def documents(*lengths: int, seed: int = 0) -> Split:
    """Random documents of so many tokens each, <s> and </s> included; 3 bytes a token."""
    generator = np.random.default_rng(seed)
    parts = [np.concatenate([[0], generator.integers(2, 12, n - 2), [1]]) for n in lengths]
    starts = np.cumsum([0, *map(len, parts[:-1])])
    return Split("test", [np.concatenate(parts).astype(np.uint16)], starts, 3 * np.array(lengths))


def by_hand(model: FakeModel, split: Split, seen: int | None = None) -> np.ndarray:
    """Nats of every token of a document, each after at most `seen` tokens before it."""
    found = []
    for i in range(split.documents):
        ids = split.document(i).tolist()
        found.append(0.0)
        for t in range(1, len(ids)):
            begin = 0 if seen is None else (t - 1) // seen * seen
            found.append(-float(model.table_row(ids[begin:t]).log_softmax(-1)[ids[t]]))
    return np.array(found)


def test_a_model_without_limit_reads_documents_whole() -> None:
    model, split = FakeModel.of(order=5), documents(9, 2, 40, 17, 3, 3, 25)
    found = evaluate(model, split)
    expected = by_hand(model, split)
    np.testing.assert_allclose(token_nats(model, split), expected, atol=1e-9)
    assert found.tokens == split.scored_tokens == sum((9, 2, 40, 17, 3, 3, 25)) - 7
    assert found.nats == pytest.approx(expected.sum())
    assert found.bytes == split.bytes
    assert found.perplexity == pytest.approx(math.exp(expected.sum() / found.tokens))
    assert found.bits_per_byte == pytest.approx(expected.sum() / math.log(2) / split.bytes)
    assert (found.context, found.stride, found.kind) == (None, None, "exact")


def test_streams_cut_into_chunks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = FakeModel.of(order=5), documents(*range(2, 30), 300, 150)
    whole = token_nats(model, split)
    monkeypatch.setattr(scoring, "_BATCH_TOKENS", 64)
    np.testing.assert_allclose(token_nats(model, split), whole, atol=1e-9)


def test_windows_do_not_overlap_and_score_each_token_once() -> None:
    model, split = FakeModel.of(order=50, context=8), documents(30, 5, 9, 10, 2)
    found = evaluate(model, split)
    assert found.context == 8
    np.testing.assert_allclose(token_nats(model, split), by_hand(model, split, seen=8), atol=1e-9)
    assert found.tokens == split.scored_tokens
    np.testing.assert_allclose(token_nats(model, split, context=4), by_hand(model, split, seen=4), atol=1e-9)


def test_a_stride_gives_every_token_more_to_see() -> None:
    model, split = FakeModel.of(order=50, context=8), documents(30, 5)
    found = evaluate(model, split, stride=2)
    nats = token_nats(model, split, stride=2)
    ids = split.document(0).tolist()
    for t in (9, 15, 29):
        stop = min(30, 9 + -(-(t - 8) // 2) * 2)  # windows end at 9, 11, 13, … and at the end
        expected = -float(model.table_row(ids[max(0, stop - 9) : t]).log_softmax(-1)[ids[t]])
        assert nats[t] == pytest.approx(expected)
    assert found.tokens == split.scored_tokens
    assert found.stride == 2
    assert "2 new tokens" in found.notices[0]
    for stride in (0, 9, -1):
        with pytest.raises(UserError, match="stride: must lie in 1…8"):
            evaluate(model, split, stride=stride)
    with pytest.raises(UserError, match="leave --stride out"):
        evaluate(FakeModel.of(), split, stride=2)


def test_lines_and_one_stream_of_them_score_the_same_tokens() -> None:
    """As on Penn Treebank: in a stream each </s> is followed by the next line at once, without another <s>."""
    lines = documents(6, 9, 4, 12)
    ids = [lines.document(i)[1:] for i in range(4)]
    stream = Split("test", [np.concatenate([[0], *ids]).astype(np.uint16)], np.array([0]), np.array([lines.bytes]))
    model = FakeModel.of(order=1)  # which sees the last token alone: </s> or <s> make a difference, nothing else does
    a, b = evaluate(model, lines), evaluate(model, stream)
    assert a.tokens == b.tokens
    first = {int(part[0]) for part in ids}
    assert first
    one, other = by_hand(model, lines), by_hand(model, stream)
    inner = np.concatenate([np.arange(1, len(part)) + 1 + lines.starts[i] for i, part in enumerate(ids)])
    shifted = np.concatenate([np.arange(1, len(part)) + 1 + int(lines.starts[i]) - i for i, part in enumerate(ids)])
    np.testing.assert_allclose(one[inner], other[shifted])


def test_document_nats_add_up() -> None:
    model, split = FakeModel.of(), documents(5, 8, 2, 11)
    found = document_nats(model, split)
    np.testing.assert_allclose(found, [by_hand(model, split)[s:e].sum() for s, e in zip(split.starts, [5, 13, 15, 26], strict=True)])


@pytest.mark.parametrize("lengths", [[5] * 40, [400], [3, 4], [50, 60, 70]])
def test_units_add_up(lengths: list[int]) -> None:
    split = documents(*lengths)
    found = evaluate(FakeModel.of(), split)
    assert found.unit == ("document" if len(lengths) >= 30 else "block")
    assert found.unit_nats.sum() == pytest.approx(found.nats)
    assert found.unit_bytes.sum() == found.bytes
    assert len(found.unit_nats) == len(found.unit_bytes)
    assert (found.unit_bytes >= 0).all()


def test_probability_zero_is_infinite_counted_and_null_in_json() -> None:
    split = documents(6)
    split.shards[0][2] = 0  # <s> in mid-text, which is never predicted
    found = evaluate(FakeModel.of(), split)
    assert math.isinf(found.nats)
    assert found.impossible_tokens == 1
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["nats"] is told["perplexity"] is told["bits_per_byte"] is None
    assert "probability zero" in found.describe()


def test_nothing_to_score_is_told() -> None:
    empty = Split("test", [np.zeros(1, np.uint16)], np.array([0]), np.array([4]))
    with pytest.raises(UserError, match="nothing to score"):
        evaluate(FakeModel.of(), empty)


def test_what_was_lost_is_told() -> None:
    found = Evaluation(nats=3.0, tokens=2, bytes=8, kind="exact", documents=1, unknown_tokens=1, lost_bytes=5)
    assert "1 unknown tokens, 5 bytes" in found.describe()


@pytest.mark.parametrize(
    ("lengths", "most"), [([40] * 200, 1000), ([9000], 1600), ([20] * 10, 10_000), ([3000, 3000, 10], 800), ([5] * 3, 4)]
)
def test_an_excerpt_is_about_as_long_as_asked(lengths: list[int], most: int) -> None:
    split = documents(*lengths)
    part = excerpt(split, most)
    assert part.documents >= 1
    assert part.scored_tokens >= 1
    assert part.tokens <= max(most, 64)
    assert part.tokens >= min(most, split.tokens) / 2
    assert part.bytes == pytest.approx(split.bytes * part.tokens / split.tokens, rel=0.1)
    assert evaluate(FakeModel.of(), part).tokens == part.scored_tokens


def test_pieces_of_an_excerpt_end_where_documents_do() -> None:
    split = documents(*[400] * 10)
    part = excerpt(split, 2_000)
    begins = np.isin(np.concatenate([part.document(i)[1:] for i in range(part.documents)]), [FakeModel.of().vocabulary.bos])
    assert not begins.any(), "the first token of a document is fed, never scored"
    assert np.isfinite(evaluate(FakeModel.of(), part).nats)
