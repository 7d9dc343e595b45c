"""Recomputes every number of docs/principles/ngram-smoothing.md by the code that the page names."""

from __future__ import annotations

import gzip
import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from bimo.models.ngram import NGram, NGramConfig
from bimo.text.kernels import WordIndex
from bimo.text.vocabulary import Vocabulary

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "principles"
PAGE = (FOLDER / "ngram-smoothing.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_ngram_smoothing", FOLDER / "draw_ngram_smoothing.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_unigrams(example: ModuleType) -> None:
    found = example.after("")
    for words, printed in ((("cat", "sat", "</s>"), "0.1625"), (("the", "a", "dog", "ran"), "0.1125"), (("<unk>",), "0.0625")):
        assert f"| {printed} |\n" in PAGE
        assert [found[word] for word in words] == pytest.approx([float(printed)] * len(words), abs=1e-6)
    assert found["<s>"] == 0
    assert sum(found.values()) == pytest.approx(1)


def test_after_cat(example: ModuleType) -> None:
    found, counted = example.after("cat"), example.after("cat", "mle")
    for words, printed in (
        (("sat",), "**0.33125**"),
        (("ran",), "**0.30625**"),
        (("cat", "</s>"), "0.08125"),
        (("the", "a", "dog"), "0.05625"),
        (("<unk>",), "0.03125"),
    ):
        assert f"| {printed} |\n" in PAGE
        assert [found[word] for word in words] == pytest.approx([float(printed.strip("*"))] * len(words), abs=1e-6)
    assert (counted["sat"], counted["ran"]) == pytest.approx((0.5, 0.5))
    assert sum(counted.values()) == pytest.approx(1)


def test_a_line_never_seen(example: ModuleType) -> None:
    ids = WordIndex(example.WORDS).ids(["the dog ran"], bos=0, eos=1)[0]
    p = (-example.model().score(torch.from_numpy(ids)[None].long()).nats[0, 1:]).exp()
    assert " · ".join(f"{value:.5f}" for value in p.tolist()) in PAGE
    assert f"**{float(p.prod()):.5f}**" in PAGE
    counted = (-example.model("mle").score(torch.from_numpy(ids)[None].long()).nats[0, 1:]).exp()
    assert counted.tolist() == pytest.approx([2 / 3, 1 / 2, 0, 1])
    assert "2/3 · 1/2 · **0** · 1" in PAGE


def test_the_example_uses_the_fallback(example: ModuleType) -> None:
    assert example.model().discounts == [[0.5, 1.0, 1.5]] * 2


def test_the_picture_is_what_the_script_draws(example: ModuleType) -> None:
    assert example.PICTURE.read_text(encoding="utf-8") == example.draw()


def test_stupid_backoff_sums_to_more_than_one(example: ModuleType) -> None:
    assert sum(example.after("cat", "stupid-backoff").values()) > 1


@pytest.mark.parametrize("order", [2, 3, 5])
def test_penn_treebank(order: int, data_folder: Path) -> None:
    train = gzip.decompress((data_folder / "lm-ptb/ptb.train.txt.gz").read_bytes()).decode().splitlines()
    test = (data_folder / "lm-ptb/ptb.test.txt").read_text().splitlines()
    words = sorted({word for line in train for word in line.split()})
    index = WordIndex(["<s>", "</s>", "(unknown)", *words])
    ids, (heard, offsets) = index.ids(train, bos=0, eos=1)[0], index.ids(test, bos=0, eos=1)
    tokens = len(heard) - len(test)
    assert (f"{len(test):,} lines, {tokens:,} tokens" in PAGE, int(heard.min())) == (True, 0)

    def nats(smoothing: str) -> np.ndarray:
        model = NGram.build(NGramConfig(order=order, smoothing=smoothing), Vocabulary(len(words) + 3, bos=0, eos=1, unk=2, suppressed=(0,)))
        model.count([ids])
        model.estimate()
        if smoothing == "kneser-ney" and order == 5:
            assert ", ".join(f"{d:.2f}" for d in model.discounts[4]) in PAGE
        return model.score_documents(heard, offsets)

    impossible = np.isinf(nats("mle"))
    lines = int((np.add.reduceat(impossible, offsets[:-1]) > 0).sum())
    assert f"| {order} | {impossible.sum():,} | {lines:,} | infinite |" in PAGE
    found = [f"{math.exp(nats(smoothing).sum() / tokens):.2f}" for smoothing in ("add-k", "witten-bell", "kneser-ney")]
    assert f"| {order} | {' | '.join(found)} |" in PAGE.replace("**", "")
