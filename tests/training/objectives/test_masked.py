"""Masked tokens: the loss by its definition, what the recipe says, and a whole run that learns, is kept, scores and fills."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import bimo
from bimo.core.errors import CapabilityError, RecipeError
from bimo.core.recipe import make_recipe
from bimo.data.corpus import Corpus
from bimo.data.masking import MaskedBatches
from bimo.models.encoder import Encoder, EncoderConfig
from bimo.text.vocabulary import Vocabulary
from bimo.training.loop import Loop
from bimo.training.objectives.masked import Masked, MaskedConfig, masked_likelihood
from tests.conftest import Ran

TINY = ["model.layers=1", "model.heads=2", "model.width=32", "model.context=24", "training.batch_size=16", "training.threads=1",
        "training.precision=fp32", "training.learning_rate=0.01", "training.matrix_learning_rate=0.02", "training.evaluations=2",
        "training.evaluation_tokens=3000", "objective.share=0.3"]  # fmt: skip
ANIMALS, WAYS = ("cat", "dog", "hen"), ("sat", "ran", "fed")
WHEN = ["now", "then", "soon", "late", "once", "twice", "here", "there", "up", "down", "in", "out", "today", "often", "never", "always",
        "first", "last", "so", "thus", "still", "yet", "far", "near"]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Sentences in which each animal does one thing, wherever it stands."""
    folder = tmp_path_factory.mktemp("masked")
    generator = torch.Generator().manual_seed(0)
    lines = []
    for _ in range(600):
        a, b, c, d = torch.randint(0, 24, (4,), generator=generator).tolist()
        lines.append(f"{WHEN[c]} the {ANIMALS[a % 3]} {WAYS[a % 3]} and {WHEN[d]} the {ANIMALS[b % 3]} {WAYS[b % 3]} .")
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    return bimo.prepare(folder / "text.txt", folder / "corpus", tokenizer="word", documents="line")


def objective(corpus: Corpus, model: Encoder | None = None, **fields: object) -> Masked:
    model = model or Encoder.build(EncoderConfig(layers=1, heads=2, width=8, context=16), corpus.tokenizer.vocabulary)
    recipe = make_recipe({"family": "encoder", "training": {"batch_size": 8, "seed": 3}})
    return Masked(MaskedConfig(**fields), model, recipe, corpus)


def test_the_loss_is_that_of_the_hidden_tokens(corpus: Corpus) -> None:
    torch.manual_seed(0)
    model = Encoder.build(EncoderConfig(layers=2, heads=2, width=8, context=16), corpus.tokenizer.vocabulary)
    learned = objective(corpus, model)
    batch = learned.source.batch(0, 0)
    loss = learned.loss(model, batch, None, 0.0)
    logits = model.logits(model.hidden(batch.tokens, None, batch.boundaries)[0]).detach().log_softmax(-1)
    expected = -sum(float(logits.reshape(-1, model.vocab_size)[p, t]) for p, t in zip(batch.places, batch.targets, strict=True))
    assert batch.count > 5
    assert loss.carry is None
    assert float(loss.nats.detach()) == pytest.approx(expected, rel=1e-5)
    loss.nats.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_tokens_that_are_scored_are_learned_and_no_others(corpus: Corpus) -> None:
    source = objective(corpus).source
    assert isinstance(source, MaskedBatches)
    v = corpus.tokenizer.vocabulary
    told, read = set(), set()
    for epoch in range(20):
        batch = source.batch(epoch, 0)
        told |= set(batch.targets.tolist())
        read |= set(batch.tokens.reshape(-1)[batch.places].tolist())
    assert v.eos in told
    assert not told & {v.bos, v.pad}
    assert v.pad in read  # the mask symbol
    assert v.bos not in read
    assert v.unk not in read


def test_fields_reach_the_batches(corpus: Corpus) -> None:
    source = objective(corpus, share=0.3, masked=1.0, random=0.0, whole_words=True).source
    batch = source.batch(0, 0)
    assert 0.2 < batch.count / 128 < 0.3
    assert set(batch.tokens.reshape(-1)[batch.places].tolist()) == {corpus.tokenizer.vocabulary.pad}
    assert source.starts is not None
    assert source.inner.seed == 3
    with pytest.raises(RecipeError, match=r"objective\.masked.*objective\.random"):
        objective(corpus, masked=0.9, random=0.2)
    unmarked = Encoder.build(EncoderConfig(layers=1, heads=2, width=8), Vocabulary(20, bos=0, eos=0))
    with pytest.raises(RecipeError, match="mask_token_id"):
        objective(corpus, unmarked)
    headless = Encoder.build(EncoderConfig(layers=1, heads=2, width=8, fills=False), corpus.tokenizer.vocabulary)
    with pytest.raises(RecipeError, match="fills gaps"):
        objective(corpus, headless)


