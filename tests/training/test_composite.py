"""The third way of learning: parts, then what stands between them; killed and resumed, from folders, over budget, refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bimo
from bimo.core import store
from bimo.core.errors import Interrupted, RecipeError
from bimo.core.recipe import Recipe, make_recipe, parse_overrides
from bimo.data.corpus import Corpus
from bimo.evaluation import runs
from bimo.evaluation.perplexity import evaluate
from bimo.models.base import load_model
from bimo.models.hybrid import Hybrid
from bimo.models.hybrid.config import HybridConfig
from bimo.models.scoring import token_nats
from bimo.training import composite, fit, parts
from tests.conftest import small

PARTS = [{"family": "ngram", "model": {"order": 3}}, {"family": "lstm", "model": {"layers": 1, "width": 16}}]
QUICK = {"threads": 1, "precision": "fp32", "batch_size": 4, "context": 8, "evaluation_tokens": 1000}


def learned(place: Path, out: Path, parts: list[object], budget: str = "4steps", **model: object) -> runs.Run:
    recipe = make_recipe({"family": "hybrid", "model": {"parts": parts, **model}, "training": {**QUICK, "budget": budget}})
    return runs.run(recipe, Corpus.open(place / "corpus"), out, name="text", quiet=True)


def part(place: Path, name: str) -> str:
    return str(place / name)


def test_a_hybrid_is_learned_with_its_parts(place: Path, tmp_path: Path) -> None:
    run = learned(place, tmp_path / "run", [*PARTS, {"memory": "cache"}])
    row = run.row
    assert (row.family, row.label, row.learning, row.kind) == ("ngram+lstm+cache", "3-gram + LSTM + cache", "composite", "exact")
    corpus, model = Corpus.open(place / "corpus"), bimo.load(tmp_path / "run")
    measured = evaluate(model.bundle.model, corpus.splits["test"], model.bundle.context)
    assert row.nats == pytest.approx(measured.nats, rel=1e-6)
    assert row.samples[0].continuation
    alone = [bimo.load(tmp_path / "run" / "parts" / name) for name in ("ngram", "lstm")]  # each is a model by itself
    nats = [evaluate(m.bundle.model, corpus.splits["valid"], m.bundle.context).nats for m in alone]
    mixed = evaluate(model.bundle.model, corpus.splits["valid"], model.bundle.context).nats
    assert mixed < min(nats) * (1 + 1e-6)  # after four steps the LSTM has hardly anything to say
    assert row.parameters == sum(m.bundle.model.parameter_count() for m in alone) + 3
    told = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert told["valid_loss"] == pytest.approx(mixed / corpus.splits["valid"].scored_tokens, abs=1e-5)


def test_what_was_resolved_is_the_recipe(place: Path, tmp_path: Path) -> None:
    """Learned again from its own recipe file, it is the same hybrid."""
    learned(place, tmp_path / "run", [*PARTS, {"memory": "cache"}])
    saved = bimo.info(tmp_path / "run")
    recipe = make_recipe(store.read_json(tmp_path / "run" / "run.json") and _yaml(tmp_path / "run" / "recipe.yaml"))
    assert recipe.model_section().parts[1].training["steps"] == 4
    assert recipe.model_section().parts[2].model["flatness"] is not None
    again = runs.run(recipe, Corpus.open(place / "corpus"), tmp_path / "again", name="text", quiet=True)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (tmp_path / "run" / "model.safetensors").read_bytes()
    assert again.row.label == "3-gram + LSTM + cache"
    assert saved["family"] == "hybrid"


def test_what_a_part_has_never_seen_is_infinite_for_it_alone(tmp_path: Path) -> None:
    """Without smoothing, more than one unseen token of the validation text has no finite sum."""
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 300)
    (tmp_path / "valid.txt").write_text("tac tam nos the cat that sat on the mat " * 4)
    corpus = bimo.prepare(tmp_path / "text.txt", tmp_path / "corpus", valid=tmp_path / "valid.txt", tokenizer="char")
    parts = [{"family": "ngram", "model": {"order": 3, "smoothing": "mle"}}, PARTS[1]]
    recipe = make_recipe({"family": "hybrid", "model": {"parts": parts}, "training": {**QUICK, "budget": "2steps"}})
    runs.run(recipe, corpus, tmp_path / "run", name="text", quiet=True)
    told = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert told["parts"]["ngram"] is None
    assert math.isfinite(told["parts"]["lstm"])
    assert math.isfinite(told["valid_loss"])


def _yaml(path: Path) -> dict[str, object]:
    import yaml

    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("mixture", ["linear", "product"])
@pytest.mark.parametrize("weights", ["learned", "gate", [0.2, 0.8]])
def test_mixtures_and_weights(place: Path, tmp_path: Path, mixture: str, weights: object) -> None:
    parts = [part(place, "ngram"), part(place, "lstm")]
    if (mixture, weights) == ("product", "gate"):
        with pytest.raises(RecipeError, match="a gate goes with mixture=linear"):
            learned(place, tmp_path / "run", parts, mixture=mixture, weights=weights)
        return
    learned(place, tmp_path / "run", parts, mixture=mixture, weights=weights)
    hybrid = load_model(tmp_path / "run")
    assert isinstance(hybrid, Hybrid)
    assert hybrid.names == ["ngram", "lstm"]
    if isinstance(weights, list):
        assert hybrid.weights.values.tolist() == pytest.approx(weights)
    corpus = Corpus.open(place / "corpus")
    found = evaluate(hybrid, corpus.splits["valid"]).nats
    ours = [evaluate(load_model(place / name), corpus.splits["valid"]).nats for name in ("ngram", "lstm")]
    assert isinstance(weights, list) or found < min(ours) * (1.001 if weights == "gate" else 1 + 1e-6)


def test_whole_documents_are_mixed_and_a_bound_joins(place: Path, tmp_path: Path) -> None:
    corpus = bimo.prepare(place / "text.txt", tmp_path / "lines", tokenizer="char", documents="line")
    parts = ["ngram", {"family": "vae", "model": {"width": 16, "latent": 4}}]
    recipe = make_recipe(
        {
            "family": "hybrid",
            "model": {"parts": parts, "mixture": "documents"},
            "training": {"threads": 1, "precision": "fp32", "batch_size": 4, "evaluation_tokens": 2000, "budget": "3steps"},
        }
    )
    row = runs.run(recipe, corpus, tmp_path / "run", name="text", quiet=True).row
    assert (row.kind, row.family, row.score_samples) == ("bound", "ngram+vae", 1)
    assert sum(part.weight or 0 for part in row.parts) == pytest.approx(1)
    model = bimo.load(tmp_path / "run")
    alone = {name: bimo.load(tmp_path / "run" / "parts" / name) for name in ("ngram", "vae")}
    texts = ["the value of the object", "a statement"]
    weights = {part.family: part.weight or 0.0 for part in row.parts}
    for found, *own in zip(model.score(texts), *(alone[name].score(texts) for name in weights), strict=True):
        expected = -math.log(sum(w * math.exp(-nats) for w, nats in zip(weights.values(), own, strict=True)))
        assert found == pytest.approx(expected, abs=1e-6)
    assert model.generate("", seed=0, max_new_tokens=20) == model.generate("", seed=0, max_new_tokens=20)
    assert len(model.interpolate("the value", "a statement", 3, max_new_tokens=10)) == 3


def test_neighbours_are_the_training_text(place: Path, tmp_path: Path) -> None:
    run = learned(place, tmp_path / "run", [part(place, "decoder"), {"memory": "knn", "model": {"k": 8, "entries": 3000}}])
    hybrid = load_model(tmp_path / "run")
    assert isinstance(hybrid, Hybrid)
    memory = hybrid.voices[1].memory
    assert len(memory.values) == pytest.approx(3000, rel=0.02)  # type: ignore[union-attr]
    assert memory.config.temperature > 0  # type: ignore[union-attr]
    corpus = Corpus.open(place / "corpus")
    alone = evaluate(load_model(place / "decoder"), corpus.splits["valid"], 16).nats
    assert evaluate(hybrid, corpus.splits["valid"], 16).nats < alone
    assert run.row.label == "Transformer + kNN"


def test_a_mean_of_weights_is_one_such_model(place: Path, tmp_path: Path) -> None:
    bimo.train(str(place / "corpus"), family="lstm", out=tmp_path / "other", budget="6steps", overrides=small("lstm"))
    parts = [part(place, "lstm"), str(tmp_path / "other")]
    learned(place, tmp_path / "mean", parts, mixture="average", weights=[1, 3])
    mean, one, other = (load_model(folder) for folder in (tmp_path / "mean", place / "lstm", tmp_path / "other"))
    for name, tensor in mean.tensors().items():
        torch.testing.assert_close(tensor, 0.25 * one.tensors()[name] + 0.75 * other.tensors()[name])
    run = learned(place, tmp_path / "soup", parts, mixture="average")
    assert run.row.label == "mean of LSTM + LSTM"
    with pytest.raises(RecipeError, match="different shapes"):
        learned(place, tmp_path / "no", [part(place, "lstm"), part(place, "decoder")], mixture="average")
    with pytest.raises(RecipeError, match="learned by gradient"):
        learned(place, tmp_path / "no", [part(place, "lstm"), part(place, "ngram")], mixture="average")


def test_a_hybrid_of_a_hybrid(place: Path, tmp_path: Path) -> None:
    learned(place, tmp_path / "inner", [part(place, "ngram"), part(place, "decoder")])
    run = learned(place, tmp_path / "outer", [str(tmp_path / "inner"), part(place, "lstm"), "cache"])
    assert run.row.label == "3-gram + Transformer + LSTM + cache"
    assert bimo.generate(tmp_path / "outer", "the", max_new_tokens=40, seed=0)


def test_time_includes_the_parts_and_what_takes_longer_stands_apart(place: Path, tmp_path: Path) -> None:
    took = [json.loads((place / name / "run.json").read_text())["seconds"] for name in ("ngram", "lstm")]
    run = learned(place, tmp_path / "run", [part(place, "ngram"), part(place, "lstm")], budget="60s")
    assert run.row.used_seconds is not None
    assert run.row.used_seconds > sum(took)
    assert run.row.apart is None
    told = json.loads((place / "lstm" / "run.json").read_text())
    folder = tmp_path / "slow"
    (tmp_path / "slow").mkdir()
    for file in (place / "lstm").iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    store.write_json(folder / "run.json", {**told, "seconds": 500.0, "capped": True, "stopped_early": True, "steps": 3})
    run = learned(place, tmp_path / "late", [part(place, "ngram"), str(folder)], budget="60s")
    assert "times the budget with its parts" in str(run.row.apart)
    assert run.row.capped
    assert {"lstm: met its cap before its steps were done", "lstm: stopped early, at step 3"} <= set(run.row.notices)
    (folder / "run.json").unlink()
    run = learned(place, tmp_path / "unknown", [part(place, "ngram"), str(folder)], budget="60s")
    assert any("not known" in notice for notice in run.row.notices)


def test_steps_are_shared_and_what_took_more_stands_apart(place: Path, tmp_path: Path) -> None:
    gru = {"family": "gru", "model": {"layers": 1, "width": 16}}
    run = learned(place, tmp_path / "run", [*PARTS, gru], budget="6steps")
    told = [json.loads((tmp_path / "run" / "parts" / name / "run.json").read_text())["steps"] for name in ("lstm", "gru")]
    assert told == [3, 3]
    assert run.row.apart is None
    run = learned(place, tmp_path / "twice", [str(tmp_path / "run" / "parts" / "lstm"), gru], budget="3steps")
    assert "took 2.00 times the budget" in str(run.row.apart)
    run = learned(place, tmp_path / "inner", [*PARTS[:1], str(tmp_path / "run"), gru], budget="3steps")
    assert "took 3.00 times the budget" in str(run.row.apart), "a part that is a hybrid took what its own parts did"
    assert not run.row.capped
    run = learned(place, tmp_path / "epoch", PARTS, budget="1epochs")
    assert run.row.apart is None
    tokens = json.loads((tmp_path / "epoch" / "parts" / "lstm" / "run.json").read_text())["plan"]["tokens"]
    for unit in ("1epochs", f"{tokens}tokens"):
        again = learned(place, tmp_path / unit, ["ngram", str(tmp_path / "epoch" / "parts" / "lstm")], budget=unit)
        assert again.row.apart is None, "one epoch is one epoch, however long its batches are"
    assert parts.share(make_recipe({"family": "lstm+gru", "training": {"budget": "3epochs"}}), 0.0, 1) == "1.5epochs"


def test_without_faiss_as_many_entries_are_kept_as_can_all_be_looked_at(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composite, "has_faiss", lambda: False)
    monkeypatch.setattr(composite, "_FEW", 100)
    run = learned(place, tmp_path / "run", [part(place, "decoder"), "knn"])
    assert any(
        "100 entries, drawn from the whole text, are kept, and all looked at, as faiss is not installed" in n for n in run.row.notices
    )
    memory = bimo.load(tmp_path / "run").bundle.model.voices[1].memory  # type: ignore[attr-defined]
    assert (len(memory.values), memory.config.search) == (100, "exact")


def test_as_much_text_is_read_for_weights_as_there_is_time_for(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which a token takes a hundredth of a second, once; of a budget in steps there is no end."""
    told: list[int] = []
    affordable = composite.Composite._affordable

    def asked(self: Any, hybrid: Any, few: Any) -> int:
        now = [0.0]
        monkeypatch.setattr(composite.time, "perf_counter", lambda: now[0])
        self.mixing, self.by_parts = 0.0, 0.0
        logs = composite.logs_by_parts

        def slow(*words: Any) -> Any:
            now[0] += 0.01 * few.tokens
            return logs(*words)

        monkeypatch.setattr(composite, "logs_by_parts", slow)
        told.append(affordable(self, hybrid, few))
        monkeypatch.undo()
        monkeypatch.setattr(composite.Composite, "_affordable", asked)
        self.mixing, self.by_parts = composite.time.perf_counter(), 0.0
        return told[-1]

    monkeypatch.setattr(composite.Composite, "_affordable", asked)
    learned(place, tmp_path / "steps", [*PARTS])
    learned(place, tmp_path / "time", [part(place, "ngram"), part(place, "lstm")], budget="100s")
    learned(place, tmp_path / "cache", [part(place, "lstm"), "cache"], budget="1000s")
    assert told[0] > 10**9
    assert 3000 < told[1] < 5000, "each token is read twice"
    assert 6000 < told[2] < 10_000, "and once more for each value of a temperature"


