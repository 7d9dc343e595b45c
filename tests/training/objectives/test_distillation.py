"""Distillation: what it minimises, which teachers suit which students, and runs that are broken off and go on to the bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.nn import functional as F

import bimo
from bimo.core import store
from bimo.core.errors import RecipeError
from bimo.core.recipe import Recipe, make_recipe, parse_overrides
from bimo.core.validation import validated
from bimo.data.corpus import Corpus
from bimo.models.bundle import Bundle
from bimo.training.loop import Loop
from bimo.training.making import build
from bimo.training.objectives.distillation import Distillation, DistillationConfig
from tests.conformance.learning import learned

NOUNS = ["cat", "dog", "hen", "cow", "pig", "fox"]
VERBS = ["sat", "ran", "fed", "hid"]
SETTINGS = ["training.threads=1", "training.precision=fp32", "training.batch_size=4", "training.context=6", "training.samples=0",
            "training.evaluations=2", "training.evaluation_tokens=200", "training.checkpoint_every=3"]  # fmt: skip
BLOCK = ["model.width=16", "model.heads=2", "model.context=16"]
SHAPES: dict[str, list[str]] = {
    "ngram": ["model.order=3"],
    "lstm": ["model.layers=1", "model.width=16", "model.output_dropout=0.2"],
    "gan": ["model.layers=1", "model.width=16", "model.discriminator_width=4"],
    "decoder": ["model.layers=1", *BLOCK, "model.dropout=0.1"],
    "encoder": ["model.layers=1", *BLOCK],
    "seq2seq": ["model.encoder_layers=1", "model.decoder_layers=1", *BLOCK, "model.sourceless=true"],
    "vae": ["model.width=16", "model.latent=4"],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("distillation")
    lines = [f"the {n} {v} and the {m} {w} ." for n in NOUNS for v in VERBS for m in NOUNS for w in VERBS[:2]]
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    return bimo.prepare(folder / "text.txt", folder / "corpus", tokenizer="word", documents="line")


@pytest.fixture(scope="module")
def teachers(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each family, hardly trained."""
    folder = tmp_path_factory.mktemp("teachers")
    for family, shape in SHAPES.items():
        more = {"seq2seq": ["objective.name=denoising"], "gan": ["objective.name=causal"]}.get(family, [])
        learn(corpus, family, folder / family, *shape, *more, budget="12steps")
    return folder


def learn(corpus: Corpus, family: str, out: Path, *overrides: str, budget: str = "6steps") -> Any:
    return bimo.train(str(corpus.folder), family=family, out=out, budget=budget, overrides=[*SETTINGS, *overrides])


def distil(corpus: Corpus, student: str, teacher: Path, out: Path, *overrides: str, budget: str = "6steps") -> Any:
    shape = [*SHAPES[student], "objective.name=distillation", f"objective.teacher={teacher}"]
    return learn(corpus, student, out, *shape, *overrides, budget=budget)


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def objective(corpus: Corpus, student: str, teacher: Path, **fields: Any) -> tuple[Distillation, Any]:
    section = {"batch_size": 4, "context": 6, "seed": 3}
    recipe = make_recipe({"family": student, "training": section, "objective": {"name": "distillation", "teacher": str(teacher), **fields}},
                         {"model": {"width": 16}})  # fmt: skip
    model = bimo.core.registry.family(student).load().build(recipe.model_section(), corpus.tokenizer.vocabulary).eval()
    return Distillation(validated(DistillationConfig, recipe.objective), model, recipe, corpus), model


# -- what is minimised ----------------------------------------------------------------------------------------------------


