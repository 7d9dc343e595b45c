"""A model with a latent, used: written from the prior, again, and between two texts; English and Chinese, terminal and Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bimo
from bimo.core.errors import CapabilityError, UserError
from tests.conftest import Ran
from tests.test_cli import refused

Cli = Callable[..., Ran]
TEXTS = ["the cat sleeps", "a dog barks at night", "rain falls", "床前明月光", "疑是地上霜", "举头望明月"]
LEARNS_BY_HEART = ["model.width=48", "model.latent=8", "model.dropout=0", "objective.beta=0.01", "objective.word_dropout=0",
                   "training.batch_size=16", "training.learning_rate=0.015", "training.threads=1", "training.keep=last",
                   "training.evaluations=1", "training.precision=fp32"]  # fmt: skip


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a model that has learned six texts by heart; its text lies beside it."""
    folder = tmp_path_factory.mktemp("latents")
    (folder / "text.txt").write_text("\n".join(TEXTS * 40) + "\n", encoding="utf-8")
    text = folder / "text.txt"
    run = bimo.train(text, family="vae", valid=text, test=text, documents="line", tokenizer="char", budget="260steps", out=folder / "run",
                     overrides=LEARNS_BY_HEART)  # fmt: skip
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert any("sample" in line for line in lines)
    return run.folder


def test_the_seed_governs_what_is_written_from_nothing(bimo_cli: Cli, vae: Path) -> None:
    words = ["generate", vae, "--max-new-tokens", "30", "--temperature"]
    once = bimo_cli(*words, 1, "--seed", 1)
    assert once.code == 0, once.err
    assert bimo_cli(*words, 1, "--seed", 1).out == once.out
    assert len({bimo_cli(*words, 1, "--seed", seed).out for seed in range(6)}) > 2
    for temperature in (0, 1):  # without drawing tokens, the latents alone tell texts apart
        many = bimo_cli(*words, temperature, "--seed", 1, "--num-return-sequences", 12, "--json").json["texts"]
        assert bimo_cli(*words, temperature, "--seed", 1, "--num-return-sequences", 12, "--json").json["texts"] == many
        assert len(set(many)) > 4
    assert many[0] + "\n" == once.out
    beams = ["generate", vae, "--num-beams", 4, "--num-return-sequences", 4, "--seed", 2, "--max-new-tokens", 20]
    assert bimo_cli(*beams).out == bimo_cli(*beams).out


@pytest.mark.parametrize("text", [TEXTS[1], TEXTS[3]])
def test_a_text_is_written_again(bimo_cli: Cli, vae: Path, text: str) -> None:
    assert bimo_cli("generate", vae, "--given", text, "--temperature", 0).out == text + "\n"
    assert bimo_cli("generate", vae, "--given", "-", "--temperature", 0, stdin=(text + "\n").encode()).out == text + "\n"
    assert bimo_cli("generate", vae, text[:2], "--given", text, "--temperature", 0).out == text + "\n", "as it begins, and on"
    model = bimo.load(vae)
    assert model.reconstruct(text) == [text]
    assert model.reconstruct(TEXTS[:4]) == TEXTS[:4]
    assert bimo.generate(vae, given=text, temperature=0) == text


@pytest.mark.parametrize(("first", "last"), [(TEXTS[0], TEXTS[1]), (TEXTS[3], TEXTS[5])])
def test_between_two_texts(bimo_cli: Cli, vae: Path, first: str, last: str) -> None:
    ran = bimo_cli("interpolate", vae, first, last)
    assert (ran.code, ran.err) == (0, "")
    shown = ran.out.splitlines()
    assert (shown[0], shown[-1], len(shown)) == (f"[1] {first}", f"[5] {last}", 5)
    for words in ([], ["--spherical"], ["num_beams=2"], ["temperature=0.5", "seed=1"]):
        texts = bimo_cli("interpolate", vae, first, last, "--steps", 4, *words, "--json").json["texts"]
        assert len(texts) == 4
        assert bimo_cli("interpolate", vae, first, last, "--steps", 4, *words, "--json").json["texts"] == texts
    assert bimo.interpolate(vae, first, last, 3) == bimo.load(vae).interpolate(first, last, steps=3)


