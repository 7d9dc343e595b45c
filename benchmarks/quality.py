"""What each entry of the evidence does: command lines of Bimo on raw data, and the figures picked from what they print."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from benchmarks import shakespeare
from benchmarks.desk import ROOT, Desk
from bimo.core import registry, store
from bimo.core.errors import RecipeError
from bimo.core.recipe import read_recipe

PICKED = (
    "family", "label", "mixture", "error", "bits_per_byte", "perplexity", "nats", "tokens", "bytes", "unknown_tokens", "lost_bytes",
    "parameters", "disk_bytes", "peak_memory_bytes", "context", "precision", "batch", "threads", "steps", "training_tokens",
    "training_tokens_per_second", "generation_tokens_per_second", "budget_seconds", "used_seconds", "capped",
)  # fmt: skip


def picked(row: dict[str, Any]) -> dict[str, Any]:
    """The figures of a row that evidence keeps."""
    return {name: row[name] for name in PICKED if row.get(name) is not None}


def recipe_of(name: str) -> Path:
    """The recipe file `name`, which sets its budget."""
    return ROOT / "bimo" / "recipes" / f"{name}.yaml"


def budget_of(name: str) -> str:
    """The budget that the recipe file `name` sets."""
    return str(read_recipe(recipe_of(name))["training"]["budget"])


def text_of(desk: Desk, train: str, valid: str, test: str) -> list[object]:
    """A data set's three files as arguments."""
    return [desk.data(train), "--valid", desk.data(valid), "--test", desk.data(test)]


PTB = ("lm-ptb/ptb.train.txt.gz", "lm-ptb/ptb.valid.txt", "lm-ptb/ptb.test.txt")
WIKITEXT = ("lm-wikitext2/train.txt.gz", "lm-wikitext2/valid.txt.gz", "lm-wikitext2/test.txt.gz")
KENLM = {5: 141.19, 3: 148.28}  # lmplz, `<unk>` renamed to an ordinary word
ZAREMBA = 114.5  # "small": Zaremba et al. 2014, table 1
NANOGPT = 1.47  # its README's GPU recipe: 1.4697


def ptb_ngram(desk: Desk) -> dict[str, Any]:
    """Each order's test perplexity, and how far it is from KenLM's."""
    figures: dict[str, Any] = {}
    for order, theirs in KENLM.items():
        row = desk.bimo(
            "train", *text_of(desk, *PTB), "--documents", "line", "--tokenizer", "word", "--family", "ngram",
            f"model.order={order}", "--out", desk.folder / f"{order}-gram",
        )  # fmt: skip
        away = row["perplexity"] / theirs - 1
        figures[f"{order}-gram"] = {**picked(row), "target": theirs, "deviation_percent": 100 * away, "reached": abs(away) <= 0.001}
    return figures


def ptb_lstm(desk: Desk) -> dict[str, Any]:
    """Test perplexity, of the weights that the validation text chose; the test text is read once, at the end."""
    train, *held_out = text_of(desk, *PTB)
    row = desk.bimo(
        "train", recipe_of("ptb-lstm"), f"text.sources=[{train}]", *held_out, "--documents", "stream", "--tokenizer", "word",
        "--seed", desk.seed, "--out", desk.folder / "run",
    )  # fmt: skip
    run = store.read_json(desk.folder / "run" / "run.json")
    validated = [p["valid_loss"] for p in _metrics(desk.folder / "run") if p.get("valid_loss") is not None]
    reached = row["perplexity"] <= ZAREMBA and row["parameters"] <= 5_000_000 and row["used_seconds"] <= 3600
    valid = {"valid_perplexity_while_training": math.exp(min(validated)) if validated else None}
    return {**picked(row), **valid, "best_step": run.get("best_step"), "target": ZAREMBA, "reached": reached}


def _metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def tinyshakespeare(desk: Desk) -> dict[str, Any]:
    """Nats a character of the last tenth, all of it, in windows of the training length, by the final weights.

    The held-out tenth is given as test text too, or a test text would be cut from the training text.
    """
    train, valid = shakespeare.split(Path(desk.data(shakespeare.SOURCE)), desk.folder)
    row = desk.bimo(
        "train", recipe_of("tinyshakespeare"), f"text.sources=[{train}]", "--valid", valid, "--test", valid,
        "--documents", "file", "--tokenizer", "char", "--seed", desk.seed, "training.keep=last", "--out", desk.folder / "run",
    )  # fmt: skip
    same, characters = shakespeare.loss_of_run(desk.folder / "run", valid)
    loss = row["nats"] / row["tokens"]
    figures = {"loss": loss, "loss_without_end": same, "characters_without_end": characters}
    return {**picked(row), **figures, "target": NANOGPT, "reached": loss <= NANOGPT and row["used_seconds"] <= 900}