def test_the_loss_is_its_definition(corpus: Corpus, teachers: Path) -> None:
    learned, model = objective(corpus, "decoder", teachers / "lstm", temperature=2.0, weight=0.3)
    batch = learned.source.batch(0, 0)
    loss = learned.loss(model, batch, None, 0.0)
    loss.nats.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    teacher: Any = Bundle.load(teachers / "lstm").model
    inputs, scored = batch.tokens[:, :-1], batch.targets_scored
    ours, theirs = (m.logits(m.hidden(inputs, None, batch.boundaries)[0])[scored] for m in (model, teacher))
    entropy = F.cross_entropy(ours, batch.tokens[:, 1:][scored], reduction="sum")
    possible = [i for i in range(model.vocab_size) if i not in model.vocabulary.suppressed]
    soft = [(x[:, possible] / 2).log_softmax(1) for x in (ours, theirs.detach())]
    kl = F.kl_div(soft[0], soft[1], reduction="sum", log_target=True)
    (0.3 * 4 * kl + 0.7 * entropy).backward()
    assert loss.nats.item() == pytest.approx(entropy.item(), rel=1e-5)  # the curve is the text's
    assert loss.told == pytest.approx({"kl": kl.item(), "cross_entropy": entropy.item()}, rel=1e-4)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(found[name], parameter.grad, atol=1e-4, rtol=1e-3), name


def test_with_the_teacher_alone_a_student_comes_near_to_it(corpus: Corpus, teachers: Path, tmp_path: Path) -> None:
    fast = ["objective.weight=1", "training.learning_rate=0.02", "model.output_dropout=0", "training.evaluations=0"]
    run = distil(corpus, "lstm", teachers / "ngram", tmp_path / "run", *fast, budget="80steps")
    lines = [line for line in metrics(run.folder) if "kl" in line]
    assert lines[-1]["kl"] < 0.2 * lines[0]["kl"]
    assert lines[-1]["cross_entropy"] == lines[-1]["loss"]


@pytest.mark.parametrize("family", ["lstm", "decoder", "seq2seq", "encoder"])
def test_a_teacher_and_its_copy_agree_on_every_batch(corpus: Corpus, teachers: Path, family: str) -> None:
    """Also where both carry what they remember from batch to batch."""
    learned, _ = objective(corpus, family, teachers / family)
    model: Any = Bundle.load(teachers / family).model
    with torch.no_grad():
        for parameter in (*model.parameters(), *cast(Any, learned.teacher.model).parameters()):
            parameter.mul_(4)  # so that what was read before matters
    carry, carried = None, 0
    for index in range(4):
        batch = learned.source.batch(0, index)
        loss = learned.loss(model, batch, carry, 0.0)
        assert loss.told["kl"] == pytest.approx(0, abs=1e-3)
        carried += loss.carry is not None
        carry = loss.carry
    assert carried == (4 if family == "lstm" else 0)


# -- who teaches whom -----------------------------------------------------------------------------------------------------


WORKS = [("ngram", "lstm"), ("ngram", "decoder"), ("lstm", "decoder"), ("decoder", "lstm"), ("gan", "lstm"), ("lstm", "gan"),
         ("seq2seq", "lstm"), ("decoder", "seq2seq"), ("seq2seq", "seq2seq"), ("encoder", "encoder")]  # fmt: skip


@pytest.mark.parametrize(("teacher", "student"), WORKS)
def test_a_run_that_is_broken_off_goes_on_to_the_bit(corpus: Corpus, teachers: Path, tmp_path: Path, teacher: str, student: str) -> None:
    def made() -> tuple[Recipe, Any, Corpus]:
        recipe = make_recipe(
            {"family": student, "objective": {"name": "distillation", "teacher": str(teachers / teacher), "temperature": 2}},
            parse_overrides([*SETTINGS, *SHAPES[student], "training.steps=6", "training.learning_rate=0.01"]),
        )
        return recipe, build(recipe, corpus), corpus

    whole = learned(made, tmp_path / "whole", "fp32")
    broken = learned(made, tmp_path / "broken", "fp32", stops_at=4)
    ours, theirs = whole.model.state_dict(), broken.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    names = ("step", "loss", "kl", "cross_entropy", "gradient_norm")
    lines = [[tuple(line.get(n) for n in names) for line in metrics(tmp_path / name)] for name in ("whole", "broken")]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 6
    assert all(line[2] >= 0 for line in lines[0])
    assert not any("teacher" in name for name in whole.model.tensors())


