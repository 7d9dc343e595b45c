"""Evidence is made once, skipped while what it depends on is as it was, and made again when that changes."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks import bench, evidence, record, shown, speeds
from benchmarks.desk import DONE, ROOT, Desk, shares
from benchmarks.record import Entry
from bimo.core import store
from bimo.core.errors import MachineError, UserError
from bimo.core.recipe import make_recipe


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small repository: one file of code, one recipe."""
    (tmp_path / "code.py").write_text('"""Says."""\nx = 1\n')
    (tmp_path / "recipe.yaml").write_text("family: ngram\nmodel: {order: 2}\n")
    return tmp_path


def work(desk: Desk) -> dict[str, object]:
    return {"value": 7, "seed": desk.seed}


@pytest.fixture
def entry() -> Entry:
    return Entry("fake", "that it works", work, ("*.py",), "none", 0.1, ("recipe.yaml",), seed=3)


def make(entry: Entry, house: Path) -> dict[str, object]:
    return record.make(entry, "again", root=house)


def state(entry: Entry, house: Path) -> str:
    return record.state_of(entry, house)


def test_a_record_says_all_that_is_needed_to_make_it_again(entry: Entry, house: Path) -> None:
    assert state(entry, house) == "absent"
    made = make(entry, house)
    assert record.read_all(house) == {"fake": made}
    assert made["figures"] == {"value": 7, "seed": 3}
    assert {"shows", "command", "recipe_hash", "code_hash", "seed", "budget", "machine", "date", "seconds"} <= made.keys()


def test_what_is_current_stays_current_until_something_it_touches_changes(entry: Entry, house: Path) -> None:
    make(entry, house)
    assert state(entry, house) == "current"
    (house / "code.py").write_text('"""Says it better."""\n\n# why\nx = 1\n')
    (house / "recipe.yaml").write_text("# why\nmodel: {order: 2}\nfamily: ngram\n")
    assert state(entry, house) == "current"
    (house / "code.py").write_text("x = 2\n")
    assert state(entry, house) == "code changed"
    (house / "recipe.yaml").write_text("family: ngram\nmodel: {order: 3}\n")
    assert state(entry, house) == "code and recipe changed"
    make(entry, house)
    assert state(entry, house) == "current"
    (house / "more.py").write_text("y = 1\n")
    assert state(entry, house) == "code changed"


def test_other_work_under_the_same_name_is_other_evidence(entry: Entry, house: Path) -> None:
    def work(desk: Desk) -> dict[str, object]:
        return {"value": 8}

    make(entry, house)
    assert state(Entry(**{**entry.__dict__, "work": work}), house) == "code changed"


def test_another_seed_or_budget_is_other_evidence(entry: Entry, house: Path) -> None:
    make(entry, house)
    other = Entry(**{**entry.__dict__, "seed": 4, "budget": "more"})
    assert state(other, house) == "seed and budget changed"


