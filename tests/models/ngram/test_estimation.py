"""Every smoothing against its definition, on small random corpora."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bimo.models.ngram import NGram, NGramConfig
from bimo.models.ngram.estimation import discounts
from tests.models.ngram.reference import BOS, EOS, PAD, Reference, chunk, vocabulary

SMOOTHINGS = ["kneser-ney", "witten-bell", "add-k", "mle", "stupid-backoff"]
WORDS = 4
documents = st.lists(st.lists(st.integers(4, 3 + WORDS), max_size=8), min_size=1, max_size=8)


def fitted(texts: list[list[int]], **choices: object) -> NGram:
    """A model of these documents."""
    model = NGram.build(NGramConfig(**choices), vocabulary(WORDS))  # type: ignore[arg-type]
    model.count([chunk(texts)])
    model.estimate()
    return model


def prefixes(texts: list[list[int]]) -> list[list[int]]:
    """Some seen and some unseen prefixes, from `<s>` or from nothing."""
    seen = [[BOS, *text][: cut + 1] for text in texts[:3] for cut in range(len(text) + 1)]
    return [*seen, [BOS, 4, 4, 4, 5], [5, 6], [7, 7, 4], [BOS, 3, 4]]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@settings(max_examples=40, deadline=None)
@given(texts=documents, order=st.integers(1, 5), cutoffs=st.sampled_from([[0], [0, 1], [0, 0, 1, 2]]))
def test_distributions_are_those_of_the_definition(smoothing: str, texts: list[list[int]], order: int, cutoffs: list[int]) -> None:
    model = fitted(texts, order=order, smoothing=smoothing, cutoffs=cutoffs)
    reference = Reference(texts, order, 4 + WORDS, smoothing, cutoffs)
    for prefix in prefixes(texts):
        logits, _ = model.advance(model.start(1), torch.tensor([prefix]), keep="last")
        expected = [reference.p(word, tuple(prefix)) for word in range(4 + WORDS)]
        assert logits[0, 0].double().exp().tolist() == pytest.approx(expected, abs=1e-6, rel=1e-5)
        if smoothing != "stupid-backoff":
            assert float(logits[0, 0].double().exp().sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@settings(max_examples=40, deadline=None)
@given(texts=documents, order=st.integers(1, 5), heard=documents)
def test_score_is_the_definition(smoothing: str, texts: list[list[int]], order: int, heard: list[list[int]]) -> None:
    model = fitted(texts, order=order, smoothing=smoothing)
    reference = Reference(texts, order, 4 + WORDS, smoothing)
    for text in heard:
        tokens = [BOS, *text, EOS]
        expected = [reference.p(tokens[t], tuple(tokens[:t])) for t in range(1, len(tokens))]
        nats = model.score(torch.tensor([tokens])).nats[0, 1:]
        assert (-nats).exp().tolist() == pytest.approx(expected, abs=1e-6, rel=1e-5)


@pytest.mark.parametrize("smoothing", ["kneser-ney", "witten-bell", "add-k", "mle"])
def test_probabilities_sum_to_one_through_score(smoothing: str) -> None:
    texts = [[4, 5, 6], [4, 5, 7, 7], [6], []]
    model = fitted(texts, order=3, smoothing=smoothing)
    for prefix in prefixes(texts):
        rows = torch.tensor([[*prefix, word] for word in range(4 + WORDS)])
        total = (-model.score(rows).nats[:, -1]).exp().sum()
        assert float(total) == pytest.approx(1, abs=1e-6)


def test_discounts_of_chen_and_goodman() -> None:
    n1, n2, n3, n4 = 100, 40, 20, 12
    y = n1 / (n1 + 2 * n2)
    found = discounts(np.repeat([1, 2, 3, 4, 9], [n1, n2, n3, n4, 5]))
    assert found == pytest.approx([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])


@pytest.mark.parametrize("counts", [[1, 1, 1], [2, 3], [1] * 9 + [2] + [3] * 5])
def test_counts_too_small_for_discounts(counts: list[int]) -> None:
    assert discounts(np.array(counts)) is None


def test_fallback_is_told_and_used(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="bimo"):
        model = fitted([[4, 5]], order=2, discount_fallback=(0.25, 0.5, 0.75))
    assert model.discounts == [[0.25, 0.5, 0.75]] * 2
    assert [notice for notice in model.notices if "order 2" in notice and "fallback" in notice]
    assert "fallback" in caplog.text


def test_estimated_discounts_are_used_where_the_text_allows() -> None:
    rng = np.random.default_rng(0)
    texts = [(4 + rng.zipf(1.4, 6) % WORDS).tolist() for _ in range(40)]
    reference = Reference(texts, 4, 4 + WORDS)
    model = fitted(texts, order=4)
    assert reference.discounts[4] != reference.fallback
    assert model.discounts[3] == pytest.approx(reference.discounts[4])


def test_one_word_and_orders_beyond_the_documents() -> None:
    model = fitted([[4]], order=7)
    assert any("orders 4 to 7 are empty" in notice for notice in model.notices)
    nats = model.score(torch.tensor([[BOS, 4, EOS, PAD]]), torch.tensor([3])).nats
    assert torch.isfinite(nats).all()
    assert float(nats[0, 3]) == 0


def test_unknown_word_has_the_uniform_share() -> None:
    # KenLM: p(<unk>) = γ / |V| with γ the unigrams' freed mass; |V| counts words, <unk> and </s>, without <s>
    texts = [[4, 5], [5, 6, 7], [7], []]
    model = fitted(texts, order=1, discount_fallback=(0.5, 1.0, 1.5))
    counts = {4: 1, 5: 2, 6: 1, 7: 2, EOS: 4}
    freed = sum((0.5, 1.0, 1.5)[min(count, 3) - 1] for count in counts.values())
    nats = model.score(torch.tensor([[BOS, 3]])).nats[0, 1]
    assert math.exp(-float(nats)) == pytest.approx(freed / 10 / (WORDS + 2))
