"""Contrast: InfoNCE by its definition, what is no negative, and runs that bring what belongs together nearer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import bimo
from bimo.core.errors import RecipeError, SourceError
from bimo.core.recipe import make_recipe
from bimo.data.batches import Given
from bimo.data.corpus import Corpus
from bimo.data.sentences import SentenceBatch
from bimo.evaluation.similarity import RatedPair, similarity
from bimo.models.bundle import Bundle
from bimo.models.encoder import Encoder, EncoderConfig
from bimo.training.loop import Hooks, Loop
from bimo.training.objectives.contrastive import Contrastive, ContrastiveConfig, false_negatives, info_nce
from bimo.training.progress import Reporter
from tests.training.toy import Toy, training

NOUNS = ["cat", "dog", "hen", "cow", "pig", "fox", "owl", "ant"]
VERBS = ["sat", "ran", "fed", "hid"]
LIKE = {"cat": "kitty", "dog": "hound", "hen": "chick", "cow": "ox", "pig": "boar", "fox": "vixen", "owl": "hooter", "ant": "emmet"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("contrastive")
    lines = [f"the {n} {v} and the {m} {w} ." for n in [*NOUNS, *LIKE.values()] for v in VERBS for m in NOUNS for w in VERBS]
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    return bimo.prepare(folder / "text.txt", folder / "corpus", tokenizer="word", documents="line")


@pytest.fixture(scope="module")
def triples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An animal by another name means the same; another animal that does the same looks alike and does not."""
    path = tmp_path_factory.mktemp("triples") / "triples.jsonl"
    records = [{"anchor": f"the {a} {v} .", "positive": f"the {LIKE[a]} {v} .", "negative": f"the {b} {v} ."}
               for a in NOUNS for b in NOUNS for v in VERBS if a != b]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


def encoder(corpus: Corpus, seed: int = 0, **fields: object) -> Encoder:
    torch.manual_seed(seed)
    shape = {"layers": 1, "heads": 2, "width": 16, "context": 16, "dropout": 0.1, **fields}
    return Encoder.build(EncoderConfig(**shape), corpus.tokenizer.vocabulary)


def objective(corpus: Corpus, model: object = None, batch_size: int = 16, **fields: object) -> Contrastive:
    recipe = make_recipe({"family": "encoder", "objective": {"name": "contrastive"}, "training": {"batch_size": batch_size, "seed": 3}})
    return Contrastive(ContrastiveConfig(**fields), model or encoder(corpus), recipe, corpus)


# -- the loss -------------------------------------------------------------------------------------------------------------


def test_info_nce_is_its_definition():
    torch.manual_seed(0)
    read, others = torch.randn(4, 5), torch.randn(7, 5)
    left_out = torch.zeros(4, 7, dtype=torch.bool)
    left_out[1, 5] = left_out[2, 0] = True
    nats, right = info_nce(read, others, left_out, 0.05)
    expected, nearest = 0.0, 0
    for i in range(4):
        cosines = [float(read[i] @ o / read[i].norm() / o.norm()) for o in others]
        seen = [math.exp(c / 0.05) for j, c in enumerate(cosines) if not left_out[i, j]]
        expected -= math.log(math.exp(cosines[i] / 0.05) / sum(seen))
        nearest += cosines[i] == max(c for j, c in enumerate(cosines) if not left_out[i, j])
    assert float(nats) == pytest.approx(expected, rel=1e-4)
    assert int(right) == nearest


def test_equal_texts_are_no_negatives_of_each_other():
    own = Given(torch.tensor([[5, 6, 0], [7, 8, 9], [5, 6, 3]]), torch.tensor([2, 3, 2]))  # rows 0 and 2 differ in padding alone
    positives = Given(torch.tensor([[10, 0], [11, 0], [12, 0]]), torch.tensor([1, 1, 1]))
    negatives = Given(torch.tensor([[10, 4], [5, 6], [11, 11]]), torch.tensor([1, 2, 1]))
    found = false_negatives(own, [positives, negatives]).int().tolist()
    # Columns: positives 10, 11, 12; negatives 10 (row 0's positive), "5 6" (rows 0 and 2 themselves), 11 (row 1's positive).
    assert found == [[0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0]]


def test_padding_is_not_taken_for_the_first_id():
    own = Given(torch.tensor([[5, 0], [5, 0]]), torch.tensor([1, 2]))  # "5" and "5 <id 0>"
    assert not false_negatives(own, [own]).any()


def test_without_positives_a_text_is_read_twice(corpus):
    model = encoder(corpus).train()
    learned = objective(corpus, model)
    batch = learned.source.batch(0, 0)
    assert batch.positives is None
    torch.manual_seed(1)
    loss = learned.loss(model, batch, None, 0.0)
    torch.manual_seed(1)
    first, second = (model.sentence_embeddings(batch.tokens, batch.lengths) for _ in range(2))
    own = Given(batch.tokens, batch.lengths)
    expected, right = info_nce(first, second, false_negatives(own, [own]), 0.05)
    assert not torch.equal(first, second)
    assert float(loss.nats.detach()) == pytest.approx(float(expected.detach()))
    assert loss.told == {"accuracy": float(right)}
    loss.nats.backward()
    assert model.embedding.weight.grad is not None
    with pytest.raises(RecipeError, match=r"model\.dropout"):
        learned.loss(encoder(corpus, dropout=0.0).train(), batch, None, 0.0)


