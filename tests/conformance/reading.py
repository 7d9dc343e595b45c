"""Properties of what a model says of a text: probabilities, scores, hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from bimo.models.base import Kind, LanguageModel, NeuralLanguageModel
from tests.conformance.yardstick import (
    EXACT,
    alone,
    begin,
    continues,
    given_for,
    holds,
    log_probs,
    longest,
    of_texts_that_go_on,
    ragged,
    random_ids,
    rows_of,
    same,
    score,
)  # fmt: skip


@holds
def probabilities_sum_to_one(model: LanguageModel) -> None:
    """Through `score`, over every next token; unnormalised scores differ from `advance` by a constant per position."""
    size = model.vocab_size
    for length in {1, 2, longest(model)}:
        prefix = random_ids(model, length, seed=length)
        tokens = torch.cat([prefix.expand(size, -1), torch.arange(size)[:, None]], 1)
        result = score(model, tokens) if length < longest(model) or model.context is None else score(model, tokens[:, 1:])
        nats = result.nats[:, -1]
        assert not nats.isnan().any()
        if result.kind in EXACT:
            assert float(nats.neg().exp().sum()) == pytest.approx(1, abs=1e-5), f"after {prefix.tolist()}"
        elif result.kind is Kind.UNNORMALISED:
            expected = alone(model, tokens[0, -result.nats.shape[1] : -1])[-1]
            possible = expected.isfinite()
            assert torch.equal(nats.isfinite(), possible)
            gap = nats[possible] + expected[possible]
            same(gap, gap[:1].expand_as(gap), "score and advance")


@holds
def score_is_advance(model: LanguageModel) -> None:
    """Nats of ragged rows are those of each row alone; the first token and the padding count nothing."""
    tokens, lengths = ragged(model, longest(model))
    result = score(model, tokens, lengths)
    assert isinstance(result.kind, Kind)
    assert result.kind is (Kind.CONDITIONAL if "latent" in model.capabilities else model.kind)  # given a latent, the rest is exact
    assert result.nats.dtype == torch.float64
    assert result.nats.shape == result.scored.shape == tokens.shape
    place = torch.arange(tokens.shape[1])
    assert torch.equal(result.scored, (place > 0) & (place < lengths[:, None]))
    assert (result.nats[~result.scored] == 0).all()
    for row, text in enumerate(rows_of(tokens, lengths)):
        if len(text) == 1:
            continue
        exact = result.kind in EXACT
        expected = -alone(model, text[:-1]).gather(1, text[1:, None])[:, 0] if exact else score(model, text[None]).nats[0, 1:]
        same(result.nats[row, 1 : len(text)], expected, f"row {row}")


@of_texts_that_go_on
def score_continues(model: LanguageModel) -> None:
    """A score's state has read all but the last token, from which the next call goes on."""
    width = longest(model)
    tokens = random_ids(model, 3, width)
    cuts = torch.tensor([1, min(2, width), width - 1]).clamp(min=1)
    whole = score(model, tokens).nats
    first = score(model, tokens, cuts)
    for row, cut in enumerate(cuts.tolist()):
        kept = model.select(first.state, torch.tensor([row]))
        rest = score(model, tokens[row : row + 1, cut - 1 :], state=kept)
        same(first.nats[row, :cut], whole[row, :cut], f"before the cut, row {row}")
        same(rest.nats[0, 1:], whole[row, cut:], f"after the cut, row {row}")
    if not torch.equal(cuts, cuts[:1].expand_as(cuts)):
        padded = random_ids(model, 3, width, seed=5)
        left = width - cuts + 1
        for row, cut in enumerate(cuts.tolist()):
            padded[row, : width - cut + 1] = tokens[row, cut - 1 :]
        rest = score(model, padded, left, state=first.state)
        for row, cut in enumerate(cuts.tolist()):
            same(rest.nats[row, 1 : width - cut + 1], whole[row, cut:], f"all rows at once, row {row}")


@of_texts_that_go_on
def steps_equal_bulk(model: LanguageModel) -> None:
    """One by one, in pieces and at once, up to the context."""
    tokens = random_ids(model, 2, longest(model))
    expected = torch.stack([alone(model, row) for row in tokens])
    logits, _ = model.advance(begin(model, 2), tokens)
    same(log_probs(logits), expected, "at once")
    state, pieces = begin(model, 2), []
    for piece in tokens.split([1, 2, tokens.shape[1] - 3], dim=1):
        logits, state = model.advance(state, piece)
        pieces.append(logits)
    same(log_probs(torch.cat(pieces, 1)), expected, "in pieces")


@of_texts_that_go_on
def rows_and_padding_are_independent(model: LanguageModel) -> None:
    """A row is the same beside others and whatever stands in its padding, now and in the next call."""
    width = longest(model)
    tokens, lengths = ragged(model, width - 2)
    other = torch.where(torch.arange(width - 2) < lengths[:, None], tokens, random_ids(model, *tokens.shape, seed=7))
    more, more_lengths = ragged(model, 2, seed=8)
    for padded in (tokens, other):
        logits, state = model.advance(begin(model, len(padded)), padded, lengths)
        assert logits.shape == (*padded.shape, model.vocab_size)
        for row, text in enumerate(rows_of(tokens, lengths)):
            same(log_probs(logits[row, : len(text)]), alone(model, text), f"row {row}")
        logits, state = model.advance(state, more, more_lengths)
        both = [torch.cat(pair) for pair in zip(rows_of(tokens, lengths), rows_of(more, more_lengths), strict=True)]
        for row, text in enumerate(both):
            new = int(more_lengths[row])
            same(log_probs(logits[row, :new]), alone(model, text)[-new:], f"row {row} of the second call")
    short = [text for text in both if len(text) < width]
    continues(model, model.select(state, torch.tensor([r for r, text in enumerate(both) if len(text) < width])), short, "third call")


