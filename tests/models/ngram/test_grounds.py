"""The counts behind a prediction are those of the text, and those that the probability was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bimo.core import store
from bimo.core.errors import ModelError
from bimo.models.base import load_model
from bimo.models.grounds import Count
from bimo.models.interop.arpa import read_arpa, write_arpa
from bimo.models.ngram import NGram, NGramConfig
from tests.models.ngram.reference import BOS, EOS, chunk, vocabulary
from tests.models.ngram.test_model import SMOOTHINGS, WORDS, fitted, text

HEARD = torch.tensor([[BOS, *text(1)[3][:12], 4, 5, 4, 4, EOS]])
DOCUMENTS = [[BOS, *document, EOS] for document in text(0)]


def naive(gram: tuple[int, ...]) -> int:
    """How often `gram` stands in the training text."""
    n = len(gram)
    return sum(tuple(document[i : i + n]) == gram for document in DOCUMENTS for i in range(len(document) - n + 1))


def naive_total(context: tuple[int, ...]) -> int:
    """How often anything came after `context`; the beginning of a document comes after nothing."""
    n = len(context)
    return sum(tuple(d[i : i + n]) == context for d in DOCUMENTS for i in range(len(d) - n)) - (len(DOCUMENTS) if not n else 0)


def naive_left(gram: tuple[int, ...]) -> int:
    n = len(gram)
    return len({d[i - 1] for d in DOCUMENTS for i in range(1, len(d) - n + 1) if tuple(d[i : i + n]) == gram})


def behind(model: NGram, tokens: Tensor = HEARD) -> list[tuple[int, tuple[Count, ...]]]:
    return list(zip(tokens[0, 1:].tolist(), [grounds.counts for grounds in model.grounds(tokens)[0][1:]], strict=True))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 4])
def test_counts_are_those_of_the_text(smoothing: str, order: int) -> None:
    for word, counts in behind(fitted(order=order, smoothing=smoothing)):
        assert counts
        for count in counts:
            assert (count.count, count.total) == (naive((*count.context, word)), naive_total(count.context))
            assert count.order <= order
        assert [c.order for c in counts] == sorted({c.order for c in counts}, reverse=True)
        if smoothing in ("kneser-ney", "witten-bell", "stupid-backoff"):
            assert all(c.count == 0 for c in counts[:-1])
            assert counts[-1].count or counts[-1].context == ()


@pytest.mark.parametrize("smoothing", ["mle", "add-k"])
def test_they_give_the_probability_back(smoothing: str) -> None:
    model = fitted(order=3, smoothing=smoothing)
    chances = (-model.score(HEARD).nats).exp()[0, 1:].tolist()
    k, size = (model.config.k, WORDS + 2) if smoothing == "add-k" else (0.0, 0)
    for chance, (_, (count,)) in zip(chances, behind(model), strict=True):
        assert count.count is not None
        assert count.total is not None
        assert chance == pytest.approx((count.count + k) / (count.total + k * size), rel=1e-5)


def test_kneser_ney_tells_its_continuation_counts() -> None:
    model = fitted(order=3)
    told = [(word, count) for word, counts in behind(model) for count in counts]
    for word, count in told:
        if count.order == 3 or count.context[:1] == (BOS,):
            assert count.left is None
        else:
            assert count.left == naive_left((*count.context, word))
            ends = {w for document in DOCUMENTS for w in document[1:]}
            assert count.left_total == sum(naive_left((*count.context, w)) for w in ends)
    discount = [0.0, *model.discounts[0]]
    uniform = 1 / (WORDS + 2)
    for word in range(4, 4 + WORDS):  # a unigram's probability, from what is told
        (count,) = model.grounds(torch.tensor([[EOS, word]]))[0][1].counts[-1:]
        if count.context or count.left is None or count.left_total is None:
            continue
        lefts = [naive_left((w,)) for w in [EOS, *range(3, 4 + WORDS)]]
        freed = sum(discount[min(n, 3)] for n in lefts) / count.left_total
        chance = (count.left - discount[min(count.left, 3)]) / count.left_total + freed * uniform
        assert np.exp(model.trie.logprob[word]) == pytest.approx(chance, rel=1e-4)


def test_what_a_cut_off_hides_is_not_told() -> None:
    model = fitted(order=3, cutoffs=[0, 0, 1])
    told = [(word, count) for word, counts in behind(model) for count in counts]
    assert {naive((*c.context, word)) <= 1 for word, c in told if c.order == 3 and c.count is None} == {True}
    for word, count in told:
        if count.count is not None:
            assert count.count == naive((*count.context, word))
        assert count.total in (None, naive_total(count.context))
        assert count.left is None or count.order == 1


def test_counts_go_on_from_a_state() -> None:
    model = fitted(order=4)
    state = model.score(HEARD[:, :4]).state
    assert model.grounds(HEARD[:, 3:], state=state)[0][1:] == model.grounds(HEARD)[0][4:]
    padded = torch.cat([HEARD, HEARD])
    again = model.grounds(padded, torch.tensor([HEARD.shape[1], 5]))
    assert again[1][:5] == again[0][:5]
    assert not any(grounds.counts for grounds in again[1][5:])


def test_they_are_kept_in_the_folder_and_folders_without_them_open(tmp_path: Path) -> None:
    model = fitted(order=3)
    model.save(tmp_path)
    again = load_model(tmp_path)
    assert isinstance(again, NGram)
    assert behind(again) == behind(model)
    tensors = {name: t for name, t in store.read_tensors(tmp_path / "model.safetensors").items() if not name.endswith(".count")}
    store.write_tensors(tmp_path / "model.safetensors", tensors)
    old = load_model(tmp_path)
    assert isinstance(old, NGram)
    assert old.score(HEARD).nats.tolist() == model.score(HEARD).nats.tolist()
    assert [[(c.context, c.count, c.total, c.left) for c in counts] for _, counts in behind(old)] == [
        [(c.context, None, None, None) for c in counts] for _, counts in behind(model)
    ]


@pytest.mark.parametrize("damage", ["short", "negative", "missing"])
def test_damaged_counts_are_named(damage: str, tmp_path: Path) -> None:
    model = fitted(order=3)
    tensors = model.tensors()
    name = "order3.count" if damage == "missing" else "order2.count"
    changed = {"short": tensors[name][:-1], "negative": -1 - tensors[name]}
    broken = {k: changed.get(damage, t) if k == name else t for k, t in tensors.items() if damage != "missing" or k != name}
    with pytest.raises(ModelError, match=name):
        NGram.from_tensors(model.config_dict(), broken)


def test_arpa_has_no_counts(tmp_path: Path) -> None:
    model = fitted(order=3)
    words = [f"w{id}" for id in range(model.vocab_size)]
    write_arpa(model, words, tmp_path / "model.arpa")
    (found,) = read_arpa(tmp_path / "model.arpa")[0].grounds(torch.tensor([[0, 4, 5]]))
    assert all(count.count is None and count.total is None for grounds in found[1:] for count in grounds.counts)
    assert all(grounds.counts for grounds in found[1:])


def test_large_counts_are_not_cut() -> None:
    model = NGram.build(NGramConfig(order=1), vocabulary(WORDS))
    model.count([chunk([[4, 5, 5]])])
    assert model._counts is not None
    model._counts.unigrams[4] = 2**40
    model.estimate()
    assert model.grounds(torch.tensor([[BOS, 4]]))[0][1].counts[0].count == 2**40
    again = NGram.from_tensors(model.config_dict(), model.tensors())
    assert again.grounds(torch.tensor([[BOS, 4]])) == model.grounds(torch.tensor([[BOS, 4]]))
