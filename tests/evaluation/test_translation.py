"""Translation: a tiny encoder–decoder learns a made-up language from pairs, and what it writes is scored as sacrebleu scores it."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bimo
from bimo.core.errors import CapabilityError, UserError
from bimo.core.recipe import make_recipe
from bimo.data.corpus import Corpus, prepare
from bimo.data.documents import Document
from bimo.evaluation import translation
from bimo.evaluation.perplexity import evaluate
from bimo.models.bundle import Bundle
from bimo.models.ngram import NGram, NGramConfig
from bimo.text.vocabulary import Vocabulary
from bimo.training.fit import fit

WORDS = [f"w{i}" for i in range(10)]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Corpus]:
    """A model that has learned to write the successor of each word."""
    folder = tmp_path_factory.mktemp("pairs")
    generator = np.random.default_rng(0)
    lines = [generator.integers(0, 10, generator.integers(1, 6)) for _ in range(1000)]
    for name, shift in (("source", 0), ("target", 1)):
        (folder / name).write_text("".join(" ".join(WORDS[(i + shift) % 10] for i in line) + "\n" for line in lines))
    corpus = prepare(f"{folder / 'source'}::{folder / 'target'}", folder / "corpus", tokenizer="word", documents="line")
    model = {"encoder_layers": 1, "decoder_layers": 1, "heads": 2, "width": 32, "feed_forward": 64, "context": 16, "dropout": 0.0}
    training = {
        "budget": "400steps", "batch_size": 16, "learning_rate": 0.01, "weight_decay": 0.0, "schedule": "linear", "final": 0.0,
        "betas": [0.9, 0.98], "warmup": 0.1, "threads": 1, "precision": "fp32", "evaluations": 0, "samples": 0,
    }  # fmt: skip
    recipe = make_recipe({"family": "seq2seq", "model": model, "training": training})
    return Bundle(fit(recipe, corpus, folder / "run", quiet=True).model, corpus.tokenizer, "line"), corpus


def test_it_learns_pairs(learned: tuple[Bundle, Corpus]) -> None:
    bundle, corpus = learned
    found = evaluate(bundle.model, corpus.splits["test"])
    assert found.kind == "conditional"
    assert found.nats_per_token < 0.15  # ln 10 a word without the source
    assert translation.translate(bundle, ["w3 w9 w0", "w1"]) == ["w4 w0 w1", "w2"]


def pairs(count: int) -> list[Document]:
    """Texts that are given another one."""
    places = [np.random.default_rng(7).integers(0, 10, 1 + i % 5) for i in range(count)]
    sides = [[" ".join(WORDS[(i + shift) % 10] for i in line) for line in places] for shift in (0, 1)]
    return [Document(text, "pairs", len(text), source) for source, text in zip(*sides, strict=True)]


def test_pairs_are_translated_and_scored(learned: tuple[Bundle, Corpus]) -> None:
    bundle, _ = learned
    seen: list[tuple[int, int]] = []
    found = translation.evaluate_translation(bundle, pairs(50), batch_size=16, told=lambda done, whole: seen.append((done, whole)))
    assert found.references == [document.text for document in pairs(50)]
    right = [h == r for h, r in zip(found.hypotheses, found.references, strict=True)]
    assert np.mean(right) > 0.9
    assert seen == [(16, 50), (32, 50), (48, 50), (50, 50)]
    bleu, chrf = found.qualities
    assert bleu.interval is not None
    assert bleu.interval.low <= bleu.estimate <= bleu.interval.high <= 100.0001
    assert chrf.estimate > 90
    told = json.loads(json.dumps(found.to_dict()))
    assert (told["texts"], told["beams"]) == (50, 4)
    assert told["bleu"]["estimate"] == bleu.estimate == bleu.interval.estimate
    assert "tok:13a" in told["bleu"]["signature"]
    assert "4 beams" in found.describe()


def test_what_the_tokenizer_loses_is_still_asked_for(learned: tuple[Bundle, Corpus]) -> None:
    lost = [Document("w2 gone", "pairs", 7, "w1")]
    assert translation.evaluate_translation(learned[0], lost).references == ["w2 gone"]


def test_evaluate_tells_of_pairs_what_is_asked(learned: tuple[Bundle, Corpus], tmp_path: Path) -> None:
    learned[0].save(tmp_path / "model")
    for name, texts in (("source", [str(d.given) for d in pairs(20)]), ("target", [d.text for d in pairs(20)])):
        (tmp_path / name).write_text("\n".join(texts) + "\n")
    given = f"{tmp_path / 'source'}::{tmp_path / 'target'}"
    plain, found = (bimo.evaluate(tmp_path / "model", given, translate=asked) for asked in (False, True))
    assert found.perplexity == plain.perplexity
    assert "translation" not in plain.to_dict()
    told = found.to_dict()["translation"]
    assert told["bleu"]["low"] <= told["bleu"]["estimate"] <= told["bleu"]["high"]
    assert "chrf" in found.describe()
    with pytest.raises(UserError, match="no pairs"):
        bimo.evaluate(tmp_path / "model", tmp_path / "target", translate=True)


@pytest.mark.parametrize("beams", [1, 4])
def test_texts_do_not_depend_on_what_is_read_beside_them(learned: tuple[Bundle, Corpus], beams: int) -> None:
    sources = ["w1 w2 w3 w4 w5", "w7", "w0 w0", "w9 w8 w7"]
    together = translation.translate(learned[0], sources, beams=beams)
    alone = [translation.translate(learned[0], [source], beams=beams)[0] for source in sources]
    assert together == alone == translation.translate(learned[0], sources, beams=beams, batch_size=2)


def texts(seed: int, noise: float) -> tuple[list[str], list[str]]:
    """References, and the same with some words changed."""
    generator = np.random.default_rng(seed)
    meant = [[WORDS[i] for i in generator.integers(0, 10, 12)] for _ in range(60)]
    written = [[WORDS[generator.integers(10)] if generator.random() < noise else word for word in text] for text in meant]
    return [" ".join(t) for t in written], [" ".join(t) for t in meant]


def test_figures_are_sacrebleus() -> None:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    written, meant = texts(0, 0.3)
    bleu, chrf = translation.score_texts(written, meant)
    for found, reference in ((bleu, BLEU()), (chrf, CHRF())):
        expected = reference.corpus_score(written, [meant], n_bootstrap=500)
        assert found.interval is not None
        assert found.estimate == pytest.approx(expected.score, abs=1e-9)
        width = (found.interval.high - found.interval.low) / 2
        assert width == pytest.approx(expected._ci, rel=0.25)
    again = translation.score_texts(written, meant, ["bleu"])
    assert again == [bleu]


def test_chinese_is_cut_by_characters() -> None:
    (found,) = translation.score_texts(["我们今天去公园"], ["我们明天去公园"], ["bleu"])
    assert "tok:zh" in found.signature
    assert found.estimate > 20


@pytest.mark.parametrize(
    ("written", "meant", "tokens"),
    [
        ("ฉันไปโรงเรียนทุกวันตอนเย็น", "ฉันไปโรงเรียนทุกวันตอนเช้า", "char"),
        ("ຂ້ອຍໄປໂຮງຮຽນທຸກມື້", "ຂ້ອຍໄປໂຮງຮຽນທຸກວັນ", "char"),
        ("ខ្ញុំទៅសាលារៀន", "ខ្ញុំទៅសាលា", "char"),
        ("ကျွန်တော်ကျောင်းသွားသည်", "ကျွန်တော်ကျောင်းသွားမည်", "char"),
        ("我用 Python 写了一个 language model toolkit", "我用 Python 写了一个 language model toolbox", "zh"),
        ("猫はマットの上に座った", "猫はマットの上で座った", "char"),
        ("the cat sat on the mat (猫)", "the cat sat on a mat (猫)", "13a"),
    ],
)
def test_scripts_without_spaces_are_cut_by_characters(written: str, meant: str, tokens: str) -> None:
    (found,) = translation.score_texts([written], [meant], ["bleu"])
    assert f"tok:{tokens}|" in found.signature
    assert found.estimate > 20


def test_the_tokenization_is_that_of_all_references() -> None:
    meant = ["the cat sat on the mat"] * 101 + ["今天天气不好我们去公园玩"] * 300
    (found,) = translation.score_texts([text.replace("不", "很") for text in meant], meant, ["bleu"])
    assert "tok:zh" in found.signature


def test_few_texts_have_no_interval() -> None:
    nine, ten = (translation.score_texts(["a b c d x"] * n, ["a b c d e"] * n)[0] for n in (9, 10))
    assert nine.interval is None
    assert ten.interval is not None
    assert nine.estimate == pytest.approx(ten.estimate)
    assert "too few texts" in str(nine)
    assert nine.to_dict()["low"] is None
    assert translation.compare_texts(["a b"] * 9, ["a c"] * 9, ["a b"] * 9) is None


def test_pairs_of_systems_are_drawn_together() -> None:
    good, meant = texts(1, 0.25)
    better = [m if i % 6 == 0 else g for i, (g, m) in enumerate(zip(good, meant, strict=True))]
    ahead = translation.compare_texts(better, good, meant)
    apart = [quality for system in (better, good) if (quality := translation.score_texts(system, meant, ["bleu"])[0].interval)]
    assert ahead is not None
    assert ahead.estimate == pytest.approx(apart[0].estimate - apart[1].estimate)
    assert not ahead.holds_zero
    assert ahead.high - ahead.low < max(i.high - i.low for i in apart)
    none = translation.compare_texts(good, good, meant, "chrf")
    assert none is not None
    assert (none.estimate, none.low, none.high) == (0, 0, 0)


def test_mistakes_are_told(learned: tuple[Bundle, Corpus], monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, _ = learned
    with pytest.raises(UserError, match="no pairs"):
        translation.evaluate_translation(bundle, [Document("w2", "text", 2)])
    with pytest.raises(UserError, match="metrics: unknown name 'blue'"):
        translation.evaluate_translation(bundle, pairs(2), ["blue"])
    alone = NGram.build(NGramConfig(order=1), Vocabulary(5))
    with pytest.raises(CapabilityError, match="reads no source"):
        translation.evaluate_translation(Bundle(alone, bundle.tokenizer, "line"), pairs(2))
    with pytest.raises(UserError, match="1 written and 2 meant"):
        translation.score_texts(["a"], ["a", "b"])
    whole = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("sacrebleu"):
            raise ImportError(name)
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'bimo\[eval\]'"):
        translation.score_texts(["a"], ["a"])