def test_two_parts_of_one_recipe_are_two_models(place: Path, tmp_path: Path) -> None:
    learned(place, tmp_path / "run", [PARTS[1], PARTS[1], {**PARTS[1], "training": {"seed": 0}}], budget="3steps")
    seeds = [_yaml(tmp_path / "run" / "parts" / name / "recipe.yaml")["training"]["seed"] for name in ("lstm", "lstm-2", "lstm-3")]  # type: ignore[index]
    assert seeds == [0, 1, 0], "one seed was asked for"


def test_time_is_shared_among_the_parts_that_wait(place: Path, tmp_path: Path) -> None:
    run = learned(place, tmp_path / "run", [*PARTS, {"family": "gru", "model": {"layers": 1, "width": 16}}], budget="6s")
    budgets = [_yaml(tmp_path / "run" / "parts" / name / "recipe.yaml")["training"]["budget"] for name in ("lstm", "gru")]  # type: ignore[index]
    first, second = (float(str(budget).rstrip("s")) for budget in budgets)
    assert 2.0 < first < 3.0
    assert second > 2.0
    assert run.row.used_seconds is not None
    assert run.row.used_seconds < 1.3 * 6


def test_a_hybrid_goes_on_where_it_stopped(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after its first part, and again inside the second: the final weights are those of an undisturbed run."""
    parts = [*PARTS, {"family": "gru", "model": {"layers": 1, "width": 16}}]
    learned(place, tmp_path / "whole", parts, budget="6steps")
    true_fit, begun = fit.fit_gradient, []

    def stops(recipe, *rest, **named):  # type: ignore[no-untyped-def]
        begun.append(recipe.family)
        if len(begun) in (1, 3):
            raise Interrupted("stopped")
        return true_fit(recipe, *rest, **named)

    monkeypatch.setattr(fit, "fit_gradient", stops)
    with pytest.raises(Interrupted):
        learned(place, tmp_path / "run", parts, budget="6steps")
    assert (tmp_path / "run" / "parts" / "ngram" / "model.safetensors").exists()
    with pytest.raises(Interrupted):
        runs.resume(tmp_path / "run", quiet=True)
    run = runs.resume(tmp_path / "run", quiet=True)
    assert begun == ["lstm", "lstm", "gru", "gru"]
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert run.row.bits_per_byte is not None
    assert math.isfinite(run.row.bits_per_byte)
    assert runs.resume(tmp_path / "run").finished_before


@pytest.mark.parametrize(
    ("family", "mixed", "said"),
    [
        ("ngram+", "", "a name is missing beside a +"),
        ("ngram+encoder", "", "cannot be mixed token by token"),
        ("ngram+cache", "", "put a neural part first"),
        ("lstm+vae", "", "vae: vae reads each document whole"),
        ("hybrid", "", "--family ngram\\+lstm"),
        ("ngram+lstmm", "", "no family, memory, recipe or model folder"),
        ("ngram+ngram", "model.weights=gate", "no part has any; take weights=learned"),
        ("lstm+decoder", "model.mixture=average", "different shapes cannot be averaged"),
        ("lstm+ngram", "model.mixture=average", "learned by gradient"),
        ("ngram+decoder", "model.mixture=documents", r"a document of the test text has [\d,]+ tokens, and the context is 128: .* prepare"),
        ("lstm+cache", "model.mixture=product", "no exponent of it can be learned"),
    ],
)
def test_what_cannot_be_is_told_before_anything_learns(
    place: Path, tmp_path: Path, family: str, mixed: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned_anyway = pytest.fail
    monkeypatch.setattr(fit, "_fit_counted", lambda *_: learned_anyway("a part that counts has learned"))
    monkeypatch.setattr(fit, "fit_gradient", lambda *_: learned_anyway("a part has learned"))
    with pytest.raises(bimo.BimoError, match=said):
        bimo.train(str(place / "corpus"), family=family, out=tmp_path / "run", budget="1steps", overrides=mixed or ())


def test_without_validation_text_nothing_is_learned_in_vain(place: Path) -> None:
    corpus = Corpus.open(place / "corpus")
    del corpus.splits["valid"]
    with pytest.raises(RecipeError, match="no validation text to learn them from"):
        parts.refuse_unmixable(HybridConfig(parts=["ngram", "lstm"]), {}, corpus)  # type: ignore[list-item]
    parts.refuse_unmixable(HybridConfig(parts=["ngram", "lstm"], weights=[0.5, 0.5]), {}, corpus)  # type: ignore[list-item]


def test_each_part_is_planned_under_its_share(place: Path) -> None:
    recipe, seen = make_recipe({"family": "lstm+lstm+ngram", "training": {"budget": "100s"}}), []

    def plan(part: Recipe) -> dict[str, float]:
        seen.append((part.family, part.training.budget))
        return {"seconds": 6.0 if part.family == "ngram" else float(part.training.budget.rstrip("s"))}

    found = parts.plan_parts(recipe, Corpus.open(place / "corpus"), plan, used=4.0)
    assert list(found) == ["lstm", "lstm-2", "ngram"]
    assert [family for family, _ in seen] == ["ngram", "lstm", "lstm"]
    assert [budget for _, budget in seen[1:]] == ["43.0s", "43.0s"], "of what the dial and counting leave, a twenty-fifth is kept"


def test_weights_are_learned_on_the_threads_of_the_whole(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the last part has learned on, and in a new process too; the recipe says which."""
    seen, true_logs = [], composite.logs_by_parts

    def counted(*rest):  # type: ignore[no-untyped-def]
        seen.append((torch.get_num_threads(), _yaml(tmp_path / "run" / "recipe.yaml")["training"]["threads"]))  # type: ignore[index]
        return true_logs(*rest)

    monkeypatch.setattr(composite, "logs_by_parts", counted)
    torch.set_num_threads(2)
    learned(place, tmp_path / "run", [part(place, "ngram"), part(place, "lstm")])
    assert seen == [(1, 1)]


def test_an_unsmoothed_part_does_not_veto_a_learned_product(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 300)
    (tmp_path / "valid.txt").write_text("tac tam nos the cat that sat on the mat " * 4)
    corpus = bimo.prepare(tmp_path / "text.txt", tmp_path / "corpus", valid=tmp_path / "valid.txt", tokenizer="char")
    made = [{"family": "ngram", "model": {"order": 3, "smoothing": "mle"}}, PARTS[1]]
    recipe = make_recipe({"family": "hybrid", "model": {"parts": made, "mixture": "product"}, "training": {**QUICK, "budget": "2steps"}})
    row = runs.run(recipe, corpus, tmp_path / "run", name="text", quiet=True).row
    assert row.parts[0].weight == 0
    assert (row.parts[1].weight or 0) > 0
    assert any("ngram: gives some token of the validation text no chance" in notice for notice in row.notices)
    assert math.isfinite(json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["valid_loss"])


def test_parts_of_another_tokenizer_are_refused(place: Path, tmp_path: Path) -> None:
    bimo.prepare(place / "text.txt", tmp_path / "words", tokenizer="word", vocab_size=300)
    with pytest.raises(RecipeError, match="another tokenizer"):
        bimo.train(str(tmp_path / "words"), family=f"ngram+{place / 'lstm'}", out=tmp_path / "run", budget="1steps")


def test_the_recipe_of_a_part_is_the_wholes_and_its_own() -> None:
    recipe = make_recipe(
        {"family": "ngram+lstm", "training": {"seed": 3, "threads": 1}},
        parse_overrides(["training.learning_rate=0.5", "text.documents=line"]),
    )
    found = parts.part_recipe(recipe, recipe.model_section().parts[1])
    assert (found.family, found.training.seed, found.training.threads, found.training.learning_rate) == ("lstm", 3, 1, 0.5)
    assert found.training.optimizer == make_recipe({"family": "lstm"}).training.optimizer  # the preset's, where nobody says
    assert found.text.documents == "line"
    own = {"family": "ngram+lstm", "training": {"learning_rate": 0.5}}
    own["model"] = {"parts": ["ngram", {"family": "lstm", "training": {"learning_rate": 0.1}}]}
    recipe = make_recipe(own)
    assert parts.part_recipe(recipe, recipe.model_section().parts[1]).training.learning_rate == 0.1


def test_a_hybrids_recipe_is_written_and_read_without_a_word_more(tmp_path: Path) -> None:
    """What the whole left open its parts' presets still say, before anything is resolved: on resume, and in another process."""
    recipe = make_recipe({"family": "ngram+decoder", "training": {"budget": "10m", "threads": 1}})
    recipe.save(tmp_path / "recipe.yaml")
    expected = parts.part_recipe(recipe, recipe.model_section().parts[1])
    assert expected.training.learning_rate != Recipe().training.learning_rate
    for again in (make_recipe(_yaml(tmp_path / "recipe.yaml")), Recipe(**recipe.to_dict())):
        assert parts.part_recipe(again, again.model_section().parts[1]) == expected


def test_a_folder_whose_name_holds_a_plus_is_one_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "ngram+lstm").mkdir(parents=True)
    (tmp_path / "ngram+lstm").mkdir()
    found = make_recipe({"family": "runs/ngram+lstm+cache"}).model_section().parts
    assert [(part.folder, part.memory) for part in found] == [("runs/ngram+lstm", None), (None, "cache")]
    assert [part.name for part in make_recipe({"family": "ngram+lstm"}).model_section().parts] == ["ngram", "lstm"], "families come first"