def test_a_glob_that_names_nothing_is_an_error(house: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.py: no such file"):
        record.content_hash(("gone.py",), house)


def test_what_stands_after_a_mark_of_exclamation_does_not_count(entry: Entry, house: Path) -> None:
    (house / "shown.py").write_text("y = 1\n")
    assert [p.name for p in record.files_of(("*.py", "!shown.py"), house)] == ["code.py"]
    with pytest.raises(UserError, match=r"gone\.py: no such file"):
        record.files_of(("*.py", "!gone.py"), house)


def test_budgets_are_those_of_the_recipes() -> None:
    named = {"ptb-lstm": "ptb-lstm", "tinyshakespeare-147": "tinyshakespeare"}
    told = {e.name: e.budget for e in evidence.ENTRIES}
    for name, recipe in named.items():
        assert told[name] == make_recipe({"preset": recipe}).training.budget


def test_code_that_makes_figures_counts() -> None:
    counted = {e.name: {str(p.relative_to(ROOT)) for p in record.files_of(e.touches, ROOT)} for e in evidence.ENTRIES}
    everywhere = {"core/recipe", "core/budget", "core/runtime", "core/store", "text/clean", "data/documents", "api", "evaluation/compare",
                  "evaluation/metrics", "evaluation/perplexity", "models/bundle", "training/checkpoint"}  # fmt: skip
    for name, more in {
        "ptb-lstm": "kernels/recurrent_gates",
        "tinyshakespeare-147": "saved",
        "wikitext2": "ngram/lookup",
        "ptb-vae": "vae/bodies",
        "multi30k": "seq2seq",
    }.items():
        assert {f"bimo/{module}.py" for module in (*everywhere, f"models/{more}")} <= counted[name]
    assert {"bimo/evaluation/similarity.py", "bimo/data/masking.py"} <= counted["contrast"]
    assert {"bimo/training/game.py", "bimo/evaluation/diversity.py"} <= counted["adversarial"]


def test_code_that_cannot_change_a_figure_does_not_count() -> None:
    counted = {e.name: {str(p.relative_to(ROOT)) for p in record.files_of(e.touches, ROOT)} for e in evidence.ENTRIES}
    assert not counted["ptb-lstm"] & {"bimo/models/decoder.py", "bimo/models/vae/model.py", "bimo/evaluation/report/wording.py"}
    assert "bimo/models/recurrent.py" not in counted["ptb-ngram"]
    assert "bimo/evaluation/report/page.py" in counted["quickstart"]  # which tells how large the report is


def test_code_of_every_entry_exists() -> None:
    for entry in (*evidence.ENTRIES, *bench.ENTRIES):
        assert record.hashes_of(entry)["code_hash"], entry.name


def test_a_recipe_that_is_not_there_is_told_before_the_work(entry: Entry, house: Path) -> None:
    (house / "recipe.yaml").unlink()
    assert state(entry, house) == "absent"
    with pytest.raises(UserError, match=r"recipe\.yaml: no such file"):
        make(entry, house)


def test_names_are_unique_and_tables_know_them() -> None:
    names = [e.name for e in (*evidence.ENTRIES, *bench.ENTRIES)]
    assert len(names) == len(set(names))
    assert {e.name for e in bench.ENTRIES} == set(shown.BENCHES) == {*speeds.SPEEDS, "conformance", "cli-start", "first-word"}


def test_the_command_skips_forces_lists_and_refuses(entry: Entry, house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done: list[str] = []

    def counted_work(desk: Desk) -> dict[str, object]:
        done.append("work")
        return {"runs": desk.rounds}

    counted = Entry(**{**entry.__dict__, "work": counted_work})

    def run(*words: str, always: bool = False) -> int:
        return record.main("benchmarks.fake", [counted], always, lambda: done.append("tables"), words, house)

    assert run() == 0
    assert run("fake") == 0
    assert done == ["work", "tables", "tables"]
    assert run("--force", "--runs", "2") == 0
    assert store.read_json(house / "evidence" / "fake.json")["figures"] == {"runs": 2}
    assert store.read_json(house / "evidence" / "fake.json")["command"] == "python -m benchmarks.fake fake --runs 2"
    assert run(always=True) == 0
    assert done.count("work") == 3
    assert run("--list") == 0
    assert "fake" in capsys.readouterr().out
    assert run("fakes") == 2
    assert "did you mean fake?" in capsys.readouterr().err


def test_a_timing_waits_for_an_idle_machine(entry: Entry, house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = [3.0, 0.9, 0.4, 0.4]
    waited: list[float] = []
    monkeypatch.setattr(record.os, "getloadavg", lambda: (loads.pop(0), 0.0, 0.0))
    monkeypatch.setattr(record.time, "sleep", waited.append)
    assert record.make(entry, "again", root=house, patience=60)["machine"]["load_before"] == 0.4
    assert len(waited) == 2
    loads[:] = [3.0, 3.0]
    assert record.make(entry, "again", root=house)["machine"]["load_before"] == 3.0


def test_an_entry_that_fails_is_told_and_leaves_no_record(house: Path, entry: Entry) -> None:
    def fails(desk: Desk) -> dict[str, object]:
        raise UserError("no data")

    failing = Entry(**{**entry.__dict__, "work": fails})
    assert record.main("benchmarks.fake", [failing], False, list, [], house) == 1
    assert state(failing, house) == "absent"


def test_an_entry_that_was_stopped_goes_on_behind_the_commands_that_ended(entry: Entry, house: Path) -> None:
    fail, place = house / "fail", house / "runs" / "evidence" / "fake"
    fail.touch()

    def two(desk: Desk) -> dict[str, object]:
        out = desk.folder / "out"
        first = desk.run("python", "-c", "import time; print(time.time_ns())")
        code = f"import pathlib, sys; pathlib.Path(sys.argv[2]).mkdir(); sys.exit(pathlib.Path({str(fail)!r}).exists())"
        desk.run("python", "-c", code, "--out", out)
        return {"first": first}

    stopped = Entry(**{**entry.__dict__, "work": two})

    def run(*words: str) -> int:
        return record.main("benchmarks.fake", [stopped], False, list, words, house)

    def said() -> dict[str, object]:
        return store.read_json(house / "evidence" / "fake.json")

    assert run() == 1
    (before,) = store.read_json(place / DONE).values()
    store.write_json(place / DONE, {name: {**before, "seconds": 1000.0} for name in store.read_json(place / DONE)})
    fail.unlink()
    assert run("--go-on") == 0, "what the command had left is taken away before it is run again"
    assert said()["figures"]["first"] == before["said"]
    assert (said()["went_on"], len(said()["commands"])) == (True, 2)
    assert said()["seconds"] >= 1000, "the seconds that it took before count"
    assert not (place / DONE).exists(), "what is whole does not go on"
    fail.touch()
    (house / "code.py").write_text("x = 3\n")
    assert run() == 1
    fail.unlink()
    (house / "code.py").write_text("x = 4\n")
    assert run("--go-on") == 0
    assert "went_on" not in said(), "of other code nothing is taken over"
    with pytest.raises(SystemExit):
        record.main("benchmarks.fake", [stopped], True, list, ["--go-on"], house)


def test_commands_that_end_side_by_side_are_all_kept(tmp_path: Path) -> None:
    desk = Desk(tmp_path, at_once=2) if len(os.sched_getaffinity(0)) > 1 else Desk(tmp_path)
    desk.each(lambda desk, number: [desk.run("python", "-c", f"print({number}, {i})") for i in range(3)], range(2))
    assert len(store.read_json(tmp_path / DONE)) == len(desk.commands) == 6


def test_a_desk_writes_commands_down_as_anyone_can_type_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BIMO_DATA", str(tmp_path))
    (tmp_path / "a.txt").write_text("text")
    desk = Desk(ROOT / "runs" / "x")
    assert desk.run("python", "-c", "print(5)") == "5\n"
    with pytest.raises(MachineError, match="exit code 3"):
        desk.run("python", "-c", "print(7); exit(3)", desk.data("a.txt"), desk.folder)
    assert "\n7\n" in capsys.readouterr().err, "what it said is not lost"
    assert desk.commands == ["python -c print(5)", "python -c 'print(7); exit(3)' $BIMO_DATA/a.txt runs/x"]
    with pytest.raises(UserError, match="set BIMO_DATA"):
        desk.data("b.txt")
    assert sys.executable not in "".join(desk.commands)


def test_runs_side_by_side_share_no_processor_and_keep_their_order(tmp_path: Path) -> None:
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        pytest.skip("one processor")
    desk = Desk(tmp_path, at_once=2)

    def work(desk: Desk, number: int) -> set[int]:
        desk.commands.append(f"run {number}")
        time.sleep(0.05 / (number + 1))
        return os.sched_getaffinity(0)

    found = desk.each(work, range(4))
    assert desk.commands == [f"run {number}" for number in range(4)]
    assert {frozenset(share) for share in found} <= {frozenset(share) for share in shares(processors, 2)}
    assert sorted(os.sched_getaffinity(0)) == processors, "this thread keeps its own"
    assert Desk(tmp_path).each(work, range(2)) == [set(processors)] * 2


def test_more_runs_at_once_than_processors_are_refused() -> None:
    with pytest.raises(UserError, match="--at-once 3: there are 2 processors"):
        shares([0, 1], 3)
