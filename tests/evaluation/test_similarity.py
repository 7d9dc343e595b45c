"""Rank correlation by hand, by scipy's own published example and by definition; vectors of sentences; STS-B's files."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from bimo.core.errors import CapabilityError, ContextError, SourceError, UserError
from bimo.evaluation.similarity import (
    RatedPair,
    Similarity,
    paired_difference,
    ranks,
    read_rated_pairs,
    sentence_vectors,
    similarity,
    spearman,
    spearman_interval,
)
from bimo.model import Model
from bimo.models.bundle import Bundle
from bimo.models.encoder import Encoder, EncoderConfig
from bimo.text.tokenizer import Tokenizer
from tests.fakes import FakeModel

# -- correlation ----------------------------------------------------------------------------------------------------------


def test_spearman_by_hand():
    """Ten people's ranks in two judgings: differences -1 1 -1 1 0 -1 -1 2 1 -1, squares sum to 12, 1 − 6·12/990."""
    first = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    second = [2, 1, 4, 3, 5, 7, 8, 6, 10, 9]
    squares = sum((a - b) ** 2 for a, b in zip(first, second, strict=True))
    assert squares == 12
    assert spearman(first, second) == pytest.approx(1 - 6 * 12 / 990, abs=1e-12)
    assert spearman(np.exp(first), np.square(second)) == pytest.approx(1 - 6 * 12 / 990, abs=1e-12)  # order alone counts
    assert spearman(first, [-x for x in second]) == pytest.approx(6 * 12 / 990 - 1, abs=1e-12)


def test_ties_share_their_mean_rank():
    assert ranks([3.0, 1.0, 3.0, 2.0, 3.0, 1.0]).tolist() == [5, 1.5, 5, 3, 5, 1.5]
    assert ranks([[2.0, 2.0], [1.0, 0.0]]).tolist() == [[1.5, 1.5], [2, 1]]
    assert ranks([7.0]).tolist() == [1]
    generator = np.random.default_rng(0)
    for size in (1, 2, 5, 40):
        x = generator.integers(0, 6, size).astype(float)
        slowly = [1 + (x < v).sum() + ((x == v).sum() - 1) / 2 for v in x]
        assert ranks(x).tolist() == slowly


def test_spearman_with_ties_is_pearson_of_the_ranks():
    assert spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(0.8207826816681233, abs=1e-15)  # scipy.stats.spearmanr's example
    x, y = np.random.default_rng(1).integers(0, 5, (2, 50))
    a, b = ranks(x), ranks(y)
    assert spearman(x, y) == pytest.approx(float(np.corrcoef(a, b)[0, 1]), abs=1e-12)
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))
    with pytest.raises(UserError, match="equally long"):
        spearman([1, 2], [1, 2, 3])


def test_the_interval_holds_the_estimate_and_narrows_with_pairs():
    generator = np.random.default_rng(2)
    x = generator.normal(size=800)
    y = x + generator.normal(size=800)
    few, many = (spearman_interval(x[:n], y[:n], resamples=300) for n in (50, 800))
    for found in (few, many):
        assert found.low < found.estimate < found.high
    assert many.high - many.low < 0.5 * (few.high - few.low)
    assert many.low < 0.69 < many.high  # 6/π · asin(ρ/2), ρ = 1/√2: 0.6902
    assert spearman_interval(x[:50], y[:50], resamples=300) == few
    assert spearman_interval(x[:50], y[:50], resamples=300, seed=1) != few


def test_the_difference_of_two_models_is_drawn_over_the_same_pairs():
    generator = np.random.default_rng(3)
    ratings, noise = generator.normal(size=300), generator.normal(size=300)

    def measured(cosines: np.ndarray) -> Similarity:
        return Similarity(spearman_interval(cosines, ratings), 300, "mean", cosines, ratings)

    good, slightly_worse = measured(ratings + 0.50 * noise), measured(ratings + 0.60 * noise)
    found = paired_difference(good, slightly_worse)
    assert found.low > 0  # what is hard for both does not blur it …
    assert good.spearman.low < slightly_worse.spearman.high  # … as it blurs the two intervals
    assert found.estimate == pytest.approx(good.spearman.estimate - slightly_worse.spearman.estimate)
    none = paired_difference(good, good)
    assert (none.low, none.estimate, none.high) == (0, 0, 0)
    with pytest.raises(UserError, match="different pairs"):
        paired_difference(good, Similarity(good.spearman, 300, "mean", good.cosines, ratings + 1))


# -- files ----------------------------------------------------------------------------------------------------------------


