"""Every family that learns by gradient, in every variant, learns by all its objectives, resumes to the bit and reads, in fp32 and in bf16.

bf16 is as a processor has it that multiplies it in hardware, whatever the machine (only slower), so that no path waits for a machine.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import bimo
from bimo.core import runtime
from bimo.core.registry import family
from bimo.data.corpus import Corpus
from bimo.models.bundle import Bundle
from bimo.models.kernels import transformer
from bimo.models.scoring import token_nats
from tests.conformance import learning
from tests.conformance.learning import learned, make, other_variants, ways


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return learning.prepared(tmp_path_factory.mktemp("learning"))


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power fails here, and the disk is what takes the time."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels that large tensors take, for tensors of any size."""
    monkeypatch.setattr(transformer, "_FEWEST", 0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "way", "settings"), ways())
def test_it_learns_resumes_and_reads(name, way, settings, precision, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "bf16_is_native", lambda device: precision == "bf16")
    monkeypatch.setattr(transformer, "_FEWEST", 0 if precision == "fp32" else transformer._FEWEST)
    if way == "distillation":
        settings = {"teacher": learning.teacher(corpus.folder, "encoder/modern" if name.startswith("encoder") else "lstm/tied")}

    def made():
        return make(name, way, corpus, **settings)

    begun = made()[1].state_dict()
    whole = learned(made, tmp_path / "whole", precision)
    resumed = learned(made, tmp_path / "resumed", precision, stops_at=3)
    ours, theirs = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert whole.mean.steps == resumed.mean.steps
    assert any(not torch.equal(ours[key], begun[key]) for key in ours)
    _falls(tmp_path / "whole", way)
    _reads(whole.model.eval(), corpus, tmp_path / "model", precision)


@pytest.mark.parametrize("name", other_variants())
def test_other_variants_learn_in_bf16(name, corpus, tmp_path, native_bf16, large):
    way = family(name.partition("/")[0]).load().objectives[0]
    learned(lambda: make(name, way, corpus, **learning.SETTINGS.get(way, [{}])[0]), tmp_path, "bf16")
    _falls(tmp_path, way)


def _falls(folder: Path, way: str) -> None:
    losses = [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == learning.STEPS
    assert all(map(math.isfinite, losses))
    assert min(losses[1:]) < losses[0] or way == "distillation"  # whose value is the text's, while it follows a teacher that knows nothing


def _reads(model, corpus: Corpus, folder: Path, precision: str) -> None:
    """What a model folder of it answers, its weights as they were learned or in half precision."""
    Bundle.of(model, corpus).save(folder, "bf16" if precision == "bf16" else None)
    opened = bimo.load(folder)
    text = corpus.splits["train"].only(np.arange(3))
    text = text if opened.bundle.model.kind != "conditional" else learning.pairs(corpus).splits["train"].only(np.arange(3))
    assert np.isfinite(token_nats(opened.bundle.model, text)).all()
    if "fill" in opened.bundle.model.capabilities:
        assert opened.fill("ink <mask> paper", top_k=2)[0]
    if opened.bundle.model.continues_text:
        assert opened.write("ink", "ink" if opened.bundle.model.kind == "conditional" else None, max_new_tokens=2).generated_tokens > 0
    if "features" in opened.bundle.model.capabilities:
        assert opened.embed(["ink"]).isfinite().all()
