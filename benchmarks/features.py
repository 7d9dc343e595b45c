"""Tags and positions as further input: what each saves beside the same family without it, in the same time, on the same test text.

Within a text all runs have one budget and one corpus. Each is compared with the plain run of its family by the paired bootstrap over
the test text's units. That interval knows nothing of chance in training: a plain run with another seed stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.desk import Desk
from benchmarks.quality import CHINESE, PTB, WORDS, picked, text_of
from bimo.core import store
from bimo.evaluation import display
from bimo.evaluation.metrics import paired_bootstrap
from bimo.evaluation.runs import RESULT

BUDGET = "3m"
ENGLISH_TAGS = "pos-ud-en-ewt/en_ewt-ud-train.conllu.gz"
PLACES = 64  # more than all but a few lines of Penn Treebank have
PLAIN, TAGS, POSITIONS, SEED = "plain", "tags", "positions", "another seed"
Runs = tuple[tuple[str, str], ...]  # families, and what each is given


@dataclass(frozen=True)
class Case:
    """One text, how it is read, and the runs on it; the plain run of a family stands before its others."""

    name: str
    files: tuple[str, str, str]
    reading: tuple[object, ...]
    tags: str
    runs: Runs


CASES = (
    Case("Penn Treebank, stream", PTB, ("--documents", "stream", "--tokenizer", "word"), ENGLISH_TAGS,
         (("lstm", PLAIN), ("lstm", TAGS), ("lstm", SEED), ("decoder", PLAIN), ("decoder", TAGS), ("decoder", SEED))),
    Case("Penn Treebank, lines", PTB, ("--documents", "line", "--tokenizer", "word"), ENGLISH_TAGS,
         (("lstm", PLAIN), ("lstm", POSITIONS), ("lstm", SEED))),
    Case("lm-zh-wiki, words", tuple(f"lm-zh-wiki/{file}" for file in CHINESE["lm-zh-wiki"][0]),
         ("--documents", "line", "--tokenizer", "word", "--vocab-size", WORDS), "jieba",
         (("lstm", PLAIN), ("lstm", TAGS), ("lstm", SEED))),
)  # fmt: skip


def words_of(desk: Desk, case: Case, given: str) -> tuple[object, ...]:
    """What the command of one run says beside its family."""
    seed = desk.seed + (given == SEED)
    tags = case.tags if case.tags == "jieba" else desk.data(case.tags)
    changed = {TAGS: (f"text.tags={tags}",), POSITIONS: (f"model.positions={PLACES}",)}
    return ("--seed", seed, *changed.get(given, ()))


def of_case(desk: Desk, case: Case, results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a run, with what it saves beside the plain run of its family."""
    plain: dict[str, list[float]] = {}
    rows = []
    for (family, given), row in zip(case.runs, results, strict=True):
        nats = store.read_json(Path(row["folder"]) / RESULT)["rows"][0]["unit_nats"]
        if given == PLAIN:
            plain[family] = nats
        told = next((notice for notice in row["notices"] if notice.startswith("text.tags: ")), None)
        saved = paired_bootstrap(nats, plain[family]) if given != PLAIN else None
        rows.append({**picked(dict(row)), "text": case.name, "given": given,
                     **({"told": told} if told else {}), **({"saved": vars(saved)} if saved else {})})  # fmt: skip
    return rows


def features(desk: Desk) -> dict[str, Any]:
    """All texts."""
    places = {case.name: desk.folder / case.name.replace(", ", "-").replace(" ", "-") for case in CASES}
    for case in CASES:
        desk.bimo("prepare", *text_of(desk, *case.files), *case.reading, "--out", places[case.name] / "corpus")

    def learned(desk: Desk, of: tuple[Case, int]) -> dict[str, Any]:
        case, number = of
        place, (family, given) = places[case.name], case.runs[number]
        return desk.bimo("train", place / "corpus", "--family", family, "--budget", BUDGET, "--out", place / str(number),
                         *words_of(desk, case, given))  # fmt: skip

    found = iter(desk.each(learned, [(case, number) for case in CASES for number in range(len(case.runs))]))
    rows = [row for case in CASES for row in of_case(desk, case, [next(found) for _ in case.runs])]
    return {"budgeted": True, "budget": BUDGET, "rows": rows}


def shown(figures: Mapping[str, Any], say: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    """The heads and rows of the table."""
    heads = [say(head) for head in ("text", "model", "input", "perplexity", "bits per byte", "nats saved beside plain", "time used")]
    rows = []
    for row in figures["rows"]:
        measured = (display.perplexity(row.get("perplexity")), display.bits(row.get("bits_per_byte")))
        named = (say(row["text"]), row["label"], say(row["given"]))
        rows.append([*named, *measured, _saved(row.get("saved")), display.seconds(row.get("used_seconds"))])
    return heads, rows


def _saved(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return display.NONE
    estimate, low, high = (f"{100 * interval[name]:+.1f} %" for name in ("estimate", "low", "high"))
    return f"{estimate} ({low} … {high})"
