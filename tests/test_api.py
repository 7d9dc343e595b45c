"""The public functions, on English and Chinese, from text to report; and never a socket."""

from __future__ import annotations

import html
import json
import math
import re
import socket
from pathlib import Path
from typing import Any

import pytest

import bimo
from bimo.core.errors import ModelError, RecipeError, UserError
from bimo.core.recipe import going_on_from
from bimo.evaluation import compare as comparison
from bimo.text.words import guess_language
from tests.conftest import small


def test_the_chain_from_python(place: Path, tmp_path: Path) -> None:
    run = bimo.train(str(place / "corpus"), family="gru", out=tmp_path / "run", budget="5steps", seed=3, overrides=small("gru"))
    assert run.row.family == "gru"
    assert run.row.steps == 5
    assert not run.finished_before
    model = bimo.load(run.folder)
    assert isinstance(model.generate("The ", max_new_tokens=5, seed=0), str)
    assert model.generate("The ", max_new_tokens=5, seed=0) == "".join(model.stream("The ", max_new_tokens=5, seed=0))
    assert model.generate("The ", max_new_tokens=5, seed=0) == bimo.generate(run.folder, "The ", max_new_tokens=5, seed=0)
    assert bimo.resume(run.folder).finished_before
    assert bimo.families() == ("ngram", "rnn", "lstm", "gru", "decoder", "encoder", "seq2seq", "vae", "gan")


def test_scores_add_up_to_the_evaluation(place: Path, tmp_path: Path) -> None:
    texts = ["The first line.", "and another one", "x"]
    (tmp_path / "lines.txt").write_text("\n".join(texts) + "\n")
    for family in ("ngram", "lstm", "decoder"):
        model = bimo.load(place / family)
        found = model.evaluate(tmp_path / "lines.txt", documents="line")
        assert sum(model.score(texts)) == pytest.approx(found.nats)
        assert found.tokens == sum(len(t) + 1 for t in texts)
        assert found.perplexity == pytest.approx(math.exp(found.nats / found.tokens))
        assert found.bits_per_byte == pytest.approx(found.nats / math.log(2) / (tmp_path / "lines.txt").stat().st_size)
        assert bimo.evaluate(place / family, tmp_path / "lines.txt", documents="line").nats == pytest.approx(found.nats)


