"""Properties of what a model remembers."""

from __future__ import annotations

import pytest
import torch

from bimo.core.errors import CapabilityError
from bimo.models.base import LanguageModel
from tests.conformance.yardstick import (
    alone,
    begin,
    continues,
    given_for,
    log_probs,
    longest,
    of_texts_that_go_on,
    ragged,
    random_ids,
    rows_of,
    same,
    state_after,
)


@of_texts_that_go_on
def rows_are_selected(model: LanguageModel) -> None:
    """Repeated, reordered and left out."""
    tokens, lengths = ragged(model, longest(model) - 1)
    texts = rows_of(tokens, lengths)
    state = state_after(model, tokens, lengths)
    for order in ([4, 2, 0, 1, 3], [2, 2, 1], [3], [0, 1, 2, 3, 4, 0, 1]):
        continues(model, model.select(state, torch.tensor(order)), [texts[row] for row in order], f"rows {order}")
    empty = model.select(begin(model, 2), torch.tensor([1, 0, 1]))
    continues(model, empty, [tokens[0, :0]] * 3, "rows that have read nothing")


@of_texts_that_go_on
def branches_are_independent(model: LanguageModel) -> None:
    """What one branch reads, neither the other branch nor the state they came from remembers."""
    width = longest(model)
    tokens = random_ids(model, 2, width - 2)
    texts, rows = list(tokens), torch.arange(2)
    state = state_after(model, tokens)
    left, right = model.select(state, rows), model.select(state, rows)
    model.advance(left, random_ids(model, 2, 2, seed=1))
    token = random_ids(model, 2, 1, seed=2)
    _, right = model.advance(right, token)
    continues(model, model.select(state, rows), texts, "the trunk")
    continues(model, right, [torch.cat(pair) for pair in zip(texts, token, strict=True)], "the other branch")
    joined = model.join([state, begin(model, 1)])
    model.advance(joined, random_ids(model, 3, 1, seed=3))
    continues(model, state, texts, "the trunk after a join")


@of_texts_that_go_on
def rows_are_joined(model: LanguageModel) -> None:
    """In order, of different lengths, fresh rows among them."""
    width = longest(model) - 1
    texts = [random_ids(model, n, seed=n) for n in (1, width, 0, 2)]
    states = [state_after(model, text[None]) if len(text) else begin(model, 1) for text in texts]
    tokens, lengths = ragged(model, width)
    joined = model.join([*states, state_after(model, tokens, lengths)])
    continues(model, joined, [*texts, *rows_of(tokens, lengths)], "joined")


@of_texts_that_go_on
def rewinding_forgets(model: LanguageModel) -> None:
    """To each row's own length; a model that cannot says so, and does not claim it."""
    tokens = random_ids(model, 3, longest(model))
    state = state_after(model, tokens)
    kept = torch.tensor([1, longest(model) - 1, 2])
    if "rewind" not in model.capabilities:
        with pytest.raises(CapabilityError):
            model.rewind(state, kept)
        return
    rewound = model.rewind(state, kept)
    texts = rows_of(tokens, kept)
    continues(model, model.select(rewound, torch.arange(3)), texts, "rewound")
    continues(model, rewound, texts, "rewound, not copied")
    none = model.rewind(state_after(model, tokens), torch.zeros(3, dtype=torch.int64))
    continues(model, none, [tokens[0, :0]] * 3, "rewound to nothing")


@of_texts_that_go_on
def renewing_begins_anew(model: LanguageModel) -> None:
    """A renewed state has read what it is given to read, and room for the rest; with nothing to read it is as `start` left it."""
    if model.context is None:
        return
    tokens = random_ids(model, 2, longest(model))
    again = tokens[:, -2:]
    renewed = model.renew(state_after(model, tokens), again, given=given_for(model, 2))
    empty = model.renew(state_after(model, tokens), again[:, :0], given=given_for(model, 2))
    assert model.outlives_context in (True, False)
    if model.outlives_context:  # what has no limit goes on: see tests/models/test_hybrid.py
        for state in (renewed, empty):
            model.advance(state, tokens[:, : longest(model) - 2])
        return
    _same_after(model, renewed, again)
    _same_after(model, empty, again[:, :0])


def _same_after(model: LanguageModel, state: object, texts: torch.Tensor) -> None:
    expected = begin(model, len(texts))
    expected = model.advance(expected, texts)[1] if texts.shape[1] else expected
    token = random_ids(model, len(texts), 1, seed=98)
    same(log_probs(model.advance(state, token)[0]), log_probs(model.advance(expected, token)[0]), "renewed")


@of_texts_that_go_on
def states_tell_their_size(model: LanguageModel) -> None:
    """Bytes per row, about the same for one row and for four; zero only where nothing is remembered."""
    tokens = random_ids(model, 1, 3).expand(4, -1)
    one, four = state_after(model, tokens[:1]), state_after(model, tokens)
    assert isinstance(model.state_bytes(one), int)
    assert 0 <= model.state_bytes(four) <= 1.5 * model.state_bytes(one)
    if model.state_bytes(one) == 0:
        same(alone(model, [2, 3])[-1], alone(model, [4, 3])[-1], "after other texts")
