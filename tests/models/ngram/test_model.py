"""The n-gram as a language model: its states, its bulk scores, its folder, its errors."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from bimo.core.errors import CapabilityError, CorpusError, ModelError
from bimo.models.base import Kind, LanguageModel, load_model
from bimo.models.ngram import NGram, NGramConfig
from bimo.text.vocabulary import Vocabulary
from tests.models.ngram.reference import BOS, EOS, PAD, chunk, vocabulary

SMOOTHINGS = ["kneser-ney", "witten-bell", "add-k", "mle", "stupid-backoff"]
WORDS = 12


def text(seed: int, documents: int = 60) -> list[list[int]]:
    """Documents of skewed random words."""
    rng = np.random.default_rng(seed)
    return [(4 + (rng.zipf(1.3, rng.integers(0, 20)) - 1) % WORDS).tolist() for _ in range(documents)]


def fitted(**choices: object) -> NGram:
    """A model of random text."""
    model = NGram.build(NGramConfig(**choices), vocabulary(WORDS))  # type: ignore[arg-type]
    model.count([chunk(text(0))])
    model.estimate()
    return model


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 4])
def test_bulk_scores_are_those_of_the_interface(smoothing: str, order: int) -> None:
    model = fitted(order=order, smoothing=smoothing)
    heard = text(1)
    ids = chunk(heard, np.uint16)
    offsets = np.cumsum([0, *(len(document) + 2 for document in heard)])
    nats = model.score_documents(ids, offsets)
    for document, start in zip(heard, offsets, strict=False):
        tokens = torch.tensor([[BOS, *document, EOS]])
        logits, _ = model.advance(model.start(1), tokens)
        slow = -logits[0, :-1].gather(1, tokens[0, 1:, None])[:, 0]
        assert nats[start + 1 : start + len(document) + 2].tolist() == pytest.approx(slow.tolist(), abs=1e-5)
        assert nats[start] == 0


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_threads_and_lanes_change_nothing(smoothing: str) -> None:
    model = fitted(order=4, smoothing=smoothing)
    heard = text(2, 1500)
    ids, offsets = chunk(heard), np.cumsum([0, *(len(document) + 2 for document in heard)])
    together = model.score_documents(ids, offsets, threads=3)
    alone = np.concatenate([model.score_documents(ids[a:b], np.array([0, b - a])) for a, b in pairwise(offsets)])
    np.testing.assert_array_equal(together, alone)
    one = model.score_documents(ids, np.array([0, len(ids)]), threads=1)  # one long document: <s> within has probability zero
    inner = (ids == BOS) & (np.arange(len(ids)) > 0)
    assert np.isinf(one[inner]).all()
    np.testing.assert_array_equal(one[~inner], together[~inner])


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_a_stream_scores_as_its_lines(smoothing: str) -> None:
    model = fitted(order=3, smoothing=smoothing)
    heard = text(3, 20)
    stream = np.array([BOS, *(id for document in heard for id in (*document, EOS))])
    lines = chunk(heard)
    offsets = np.cumsum([0, *(len(document) + 2 for document in heard)])
    assert model.score_documents(stream, np.array([0, len(stream)])).sum() == pytest.approx(model.score_documents(lines, offsets).sum())


def test_score_never_asks_for_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted()
    monkeypatch.setattr(NGram, "advance", lambda *_: pytest.fail("score built [B, T, V]"))
    assert model.score(torch.tensor([[BOS, 4, 5, EOS]])).scored.sum() == 3


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_score_continues_from_a_state_as_the_interface_says(smoothing: str) -> None:
    model = fitted(order=3, smoothing=smoothing)
    tokens = torch.tensor([[BOS, 4, 5, 6, 4, 5, EOS], [BOS, 5, 5, EOS, 4, EOS, PAD]])
    lengths = torch.tensor([7, 6])
    whole = model.score(tokens, lengths)
    reference = LanguageModel.score(model, tokens, lengths)
    if smoothing != "stupid-backoff":  # not a distribution: the general way would normalise it
        torch.testing.assert_close(whole.nats, reference.nats, atol=1e-5, rtol=1e-5)
    assert whole.state.tolist() == reference.state.tolist()
    first = model.score(tokens[:, :3])
    rest = model.score(tokens[:, 2:], lengths - 2, state=first.state)
    torch.testing.assert_close(torch.cat([first.nats, rest.nats[:, 1:]], 1), whole.nats)


def test_state_is_the_last_tokens_and_ends_forget() -> None:
    model = fitted(order=4)
    _, state = model.advance(model.start(2), torch.tensor([[BOS, 4, 5, 6, 7], [4, 5, EOS, PAD, PAD]]), torch.tensor([5, 3]))
    assert state.tolist() == [[5, 6, 7], [-1, -1, BOS]]
    assert model.state_bytes(state) == 24
    _, state = model.advance(model.start(1), torch.tensor([[4]]))
    assert state.tolist() == [[-1, -1, 4]]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_folder_round_trip(smoothing: str, tmp_path: Path) -> None:
    model = fitted(order=3, smoothing=smoothing, cutoffs=[0, 0, 1])
    model.save(tmp_path)
    again = load_model(tmp_path)
    assert isinstance(again, NGram)
    assert (again.config, again.vocabulary, again.kind, again.notices) == (model.config, model.vocabulary, model.kind, model.notices)
    assert again.parameter_count() == model.parameter_count()
    tokens = torch.tensor([[BOS, *text(4)[1], EOS]])
    assert again.score(tokens).nats.tolist() == model.score(tokens).nats.tolist()


def test_kinds() -> None:
    assert fitted(smoothing="stupid-backoff").kind == Kind.UNNORMALISED
    assert fitted(smoothing="mle").kind == Kind.EXACT


def test_cutoffs_leave_out_rare_ngrams() -> None:
    all_, cut = fitted(order=3), fitted(order=3, cutoffs=[0, 1, 2])
    assert cut.trie.sizes[0] == all_.trie.sizes[0]
    assert all(a > b for a, b in zip(all_.trie.sizes[1:], cut.trie.sizes[1:], strict=True))
    assert cut.parameter_count() < all_.parameter_count()


@pytest.mark.parametrize(
    "choices",
    [{"order": 0}, {"order": -2}, {"k": 0}, {"cutoffs": [1]}, {"cutoffs": [0, 2, 1]}, {"cutoffs": []}, {"alpha": 0}, {"smoothing": "kn"},
     {"discount_fallback": (2, 1, 1)}],
)  # fmt: skip
def test_choices_out_of_range(choices: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        NGramConfig(**choices)  # type: ignore[arg-type]


@pytest.mark.parametrize("ids", [[], [BOS], [PAD, PAD]])
def test_nothing_to_count(ids: list[int]) -> None:
    model = NGram.build(NGramConfig(), vocabulary(2))
    model.count([np.array(ids, dtype=np.int32)])
    with pytest.raises(CorpusError, match="nothing to count"):
        model.estimate()


def test_errors_say_what_to_do() -> None:
    model = NGram.build(NGramConfig(), vocabulary(2))
    with pytest.raises(ModelError, match="learned nothing"):
        model.advance(model.start(1), torch.tensor([[BOS]]))
    with pytest.raises(CapabilityError, match="source"):
        model.start(1, given="a source")
    model = fitted()
    with pytest.raises(CorpusError, match=r"0…15"):
        model.score_documents(np.array([0, 77]), np.array([0, 2]))


@pytest.mark.parametrize("damage", ["missing", "length", "dtype", "order", "negative", "unsorted", "id", "nan", "special"])
def test_damaged_folders(damage: str) -> None:
    model = fitted(order=3)
    config, tensors = model.config_dict(), {name: tensor.clone() for name, tensor in model.tensors().items()}
    if damage == "missing":
        del tensors["order2.word"]
    elif damage == "length":
        tensors["order3.logprob"] = tensors["order3.logprob"][:-1]
    elif damage == "dtype":
        tensors["order2.backoff"] = tensors["order2.backoff"].double()
    elif damage == "order":
        config["order"] = "many"
    elif damage == "negative":
        tensors["order1.children"][4] = -1
    elif damage == "unsorted":
        tensors["order2.word"] = tensors["order2.word"].flip(0)
    elif damage == "id":
        tensors["order3.word"][0] = 4000
    elif damage == "nan":
        tensors["order1.logprob"][4] = float("nan")
    else:
        config["bos_token_id"] = 999
    with pytest.raises(ModelError):
        NGram.from_tensors(config, tensors)


def test_one_token_that_begins_and_ends() -> None:
    model = NGram.build(NGramConfig(order=3), Vocabulary(5, bos=0, eos=0))
    model.count([np.array([0, 1, 2, 0, 0, 1, 3, 0, 0, 0])])
    model.estimate()
    rows = torch.tensor([[0, 1, word] for word in range(5)])
    assert float((-model.score(rows).nats[:, -1]).exp().sum()) == pytest.approx(1, abs=1e-6)
    logits, _ = model.advance(model.start(1), torch.tensor([[0]]))
    assert float(logits[0, 0].exp().sum()) == pytest.approx(1, abs=1e-5)
