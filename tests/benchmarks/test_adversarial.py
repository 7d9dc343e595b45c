"""The comparison of a GAN with its generator's likelihood: what is read, both sides, who wins."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

import bimo
from benchmarks import adversarial
from bimo.data.corpus import Corpus


def test_who_wins() -> None:
    assert adversarial.verdict([-0.20, -0.21, -0.19])["winner"] == "likelihood"
    assert adversarial.verdict([0.20, 0.21, 0.19])["winner"] == "gan"
    told = adversarial.verdict([-0.1, -0.2, 0.05])
    assert told["winner"] == "neither"
    assert told["mean"] == pytest.approx(-0.25 / 3)
    assert 2 * told["standard_error"] > 0.25 / 3
    assert adversarial.verdict([-0.2, None, -0.2, -0.2])["winner"] == "neither", "curves without common diversity are not compared"
    assert adversarial.verdict([0.5]) == {"mean": 0.5, "standard_error": None, "winner": "neither"}


def test_the_sides_differ_in_the_game_alone() -> None:
    assert set(adversarial.SIDES) == {"gan", "likelihood"}
    assert "objective.pretraining=1" in adversarial.SIDES["likelihood"]
    assert not [word for word in adversarial.SIDES["gan"] if word.startswith("objective.")]


def test_a_whole_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = ("na", "ia", "ma", "bel", "cy", "ra", "vi")
    data = tmp_path / "lm-makemore-names"
    data.mkdir()
    (data / "names.txt").write_text("\n".join(a + b + c for a in ("an", "ol", "em", "is", "lu") for b in ends for c in ends) + "\n")
    budgets: list[tuple[str, str]] = []

    def here(corpus: Path, out: Path, side: str, budget: str, seed: int, overrides: Sequence[str]) -> float:
        budgets.append((side, budget))
        words = [*overrides, *adversarial.SIDES[side], "training.evaluations=1", "training.samples=0"]
        bimo.train(str(corpus), family="gan", budget="6steps", seed=seed, out=out, overrides=words)
        assert Corpus.open(corpus).documents == "line"
        return 7.5

    monkeypatch.setattr(adversarial, "train", here)
    tiny = ["model.width=8", "model.layers=1", "model.discriminator_width=4", "training.batch_size=4"]
    tiny += ["objective.pretraining=0.2", "training.learning_rate=0.05"]
    options = argparse.Namespace(data=tmp_path, budget="9s", seeds=[0], count=20, temperatures=(0.5, 1.5), pictures=tmp_path, gan=tiny)
    found = json.loads(json.dumps(adversarial.measure("names", options, tmp_path)))
    assert budgets == [("gan", "9s"), ("likelihood", "7.50s")], "the likelihood has the seconds that the game took"
    (run,) = found["runs"]
    assert [m["temperature"] for m in run["gan"]] == [m["temperature"] for m in run["likelihood"]] == [0.5, 1.5]
    assert run["gan"] != run["likelihood"]
    assert found["real"]["novelty"] == 0
    assert found["winner"] == "neither"
    assert (tmp_path / "adversarial-names.svg").read_text().startswith("<svg")