@pytest.mark.parametrize(
    ("teacher", "student", "said"),
    [
        ("vae", "lstm", "has no distribution of the next token"),
        ("encoder", "decoder", "tells hidden tokens, and the model that is to learn tells the next one"),
        ("lstm", "encoder", "tells the next one, and the model that is to learn tells hidden tokens"),
        ("lstm", "vae", "vae cannot learn by distillation"),
        ("encoder", "ngram", "writes no text"),
    ],
)
def test_what_has_no_clean_meaning_is_refused(
    corpus: Corpus, teachers: Path, tmp_path: Path, teacher: str, student: str, said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        distil(corpus, student, teachers / teacher, tmp_path / "run")


def test_other_refusals(corpus: Corpus, teachers: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"objective\.teacher: is missing"):
        learn(corpus, "lstm", tmp_path / "a", "objective.name=distillation")
    with pytest.raises(RecipeError, match=r"set training\.context=16"):
        distil(corpus, "lstm", teachers / "decoder", tmp_path / "b", "training.context=20")
    with pytest.raises(RecipeError, match=r"model\.mask_token_id"):
        distil(corpus, "encoder", teachers / "encoder", tmp_path / "c", "model.mask_token_id=3")
    with pytest.raises(RecipeError, match=r"objective\.temperature: 2"):
        distil(corpus, "ngram", teachers / "lstm", tmp_path / "d", "objective.temperature=2")
    with pytest.raises(RecipeError, match=r"ngram is not learned by gradient.*distillation"):
        make_recipe({"family": "ngram", "objective": {"weight": 1}})
    (tmp_path / "other.txt").write_text("\n".join(["another text"] * 20), encoding="utf-8")
    other = bimo.prepare(tmp_path / "other.txt", tmp_path / "other", tokenizer="word", documents="line")
    with pytest.raises(RecipeError, match=r"a word tokenizer of .* the text a word tokenizer of .* one vocabulary"):
        distil(other, "lstm", teachers / "decoder", tmp_path / "e")


def test_a_translator_needs_sources_unless_it_knows_texts_without(corpus: Corpus, teachers: Path, tmp_path: Path) -> None:
    shutil.copytree(teachers / "seq2seq", tmp_path / "translator")
    config = store.read_json(tmp_path / "translator" / "config.json")
    store.write_json(tmp_path / "translator" / "config.json", {**config, "sourceless": False})
    with pytest.raises(RecipeError, match="needs a source for each text"):
        distil(corpus, "lstm", tmp_path / "translator", tmp_path / "run")


def test_pairs_are_read_by_both(tmp_path: Path) -> None:
    pairs = [{"source": f"{a} {v} {w}", "target": f"{w} {v} {a} ."} for a in NOUNS for v in VERBS for w in [*VERBS, *NOUNS]]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    corpus = bimo.prepare(tmp_path / "pairs.jsonl", tmp_path / "corpus", tokenizer="word")
    shape = [s for s in SHAPES["seq2seq"] if "sourceless" not in s]
    learn(corpus, "seq2seq", tmp_path / "teacher", *shape)
    names = ["objective.name=distillation", f"objective.teacher={tmp_path / 'teacher'}", "objective.weight=1"]
    run = learn(corpus, "seq2seq", tmp_path / "student", *shape, *names, "training.learning_rate=1e-9")
    assert metrics(run.folder)[0]["kl"] > 0
    learned, _ = objective(corpus, "seq2seq", tmp_path / "teacher")
    batch = learned.source.batch(0, 0)
    own = Bundle.load(tmp_path / "teacher").model
    same = learned.loss(own, batch, None, 0.0)  # type: ignore[arg-type]
    assert same.told["kl"] == pytest.approx(0, abs=1e-4)  # it was given the same sources


def test_a_run_goes_on_with_its_own_teacher_alone(corpus: Corpus, teachers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(teachers / "lstm", tmp_path / "teacher")
    step = Loop._step

    def until_four(self: Loop) -> None:
        if self.progress.step == 4:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Loop, "_step", until_four)
    with pytest.raises(KeyboardInterrupt):
        distil(corpus, "decoder", Path("teacher"), tmp_path / "run")
    monkeypatch.setattr(Loop, "_step", step)
    recipe = (tmp_path / "run" / "recipe.yaml").read_text()
    assert f"teacher: {tmp_path / 'teacher'}" in recipe
    (tmp_path / "teacher").rename(tmp_path / "elsewhere")
    with pytest.raises(RecipeError, match="no such model folder"):
        bimo.resume(tmp_path / "run")
    shutil.copytree(teachers / "decoder", tmp_path / "teacher")
    with pytest.raises(RecipeError, match="is not the model that this run learns from"):
        bimo.resume(tmp_path / "run")
    shutil.rmtree(tmp_path / "teacher")
    (tmp_path / "elsewhere").rename(tmp_path / "teacher")
    assert bimo.resume(tmp_path / "run").row.steps == 6


def test_a_teacher_of_other_documents_is_told(corpus: Corpus, teachers: Path, tmp_path: Path) -> None:
    shutil.copytree(teachers / "lstm", tmp_path / "teacher")
    store.write_json(tmp_path / "teacher" / "bimo.json", {"documents": "stream", "context": None})
    learned, _ = objective(corpus, "lstm", tmp_path / "teacher")
    assert any("(stream)" in note and "(line)" in note for note in learned.source.notes)


# -- counting -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("teacher", ["lstm", "decoder", "vae", "seq2seq", "ngram"])
def test_a_counted_student_counts_what_the_teacher_writes(corpus: Corpus, teachers: Path, tmp_path: Path, teacher: str) -> None:
    run = distil(corpus, "ngram", teachers / teacher, tmp_path / "run", "objective.weight=0.75")
    line, tokens = metrics(run.folder)[-1], corpus.splits["train"].tokens
    assert 0 <= line["written_tokens"] - 3 * tokens < 20
    assert line["tokens"] == tokens + line["written_tokens"] == run.row.training_tokens
    assert 0 < line["written_seconds"] < line["seconds"]
    assert not run.row.capped
    if teacher == "lstm":
        again = distil(corpus, "ngram", teachers / teacher, tmp_path / "again", "objective.weight=0.75")
        assert (again.folder / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()


def test_writing_is_in_the_budget_and_in_the_plan(corpus: Corpus, teachers: Path, tmp_path: Path) -> None:
    run = distil(corpus, "ngram", teachers / "lstm", tmp_path / "run", "objective.weight=0.9999", budget="2s")
    assert run.row.capped
    assert run.row.used_seconds < 4
    assert any("the budget has no time for more" in notice for notice in run.row.notices)
    names = ["objective.name=distillation", f"objective.teacher={teachers / 'lstm'}"]
    plan = bimo.plan(str(corpus.folder), family="ngram", overrides=names)
    assert plan["tokens"] == 2 * corpus.splits["train"].tokens


def test_by_the_teachers_text_alone(corpus: Corpus, teachers: Path, tmp_path: Path) -> None:
    run = distil(corpus, "ngram", teachers / "ngram", tmp_path / "run", "objective.weight=1")
    assert metrics(run.folder)[-1]["tokens"] == metrics(run.folder)[-1]["written_tokens"]


def test_another_objective_leaves_the_presets_settings_behind() -> None:
    recipe = make_recipe({"family": "gan", "objective": {"name": "distillation", "teacher": "x"}})
    assert recipe.preset is not None
    assert set(recipe.objective) == {"name", "teacher"}
    kept = make_recipe({"family": "gan", "objective": {"name": "adversarial", "rollouts": 1}})
    assert kept.objective["pretraining"] == 0.6