@of_texts_that_go_on
def last_is_the_last_of_all(model: LanguageModel) -> None:
    """keep="last" gives each row's end, and leaves the same state."""
    tokens, lengths = ragged(model, longest(model) - 1)
    every, _ = model.advance(begin(model, len(tokens)), tokens, lengths)
    last, state = model.advance(begin(model, len(tokens)), tokens, lengths, keep="last")
    assert last.shape == (len(tokens), 1, model.vocab_size)
    same(log_probs(last[:, 0]), log_probs(every[torch.arange(len(tokens)), lengths - 1]), "last")
    continues(model, state, rows_of(tokens, lengths), "after last")


@of_texts_that_go_on
def suppressed_ids_are_never_predicted(model: LanguageModel) -> None:
    logits, _ = model.advance(begin(model, 2), random_ids(model, 2, 3))
    suppressed = list(model.vocabulary.suppressed)
    assert (logits[..., suppressed] == float("-inf")).all()
    assert (logits.amax(-1) > float("-inf")).all()
    assert not logits.isnan().any()


@holds
def nothing_is_dropped_out(model: LanguageModel) -> None:
    """`advance` and `score` are the same while learning goes on."""
    if not isinstance(model, NeuralLanguageModel):
        return
    tokens = random_ids(model, 2, 3)
    model.eval()
    expected = _said(model, tokens)
    try:
        model.train()
        for found, wanted in zip(_said(model, tokens), expected, strict=True):
            assert torch.equal(found, wanted)
    finally:
        model.eval()


def _said(model: LanguageModel, tokens: Tensor) -> list[Tensor]:
    nats = [score(model, tokens).nats, *([model.score(tokens).nats] if "latent" in model.capabilities else [])]
    return [*nats, *([model.advance(begin(model, 2), tokens)[0]] if model.continues_text else [])]


@of_texts_that_go_on
def hidden_and_head_are_advance(model: LanguageModel) -> None:
    """Also with a document that begins inside the row, and over the carry to the next window."""
    if not isinstance(model, NeuralLanguageModel):
        return
    model.eval()
    width = longest(model)
    tokens = random_ids(model, 3, width)
    with torch.no_grad():
        hidden, _ = read(model, tokens)
        weight, bias = model.head()
        logits = hidden @ weight.T + (0 if bias is None else bias)
        logits[..., list(model.vocabulary.suppressed)] = float("-inf")
        expected = torch.stack([alone(model, row) for row in tokens])
        same(log_probs(logits), expected, "hidden @ head")
        same(log_probs(model.logits(hidden)), expected, "logits of hidden")
        if model.whole_documents:
            return
        boundaries = torch.zeros(3, width, dtype=torch.bool)
        begins = [[0, 3], [2], [1, 2, width - 1]]
        for row, places in enumerate(begins):
            boundaries[row, places] = True
        found = log_probs(model.logits(model.hidden(tokens, None, boundaries)[0]))
        for row, places in enumerate(begins):
            edges = sorted({0, *places, width})
            parts = [alone(model, tokens[row, a:b]) for a, b in pairwise(edges)]
            same(found[row], torch.cat(parts), f"documents, row {row}")
        _carried(model, tokens[:, :-3], tokens[:, -3:])


def read(model: NeuralLanguageModel, tokens: Tensor) -> tuple[Tensor, Any]:
    """`hidden` under what every row is given."""
    given = given_for(model, len(tokens))
    return model.hidden(tokens) if given is None else model.hidden(tokens, None, None, given)  # type: ignore[call-arg]


def _carried(model: NeuralLanguageModel, tokens: Tensor, more: Tensor) -> None:
    """Windows `more` [3, 3] after windows `tokens`: they continue where the family carries, and stand alone where not."""
    _, carry = model.hidden(tokens)
    boundaries = torch.tensor([[False] * 3, [True, False, False], [False, True, False]])
    if carry is not None:
        same(log_probs(model.logits(model.hidden(more, carry)[0])), _after(model, tokens, more, [0, 0, 0]), "carried")
        found = log_probs(model.logits(model.hidden(more, carry, boundaries)[0]))
        begun = _after(model, tokens, more, [0, None, 0])
        begun[2, 1:] = alone(model, more[2, 1:])
        same(found, begun, "carried, documents begin")
    else:
        again = log_probs(model.logits(model.hidden(more, carry, boundaries)[0]))
        fresh = torch.stack([alone(model, row) for row in more])
        fresh[2, 1:] = alone(model, more[2, 1:])
        same(again, fresh, "windows stand alone")


def _after(model: LanguageModel, tokens: Tensor, more: Tensor, start: Sequence[int | None]) -> Tensor:
    """Log-probabilities of `more` after `tokens[row, start:]`, or after nothing where start is None."""
    found = []
    for row, first in enumerate(start):
        before = tokens[row, first:] if first is not None else tokens[row, :0]
        found.append(alone(model, torch.cat([before, more[row]]))[len(before) :])
    return torch.stack(found)
