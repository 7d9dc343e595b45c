"""Tags from end to end: a run that reads them, its folder without the lexicon, going on to the bit, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import bimo
from bimo.core import store
from bimo.core.errors import Interrupted, RecipeError, SourceError
from bimo.models.base import NeuralLanguageModel, load_model
from bimo.training.loop import Loop
from tests.conftest import Ran, small

Cli = Callable[..., Ran]
TAGS = {"the": "DET", "black": "ADJ", "red": "ADJ", "old": "ADJ", "ink": "NOUN", "flows": "VERB", "over": "ADP", "Paper": "NOUN"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tags")
    lines = [f"the {w} ink flows over paper {i % 7}" for i in range(80) for w in ("black", "red", "old")]
    (folder / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    chinese = [f"{who}在北京学习中文{i}天。" for i in range(60) for who in ("我们", "他们", "老师")]
    (folder / "zh.txt").write_text("\n".join(chinese) + "\n", encoding="utf-8")
    bimo.prepare(folder / "text.txt", folder / "corpus", documents="line", tokenizer="word")
    return folder


@pytest.fixture
def lexicon(tmp_path: Path) -> Path:
    rows = "".join(f"{i}\t{word}\t{word}\t{tag}\t_\t_\t0\t_\t_\t_\n" for i, (word, tag) in enumerate(TAGS.items(), 1))
    (tmp_path / "lexicon.conllu").write_text(rows + "\n", encoding="utf-8")
    return tmp_path / "lexicon.conllu"


def learn(place: Path, out: Path, lexicon: Path | str, family: str = "lstm", *more: str) -> bimo.Model:
    run = bimo.train(place / "corpus", family=family, budget="6steps", out=out, overrides=[*small(family), f"text.tags={lexicon}", *more])
    assert "85.7% of the training text's tokens have one of 5 tags" in run.row.notices[0]
    return bimo.load(run.folder)


@pytest.mark.parametrize("family", ["lstm", "decoder"])
def test_a_folder_scores_the_same_without_the_lexicon(place: Path, lexicon: Path, tmp_path: Path, family: str) -> None:
    model = learn(place, tmp_path / "run", lexicon, family)
    texts = ["the red ink flows over paper 3", "paper paper the"]
    expected = model.score(texts)
    lexicon.unlink()
    again = bimo.load(tmp_path / "run")
    assert again.score(texts) == expected
    assert again.info()["config"]["tag_names"] == ["<special>", "<unknown>", "ADJ", "ADP", "DET", "NOUN", "VERB"]
    assert again.info()["model_type"] == f"bimo-{family}"
    assert str(lexicon) not in (tmp_path / "run" / "config.json").read_text(encoding="utf-8")
    again.save(tmp_path / "copy")
    assert bimo.load(tmp_path / "copy").score(texts) == expected
    table = again.bundle.model.embedding.tag_of  # type: ignore[attr-defined]
    names = again.bundle.model.vocabulary.tags
    ids = again.bundle.tokenizer.encode("the red paper 3")
    assert [names[table[i]] for i in ids] == ["DET", "ADJ", "NOUN", "<unknown>"]


def test_a_stopped_run_goes_on_to_the_bit_without_the_lexicon(
    place: Path, lexicon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = ("model.positions=5", "model.output_dropout=0.2", "training.evaluations=2")
    learn(place, tmp_path / "whole", lexicon, "lstm", *fields)
    step = Loop._step

    def stopping(self: Loop) -> None:
        step(self)
        self._stop_asked = self.progress.step == 3

    monkeypatch.setattr(Loop, "_step", stopping)
    with pytest.raises(Interrupted):
        learn(place, tmp_path / "parted", lexicon, "lstm", *fields)
    monkeypatch.undo()
    lexicon.write_text("the/X ink/Y red/Z", encoding="utf-8")  # what it says now is not what the run began with
    run = bimo.resume(tmp_path / "parted")
    assert "85.7%" in run.row.notices[0]
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "parted" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_run_that_starts_from_another_has_its_tags(place: Path, lexicon: Path, tmp_path: Path) -> None:
    learn(place, tmp_path / "first", lexicon)
    lexicon.unlink()
    given = {"budget": "2steps", "out": tmp_path / "second"}
    settings = [f"start={tmp_path / 'first'}", "training.learning_rate=1e-9", "training.threads=1"]
    with pytest.raises(RecipeError, match=r"text\.tags: a run with a start reads text as .*first does"):
        bimo.train(place / "text.txt", documents="line", overrides=[*settings, "text.tags=jieba"], **given)
    run = bimo.train(place / "text.txt", documents="line", overrides=settings, **given)
    first, second = (load_model(tmp_path / name) for name in ("first", "second"))
    assert isinstance(first, NeuralLanguageModel)
    assert isinstance(second, NeuralLanguageModel)
    assert second.vocabulary.tags == first.vocabulary.tags != ()
    assert torch.equal(first.state_dict()["embedding.tag_of"], second.state_dict()["embedding.tag_of"])
    assert bimo.load(run.folder).score(["the ink"]) == pytest.approx(bimo.load(tmp_path / "first").score(["the ink"]), abs=1e-4)


def test_what_cannot_be_is_refused_and_leaves_no_run(place: Path, lexicon: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(RecipeError, match=r"text\.tags: ngram reads no tags; leave text\.tags out"):
        bimo.train(place / "corpus", family="ngram", out=out, overrides=[f"text.tags={lexicon}"])
    with pytest.raises(SourceError, match=r"text\.tags: .*nothing.*: no such file"):
        bimo.train(place / "corpus", out=out, overrides=[f"text.tags={tmp_path / 'nothing'}"])
    (tmp_path / "other.txt").write_text("zinc/NN brass/NN", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"other.txt knows none of the tokenizer's \d+ tokens"):
        bimo.train(place / "corpus", family="lstm", out=out, overrides=[*small("lstm"), f"text.tags={tmp_path / 'other.txt'}"])
    learn(place, out, lexicon)  # the same folder


@pytest.mark.usefixtures("compare_in_process")
def test_a_comparison_of_recipes_with_and_without(place: Path, lexicon: Path, tmp_path: Path) -> None:
    store.write_text(tmp_path / "plain.yaml", "family: lstm\n")
    store.write_text(tmp_path / "tags.yaml", f"family: lstm\ntext: {{tags: {lexicon}}}\n")
    names = [str(tmp_path / "plain.yaml"), str(tmp_path / "tags.yaml")]
    found = bimo.compare(place / "corpus", families=names, budget="2steps", out=tmp_path / "both", overrides=small("lstm"))
    assert [row.error for row in found.rows] == [None, None]
    assert [bool(load_model(tmp_path / "both" / name).vocabulary.tags) for name in ("lstm", "lstm-2")] == [False, True]
    found = bimo.compare(
        place / "corpus", families=["ngram"], budget="2steps", out=tmp_path / "counted", overrides=[f"text.tags={lexicon}", "model.order=2"]
    )
    assert "ngram reads no tags" in (found.rows[0].error or "")


def test_on_the_command_line(bimo_cli: Cli, place: Path, lexicon: Path, tmp_path: Path) -> None:
    english = (place / "text.txt", "--documents", "line", "--tokenizer", "bpe", "--vocab-size", 300, f"text.tags={lexicon}")
    chinese = (place / "zh.txt", "--documents", "line", "--tokenizer", "word", "text.tags=jieba")
    for name, words, prompt in (("en", english, "the red"), ("zh", chinese, "我们")):
        out = tmp_path / name
        ran = bimo_cli("train", *words, "--family", "decoder", "--budget", "3steps", *small("decoder"), "--out", out, "--json")
        assert ran.code == 0, ran.err
        assert json.loads(ran.out)["notices"][0].startswith("text.tags: ")
        assert store.read_json(out / "config.json")["model_type"] == "bimo-decoder"
        lexicon.unlink(missing_ok=True)
        assert bimo_cli("generate", out, prompt, "--max-new-tokens", 5, "--seed", 1).code == 0
        assert bimo_cli("evaluate", out, words[0], "--json").code == 0
        assert bimo_cli("info", out).code == 0
    assert "ns" in store.read_json(tmp_path / "zh" / "config.json")["tag_names"]
    ran = bimo_cli("train", place / "text.txt", "text.tags=missing.conllu", "--out", tmp_path / "bad")
    assert ran.code == 2
    assert ran.err.startswith("bimo: text.tags: missing.conllu: no such file")
    assert not (tmp_path / "bad").exists()