def test_rated_pairs_are_read(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('"a, b",c,5.0\n"d\ne",f,0\n', encoding="utf-8")
    assert read_rated_pairs(path) == [RatedPair("a, b", "c", 5.0), RatedPair("d\ne", "f", 0.0)]
    path.write_text("first,second,score\na,b,1\n", encoding="utf-8")
    assert read_rated_pairs(path) == [RatedPair("a", "b", 1.0)]


@pytest.mark.parametrize(
    ("content", "word"),
    [("", "no pairs"), ("a,b,1\nc,d,high\n", "row 2"), ("a,b\n", "row 1"), ("a,b,nan\nc,d,nan\n", "row 2"), ("h,e,ad\n", "no pairs")],
)
def test_rows_that_are_no_pairs_are_told(content, word, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=word):
        read_rated_pairs(path)


@pytest.mark.parametrize(("name", "size"), [("en-dev.csv", 1500), ("zh-test.csv", 1379), ("en-train.csv.gz", 5749)])
def test_sts_b_is_read(name, size, data_folder):
    pairs = read_rated_pairs(Path(data_folder, "sts-stsb-en-zh", f"stsb-{name}"))
    assert len(pairs) == size
    assert all(0 <= pair.rating <= 5 and pair.first and pair.second for pair in pairs)


# -- models ---------------------------------------------------------------------------------------------------------------

TEXTS = ["a cat sat", "a cat", "the dog ran far away from the cat", "dog", "a cat sat"]


def bundle(**fields: object) -> Bundle:
    torch.manual_seed(0)
    tokenizer = Tokenizer.train("word", TEXTS)
    model = Encoder.build(
        EncoderConfig(**{"layers": 1, "heads": 2, "width": 8, "context": 16, "dropout": 0.5, **fields}), tokenizer.vocabulary
    )
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.5, 0.5)
    return Bundle(model, tokenizer, "line")


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_a_vector_is_that_of_the_text_alone(pooling, monkeypatch):
    held = bundle()
    held.model.train()
    monkeypatch.setattr("bimo.evaluation.similarity._ROWS", 2)
    vectors = sentence_vectors(held, TEXTS, pooling)
    assert held.model.training
    held.model.eval()
    for text, vector in zip(TEXTS, vectors, strict=True):
        alone = held.model.sentence_embeddings(torch.from_numpy(held.tokenizer.encode_document(text))[None], pooling=pooling)[0]
        assert torch.allclose(vector, alone, atol=1e-6)
    assert not vectors.requires_grad


def test_a_text_beyond_the_context_is_refused_or_cut_and_counted():
    held = bundle(context=4)
    texts = ["the dog ran far", "the dog ran away"]
    with pytest.raises(ContextError, match="text 0 has 6 tokens, and the model reads 4; truncation=True"):
        sentence_vectors(held, texts)
    with pytest.raises(ContextError):
        Model(held).similarity(*texts)
    vectors = sentence_vectors(held, texts, truncation=True)
    assert torch.allclose(vectors[0], vectors[1])
    assert Model(held).similarity(*texts, truncation=True) == pytest.approx([1])
    found = similarity(held, [RatedPair("a cat", "the dog", 2.0), RatedPair(*texts, 5.0)], resamples=10)
    assert found.to_dict()["truncated"] == 2
    assert "2 sentences cut" in found.describe()


def test_pairs_are_ordered_by_the_cosines_of_their_vectors():
    held = bundle()
    vectors = sentence_vectors(held, TEXTS[:4]).double()
    pairs = [(i, j, float(torch.nn.functional.cosine_similarity(vectors[i], vectors[j], dim=0))) for i, j in combinations(range(4), 2)]
    rated = [RatedPair(TEXTS[i], TEXTS[j], 2 + cosine) for i, j, cosine in pairs]
    found = similarity(held, rated, resamples=50)
    assert found.spearman.estimate == pytest.approx(1)
    assert found.cosines.tolist() == pytest.approx([cosine for _, _, cosine in pairs], abs=1e-6)
    turned = similarity(held, [RatedPair(p.first, p.second, -p.rating) for p in rated], resamples=50)
    assert turned.spearman.estimate == pytest.approx(-1)
    assert "6 pairs" in found.describe()
    assert found.to_dict()["spearman"]["estimate"] == pytest.approx(1)


def test_a_model_tells_vectors_and_how_alike_texts_are():
    model = Model(bundle())
    assert model.embed("a cat").shape == (1, 8)
    assert torch.equal(model.embed(TEXTS, "first"), sentence_vectors(model.bundle, TEXTS, "first"))
    assert model.similarity("a cat", "a cat") == pytest.approx([1])
    vectors = model.embed(TEXTS)
    wanted = torch.nn.functional.cosine_similarity(vectors[:2], vectors[2:4]).tolist()
    assert model.similarity(TEXTS[:2], TEXTS[2:4]) == pytest.approx(wanted, abs=1e-6)
    with pytest.raises(UserError, match="2 texts and 1"):
        model.similarity(["a", "cat"], "a cat")
    with pytest.raises(UserError, match="no texts"):
        model.embed([])
    with pytest.raises(UserError, match="did you mean mean"):
        model.embed("a cat", "means")


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(CapabilityError, match="features"):
        sentence_vectors(Bundle(FakeModel.of(12), bundle().tokenizer), TEXTS)
    with pytest.raises(UserError, match="1 pairs"):
        similarity(bundle(), [RatedPair("a", "b", 1.0)])
