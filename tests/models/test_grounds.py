"""What predictions rest on, of every family: told of each scored token, the same in pieces and padded; who said what sums up."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bimo.core.errors import CapabilityError
from bimo.data.batches import Given
from bimo.models.base import Kind, LanguageModel
from bimo.models.grounds import NOTHING_TOLD, Grounds
from bimo.models.hybrid import Hybrid
from bimo.models.hybrid.cache import NeuralCache
from tests.conformance.variants import documents, make, names

HYBRIDS = [name for name in names() if name.startswith("hybrid/")]
LINEAR = [name for name in HYBRIDS if "product" not in name]
TEXT = torch.tensor([[0, 3, 5, 3, 3, 5, 3, 1]])


def given(model: LanguageModel, rows: int = 1) -> Given | None:
    source = torch.tensor([[0, 4, 6, 1]]).expand(rows, -1)
    return Given(source, torch.full((rows,), 4)) if model.kind is Kind.CONDITIONAL else None


def parts(grounds: Grounds) -> list[Grounds]:
    """All that stands below, the nested too."""
    return [grounds, *(found for part in grounds.parts for found in parts(part.grounds))]


def nats(model: LanguageModel, tokens: Tensor) -> list[float]:
    return model.score(tokens, given=given(model, len(tokens))).nats[0].tolist()


@pytest.mark.parametrize("name", names())
def test_each_token_has_its_own(name: str) -> None:
    model = make(name)
    lengths = torch.tensor([8, 3])
    padded = torch.cat([TEXT, TEXT])
    told = model.grounds(padded, lengths, given(model, 2))
    assert [len(row) for row in told] == [8, 8]
    assert told[0][0] == told[1][0] == NOTHING_TOLD
    assert told[1][3:] == [NOTHING_TOLD] * 5
    if not model.whole_documents:  # what comes later changes nothing
        assert [bool(t.parts) for t in told[1][1:3]] == [bool(t.parts) for t in told[0][1:3]]
        assert [t.counts for t in told[1][:3]] == [t.counts for t in told[0][:3]]
    speaks = name.startswith(("ngram/", "hybrid/"))
    assert all((grounds != NOTHING_TOLD) == speaks for grounds in told[0][1:])


@pytest.mark.parametrize("name", HYBRIDS)
def test_who_said_what(name: str) -> None:
    model = make(name)
    assert isinstance(model, Hybrid)
    told = model.grounds(TEXT, given=given(model))[0]
    for grounds, cost in zip(told[1:], nats(model, TEXT)[1:], strict=True):
        assert [part.name for part in grounds.parts] == model.names
        if name not in LINEAR:
            assert all(part.share is None for part in grounds.parts)
            assert [part.weight for part in grounds.parts] == pytest.approx(model.weights.values.tolist())
            continue
        mixed = sum(part.weight * math.exp(-part.nats) for part in grounds.parts if part.nats is not None)
        assert math.exp(-cost) == pytest.approx(mixed, rel=1e-4)
        assert sum(part.share or 0.0 for part in grounds.parts) == pytest.approx(1.0)
        assert sum(part.weight for part in grounds.parts) == pytest.approx(1.0)
        for part in grounds.parts:
            if part.nats is not None:
                assert part.share == pytest.approx(part.weight * math.exp(-part.nats) / mixed, rel=1e-4, abs=1e-9)


def test_an_ngram_inside_tells_its_counts_however_deep() -> None:
    model = make("hybrid/hybrid+gru+cache")
    inner = make("ngram/kneser-ney-2")
    told = model.grounds(TEXT)[0]
    for t in range(1, 8):
        nested = told[t].parts[0].grounds.parts[0]
        assert nested.name == "ngram-kneser-ney-2"
        assert nested.grounds == inner.grounds(TEXT)[0][t]
        assert nested.grounds.counts


@pytest.mark.parametrize("name", [n for n in HYBRIDS if not make(n).whole_documents and make(n).kind is Kind.EXACT])
def test_a_text_in_two_pieces(name: str) -> None:
    model = make(name)
    whole = model.grounds(TEXT)[0]
    state = model.score(TEXT[:, :4]).state
    kept = model.select(state, torch.tensor([0]))
    rest = model.grounds(TEXT[:, 3:], state=state)[0]
    for one, other in zip(rest[1:], whole[4:], strict=True):
        for a, b in zip(parts(one), parts(other), strict=True):
            assert a.counts == b.counts
            assert [(r.token, r.back) for r in a.recalled] == [(r.token, r.back) for r in b.recalled]
            assert [r.share for r in a.recalled] == pytest.approx([r.share for r in b.recalled], rel=1e-4)
            assert [p.share or 0.0 for p in a.parts] == pytest.approx([p.share or 0.0 for p in b.parts], rel=1e-3, abs=1e-7)
    model.score(TEXT[:, 3:], state=kept)  # the copy was not read


@pytest.mark.parametrize("name", ["hybrid/lstm+cache", "hybrid/decoder+cache", "hybrid/product-mle"])
def test_a_cache_tells_places_of_this_text(name: str) -> None:
    model = make(name)
    assert isinstance(model, Hybrid)
    number = next(k for k, voice in enumerate(model.voices) if isinstance(voice.memory, NeuralCache))
    said = [grounds.parts[number] for grounds in model.grounds(TEXT)[0][1:]]
    assert (said[0].nats, said[0].grounds.recalled) == (None, ())  # nothing is remembered at first
    for t, part in enumerate(said[1:], 2):
        recalled = part.grounds.recalled
        assert len(recalled) == min(t - 1, 3)
        for place in recalled:
            assert place.back is not None
            assert 1 <= place.back <= min(t, 4)
            assert place.token == TEXT[0, t - place.back]
        assert [r.share for r in recalled] == sorted((r.share for r in recalled), reverse=True)
        assert part.nats is not None
        if t <= 4:  # all places are told
            hits = sum(r.share for r in recalled if r.token == TEXT[0, t])
            assert math.exp(-part.nats) == pytest.approx(hits, rel=1e-4, abs=1e-9)


def test_neighbours_are_told_by_their_tokens() -> None:
    model = make("hybrid/decoder+knn")
    for t, grounds in enumerate(model.grounds(TEXT)[0][1:], 1):
        part = grounds.parts[1]
        recalled = part.grounds.recalled  # k is 3: all of them
        assert sum(r.share for r in recalled) == pytest.approx(1.0)
        assert all(r.back is None for r in recalled)
        assert len({r.token for r in recalled}) == len(recalled)
        hits = sum(r.share for r in recalled if r.token == TEXT[0, t])
        assert part.nats is not None
        assert math.exp(-part.nats) == pytest.approx(hits, rel=1e-4, abs=1e-9)


def test_a_source_that_nobody_takes_is_refused() -> None:
    model = make("hybrid/ngram+lstm")
    with pytest.raises(CapabilityError, match="no part of this hybrid takes"):
        model.grounds(TEXT, given=torch.zeros(1, 2, dtype=torch.int64))


def test_counts_of_a_word_that_came_once() -> None:
    model = make("ngram/mle-2")
    first = int(documents()[0][1])
    starts = sum(document[1] == first for document in documents())
    (count,) = model.grounds(torch.tensor([[0, first]]))[0][1].counts
    assert (count.context, count.count, count.total) == ((0,), starts, len(documents()))