def test_what_cannot_be_done_is_refused(bimo_cli: Cli, vae: Path, place: Path) -> None:
    refused(bimo_cli("interpolate", vae, "a", "b", "--steps", 1), "steps: ", "2 or more, found 1")
    refused(bimo_cli("interpolate", vae, "a", "b", "num_return_sequences=2", "temperature=1"), "num_return_sequences")
    refused(bimo_cli("interpolate", vae, "a", "b", "temprature=1"), "did you mean temperature?")
    refused(bimo_cli("interpolate", place / "lstm", "a", "b"), "no latent", "--family vae")
    refused(bimo_cli("generate", place / "lstm", "--given", "a"), "takes nothing given")
    refused(bimo_cli("evaluate", place / "lstm", place / "text.txt", "--samples", 3), "no latent")
    refused(bimo_cli("evaluate", place / "lstm", place / "text.txt", "--latent"), "no latent")
    refused(bimo_cli("evaluate", vae, vae.parent / "text.txt", "--samples", 0), "samples: must be 1 to 10,000, found 0")
    with pytest.raises(CapabilityError, match="no latent"):
        bimo.load(place / "lstm").reconstruct("a")
    with pytest.raises(UserError, match="fewer than two"):
        bimo.evaluate(vae, vae.parent / "text.txt", documents="file", latent=True)


def test_what_is_unknown_in_a_source_is_told(bimo_cli: Cli, vae: Path) -> None:
    for words in (["generate", vae, "--given", "the cut"], ["interpolate", vae, "the cut", TEXTS[0]]):
        assert "1 of the source's 9 tokens are unknown" in bimo_cli(*words).err
    assert "1 of the source's 9 tokens are unknown" in " ".join(bimo.load(vae).write(given="the cut", max_new_tokens=2).notices)


def test_a_bound_says_of_how_many_samples_and_can_be_tightened(bimo_cli: Cli, vae: Path) -> None:
    text = vae.parent / "text.txt"
    once = bimo_cli("evaluate", vae, text)
    assert "(bound)" in once.out
    assert "of 1 sample a document" in once.out
    assert "active units" not in once.out
    one, many = (bimo_cli("evaluate", vae, text, "--samples", n, "--json").json for n in (1, 50))
    assert (one["samples"], many["samples"], one["kind"]) == (1, 50, "bound")
    assert many["nats"] < one["nats"]
    assert "of 50 samples a document" in " ".join(many["notices"])
    model = bimo.load(vae)
    assert model.evaluate(text, samples=50).nats == pytest.approx(many["nats"])
    assert model.evaluate(text).nats == pytest.approx(one["nats"]), "what was asked for once is not kept"
    row: dict[str, Any] = json.loads((vae / "result.json").read_text(encoding="utf-8"))["rows"][0]
    assert (row["kind"], row["score_samples"]) == ("bound", 1)


def test_the_use_of_a_latent_is_told_on_request(bimo_cli: Cli, vae: Path) -> None:
    text = vae.parent / "text.txt"
    told = bimo_cli("evaluate", vae, text, "--latent").out
    assert "for its latent (KL)" in told
    assert "active units" in told
    found = bimo_cli("evaluate", vae, text, "--latent", "--json").json
    assert found["latent"]["exchanged"] > 3, "another text's latent writes another text"
    assert found["latent"]["bound"] == pytest.approx(found["nats"] / found["documents"], rel=1e-6)
    info = bimo_cli("info", vae, "--json").json
    assert info["latent_width"] == found["latent"]["units"] == 8
    assert info["capabilities"] == ["latent"]
