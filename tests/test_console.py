"""What the terminal says of results: where they lie, and what puts them to use."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bimo.console import describe_corpus, show_comparison, show_facts, show_model, show_run
from bimo.core.errors import BimoError
from bimo.evaluation.results import Comparison, Row, Sample
from bimo.evaluation.runs import Run
from bimo.quickstart import quickstart
from tests.evaluation.example import comparison


def test_a_comparison_says_where_it_lies_and_what_uses_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    found = comparison()
    show_comparison(found)
    assert "report" not in capsys.readouterr().out  # it lies nowhere
    found.folder = Path("some where")
    found.rows[0].run, found.rows[0].samples = "ngram", [Sample(prompt="Once", continuation=" upon")]
    show_comparison(found)
    said = capsys.readouterr().out
    assert "report: some where/report.html\n" in said
    assert "next: bimo generate 'some where/ngram' Once --max-new-tokens 200\n" in said
    assert "folder" not in found.to_dict()  # it may be moved


def test_a_comparison_speaks_chinese_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    found = comparison()
    found.folder = Path("runs/c")
    found.rows[0].samples = [Sample(prompt="从前", continuation="有座山")]
    show_comparison(found, "zh")
    said = capsys.readouterr().out
    assert [
        words for words in ("5-gram 写道：从前|有座山", "报告：runs/c/report.html", "接下来：bimo generate", "胜出") if words not in said
    ] == []
    assert [words for words in ("writes", "report:", "next:") if words in said] == []


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"kind": "exact"}, 'bimo generate runs/m "…" --max-new-tokens 200'),
        ({"kind": "exact", "samples": [Sample(prompt="two\nlines", continuation="")]}, 'bimo generate runs/m "…" --max-new-tokens 200'),
        ({"kind": "exact", "samples": [Sample(prompt="- item", continuation="")]}, 'bimo generate runs/m "…" --max-new-tokens 200'),
        ({"kind": "pseudo"}, 'bimo fill runs/m "… <mask> …"'),
        ({"kind": "conditional", "samples": [Sample(prompt="a → ", continuation="b")]}, 'bimo generate runs/m --given "…"'),
        ({"kind": "exact", "recipe": "text: {conversations: true}"}, "bimo chat runs/m"),
    ],
)
def test_a_run_names_the_command_that_its_model_answers_to(facts: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = Row.model_validate({"family": "x", "label": "X", "bits_per_byte": 2.0, **facts})
    show_run(Run(Path("runs/m"), Comparison(text=comparison().text, rows=[row])))
    assert capsys.readouterr().out.endswith(f"model and report: runs/m\nnext: {said}\n")


def test_a_hybrid_is_a_table_of_its_parts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    settings = {f"setting_{i}": i for i in range(60)}
    parts = [
        {"name": "ngram", "config": {"model_type": "bimo-ngram", "order": 5, **settings}},
        {"name": "decoder", "config": {"model_type": "qwen3", "hidden_size": 64, **settings}},
    ]
    show_model({"family": "hybrid", "config": {"mixture": "linear", "parts": parts}})
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert "setting_3" not in said
    assert [line.split() for line in said.splitlines() if line.startswith(("hidden_size", "order"))] == [
        ["hidden_size", "–", "64"], ["order", "5", "–"],
    ]  # fmt: skip


def test_what_is_to_be_known_of_a_run_stands_below_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    notices = ["loss 2.1 before, 1.4 after, on 500 tokens of held-out text", "only 18 steps were made in the time"]
    row = Row.model_validate({"family": "x", "label": "X", "kind": "exact", "bits_per_byte": 2.0, "notices": notices})
    show_run(Run(Path("runs/m"), Comparison(text=comparison().text, rows=[row])))
    assert "".join(f"- {notice}\n" for notice in notices) + "model and report" in capsys.readouterr().out


def test_a_prepared_text_of_gigabytes_is_described_within_eighty_columns() -> None:
    sizes = {"train": (1, 929_000_000, 4_100_000_000), "valid": (36_718, 40_000, 180_000)}
    splits = {name: SimpleNamespace(documents=d, tokens=t, bytes=b) for name, (d, t, b) in sizes.items()}
    tokenizer = SimpleNamespace(kind="bpe", vocabulary=SimpleNamespace(size=7_040))
    corpus: Any = SimpleNamespace(folder="data/x", tokenizer=tokenizer, documents="file", splits=splits, manifest={"summary": []})
    said = describe_corpus(corpus).splitlines()
    assert max(map(len, said)) <= 80
    assert len(said[1]) == len(said[2]), "figures stand below each other"


def test_settings_without_a_value_show_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    show_facts({"read_options": {}})
    assert capsys.readouterr().out == "read_options  –\n"


def test_figures_of_a_plan_say_what_they_are_of(capsys: pytest.CaptureFixture[str]) -> None:
    show_facts({"flops": 3.28e13, "matrix_rate": 1.87e10, "utilisation": 0.5})
    assert capsys.readouterr().out.splitlines() == [
        "flops        32.8 T floating-point operations",
        "matrix_rate  18.7 B floating-point operations a second, this machine's best",
        "utilisation  0.5 of that rate",
    ]


def test_a_quickstart_leaves_the_terminal_to_its_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is printed past the display is glued to the row that it shows."""
    said: list[str] = []
    monkeypatch.setattr("bimo.core.progress.say", said.append)
    with pytest.raises(BimoError, match="unknown language"):
        quickstart(out=tmp_path, lang="fr")
    assert said == [f"text: the language manual that Python carries, written to {tmp_path / 'python-manual.txt'}"]