def test_one_text_is_a_text_and_not_its_letters(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = bimo.load(place / "ngram")
    assert model.score("the cat") == model.score(["the cat"])
    monkeypatch.setattr(comparison, "compare", lambda recipes, *_, **__: recipes)
    recipes: Any = bimo.compare(place / "corpus", families="ngram, lstm", out=tmp_path / "out", overrides="training.seed=3")
    assert [(r.family, r.training.seed) for r in recipes] == [("ngram", 3), ("lstm", 3)]
    assert bimo.train(place / "corpus", family="ngram", out=tmp_path / "run", overrides="model.order=2").row.label == "2-gram"


def test_a_saved_model_answers_as_before(place: Path, tmp_path: Path) -> None:
    for family in ("ngram", "decoder"):
        model = bimo.load(place / family)
        model.save(tmp_path / family)
        assert bimo.load(tmp_path / family).score(["some text"]) == model.score(["some text"])


def test_cleaning_travels_with_the_corpus_and_the_model(place: Path, tmp_path: Path) -> None:
    plain = (place / "text.txt").read_text().replace("<", "").replace("&", "")
    (tmp_path / "plain.txt").write_text(plain)
    (tmp_path / "page.txt").write_text(f"<p>{plain}</p>")
    words = ["text.clean.markup=true", "model.order=2"]
    run = bimo.train(tmp_path / "page.txt", family="ngram", tokenizer="char", out=tmp_path / "run", overrides=words)
    assert "tags 2" in (run.folder / "report.html").read_text()
    found = bimo.evaluate(run.folder, tmp_path / "page.txt")
    assert found.nats == bimo.evaluate(run.folder, tmp_path / "plain.txt").nats
    assert found.bytes == (tmp_path / "page.txt").stat().st_size
    assert any("tags 2" in notice for notice in found.notices)
    assert going_on_from(str(run.folder))["text"]["clean"]["markup"] is True
    again = bimo.train(run.folder / "corpus", family="ngram", out=tmp_path / "again", overrides="text.clean.markup=true")
    assert "markup: true" in (again.folder / "recipe.yaml").read_text()
    with pytest.raises(RecipeError, match=r"prepared already: text\.clean\.markup is True there, not False"):
        bimo.train(run.folder / "corpus", family="ngram", overrides="text.clean.markup=false")
    with pytest.raises(RecipeError, match=r"text\.clean\.markups: unknown key; did you mean markup"):
        bimo.plan(tmp_path / "page.txt", overrides="text.clean.markups=true")
    told = json.loads((run.folder / "bimo.json").read_text())
    (run.folder / "bimo.json").write_text(json.dumps({**told, "clean": {"markup": "x"}}))
    with pytest.raises(ModelError, match=r"bimo\.json: clean\.markup"):
        bimo.load(run.folder)


def test_several_prompts_and_several_texts(place: Path) -> None:
    writing = bimo.load(place / "lstm").write(["The ", "A "], num_return_sequences=2, max_new_tokens=6, seed=1)
    assert len(writing.texts) == len(writing.finishes) == 4
    assert json.dumps(writing.to_dict())


def test_the_run_folder_holds_what_it_should(place: Path) -> None:
    names = {p.name for p in (place / "decoder").iterdir()}
    assert {"recipe.yaml", "metrics.jsonl", "checkpoint.safetensors", "report.html", "result.json", "run.json", "model.safetensors",
            "config.json", "tokenizer.json", "generation_config.json"} <= names  # fmt: skip
    vocabulary = bimo.load(place / "decoder").bundle.model.vocabulary
    defaults = json.loads((place / "decoder" / "generation_config.json").read_text())
    assert (defaults["eos_token_id"], defaults["suppress_tokens"]) == (vocabulary.eos, list(vocabulary.suppressed))
    written = [(place / "decoder" / name).stat().st_mtime_ns for name in ("config.json", "generation_config.json", "model.safetensors")]
    assert max(written) == written[-1]  # the weights last: a folder with weights is whole
    told = json.loads((place / "decoder" / "run.json").read_text())
    assert told["status"] == "finished"
    assert told["plan"]["parameters"] == bimo.info(place / "decoder")["parameters"]
    result = json.loads((place / "decoder" / "result.json").read_text())
    assert result["text"]["language"] == "en"
    assert result["text"]["sources"] == [str(place / "corpus")]
    assert not re.search(r"https?://(?!www\.w3\.org)", (place / "decoder" / "report.html").read_text())


def test_a_new_run_in_an_old_folder_is_refused_and_a_failed_one_leaves_no_model(place: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="holds a run already"):
        bimo.train(str(place / "corpus"), family="ngram", out=place / "ngram")
    from bimo.core.recipe import make_recipe
    from bimo.data.corpus import Corpus
    from bimo.evaluation import runs

    corpus, folder = Corpus.open(place / "corpus"), tmp_path / "run"
    recipe = make_recipe({"family": "ngram", "model": {"order": 2}})
    runs.run(recipe, corpus, folder, name="x", quiet=True)
    (folder / "checkpoint.safetensors").write_bytes(b"of an older run")
    broken = make_recipe({"family": "lstm", "training": {"budget": "2steps", "device": "nowhere"}})
    with pytest.raises(UserError, match=r"training\.device"):
        runs.run(broken, corpus, folder, name="x", quiet=True)
    assert not {"model.safetensors", "result.json", "checkpoint.safetensors", "report.html"} & {p.name for p in folder.iterdir()}


CHINESE = [
    ("char", "ngram", "lm-zh-poetry"),
    ("char", "decoder", "lm-zh-wiki"),
    ("bpe", "lstm", "lm-zh-wiki"),
    ("word", "gru", "lm-zh-wiki"),
]


def _chinese_text(folder: Path, wanted: int = 24_000) -> str:
    """The beginning of a data set's text, whatever its files are."""
    from bimo.data.sources import read_documents

    parts: list[str] = []
    for document in read_documents(
        [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix in (".txt", ".gz", ".jsonl", ".json", ".parquet", ".csv")]
    ):
        parts.append(document.text)
        if sum(map(len, parts)) > wanted:
            break
    return "\n".join(parts)[:wanted]


@pytest.mark.parametrize(("tokenizer", "family", "data"), CHINESE)
def test_chinese_in_each_step(data_folder: Path, tmp_path: Path, tokenizer: str, family: str, data: str) -> None:
    source = tmp_path / "文.txt"
    source.write_text(_chinese_text(data_folder / data), encoding="utf-8")
    corpus = bimo.prepare(source, tmp_path / "corpus", tokenizer=tokenizer, documents="line")
    assert corpus.splits["train"].bytes > 20_000
    run = bimo.train(str(tmp_path / "corpus"), family=family, out=tmp_path / "run", budget="6steps", overrides=small(family))
    model = bimo.load(run.folder)
    pieces = list(model.stream("中国", max_new_tokens=40, seed=0))
    if tokenizer != "bpe":  # whose untrained model may write bytes that are no characters
        assert "�" not in "".join(pieces)
    assert "".join(pieces) == model.generate("中国", max_new_tokens=40, seed=0)
    found = model.evaluate(source)
    assert found.bytes > 20_000
    assert 0 < found.bits_per_byte < 30
    result = json.loads((run.folder / "result.json").read_text(encoding="utf-8"))
    assert result["text"]["language"] == "zh"
    assert html.escape(run.row.samples[0].prompt) in (run.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "language"),
    [("床前明月光，疑是地上霜。", "zh"), ("The cat sat on the mat and it was fat.", "en"), ("こんにちは、世界の皆さん", "ja"),
     ("안녕하세요 세계", "ko"), ("", None), ("0 1 2", None), ("Der Hund lief schnell durch den Wald", None),
     ("GPT 是一个语言模型", "zh")],
)  # fmt: skip
def test_languages_are_guessed(text: str, language: str | None) -> None:
    assert guess_language(text) == language


