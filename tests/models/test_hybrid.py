"""Hybrids: mixtures, memories and gates by hand, and parts that go on where another part's context is full."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bimo.core import store
from bimo.core.errors import CapabilityError, ModelError, RecipeError, UserError
from bimo.data.split import Split
from bimo.generation.reader import held
from bimo.generation.sampling import GenerationConfig
from bimo.generation.search import generate
from bimo.models.base import LanguageModel, load_model
from bimo.models.hybrid import Hybrid, HybridConfig
from bimo.models.hybrid import cache as cache_module
from bimo.models.hybrid import neighbours as neighbours_module
from bimo.models.hybrid.cache import CacheConfig, NeuralCache
from bimo.models.hybrid.model import Voice
from bimo.models.hybrid.neighbours import KnnConfig, Neighbours, has_faiss
from bimo.models.hybrid.weights import Weights, multiplied
from bimo.models.scoring import token_nats
from tests.conformance.variants import VOCABULARY, make
from tests.fakes import WIDTH, FakeModel, FakeNeural


def of(*weights: float) -> Weights:
    return Weights(torch.tensor(weights, dtype=torch.float64))


def linear(models: list[LanguageModel], *weights: float) -> Hybrid:
    return Hybrid("linear", [Voice(f"m{i}", model) for i, model in enumerate(models)], of(*weights))


def chances(model: LanguageModel, text: Tensor) -> Tensor:
    return model.advance(model.start(1), text[None])[0][0].double().softmax(-1)


# -- mixtures -------------------------------------------------------------------------------------------------------------


def test_a_linear_mixture_is_the_mean_of_probabilities() -> None:
    one, other = FakeModel.of(seed=1), FakeModel.of(seed=2)
    text = torch.tensor([3, 1, 4, 1, 5])
    found = chances(linear([one, other], 0.25, 0.75), text)
    torch.testing.assert_close(found, 0.25 * chances(one, text) + 0.75 * chances(other, text), rtol=1e-5, atol=1e-7)


def test_a_product_is_in_proportion_to_the_powers() -> None:
    one, other = FakeModel.of(seed=1), FakeModel.of(seed=2)
    text = torch.tensor([3, 1, 4])
    hybrid = Hybrid("product", [Voice("a", one), Voice("b", other)], of(0.5, 2.0))
    expected = chances(one, text) ** 0.5 * chances(other, text) ** 2
    torch.testing.assert_close(chances(hybrid, text), expected / expected.sum(-1, keepdim=True), rtol=1e-5, atol=1e-7)


def test_parts_that_exclude_each_other_are_averaged() -> None:
    one, other = torch.tensor([[0.0, -math.inf]]), torch.tensor([[-math.inf, 0.0]])
    assert multiplied([one, other], torch.ones(2)).exp().tolist() == [[0.5, 0.5]]


def test_a_linear_mixture_predicts_what_any_part_does_and_a_product_what_all_do() -> None:
    one, other = FakeModel.of(suppressed=(0, 5)), FakeModel.of(suppressed=(0, 7))
    assert linear([one, other], 0.5, 0.5).vocabulary.suppressed == (0,)
    assert Hybrid("product", [Voice("a", one), Voice("b", other)], of(1.0, 1.0)).vocabulary.suppressed == (0, 5, 7)


def test_a_gate_weighs_by_the_hidden_state() -> None:
    neural, other = FakeNeural.of(seed=1), FakeModel.of(seed=2)
    matrix, bias = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, -0.1])
    hybrid = Hybrid("linear", [Voice("a", neural), Voice("b", other)], Weights(of(0.5, 0.5).values, (matrix, bias), 0))
    text = torch.tensor([3, 1, 4])
    hidden = neural.hidden(text[None])[0][0]
    shares = (hidden @ matrix.double().t() + bias.double()).softmax(-1)
    expected = shares[:, :1] * chances(neural, text) + shares[:, 1:] * chances(other, text)
    torch.testing.assert_close(chances(hybrid, text), expected, rtol=1e-5, atol=1e-7)


def test_shares_tell_who_said_what() -> None:
    one, other = FakeModel.of(seed=1), FakeModel.of(seed=2)
    hybrid, text = linear([one, other], 0.25, 0.75), torch.tensor([[3, 1, 4, 1, 5]])
    weights, logs, _ = hybrid.shares(text)
    nats = hybrid.score(text).nats
    torch.testing.assert_close(-(weights + logs).logsumexp(-1)[0, 1:], nats[0, 1:])
    torch.testing.assert_close(logs[0, 1:, 1], -other.score(text).nats[0, 1:])
    assert weights[0, 1:].exp().round(decimals=6).unique(dim=0).tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize("name", ["encoder/bert", "vae/lstm", "ngram/stupid-backoff-2"])
def test_parts_that_cannot_be_mixed_say_why(name: str) -> None:
    with pytest.raises(CapabilityError, match="cannot be mixed token by token"):
        linear([make("lstm/tied"), make(name)], 0.5, 0.5)


def test_parts_need_one_vocabulary() -> None:
    with pytest.raises(ModelError, match="one tokenizer"):
        linear([FakeModel.of(8), FakeModel.of(9)], 0.5, 0.5)


# -- contexts -------------------------------------------------------------------------------------------------------------


def documents(*lengths: int) -> Split:
    random = np.random.default_rng(0)
    ids = [random.integers(1, 12, size=n) for n in lengths]
    starts = np.cumsum([0, *lengths[:-1]])
    return Split("test", [np.concatenate(ids)], starts, np.asarray(lengths))


def test_a_part_without_a_limit_goes_on_where_anothers_context_is_full() -> None:
    """In windows of the context the limited part is scored as alone, the other one as the stream that it reads."""
    limited, free, split = FakeModel.of(context=4, order=9, seed=1), FakeModel.of(order=9, seed=2), documents(30, 3, 9, 17)
    hybrid = linear([limited, free], 0.5, 0.5)
    assert (hybrid.context, hybrid.outlives_context) == (4, True)
    expected = -np.log(0.5 * np.exp(-token_nats(limited, split)) + 0.5 * np.exp(-token_nats(free, split)))
    expected[split.starts] = 0.0
    np.testing.assert_allclose(token_nats(hybrid, split), expected, atol=1e-6)


def test_parts_that_all_have_a_limit_are_read_in_windows() -> None:
    models = [FakeModel.of(context=4, seed=1), FakeModel.of(context=6, seed=2)]
    hybrid, split = linear(list(models), 0.5, 0.5), documents(30, 3)
    assert (hybrid.context, hybrid.outlives_context) == (4, False)
    expected = -np.log(sum(0.5 * np.exp(-token_nats(model, split, 4)) for model in models))
    expected[split.starts] = 0.0
    np.testing.assert_allclose(token_nats(hybrid, split), expected, atol=1e-6)


def test_a_stride_needs_a_limit() -> None:
    hybrid = linear([FakeModel.of(context=4), FakeModel.of()], 0.5, 0.5)
    with pytest.raises(UserError, match="stride"):
        token_nats(hybrid, documents(30), stride=2)


@pytest.mark.parametrize("prompt", [[2], [2, 3, 4, 5], [2, 3, 4, 5, 6, 7, 8, 9, 10, 3, 2, 4, 5]])
def test_writing_goes_on_where_a_context_is_full(prompt: list[int]) -> None:
    """The limited part reads its last half again, the free one nothing: as each of them would, token by token."""
    limited, free = FakeModel.of(context=4, order=9, seed=1), FakeModel.of(order=50, seed=2)
    hybrid = linear([limited, free], 0.4, 0.6)
    written = generate(hybrid, [prompt, [2, 3]], GenerationConfig.of(max_new_tokens=15, temperature=0)).ids
    for text, ids in zip((prompt, [2, 3]), written, strict=True):
        for token in ids:
            seen = text if len(text) <= 4 else text[-held(len(text), 4) :]
            both = 0.4 * chances(limited, torch.tensor(seen))[-1] + 0.6 * chances(free, torch.tensor(text))[-1]
            assert int(both.argmax()) == token
            text = [*text, token]


# -- the cache ------------------------------------------------------------------------------------------------------------


def cached(size: int, flatness: float = 0.7) -> tuple[FakeNeural, NeuralCache, Hybrid]:
    neural = FakeNeural.of(order=3, seed=1)
    cache = NeuralCache(CacheConfig(size=size, flatness=flatness), neural.vocabulary, WIDTH)
    return neural, cache, Hybrid("linear", [Voice("a", neural), Voice("cache", memory=cache, of=0)], of(0.6, 0.4))


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_cache_is_graves(size: int) -> None:
    """p(w) ∝ Σ 1[w = x_{i+1}] exp(θ h_t · h_i) over the last places, by two loops."""
    neural, _, hybrid = cached(size)
    text = torch.tensor([3, 1, 4, 1, 5, 1, 4, 2, 3, 1])
    hidden = neural.hidden(text[None])[0][0]
    found = chances(hybrid, text)
    plain = chances(neural, text)
    torch.testing.assert_close(found[0], plain[0], rtol=1e-5, atol=1e-7)  # nothing to remember yet
    for t in range(1, len(text)):
        weights = torch.zeros(12, dtype=torch.float64)
        for i in range(max(0, t - size), t):
            weights[text[i + 1]] += math.exp(0.7 * float(hidden[t] @ hidden[i]))
        torch.testing.assert_close(found[t], 0.6 * plain[t] + 0.4 * weights / weights.sum(), rtol=1e-5, atol=1e-7)


def test_a_long_text_is_looked_back_over_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, hybrid = cached(5)
    text = torch.randint(1, 12, (2, 40), generator=torch.Generator().manual_seed(0))
    whole, nats = hybrid.advance(hybrid.start(2), text)[0], hybrid.score(text).nats
    monkeypatch.setattr(cache_module, "_QUERIES", 7)
    torch.testing.assert_close(hybrid.advance(hybrid.start(2), text)[0], whole)
    torch.testing.assert_close(hybrid.score(text).nats, nats)


def test_a_cache_outlives_the_context() -> None:
    neural = FakeNeural.of(order=3, context=4, seed=1)
    cache = NeuralCache(CacheConfig(size=50, flatness=0.7), neural.vocabulary, WIDTH)
    hybrid = Hybrid("linear", [Voice("a", neural), Voice("cache", memory=cache, of=0)], of(0.5, 0.5))
    assert hybrid.outlives_context
    tokens = torch.tensor([[2, 3, 4, 5]])
    _, state = hybrid.advance(hybrid.start(1), tokens)
    before = state[1]
    after = hybrid.renew(state, tokens[:, -2:])[1]
    assert after is before
    assert int(after.counts) == 3


def test_no_state_holds_more_than_the_cache() -> None:
    _, _, hybrid = cached(6)
    state, sizes = hybrid.start(1), []
    for _ in range(30):
        _, state = hybrid.advance(state, torch.tensor([[3, 4, 5]]))
        sizes.append(state[1].keys.shape[1])
    assert max(sizes) == 6


# -- neighbours -----------------------------------------------------------------------------------------------------------


def neighbours(search: str = "exact", entries: int = 300, **config: float) -> tuple[Neighbours, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    keys, values = torch.randn(entries, 8, generator=random), torch.randint(1, 11, (entries,), generator=random)
    memory = Neighbours(KnnConfig(k=5, temperature=2.0, search=search, **config), VOCABULARY, 8)  # type: ignore[arg-type]
    memory.keep(keys, values)
    return memory, keys.half().float(), values


def test_neighbours_are_khandelwals(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, keys, values = neighbours()
    queries = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
    for piece in (1 << 24, 100):  # all entries at once, and in pieces
        monkeypatch.setattr(neighbours_module, "_PIECE", piece)
        found, _ = memory.told(None, queries, torch.zeros(2, 3, dtype=torch.int64), torch.tensor([3, 2]))
        for row, place in ((0, 0), (0, 2), (1, 1)):
            distances = (keys - queries[row, place]).square().sum(1)
            near = distances.argsort()[:5]
            weights = torch.zeros(11)
            weights.index_add_(0, values[near], (-distances[near] / 2.0).softmax(0))
            torch.testing.assert_close(found[row, place].exp(), weights, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not has_faiss(), reason="faiss is not installed (the extra retrieval)")
def test_faiss_finds_the_same_where_it_looks_at_every_cell() -> None:
    exact, _, _ = neighbours()
    cells, _, _ = neighbours("faiss", probes=1000)
    queries = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
    for found, expected in zip(cells.nearest(queries), exact.nearest(queries), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    again = Neighbours(cells.config, VOCABULARY, 8).take(cells.tensors())
    torch.testing.assert_close(again.nearest(queries), cells.nearest(queries), rtol=0, atol=0)


def _few_found(monkeypatch: pytest.MonkeyPatch, found: int) -> Neighbours:
    """A memory whose cells hold so many of the k = 5 neighbours; faiss gives the others no place, at the largest distance."""

    class Index:
        nprobe = 0

        def search(self, queries: Any, k: int) -> Any:
            distances = np.full((len(queries), k), np.finfo(np.float32).max, np.float32)
            distances[:, :found] = np.arange(found) + 1.0
            places = np.full((len(queries), k), -1)
            places[:, :found] = np.arange(found)
            return distances, places

    memory, _, _ = neighbours()
    memory.config.search, memory.centres, memory._index = "faiss", torch.zeros(3, 8), Index()
    monkeypatch.setattr(neighbours_module, "_faiss", lambda: type("Faiss", (), {"omp_set_num_threads": staticmethod(lambda number: None)}))
    return memory


def test_neighbours_that_are_not_found_count_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = _few_found(monkeypatch, 2)
    distances, _ = memory.nearest(torch.zeros(3, 8))
    assert distances[0].tolist() == [1.0, 2.0, *[math.inf] * 3]
    assert memory.to_try(torch.zeros(3, 8))[5] == pytest.approx(1.5), "the mean of those that are found"
    assert "40% of the k=5 neighbours are found in probes=16 cells" in str(memory._not_found())
    told, _ = memory.told(None, torch.zeros(1, 1, 8), torch.zeros(1, 1, dtype=torch.int64), torch.tensor([1]))
    assert float(told.exp().sum()) == pytest.approx(1)
    assert int((told > -math.inf).sum()) == len(set(memory.values[:2].tolist()))


def test_where_no_neighbour_is_found_the_memory_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, text = _few_found(monkeypatch, 0), torch.zeros(1, 1, dtype=torch.int64)
    assert bool(memory.told(None, torch.zeros(1, 1, 8), text, torch.tensor([1]))[0].isnan().all())
    assert bool(memory.told(None, torch.zeros(1, 1, 8), text, torch.tensor([1]), targets=text)[0].isnan().all())
    assert memory.recalled(None, torch.zeros(1, 1, 8), text, torch.tensor([1])) == [[()]]


def test_nothing_remembered_is_an_error() -> None:
    with pytest.raises(ModelError, match="nothing is remembered"):
        Neighbours(KnnConfig(search="exact"), VOCABULARY, 8).nearest(torch.zeros(1, 8))


# -- configurations and folders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"parts": ["lstm"]}, "two or more"),
        ({"parts": ["cache", "lstm"]}, "cache comes first"),
        ({"parts": ["lstm", "gpt"]}, "'gpt' is no family, memory, recipe or model folder; known: ngram"),
        ({"parts": ["lstm", "gru"], "weights": [0.5]}, "1 numbers for 2 parts"),
        ({"parts": ["lstm", "gru"], "weights": "gate", "mixture": "product"}, "a gate goes with mixture=linear"),
        ({"parts": ["lstm", "cache"], "mixture": "product"}, "no exponent of it can be learned; give model.weights as numbers"),
        ({"parts": ["lstm", {"folder": "x", "called": "../../y"}]}, r"called must be a plain name, .* found '\.\./\.\./y'"),
        ({"parts": ["lstm", "cache"], "mixture": "average"}, "cache goes with linear and product, not with average"),
        ({"parts": ["lstm", {"family": "gru", "model": {"wdith": 3}}]}, "did you mean width"),
        ({"parts": ["lstm", {"family": "gru", "folder": "x"}]}, "give one of the three"),
        ({"parts": ["lstm", {"memory": "cash"}]}, "unknown memory 'cash'"),
    ],
)
def test_wrong_parts_are_told(config: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        HybridConfig(**config)  # type: ignore[arg-type]


def test_a_memory_needs_hidden_states() -> None:
    with pytest.raises(CapabilityError, match=r"put a neural part first, as in lstm\+cache"):
        Hybrid.build(HybridConfig(parts=["ngram", "cache"]), VOCABULARY)  # type: ignore[list-item]


def test_parts_are_called_as_people_do() -> None:
    config = HybridConfig(parts=["ngram", "lstm", "cache", "knn"])  # type: ignore[list-item]
    assert (config.name, config.title) == ("ngram+lstm+cache+knn", "5-gram + LSTM + cache + kNN")


@pytest.mark.parametrize(
    "change",
    [
        lambda c, t: c.update(mixture="other"),
        lambda c, t: c.update(parts=[]),
        lambda c, t: c["parts"].pop(),
        lambda c, t: c["parts"][2].update(memory="cash"),
        lambda c, t: c["parts"][2].update(of=0),
        lambda c, t: c["parts"][2].update(of=99),
        lambda c, t: c["parts"][2].update(of=-1),
        lambda c, t: c["parts"].append({**c["parts"][2], "of": 2}),
        lambda c, t: c["parts"][2]["config"].update(size=0),
        lambda c, t: c["parts"][0].pop("config"),
        lambda c, t: c.update(gate_of=7),
        lambda c, t: c.update(vocab_size=12),
        lambda c, t: t.pop("weights"),
        lambda c, t: t.update(weights=t["weights"] - 1),
        lambda c, t: t.update(weights=t["weights"] + math.inf),
        lambda c, t: t.update({"gate.bias": t["gate.bias"] + math.nan}),
        lambda c, t: t.update({"parts.2.more": torch.zeros(1)}),
        lambda c, t: t.update({"gate.weight": t["gate.weight"][:, 1:].clone()}),
        lambda c, t: t.update({"parts.1.more": torch.zeros(1)}),
        lambda c, t: t.update({"parts.7.more": torch.zeros(1)}),
    ],
)
def test_a_damaged_folder_is_told(tmp_path: Path, change: Callable[[Any, Any], None]) -> None:
    make("hybrid/gate").save(tmp_path)
    config, tensors = store.read_json(tmp_path / "config.json"), store.read_tensors(tmp_path / "model.safetensors")
    change(config, tensors)
    store.write_json(tmp_path / "config.json", config)
    store.write_tensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(UserError):
        load_model(tmp_path)


def test_knn_entries_outside_the_vocabulary_are_refused(tmp_path: Path) -> None:
    make("hybrid/decoder+knn").save(tmp_path)
    tensors = store.read_tensors(tmp_path / "model.safetensors")
    for name, value in (("values", tensors["parts.1.values"] + 100), ("keys", tensors["parts.1.keys"][:, 1:].clone())):
        store.write_tensors(tmp_path / "model.safetensors", {**tensors, f"parts.1.{name}": value})
        with pytest.raises(ModelError, match=r"model\.safetensors"):
            load_model(tmp_path)
