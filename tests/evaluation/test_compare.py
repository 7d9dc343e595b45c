"""`compare`: each in a process of its own, a failure is a row, Ctrl-C stops all, what it writes reads back."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import bimo
from bimo.core import store
from bimo.core.errors import Interrupted
from bimo.core.recipe import OF_ANY, Recipe, make_recipe, parse_overrides
from bimo.data.corpus import Corpus
from bimo.evaluation import compare as comparison
from bimo.evaluation import runs
from bimo.evaluation.compare import compare
from bimo.evaluation.ranking import rank, row_interval
from bimo.evaluation.results import Comparison, Row
from tests.conftest import Ran, small
from tests.evaluation import example


def recipe(family: str, *overrides: str) -> Recipe:
    return make_recipe({"family": family, "training": {"budget": "3steps"}}, parse_overrides([*small(family), *overrides]))


@pytest.mark.usefixtures("compare_in_process")
def test_a_failing_family_is_a_row(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [recipe("ngram"), recipe("lstm", "training.device=nowhere"), recipe("lstm"), recipe("gru")]
    true_run = runs.run

    def broken(recipe: Recipe, *rest: Any, **named: Any) -> Any:
        if recipe.family == "gru":
            raise ZeroDivisionError("a bug")
        return true_run(recipe, *rest, **named)

    monkeypatch.setattr(runs, "run", broken)
    found = compare(chosen, Corpus.open(place / "corpus"), tmp_path / "out", name="text", quiet=True)
    assert [row.family for row in found.rows] == ["ngram", "lstm", "lstm", "gru"]
    assert [row.error is None for row in found.rows] == [True, False, True, False]
    assert "training.device" in str(found.rows[1].error)
    assert "ZeroDivisionError: a bug" in str(found.rows[3].error)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "ngram", "lstm", "lstm-2", "gru", "comparison.json", "table.md", "report.html"
    }  # fmt: skip
    assert Comparison.from_dict(json.loads((tmp_path / "out" / "comparison.json").read_text())).to_dict() == found.to_dict()
    assert "training.device" in capsys.readouterr().err
    assert (tmp_path / "out" / "lstm-2" / "model.safetensors").exists()
    assert len(found.unit_bytes) == len(found.rows[0].unit_nats or [])


@pytest.mark.usefixtures("compare_in_process")
def test_rows_of_a_comparison_before_are_not_taken_for_new_ones(place: Path, tmp_path: Path) -> None:
    corpus = Corpus.open(place / "corpus")
    compare([recipe("ngram")], corpus, tmp_path, name="text", quiet=True)
    again = compare(
        [make_recipe({"family": "ngram", "model": {"order": 2, "smoothing": "arpa"}})], corpus, tmp_path, name="text", quiet=True
    )
    assert again.rows[0].error
    assert not (tmp_path / "ngram" / "model.safetensors").exists()


def test_what_fits_a_text_is_what_can_learn_it_and_score_it_as_it_runs(place: Path, tmp_path: Path) -> None:
    def fitting(corpus: Corpus, *overrides: str) -> set[str]:
        return {r.family for r in comparison.fitting(corpus, lambda name: make_recipe({"family": name}, parse_overrides(overrides)))}

    long = Corpus.open(place / "corpus")  # a file of many lines: one text, of which a judge of whole texts would see the beginning
    assert {"ngram", "lstm", "decoder"} <= fitting(long)
    assert not {"gan", "vae", "seq2seq", "encoder"} & fitting(long)
    lines = bimo.prepare(place / "text.txt", tmp_path / "lines", tokenizer="char", documents="line")
    assert {"ngram", "lstm", "decoder", "gan", "vae"} <= fitting(lines)
    assert "gan" not in fitting(lines, "training.context=4")
    sides = [tmp_path / "source.txt", tmp_path / "target.txt"]
    for side, words in zip(sides, ("one two", "zwei eins"), strict=True):
        side.write_text("".join(f"{words} {i}\n" for i in range(300)))
    pairs = bimo.prepare("::".join(map(str, sides)), tmp_path / "pairs", tokenizer="char")
    assert fitting(pairs) == {"seq2seq"}


@pytest.mark.usefixtures("compare_in_process")
def test_a_family_that_refuses_pairs_is_a_row_that_says_so(tmp_path: Path) -> None:
    sides = [tmp_path / "source.txt", tmp_path / "target.txt"]
    for side in sides:
        side.write_text("".join(f"one two {i}\n" for i in range(300)))
    corpus = bimo.prepare("::".join(map(str, sides)), tmp_path / "pairs", tokenizer="char")
    chosen = [make_recipe({"family": name, "training": {"budget": "1steps"}}) for name in ("ngram", "vae", "gan", "encoder")]
    found = compare(chosen, corpus, tmp_path / "out", name="pairs", quiet=True)
    assert [row.label for row in found.rows] == ["5-gram", "VAE", "GAN", "Encoder"]
    assert all("which" in str(row.error) and "would not read" in str(row.error) for row in found.rows)
    assert "would not read" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_all_rows_failed_is_an_error_of_the_machine(bimo_cli: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_in_a_process", lambda job: -9)
    ran: Ran = bimo_cli("compare", place / "corpus", "--families", "ngram,lstm", "--out", tmp_path / "out", "--json")
    assert ran.code == 1
    assert [row["error"] for row in ran.json["rows"]] == ["its process ended with -9 (killed; was there memory enough?)"] * 2


def test_ctrl_c_stops_the_whole_comparison(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: Iterator[int] = iter([130])
    monkeypatch.setattr(comparison, "_in_a_process", lambda job: next(codes))
    with pytest.raises(Interrupted, match=r"while ngram ran; the same command with --out .* goes on there"):
        compare([recipe("ngram"), recipe("lstm")], Corpus.open(place / "corpus"), tmp_path / "out", name="text")


def test_each_runs_in_a_process_of_its_own(place: Path, tmp_path: Path, bimo_cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    ran: Ran = bimo_cli("compare", place / "corpus", "--families", "ngram", "--out", tmp_path / "out", "--json", "model.order=2")
    assert ran.code == 0, ran.err
    (row,) = ran.json["rows"]
    assert (row["family"], row["label"], row["error"]) == ("ngram", "2-gram", None)
    assert {"bits_per_byte", "perplexity", "parameters", "peak_memory_bytes", "disk_bytes", "used_seconds"} <= set(row)
    assert "counting" in ran.err or "100%" in ran.err, "progress is told while it runs"


@pytest.mark.usefixtures("compare_in_process")
def test_a_comparison_takes_away_no_run_but_its_own(place: Path, tmp_path: Path, bimo_cli: Any) -> None:
    words = ["compare", place / "corpus", "--families", "ngram", "--out", tmp_path, "model.order=2"]
    assert bimo_cli("train", place / "corpus", "--family", "ngram", "--out", tmp_path / "ngram", "model.order=2").code == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "ngram").iterdir() if p.is_file()}
    for asked in (words, ["compare", place / "text.txt", "--out", tmp_path], ["compare", place / "text.txt", "--out", tmp_path / "ngram"]):
        refused: Ran = bimo_cli(*asked)
        assert (refused.code, "ngram: holds a run already" in refused.err) == (2, True)
    assert not (tmp_path / "corpus").exists()
    assert {p.name: p.read_bytes() for p in (tmp_path / "ngram").iterdir() if p.is_file()} == before
    (tmp_path / "ngram" / "recipe.yaml").unlink()
    assert "holds a model already" in bimo_cli(*words).err
    shutil.rmtree(tmp_path / "ngram")
    assert bimo_cli(*words).code == 0
    (tmp_path / "comparison.json").unlink()  # as if it had been stopped
    assert bimo_cli(*words).code == 0


@pytest.mark.usefixtures("compare_in_process")
def test_the_most_promising_hybrids_are_made_of_what_was_learned(place: Path, tmp_path: Path) -> None:
    corpus, out = Corpus.open(place / "corpus"), tmp_path / "out"
    learns = ("training.budget=300steps", "training.learning_rate=0.01", "model.width=32", "training.batch_size=8", "training.context=16")
    found = compare([recipe("ngram"), recipe("lstm", *learns), recipe("decoder")], corpus, out, name="text", hybrids=2, quiet=True)
    mixed = [row for row in found.rows if row.parts]
    assert [row.family for row in found.rows[:3]] == ["ngram", "lstm", "decoder"]
    assert 1 <= len(mixed) <= 2
    assert all(found.surprise_of(row) for row in found.rows), "one passage, asked of all"
    assert {row.mixture for row in mixed} == {"linear"}
    promised = json.loads((out / comparison.PROMISING).read_text())
    assert [m["nats"] for m in promised] == sorted(m["nats"] for m in promised)
    assert all(m["gain"] > 0 for m in promised)
    for row, promise in zip(mixed, promised, strict=True):
        assert row.error is None
        assert row.family == "+".join(Path(part).name for part in promise["parts"])
        assert sum(part.weight or 0 for part in row.parts) == pytest.approx(1)
        assert row.used_seconds is not None
        own = [other.used_seconds for other in found.rows if other.family in row.family.split("+")]
        assert row.used_seconds > sum(seconds or 0 for seconds in own)
        assert bimo.load(out / row.family).info()["family"] == "hybrid"


@pytest.mark.usefixtures("compare_in_process")
def test_what_promises_nothing_is_not_made(place: Path, tmp_path: Path) -> None:
    """After three steps a network has nothing to say beside an n-gram."""
    found = compare([recipe("ngram"), recipe("lstm")], Corpus.open(place / "corpus"), tmp_path / "out", name="text", hybrids=3, quiet=True)
    assert [row.family for row in found.rows] == ["ngram", "lstm"]
    assert json.loads((tmp_path / "out" / comparison.PROMISING).read_text()) == []
    assert found.notices == ["no hybrid is made: none promises more on validation text than the best model alone"]


@pytest.mark.usefixtures("compare_in_process")
def test_a_hybrid_takes_its_parts_from_the_comparison(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    true_run = runs.run

    def counted(recipe: Recipe, *rest: Any, **named: Any) -> Any:
        begun.append(recipe.name)
        return true_run(recipe, *rest, **named)

    monkeypatch.setattr(runs, "run", counted)
    words = ["training.threads=1", "training.batch_size=4", "training.context=8", "training.precision=fp32"]
    names = ["ngram", "lstm", "ngram+lstm", "ngram+gru"]
    found = bimo.compare(str(place / "corpus"), families=names, budget="3steps", out=tmp_path / "out", overrides=words)
    assert begun == names
    assert [row.error for row in found.rows] == [None] * 4
    assert not (tmp_path / "out" / "ngram+lstm" / "parts").exists()
    assert [row.run for row in found.rows] == names
    assert [[part.run for part in row.parts] for row in found.rows[2:]] == [["ngram", "lstm"], ["ngram", None]]
    assert [p.name for p in (tmp_path / "out" / "ngram+gru" / "parts").iterdir()] == ["gru"]  # none other has a GRU


def test_only_the_very_same_model_is_taken_for_a_part(place: Path, tmp_path: Path) -> None:
    """Another objective, beginning or tags: another model."""
    words = ["training.threads=1"]
    mixed = make_recipe({"family": "ngram+lstm", "training": {"budget": "3steps"}}, parse_overrides(words))
    alone = make_recipe({"family": "lstm", "training": {"budget": "3steps"}}, parse_overrides(words))
    changes = [
        {"objective": {"label_smoothing": 0.1}},
        {"start": "runs/before"},
        {"text": alone.text.model_copy(update={"tags": "jieba"})},
        {"training": alone.training.model_copy(update={"seed": 1})},
    ]
    for other in (alone, *(alone.model_copy(update=change) for change in changes)):
        found = comparison._reusing(mixed, ["lstm", "ngram+lstm"], [other, mixed], tmp_path).model_section().parts[1]
        assert (found.folder is not None) == (other is alone), other


def test_parts_are_taken_over_where_they_leave_a_hybrid_its_time(place: Path, tmp_path: Path) -> None:
    """One that learns for all its time leaves none for a second, nor for reading the text once more."""
    alone = [make_recipe({"family": name, "training": {"budget": "3steps"}}) for name in ("ngram", "lstm", "gru")]
    for words, taken in (
        ("ngram+lstm", [True, True]),
        ("lstm+cache", [True, False]),
        ("ngram+lstm+gru", [True, False, False]),
        ("ngram+lstm+knn", [True, False, False]),
    ):
        mixed = make_recipe({"family": words, "training": {"budget": "3steps"}})
        found = comparison._reusing(mixed, ["ngram", "lstm", "gru", words], [*alone, mixed], tmp_path).model_section().parts
        assert [part.folder is not None for part in found] == taken, words


@pytest.mark.usefixtures("compare_in_process")
def test_a_hybrid_may_be_named_before_its_parts(place: Path, tmp_path: Path) -> None:
    names = ["ngram+lstm", "ngram", "lstm"]
    words = ["training.threads=1", "training.batch_size=4", "training.context=8", "training.precision=fp32"]
    found = bimo.compare(str(place / "corpus"), families=names, budget="3steps", out=tmp_path / "out", overrides=words)
    assert [(row.run, row.error) for row in found.rows] == [(name, None) for name in names]
    memory = {row.run: row.peak_memory_bytes or 0 for row in found.rows}
    assert memory["ngram+lstm"] >= max(memory["ngram"], memory["lstm"]), "its parts had to be learned"


def test_rows_of_one_label_are_told_apart() -> None:
    rows = [Row(family="lstm", label="LSTM", run=run) for run in ("lstm", "lstm-2")]
    found = comparison._told_apart([*rows, Row(family="gru", label="GRU", run="gru")])
    assert [row.label for row in found] == ["LSTM (lstm)", "LSTM (lstm-2)", "GRU"]


def test_only_rows_of_one_sample_are_paired() -> None:
    """The ranked rows keep their intervals and their lead, however many rows of another kind were measured on another sample."""

    def alone(label: str, bits: float, kind: str = "exact", cut: int = 0) -> Comparison:
        found = example.comparison([example.row(label, label, bits, 10.0, 1, kind=kind)])
        found.unit_bytes = found.unit_bytes[cut:]
        found.rows[0].unit_nats = (found.rows[0].unit_nats or [])[cut:]
        found.rows[0].bytes = sum(found.unit_bytes)
        return found

    bounds = [alone(f"vae-{n}", 1.5 + n, kind="bound", cut=5) for n in range(3)]
    results = [*bounds, alone("lstm", 2.0), alone("gru", 2.5)]
    whole = comparison._of_one_text(results)
    assert whole is results[3]
    assert [len(result.rows[0].unit_nats or []) for result in results] == [0, 0, 0, example.UNITS, example.UNITS]
    whole.rows = [result.rows[0] for result in results]
    ranking = rank(whole)
    assert [row.label for row in ranking.ranked] == ["lstm", "gru"]
    assert ranking.lead is not None
    assert ranking.lead.low > 0
    assert [row_interval(whole, row) is None for row in whole.rows] == [True, True, True, False, False]
    assert comparison._of_one_text([]) is None


def _hybrids_made(
    out: Path, promised: list[list[str]], asked: dict[str, Recipe], corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Recipe], list[str]]:
    """Which hybrids a comparison of these adds, by folder, where these are promised; and what it says."""
    ran: dict[str, Recipe] = {}
    monkeypatch.setattr(comparison, "_promising", lambda *_: promised)
    monkeypatch.setattr(comparison, "_run_apart", lambda recipe, _, folder, *rest: ran.setdefault(folder.name, recipe))
    made: Any = {name: Comparison.model_construct(rows=[Row(family=recipe.name, label="", run=name)]) for name, recipe in asked.items()}
    return ran, comparison._add_hybrids(made, asked, corpus, out, 3, "text", True)


def test_promising_hybrids_are_told_apart_by_their_folders(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, said = Corpus.open(place / "corpus"), ("training.threads=1", "training.evaluation_tokens=777")
    names = ["lstm", "lstm-2", "ngram"]
    for name in names:
        (tmp_path / name).mkdir()
    folders = {name: str(tmp_path / name) for name in names}
    asked = {name: recipe(name.split("-")[0], *said, "training.budget=7steps") for name in names}
    own = {"family": "hybrid", "model": {"parts": [{"folder": folders[name]} for name in ("ngram", "lstm")]}}
    asked["ngram+lstm"] = make_recipe(own, parse_overrides([*said, "training.budget=7steps"]))
    pairs = [["ngram", "lstm-2"], ["lstm", "ngram"], ["lstm", "lstm-2"], ["ngram", "lstm-2", "lstm"]]
    promised = [[folders[name] for name in pair] for pair in pairs]
    store.write_tensors(tmp_path / "lstm+lstm-2" / "model.safetensors", {"a": torch.zeros(1)})  # no comparison's
    ran, told = _hybrids_made(tmp_path, promised, asked, corpus, monkeypatch)
    assert list(ran) == ["ngram+lstm-2", "ngram+lstm-2+lstm"], "one was asked for, of another a run stands that is no comparison's"
    assert [said for said in told if "lstm+lstm-2: holds a model already" in said] == told
    assert [part.folder for part in ran["ngram+lstm-2"].model_section().parts] == promised[0]
    training = ran["ngram+lstm-2"].training
    assert (training.budget, training.threads, training.evaluation_tokens) == ("7steps", 1, 777)
    assert training.model_fields_set <= set(OF_ANY)


def test_a_run_that_is_shown_again_says_when_it_was_made(tmp_path: Path) -> None:
    for name in ("lstm", "ngram"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text("{}")
    made = (tmp_path / "lstm" / "result.json").stat().st_mtime
    (said,) = comparison._shown_again({"lstm": made, "ngram": made - 60, "gru": made}, tmp_path)
    assert re.fullmatch(r"lstm: already made on \d{4}-\d\d-\d\d \d\d:\d\d, shown again; another --out makes it anew", said)


def test_a_total_counts_what_is_yet_to_be_made(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(comparison.progress, "say", said.append)
    monkeypatch.setattr(comparison, "_run_apart", lambda recipe, *_: Row(family=recipe.name, label=recipe.label, error="none"))
    monkeypatch.setattr(comparison.runs, "stands", lambda folder, *_: folder.name == "ngram")
    for name in ("ngram", "lstm"):  # of the latter, another recipe's
        store.write_text(tmp_path / name / "result.json", "{}")
    corpus = Corpus.open(place / "corpus")
    comparison.compare([recipe("ngram"), recipe("lstm")], corpus, tmp_path, name="x")
    assert said[0].startswith("1 model, ")
    said.clear()
    comparison.compare([recipe("ngram")], corpus, tmp_path, name="x")
    assert said == []


def test_why_there_are_no_hybrids_is_told(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, asked = Corpus.open(place / "corpus"), {"ngram": recipe("ngram")}
    told = _hybrids_made(tmp_path, [], asked, corpus, monkeypatch)[1]
    assert told == ["no hybrid is made: none promises more on validation text than the best model alone"]
    assert comparison._add_hybrids({}, {}, corpus, tmp_path, 3, "text", True) == [
        "no hybrid is looked for: no model has learned whose score is exact"
    ]
    monkeypatch.undo()
    monkeypatch.setattr(comparison, "_in_a_process", lambda job: -9)
    (tmp_path / "error.json").write_text('{"error": "of a run before"}')
    assert comparison._promising({"ngram": 0.1}, corpus, tmp_path, 3) == "its process ended with -9 (killed; was there memory enough?)"
    del corpus.splits["valid"]
    assert "no validation text" in _hybrids_made(tmp_path, [], asked, corpus, monkeypatch)[1][0]


def test_a_hybrid_of_parts_that_were_learned_anew_is_made_anew(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "lstm", tmp_path / "lstm")
    mixed = make_recipe({"family": "hybrid", "model": {"parts": [{"folder": str(place / "ngram")}, {"folder": str(tmp_path / "lstm")}]}})
    corpus, run = Corpus.open(place / "corpus"), tmp_path / "run"
    told = {"asked": mixed.to_dict(), "corpus_fingerprint": runs._fingerprint(corpus), "made_of": runs._made_of(mixed)}
    store.write_json(run / "run.json", told)
    mixed.save(run / "recipe.yaml")
    assert runs.stands(run, mixed, corpus)
    shutil.copy(place / "decoder" / "model.safetensors", tmp_path / "lstm" / "model.safetensors")
    assert not runs.stands(run, mixed, corpus)


@pytest.mark.usefixtures("compare_in_process")
def test_a_stopped_comparison_goes_on(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, out = Corpus.open(place / "corpus"), tmp_path / "out"
    chosen = [recipe("ngram"), recipe("lstm"), recipe("gru")]
    true_run, true_resume, made = runs.run, runs.resume, []

    def stops(recipe: Recipe, *rest: Any, **named: Any) -> Any:
        made.append(recipe.family)
        if recipe.family == "gru" and made.count("gru") == 1:
            raise Interrupted("stopped")
        return true_run(recipe, *rest, **named)

    monkeypatch.setattr(runs, "run", stops)
    with pytest.raises(Interrupted, match="while gru ran"):
        compare(chosen, corpus, out, name="text", quiet=True)
    before = (out / "lstm" / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(runs, "resume", lambda *rest, **named: made.append("resumed") or true_resume(*rest, **named))
    found = compare(chosen, corpus, out, name="text", quiet=True)
    assert made == ["ngram", "lstm", "gru", "gru"]
    assert [row.error for row in found.rows] == [None] * 3
    assert (out / "lstm" / "model.safetensors").stat().st_mtime_ns == before
    other = [recipe("ngram"), recipe("lstm", "training.learning_rate=0.01"), recipe("gru")]
    compare(other, corpus, out, name="text", quiet=True)
    assert made[4:] == ["lstm"], "another recipe is another run"


@pytest.mark.usefixtures("compare_in_process")
def test_a_report_in_the_language_asked_for(place: Path, tmp_path: Path, bimo_cli: Any) -> None:
    words = ["compare", place / "corpus", "--families", "ngram", "--out", tmp_path / "out", "model.order=2"]
    assert bimo_cli(*words, "--lang", "zh").code == 0
    assert "每字节" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    refused = bimo_cli(*words, "--lang", "fr")
    assert (refused.code, "lang: unknown language" in refused.err) == (2, True)


def test_a_folder_named_as_a_memory_is_none_of_a_hybrids_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cache", "knn", "lstm"):
        Path(name).mkdir()
    for memory in ("cache", "knn"):
        parts = comparison._mixing(["lstm", memory], [recipe("lstm")]).model_section().parts
        assert [(part.folder, part.family, part.memory) for part in parts] == [("lstm", None, None), (None, None, memory)]
    parts = make_recipe({"family": "lstm+./cache"}).model_section().parts
    assert [(part.folder, part.family) for part in parts] == [(None, "lstm"), ("./cache", None)]
