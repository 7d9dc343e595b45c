"""Denoising: what is read, what is missing, and a run that resumes to the bit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bimo.core.errors import RecipeError, UserError
from bimo.core.recipe import Recipe, make_recipe
from bimo.models.seq2seq import Seq2Seq
from bimo.text.vocabulary import Vocabulary
from bimo.training.fit import build, fit, make_objective
from bimo.training.objectives.causal import causal_likelihood
from tests.training.toy import VOCABULARY, text

MODEL = {"encoder_layers": 1, "decoder_layers": 1, "heads": 2, "width": 16, "feed_forward": 16, "context": 16}


def corpus(vocabulary: Vocabulary = VOCABULARY, pairs: bool = False) -> Any:
    split = text(length=12)
    split.given = text(length=12) if pairs else None
    return SimpleNamespace(splits={"train": split}, tokenizer=SimpleNamespace(vocabulary=vocabulary))


def recipe(**objective: Any) -> Recipe:
    training = {
        "budget": "8steps", "batch_size": 4, "precision": "fp32", "threads": 1, "evaluations": 0, "samples": 0, "checkpoint_every": 4,
    }  # fmt: skip
    return make_recipe({"family": "seq2seq", "model": MODEL, "objective": {"name": "denoising", **objective}, "training": training})


def test_documents_are_given_themselves_spoiled() -> None:
    asked, text_ = recipe(mask=0.5, whole=0.0), corpus()
    source = make_objective(asked, build(asked, text_), text_).source  # type: ignore[arg-type]
    batch = source.batch(1, 2)
    assert batch.tokens.equal(source.batch(1, 2).tokens)
    assert batch.given.tokens.equal(source.batch(1, 2).given.tokens)
    assert not batch.given.tokens.equal(source.batch(2, 2).given.tokens)
    assert batch.given.lengths.max() <= batch.lengths.max()
    for whole, spoiled, length in zip(batch.tokens, batch.given.tokens, batch.given.lengths, strict=True):
        left = spoiled[:length]
        assert (left[0], left[-1]) == (VOCABULARY.bos, VOCABULARY.eos)
        assert (left == VOCABULARY.pad).any()
        kept = [token for token in left.tolist() if token != VOCABULARY.pad]
        rest = iter(whole.tolist())
        assert all(token in rest for token in kept)  # in order
        assert len(kept) == 14 - 6


def test_what_is_missing_of_a_document_changes_from_epoch_to_epoch() -> None:
    asked, text_ = recipe(whole=0.0), corpus()
    text_.splits["train"] = text(documents=1, length=30)
    source = make_objective(asked, build(asked, text_), text_).source  # type: ignore[arg-type]
    assert source.steps_per_epoch == 1
    first, second = (source.batch(epoch, 0).given for epoch in (0, 1))
    assert first.tokens.shape != second.tokens.shape or not first.tokens.equal(second.tokens)


def test_a_document_that_is_cut_has_a_source_that_fits() -> None:
    asked, text_ = recipe(mask=0.05), corpus()
    asked.model["context"] = 7
    source = make_objective(asked, build(asked, text_), text_).source  # type: ignore[arg-type]
    assert source.context == 7
    assert any("were cut" in note for note in source.notes)
    given = [source.batch(0, i).given for i in range(source.steps_per_epoch)]
    assert max(int(g.lengths.max()) for g in given) <= 7


def test_the_loss_is_the_likelihood_given_what_is_left() -> None:
    asked, text_ = recipe(), corpus()
    model: Any = build(asked, text_).eval()  # type: ignore[union-attr]
    objective = make_objective(asked, model, text_)
    batch = objective.source.batch(0, 0)
    nats = objective.loss(model, batch, None, 0.0).nats
    assert torch.equal(nats, causal_likelihood(model, batch).nats)
    score = model.score(batch.tokens, batch.lengths, given=batch.given)
    assert nats.item() == pytest.approx(float(score.nats.sum()), rel=1e-5)


def test_what_it_learned_by_is_known_afterwards(tmp_path: Path) -> None:
    made = fit(recipe(whole=0.5), corpus(), tmp_path, quiet=True)
    assert isinstance(made.model, Seq2Seq)
    assert made.model.config.sourceless
    assert made.recipe.model["sourceless"] is True
    assert made.model.score(torch.tensor([[0, 3, 4, 1]])).nats.isfinite().all()  # without a source


def test_what_cannot_be_denoised_is_refused() -> None:
    for text_, word in ((corpus(pairs=True), "pairs"), (corpus(Vocabulary(12, bos=0, eos=1)), "padding id")):
        asked = recipe()
        with pytest.raises(RecipeError, match=word):
            make_objective(asked, build(asked, text_), text_)  # type: ignore[arg-type]


def test_plain_text_without_denoising_says_what_to_do() -> None:
    asked, text_ = recipe(name="causal"), corpus()
    model: Any = build(asked, text_)
    objective = make_objective(asked, model, text_)
    with pytest.raises(UserError, match=r"objective\.name=denoising"):
        objective.loss(model, objective.source.batch(0, 0), None, 0.0)