def test_records_bring_positives_and_hard_negatives(corpus, triples):
    model = encoder(corpus, dropout=0.0)
    learned = objective(corpus, model, records=str(triples), pooling="last", temperature=0.1)
    batch = learned.source.batch(0, 0)
    assert batch.positives is not None
    assert batch.negatives is not None
    loss = learned.loss(model, batch, None, 0.0)
    own, positives, negatives = Given(batch.tokens, batch.lengths), batch.positives, batch.negatives
    read, near, far = (model.sentence_embeddings(g.tokens, g.lengths, "last") for g in (own, positives, negatives))
    left_out = false_negatives(own, [positives, negatives])
    assert float(loss.nats.detach()) == pytest.approx(float(info_nce(read, torch.cat([near, far]), left_out, 0.1)[0].detach()))
    without = learned.loss(model, SentenceBatch(own.tokens, own.lengths, positives), None, 0.0)
    assert float(without.nats.detach()) < float(loss.nats.detach())


def test_pairs_of_the_corpus_are_anchors_and_positives(tmp_path):
    pairs = [{"source": f"the {a} {v} {w} .", "target": f"the {LIKE[a]} {v} {w} ."} for a in NOUNS for v in VERBS for w in [*VERBS, *NOUNS]]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    corpus = bimo.prepare(tmp_path / "pairs.jsonl", tmp_path / "corpus", tokenizer="word")
    batch = objective(corpus).source.batch(0, 0)
    assert batch.positives is not None
    for row in range(4):
        texts = [corpus.tokenizer.decode(t[row, : n[row]].tolist()) for t, n in
                 ((batch.tokens, batch.lengths), (batch.positives.tokens, batch.positives.lengths))]  # fmt: skip
        assert {"source": texts[0], "target": texts[1]} in pairs


def test_what_cannot_be_contrasted_is_refused(corpus, tmp_path):
    with pytest.raises(RecipeError, match="features"):
        objective(corpus, Toy())
    with pytest.raises(RecipeError, match="batch_size"):
        objective(corpus, batch_size=1)
    with pytest.raises(SourceError, match="no such file"):
        objective(corpus, records=str(tmp_path / "nowhere.jsonl"))


# -- runs -----------------------------------------------------------------------------------------------------------------


def learn(learned: Contrastive, model: Encoder, folder: Path, steps: int = 60) -> list[dict[str, float]]:
    section = training(steps=steps, budget=f"{steps}steps", batch_size=16, learning_rate=0.005)
    folder.mkdir()
    Loop(model, learned, section, folder, Hooks(), Reporter("toy", 1, quiet=True)).run()
    model.eval()
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_supervised_learning_brings_what_means_the_same_together(corpus, triples, tmp_path):
    model = encoder(corpus, dropout=0.0)
    bundle = Bundle(model, corpus.tokenizer, "line")
    pairs = [RatedPair(f"the {a} {v} .", f"the {b} {v} .", float(b == LIKE[a])) for a in NOUNS for b in LIKE.values() for v in VERBS]
    before = similarity(bundle, pairs)
    lines = learn(objective(corpus, model, records=str(triples)), model, tmp_path / "run")
    after = similarity(bundle, pairs)
    assert lines[-1]["accuracy"] > 0.9 > lines[0]["accuracy"]
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert after.spearman.low > before.spearman.high
    assert after.spearman.estimate > 0.5


def test_unsupervised_learning_spreads_texts_out(corpus, tmp_path):
    """Random vectors of texts that share most words nearly coincide; contrast draws them apart (uniformity: Gao 2021, section 5)."""
    model = encoder(corpus, dropout=0.2)
    texts = [corpus.tokenizer.encode_document(f"the {n} {v} and the fox ran .") for n in NOUNS for v in VERBS]
    tokens = torch.tensor([ids.tolist() for ids in texts])

    def mean_cosine() -> float:
        unit = torch.nn.functional.normalize(model.eval().sentence_embeddings(tokens).detach(), dim=-1)
        return float((unit @ unit.t()).mean())

    before = mean_cosine()
    lines = learn(objective(corpus, model), model, tmp_path / "run")
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert mean_cosine() < before - 0.2


def test_a_recipe_names_it(corpus, tmp_path):
    run = bimo.train(str(corpus.folder), family="encoder", out=tmp_path / "run", budget="3steps",
                     overrides=["objective.name=contrastive", "objective.temperature=0.1", "model.dropout=0.1", "model.layers=1",
                                "model.width=16", "model.heads=2", "model.context=16", "training.batch_size=4", "training.threads=1",
                                "training.precision=fp32", "training.evaluation_tokens=200", "training.keep=last"])  # fmt: skip
    assert (run.folder / "model.safetensors").exists()
    assert "contrastive" in (run.folder / "recipe.yaml").read_text()
    with pytest.raises(RecipeError, match=r"objective\.name: lstm cannot learn by contrastive"):
        make_recipe({"family": "lstm", "objective": {"name": "contrastive"}})


def test_it_learns_of_any_model_that_gives_features(corpus):
    """Nothing but the capability is asked for: here, embeddings alone."""
    table = torch.nn.Embedding(corpus.tokenizer.vocabulary.size, 6)
    model = SimpleNamespace(capabilities={"features"}, context=None, training=False, features=lambda tokens, lengths: table(tokens))
    learned = objective(corpus, model)
    assert torch.isfinite(learned.loss(model, learned.source.batch(0, 0), None, 0.0).nats)  # type: ignore[arg-type]
