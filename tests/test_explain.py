"""`bimo explain`: what a user types, in both languages; mistakes are one clear line and exit code 2."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import bimo
from bimo.core.errors import UserError
from tests.conftest import Ran
from tests.test_cli import refused

Cli = Callable[..., Ran]
TEXT = "The with statement is used"


@pytest.mark.parametrize("family", ["ngram", "lstm", "decoder"])
def test_a_run_folder_explains_a_text(bimo_cli: Cli, place: Path, family: str) -> None:
    ran = bimo_cli("explain", place / family, TEXT)
    assert (ran.code, ran.err) == (0, "")
    assert sum(not line.startswith(" ") for line in ran.out.split("─\n")[1].splitlines()) == len(TEXT) + 1
    told = bimo_cli("explain", place / family, TEXT, "--json", "--top-k", 2).json
    assert "".join(token["text"] for token in told["tokens"]) == TEXT
    assert {len(token["top"]) for token in told["tokens"][1:]} == {2}
    nats = bimo.load(place / family).score(TEXT)[0]
    assert told["nats"] == pytest.approx(nats)
    assert all(("counts" in token) == (family == "ngram") for token in told["tokens"][1:])
    again = bimo.explain(place / family, TEXT, top_k=2)
    assert again.to_dict() == told


def test_counts_of_a_run_are_those_of_its_training_text(bimo_cli: Cli, place: Path) -> None:
    from bimo.data.corpus import Corpus

    corpus = Corpus.open(place / "corpus")
    training = corpus.tokenizer.decode(corpus.splits["train"].read(0, corpus.splits["train"].tokens))
    told = bimo_cli("explain", place / "ngram", TEXT, "--json").json
    checked = 0
    for token in told["tokens"][3:-1]:
        for counted in token["counts"]:
            gram = counted["context"] + token["text"]
            if counted["order"] > 1:
                found = sum(training.startswith(gram, at) for at in range(len(training)))
                assert counted["count"] == found, gram
                checked += 1
    assert checked > 10


@pytest.mark.parametrize("lang", ["en", "zh", None])
def test_the_page(bimo_cli: Cli, place: Path, tmp_path: Path, lang: str | None) -> None:
    text = "床前明月光 & <b>ink</b>"
    out = tmp_path / "text.html"
    ran = bimo_cli("explain", place / "ngram", text, "--out", out, *([] if lang is None else ["--lang", lang]))
    assert ran.code == 0
    assert ran.out.endswith(f"page: {out}\n")
    page = out.read_text(encoding="utf-8")
    assert f'<html lang="{"en" if lang == "en" else "zh-CN"}">' in page
    assert "<b>ink</b>" not in page
    assert ("bits for this text" in ran.out) == (lang != "zh")
    assert bimo_cli("explain", place / "ngram", text, "--out", out, "--json").json["text"] == text


def test_a_text_from_standard_input(bimo_cli: Cli, place: Path) -> None:
    piped = bimo_cli("explain", place / "lstm", "-", "--json", stdin="月光 ink\n".encode()).json
    assert piped == bimo_cli("explain", place / "lstm", "月光 ink", "--json").json
    assert piped["unknown_tokens"] == 2


def test_infinity_is_null(bimo_cli: Cli, place: Path, tmp_path: Path) -> None:
    bimo.train(str(place / "corpus"), family="ngram", out=tmp_path / "mle", overrides=["model.order=2", "model.smoothing=mle"])
    told = bimo_cli("explain", tmp_path / "mle", "zq", "--json").json
    assert told["nats"] is None
    assert next(token["probability"] for token in told["tokens"] if token["scored"] and token["nats"] is None) == 0.0
    assert "probability zero" in bimo_cli("explain", tmp_path / "mle", "zq").out
    assert bimo.explain(tmp_path / "mle", "zq").nats == math.inf


def test_mistakes(bimo_cli: Cli, place: Path, tmp_path: Path) -> None:
    model = place / "lstm"
    refused(bimo_cli("explain", model, ""), "explain: the text is empty")
    refused(bimo_cli("explain", model, "-", stdin=b"\n"), "the text is empty")
    refused(bimo_cli("explain", model, "-", stdin=b"\xff\xfe\x00"), "standard input: the text is not UTF-8")
    refused(bimo_cli("explain", tmp_path / "none", TEXT), "no such model folder")
    refused(bimo_cli("explain", model, TEXT, "--top-k", -1), "top_k: must be 0 or more, found -1")
    refused(bimo_cli("explain", model, TEXT, "--top-k", "many"), "--top-k")
    refused(bimo_cli("explain", model, TEXT, "--lang", "fr"), "lang: unknown language 'fr'")
    refused(bimo_cli("explain", model, TEXT, "--given", "a source"), "given: this model reads a text alone")
    refused(bimo_cli("explain", model, TEXT, "--out", tmp_path), "a folder; name the HTML file")
    refused(bimo_cli("explain", model, "-", "--given", "-"), "standard input can be read for one of them")
    refused(bimo_cli("explain", model), "Missing argument")
    with pytest.raises(UserError, match="the text is empty"):
        bimo.load(model).explain("")


def test_a_page_is_not_written_where_nothing_was_explained(bimo_cli: Cli, place: Path, tmp_path: Path) -> None:
    refused(bimo_cli("explain", place / "lstm", "", "--out", tmp_path / "text.html"))
    assert list(tmp_path.iterdir()) == []


def test_an_old_folder_without_counts_says_what_it_knows(bimo_cli: Cli, place: Path, tmp_path: Path) -> None:
    from bimo.core import store

    shutil.copytree(place / "ngram", tmp_path / "old")
    file = tmp_path / "old" / "model.safetensors"
    store.write_tensors(file, {name: t for name, t in store.read_tensors(file).items() if not name.endswith(".count")})
    told = bimo_cli("explain", tmp_path / "old", TEXT, "--json").json
    kept = bimo_cli("explain", place / "ngram", TEXT, "--json").json
    assert [token["nats"] for token in told["tokens"]] == [token["nats"] for token in kept["tokens"]]
    for old, new in zip(told["tokens"][1:], kept["tokens"][1:], strict=True):
        assert [c["context"] for c in old["counts"]] == [c["context"] for c in new["counts"]]
        assert {c["count"] for c in old["counts"]} == {None}
    assert "-gram after “" in bimo_cli("explain", tmp_path / "old", TEXT).out