def wikitext2(desk: Desk) -> dict[str, Any]:
    """One row a family; figures of a budget, not the best that a family can do."""
    result = desk.bimo(
        "compare", *text_of(desk, *WIKITEXT), "--documents", "stream", "--tokenizer", "word", "--families", ",".join(registry.FIRST),
        "--budget", "10m", "--seed", desk.seed, "--out", desk.folder / "comparison",
    )  # fmt: skip
    return {"budgeted": True, "rows": [picked(row) for row in result["rows"]]}


CHINESE = {
    "lm-zh-wiki": (("train.txt.gz", "valid.txt", "test.txt.gz"), "line", "中国"),
    "lm-zh-poetry": (("tang.train.jsonl.gz", "tang.valid.jsonl.gz", "tang.test.jsonl.gz"), "file", "春風"),
}


CHINESE_BUDGET = "30s"
TOKENIZERS = ("char", "bpe", "word")
WORDS = 10_000  # all words of the poems would be 123,000 ids, too many to learn in a minute; the rest is <unk>, and told


def chinese(desk: Desk) -> dict[str, Any]:
    """Each step on each text with each tokenizer: prepare, train (compare), evaluate, stream, report."""
    figures: dict[str, Any] = {"budgeted": True}
    for name, (files, documents, prompt) in CHINESE.items():
        for tokenizer in TOKENIZERS:
            place = desk.folder / f"{name}-{tokenizer}"
            text = text_of(desk, *(f"{name}/{file}" for file in files))
            size = ["--vocab-size", WORDS] if tokenizer == "word" else []
            prepared = desk.bimo("prepare", *text, "--documents", documents, "--tokenizer", tokenizer, *size, "--out", place / "corpus")
            result = desk.bimo("compare", place / "corpus", "--families", ",".join(registry.FIRST), "--budget", CHINESE_BUDGET,
                               "--seed", desk.seed, "--out", place / "comparison")  # fmt: skip
            rows = [picked(row) for row in result["rows"]]
            best = min((r for r in rows if r.get("bits_per_byte")), key=lambda r: r["bits_per_byte"], default=None)
            if best is None:
                raise RecipeError(f"{name} by {tokenizer}: no family gave a figure: {[r.get('error') for r in rows]}")
            folder = place / "comparison" / best["family"]
            measured = desk.bimo("evaluate", folder, desk.data(f"{name}/{files[2]}"))
            told = desk.run("bimo", "generate", folder, prompt, "--max-new-tokens", 60, "--seed", desk.seed)
            figures[f"{name} {tokenizer}"] = {
                "tokenizer": prepared["tokenizer"],
                "rows": rows,
                "best": best["family"],
                "evaluate_bits_per_byte": measured["bits_per_byte"],
                "streamed": told.strip(),
                "report_bytes": (place / "comparison" / "report.html").stat().st_size,
            }
    return figures


def kills(desk: Desk) -> dict[str, Any]:
    """How many runs were killed, how many of them left a save's part file, and how many ended with the same bytes."""
    found = desk.module("benchmarks.kills", "--kills", desk.rounds or 100, "--seed", desk.seed)
    return {**found, "reached": found["bit_equal"] == found["runs"] and found["part_files_left"] * 10 >= 3 * found["runs"]}


def quickstart(desk: Desk) -> dict[str, Any]:
    """Wall time of the whole main job, from the command to its end, and its table."""
    begin = desk.clock()
    desk.run("bimo", "quickstart", "--out", desk.folder / "quickstart")
    seconds = desk.clock() - begin
    rows = store.read_json(desk.folder / "quickstart" / "comparison.json")["rows"]
    report = (desk.folder / "quickstart" / "report.html").stat().st_size
    return {"seconds": seconds, "target": 240, "reached": seconds <= 240, "report_bytes": report, "rows": [picked(r) for r in rows]}
