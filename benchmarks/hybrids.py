"""What each entry about hybrids does: parts that learn ten minutes each, then what stands between them, measured beside the best part."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.desk import Desk
from benchmarks.quality import PTB, WIKITEXT, picked, text_of
from bimo.core import store
from bimo.evaluation import display
from bimo.evaluation.metrics import paired_bootstrap
from bimo.evaluation.runs import RESULT

BUDGET = "10m"  # of each part; a mixture's own time is capped alike
HYBRIDS = {
    "ptb-hybrids": ("lstm+cache", "ngram+lstm", "ngram+decoder", "decoder+knn"),
    "wikitext2-hybrids": ("lstm+cache", "ngram+decoder"),
}
GATED = ("ngram+lstm",)  # tried with a gate too
GRAVE = {"ptb-hybrids": 0.08, "wikitext2-hybrids": 0.15}  # asked; 82.3 → 72.1 and 99.3 → 68.9 in Grave et al. 2017, tables 1 and 2
Say = Callable[[str], str]


def ptb_hybrids(desk: Desk) -> dict[str, Any]:
    """Penn Treebank as a stream."""
    return _hybrids(desk, "ptb-hybrids", PTB)


def wikitext2_hybrids(desk: Desk) -> dict[str, Any]:
    """WikiText-2 as a stream."""
    return _hybrids(desk, "wikitext2-hybrids", WIKITEXT)


def _hybrids(desk: Desk, name: str, text: tuple[str, str, str]) -> dict[str, Any]:
    """A row each part and each mixture of them; of a mixture, what it gains over its best part on the test text."""
    corpus = desk.folder / "corpus"
    desk.bimo("prepare", *text_of(desk, *text), "--documents", "stream", "--tokenizer", "word", "--out", corpus)
    wanted = HYBRIDS[name]
    rows: dict[str, dict[str, Any]] = {}
    for family in sorted({part for words in wanted for part in words.split("+")} - {"cache", "knn"}):
        rows[family] = desk.bimo(
            "train", corpus, "--family", family, "--budget", BUDGET, "--seed", desk.seed, "--out", desk.folder / family
        )
    mixed = [(words, ()) for words in wanted] + [(words, ("model.weights=gate",)) for words in wanted if words in GATED]
    for words, options in mixed:
        parts = "+".join(str(desk.folder / part) if part in rows else part for part in words.split("+"))
        called = words if not options else f"{words}, gate"
        folder = desk.folder / called.replace(", ", "-")
        rows[called] = desk.bimo("train", corpus, "--family", parts, "--budget", BUDGET, "--seed", desk.seed, "--out", folder, *options)
        rows[called]["gain"] = _gain(desk, rows, words, folder)
    cache = rows["lstm+cache"]["gain"]["perplexity_share"]
    figures = [{**picked(row), **{k: row[k] for k in ("gain", "parts") if row.get(k)}, "name": called} for called, row in rows.items()]
    gains = [row["gain"] for row in rows.values() if "gain" in row]
    reached = {"every_mixture": all(gain["low"] > 0 for gain in gains), "cache": cache >= GRAVE[name]}
    return {"budgeted": True, "rows": figures, "cache_gain": cache, "cache_asked": GRAVE[name], "reached": reached}


def _gain(desk: Desk, rows: Mapping[str, Mapping[str, Any]], words: str, folder: Any) -> dict[str, Any]:
    """What a mixture saves of its best part's nats, with the paired interval over blocks of text; and of its perplexity, as a share."""
    best = min((part for part in words.split("+") if part in rows), key=lambda part: rows[part]["nats"])
    ours, theirs = (store.read_json(place / RESULT)["rows"][0] for place in (folder, desk.folder / best))
    interval = paired_bootstrap(ours["unit_nats"], theirs["unit_nats"])
    share = 1 - math.exp((ours["nats"] - theirs["nats"]) / ours["tokens"])
    return {"over": best, "estimate": interval.estimate, "low": interval.low, "high": interval.high, "perplexity_share": share}


def shown(figures: Mapping[str, Any], say: Say) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table: each part, then each mixture with its weights and its gain."""
    rows: list[list[str]] = []
    labels = {row["name"]: row["label"] for row in figures["rows"]}
    for row in figures["rows"]:
        gain = row.get("gain")
        weights = ", ".join(f"{part['label']} {part['weight']:.2f}" for part in row.get("parts", ()) if part.get("weight") is not None)
        gained = "" if gain is None else (
            f"{display.percent(gain['estimate'])} ({display.percent(gain['low'])} … {display.percent(gain['high'])})"
        )  # fmt: skip
        gated = row.get("mixture") == "gate"
        gate = f" ({say('a gate' if gated else 'a gate, given up')})" if row["name"].endswith(", gate") else ""
        asked = f" ({say('asked')}: {display.percent(figures['cache_asked'], 0)})" if row["name"] == "lstm+cache" else ""
        rows.append([row["label"] + gate, display.perplexity(row.get("perplexity")), "" if gated else weights, gained,
                     "" if gain is None else f"{labels[gain['over']]}, {display.percent(gain['perplexity_share'])}{asked}"])  # fmt: skip
    heads = ("model", "test perplexity", "weights", "nats saved (95 %)", "perplexity saved, over")
    return [say(head) for head in heads], rows