def test_nothing_to_tell_is_no_loss(corpus: Corpus) -> None:
    model = Encoder.build(EncoderConfig(layers=1, heads=2, width=8), corpus.tokenizer.vocabulary)
    batch = objective(corpus, model).source.batch(0, 0)
    none = type(batch)(batch.tokens, batch.boundaries, batch.places[:0], batch.targets[:0], batch.read)
    loss = masked_likelihood(model, none)
    loss.nats.backward()
    assert float(loss.nats.detach()) == 0


@pytest.fixture(scope="module")
def run(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "encoder"
    bimo.train(str(corpus.folder), family="encoder", out=folder, budget="250steps", seed=1, overrides=TINY)
    return folder


def test_a_run_learns(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.6 * losses[0]
    looks = [line["valid_loss"] for line in lines if "valid_loss" in line]
    assert looks[-1] < looks[0]
    kept = bimo.info(run)
    assert (kept["family"], kept["kind"], kept["capabilities"]) == ("encoder", "pseudo", ["features", "fill"])
    assert kept["config"]["mask_token_id"] == 2


def test_its_model_scores_and_fills_from_both_sides(run: Path) -> None:
    model = bimo.load(run)
    right, wrong = model.score(["now the dog ran and here the cat sat .", "now the dog sat and here the cat ran ."])
    assert right < wrong - 3
    for animal, way in zip(ANIMALS, WAYS, strict=True):  # what tells the animal stands behind the gap
        ((best, *_),) = model.fill(f"now the cat sat and here the <mask> {way} .")
        assert (best.token, best.text) == (animal, f"now the cat sat and here the {animal} {way} .")
        assert best.probability > 0.8
    with pytest.raises(CapabilityError, match=r"fill.*score"):
        model.generate("the cat")


def test_the_command_line_fills(run: Path, bimo_cli: Callable[..., Ran]) -> None:
    text = "now the cat sat and here the <mask> ran ."
    assert bimo.fill(run, text, top_k=2) == bimo.load(run).fill(text, top_k=2)
    shown = bimo_cli("fill", run, text, "--top-k", "2")
    assert shown.code == 0
    first, second = shown.out.splitlines()
    assert first.split()[1:3] == ["%", "dog"]
    assert first.endswith("now the cat sat and here the dog ran .")
    assert float(first.split()[0]) > float(second.split()[0])
    told = bimo_cli("fill", run, "-", "--json", stdin=b"now the [MASK] sat and <mask> the cat sat .\n").json
    assert [len(gap) for gap in told] == [5, 5]
    assert told[0][0]["token"] == "cat"
    assert told[0][0]["text"] == "now the cat sat and <mask> the cat sat ."
    for words, word in ((("fill", run, "no gap"), "no gap"), (("generate", run, "the"), "fill")):
        refused = bimo_cli(*words)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert word in refused.err


def test_a_run_that_was_broken_off_goes_on_to_the_bit(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is hidden, and what drops out, is the same after a resume."""
    shape = [word for word in TINY if not word.startswith("objective")]
    overrides = [
        *shape,
        "objective.whole_words=true",
        "model.dropout=0.2",
        "training.checkpoint_every=4",
        "training.keep=last",
        "training.evaluations=1",
    ]

    def train(folder: Path) -> None:
        bimo.train(str(corpus.folder), family="encoder", out=folder, budget="10steps", overrides=overrides)

    train(tmp_path / "whole")
    step, made = Loop._step, []

    def broken_off(self: Loop) -> None:
        if len(made) == 7:
            raise ConnectionAbortedError
        made.append(step(self))

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", broken_off)
        with pytest.raises(ConnectionAbortedError):
            train(tmp_path / "broken")
    bimo.resume(tmp_path / "broken")
    whole, broken = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "broken"))
    assert whole == broken
