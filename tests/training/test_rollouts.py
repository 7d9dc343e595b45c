"""Drawn texts follow the model's probabilities; what a token is worth is the mean over what may follow it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bimo.core.errors import UserError
from bimo.text.vocabulary import Vocabulary
from bimo.training.rollouts import Texts, draw_texts, returns
from tests.fakes import FakeModel
from tests.training.players import SMALL, all_texts, log_probs, players


def reward(tokens: Tensor, lengths: Tensor) -> Tensor:
    """A number of its own for every text."""
    inside = torch.arange(tokens.shape[1]) < lengths[:, None]
    return ((tokens * inside) * torch.tensor([0.0, 1.0, 0.3, 0.07])[: tokens.shape[1]]).sum(1) + 0.11 * lengths


def test_texts_are_drawn_from_the_models_probabilities():
    model = players(SMALL)
    every = all_texts(2)
    expected = log_probs(model, every).exp()
    assert expected.sum().item() == pytest.approx(1, abs=1e-5)
    torch.manual_seed(0)
    drawn = draw_texts(model, 20_000, 2)
    found = torch.stack(
        [((drawn.tokens == row).all(1) & (drawn.lengths == n)).float().mean() for row, n in zip(every.tokens, every.lengths, strict=True)]
    )
    torch.testing.assert_close(found, expected.detach(), atol=0.015, rtol=0)


def test_every_text_is_whole():
    model = players()
    torch.manual_seed(0)
    drawn = draw_texts(model, 200, 6)
    assert drawn.tokens.shape[1] == int(drawn.lengths.max()) <= 7
    for row, length in zip(drawn.tokens.tolist(), drawn.lengths.tolist(), strict=True):
        assert row[0] == 0
        assert 1 not in row[1 : length - 1]
        assert row[length - 1] == 1 or length == 7
        assert row[length:] == [0] * (len(row) - length)
    assert len(set(drawn.lengths.tolist())) > 2


def test_a_model_without_an_end_writes_to_the_limit():
    model = FakeModel.of(6)
    model.vocabulary = Vocabulary(6, bos=0, suppressed=(0,))
    assert draw_texts(model, 5, 4).lengths.tolist() == [5] * 5
    model.vocabulary = Vocabulary(6, eos=1)
    with pytest.raises(UserError, match="<s>"):
        draw_texts(model, 5, 4)


def test_only_torchs_generator_decides():
    model = players()
    torch.manual_seed(3)
    first, state = draw_texts(model, 9, 5), torch.get_rng_state()
    second = draw_texts(model, 9, 5)
    assert not torch.equal(first.tokens, second.tokens) or not torch.equal(first.lengths, second.lengths)
    torch.set_rng_state(state)
    assert torch.equal(draw_texts(model, 9, 5).tokens, second.tokens)


def exact_worth(model, texts: Texts, limit: int) -> Tensor:
    """Q of every token, by adding up all texts that begin so."""
    every = all_texts(limit)
    probabilities, rewards = log_probs(model, every).exp().detach(), reward(every.tokens, every.lengths)
    found = torch.zeros(texts.tokens.shape)
    for b, length in enumerate(texts.lengths.tolist()):
        for t in range(1, length):
            begun = (every.tokens[:, : t + 1] == texts.tokens[b, : t + 1]).all(1) & (every.lengths > t)
            found[b, t] = (probabilities * rewards)[begun].sum() / probabilities[begun].sum()
    return found


def test_worth_is_the_mean_over_what_may_follow():
    model, texts = players(SMALL), all_texts(3)
    torch.manual_seed(0)
    found, expected = returns(model, texts, reward, 3000, 3), exact_worth(model, texts, 3)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)
    own = reward(texts.tokens, texts.lengths)
    last = found[torch.arange(len(own)), texts.lengths - 1]
    assert torch.equal(last, own), "the last token is worth its text's own reward"
    assert bool((expected.amax(1) - expected[:, 1] > 0.05).any()), "the places differ, or the test sees nothing"


def test_without_rollouts_all_tokens_are_worth_their_text():
    model, texts = players(SMALL), all_texts(3)
    state = torch.get_rng_state()
    found = returns(model, texts, reward, 0, 3)
    assert torch.equal(torch.get_rng_state(), state), "nothing is drawn"
    assert torch.equal(found, reward(texts.tokens, texts.lengths)[:, None] * texts.drawn)


def test_rollouts_of_texts_of_unlike_lengths_stay_with_their_texts():
    """A reward that knows the first word alone: whatever is written on, each token is worth its own text's first word."""
    model = players()
    torch.manual_seed(0)
    texts = draw_texts(model, 30, 6)
    found = returns(model, texts, lambda tokens, lengths: tokens[:, 1].float(), 3, 6)
    assert torch.equal(found, texts.tokens[:, 1:2] * texts.drawn.float())


def test_distinct_pairs():
    assert Texts(torch.tensor([[0, 1]]), torch.tensor([2])).distinct_pairs() is None
    same = Texts(torch.tensor([[0, 3, 4, 1]] * 5), torch.tensor([4] * 5))
    assert same.distinct_pairs() == pytest.approx(2 / 10)