def test_pairs_are_learned_by_one_part_that_reads_sources_and_others_that_read_texts(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / f"{name}.txt").write_text("\n".join(f"a b c {i % 7}" for i in range(60)) + "\n")
    corpus = bimo.prepare(f"{tmp_path / 'x.txt'}::{tmp_path / 'y.txt'}", tmp_path / "corpus", tokenizer="word")
    shape = {"family": "seq2seq", "model": {"width": 8, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "context": 16}}
    recipe = make_recipe({"family": "hybrid", "model": {"parts": [shape, "ngram"]}, "training": {"budget": "2steps", "threads": 1}})
    made = fit.fit(recipe, corpus, tmp_path / "run", quiet=True)
    assert made.model.kind == "conditional"
    assert np.isfinite(token_nats(made.model, corpus.splits["test"])).all()


SEQ2SEQ = {"family": "seq2seq", "model": {"width": 8, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "context": 16}}


@pytest.mark.parametrize(
    ("paired", "objective", "said"),
    [
        (False, {}, "seq2seq: seq2seq reads a source beside each text"),
        (True, {"name": "denoising"}, "seq2seq: objective.name: these"),
    ],
)
def test_a_part_that_cannot_read_this_text_is_refused_before_another_learns(
    tmp_path: Path, paired: bool, objective: dict[str, str], said: str
) -> None:
    file = tmp_path / "x.txt"
    file.write_text("\n".join(f"a b c {i % 7}" for i in range(60)) + "\n")
    corpus = bimo.prepare(f"{file}::{file}" if paired else file, tmp_path / "corpus", tokenizer="word", documents="line")
    recipe = make_recipe({"family": "hybrid", "model": {"parts": ["ngram", {**SEQ2SEQ, "objective": objective}]}})
    assert str(fit.refusal(recipe, corpus)).startswith(said)


def test_the_players_of_a_game_read_no_sources(tmp_path: Path) -> None:
    """Beside a part that reads them, a GAN learns from the texts of pairs."""
    file = tmp_path / "x.txt"
    file.write_text("\n".join(f"a b c {i % 7}" for i in range(60)) + "\n")
    corpus = bimo.prepare(f"{file}::{file}", tmp_path / "corpus", tokenizer="word")
    recipe = make_recipe({"family": "gan", "model": {"width": 8, "layers": 1}, "training": {"budget": "1steps", "threads": 1}})
    assert fit.fit(recipe, corpus, tmp_path / "run", quiet=True, beside=True).steps == 1