def test_nothing_opens_a_socket(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was opened")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    run = bimo.train(str(place / "text.txt"), family="decoder", out=tmp_path / "run", budget="2steps", overrides=small("decoder"))
    model = bimo.load(run.folder)
    model.generate("The", max_new_tokens=3)
    model.evaluate(place / "text.txt")
    assert (run.folder / "report.html").exists()


def test_the_quickstart_text_is_the_manual_that_python_carries() -> None:
    from bimo.quickstart import built_in_text

    text = built_in_text()
    assert len(text) > 300_000
    assert guess_language(text[:4000]) == "en"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("text.tokenizer=byte", "text.tokenizer is char there, not byte"),
        ("text.documents=line", "text.documents is file there, not line"),
        ("text.vocab_size=9", r"text.vocab_size is \d+ there, not 9"),
        ("text.valid=held.txt", "text.valid is a part of .*corpus there, not held.txt"),
    ],
)
def test_what_a_prepared_corpus_is_not_is_refused_wherever_it_is_asked_for(place: Path, tmp_path: Path, word: str, said: str) -> None:
    corpus, key, value = str(place / "corpus"), *word.removeprefix("text.").split("=")
    with pytest.raises(RecipeError, match=said):
        bimo.train(corpus, family="ngram", out=tmp_path / "run", overrides=[word])
    with pytest.raises(RecipeError, match=said):
        bimo.compare(corpus, families=["ngram"], out=tmp_path / "comparison", overrides=[word])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"family": "ngram", "text": {"sources": [corpus], key: int(value) if value.isdigit() else value}}))
    with pytest.raises(RecipeError, match=said):
        bimo.train(str(recipe), out=tmp_path / "run")


def test_what_a_prepared_corpus_is_may_be_said(place: Path, tmp_path: Path) -> None:
    size = bimo.load(place / "ngram").bundle.tokenizer.vocabulary.size
    words = ["text.tokenizer=char", "text.documents=file", f"text.vocab_size={size}", *small("ngram")]
    run = bimo.train(str(place / "corpus"), family="ngram", out=tmp_path / "run", overrides=words)
    again = bimo.train(str(run.folder / "recipe.yaml"), out=tmp_path / "again")
    assert again.row.nats == run.row.nats


def test_half_a_surrogate_pair_is_no_text(place: Path) -> None:
    with pytest.raises(UserError, match=r"half a surrogate pair \(U\+D800\) at character 1"):
        bimo.load(place / "lstm").score(["fine", "a\ud800"])
