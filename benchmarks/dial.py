"""The dial's rule and the dial itself: which size is best at which budget, and whether what it picks beats the presets.

`scaling`: decoders of several widths, each as many operations 6 N D as the others; of each text and number of operations the best size by a
parabola through the logarithm of the sizes (Hoffmann et al. 2022, approach 2). No time is measured: any machine gives it.
`dial_en`, `dial_zh`: the dial's pick beside the small and the middle preset, each the same time, three seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.desk import Desk
from benchmarks.quality import CHINESE, picked, text_of
from bimo.core import registry, store
from bimo.data.corpus import Corpus
from bimo.evaluation import display
from bimo.evaluation.metrics import paired_bootstrap
from bimo.evaluation.runs import RESULT
from bimo.training import dial

TEXTS = {
    "tinyshakespeare": (("lm-tinyshakespeare/input.txt",), ()),
    "lm-zh-wiki": (tuple(f"lm-zh-wiki/{file}" for file in CHINESE["lm-zh-wiki"][0]), ("--documents", "line")),
}
OPERATIONS = (1e12, 6e12, 3.6e13)  # about half a minute, three and twenty on two cores
LADDER = (32, 48, 64, 96, 128, 192, 256)  # widths: five of them for each number of operations, larger ones for more
BUDGET = "5m"
SEEDS = (0, 1, 2)
PRESETS = ("decoder-small", "decoder-middle")
Say = Callable[[str], str]


def _prepared(desk: Desk, name: str, *more: str) -> Any:
    files, reading = TEXTS[name]
    corpus = desk.folder / name / "corpus"
    source = text_of(desk, *files) if len(files) == 3 else [desk.data(files[0])]
    desk.bimo("prepare", *source, *reading, *more, "--out", corpus)
    return corpus


def scaling(desk: Desk) -> dict[str, Any]:
    """A row a text, number of operations and width; the best size of each text and number; the rule's scale where the power is the dial's.

    power_found: the power by least squares through the best sizes, a line of its own scale for each text.
    """
    corpora = {name: Corpus.open(_prepared(desk, name, "--tokenizer", "char")) for name in TEXTS}

    def learned(desk: Desk, of: tuple[str, int, int]) -> dict[str, Any]:
        name, level, width = of
        corpus = corpora[name]
        size = dial.multiplying(dial.shape_of(width, 1e6), corpus.tokenizer.vocabulary.size)
        tokens = OPERATIONS[level] / (6.0 * size)
        shape = dial.shape_of(width, tokens)
        epochs = tokens / corpus.splits["train"].tokens
        words = (*_words(dial.settings(shape, epochs)), "training.evaluations=2", "training.keep=last")
        row = desk.bimo("train", corpus.folder, "--family", registry.DEFAULT, "--budget", f"{tokens:.0f}tokens", "--seed", desk.seed,
                        "--out", desk.folder / name / f"{level}-{width}", *words)  # fmt: skip
        return {**picked(row), "text": name, "asked": OPERATIONS[level], "width": width, "multiplying": size,
                "operations": 6.0 * size * row["training_tokens"]}  # fmt: skip

    levels = range(len(OPERATIONS))
    rows = desk.each(learned, [(name, level, width) for name in TEXTS for level in reversed(levels) for width in LADDER[level : level + 5]])
    best = []
    for name in TEXTS:
        for asked in OPERATIONS:
            found = [row for row in rows if (row["text"], row["asked"]) == (name, asked)]
            best.append({"text": name, "asked": asked, **best_size(found)})
    scales = [b["parameters"] / b["operations"] ** dial.POWER for b in best]
    return {"rows": rows, "best": best, "scale": math.exp(sum(map(math.log, scales)) / len(scales)), "power": dial.POWER,
            "power_found": power(best)}  # fmt: skip


def power(best: Sequence[Mapping[str, Any]]) -> float:
    """The slope of log parameters over log operations, texts apart from one another.

    >>> best = [{"text": t, "operations": c, "parameters": s * c**0.4} for t, s in (("a", 1.0), ("b", 3.0)) for c in (1e3, 1e4, 1e6)]
    >>> round(power(best), 6)
    0.4
    """
    names = [b["text"] for b in best]
    x, y = (np.log([b[field] for b in best]) for field in ("operations", "parameters"))
    for values in (x, y):
        for name in set(names):
            of = [n == name for n in names]
            values[of] -= values[of].mean()
    return float(x @ y / (x @ x))


def _words(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [f"{section}.{key}={value}" for section, fields in settings.items() for key, value in fields.items()]


def best_size(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Parameters and operations at the lowest point of a parabola of bits per byte over log parameters, inside what was tried.

    >>> rows = [{"multiplying": 2.0**n, "operations": 1e12, "bits_per_byte": 1 + (n - 17) ** 2 / 100} for n in (15, 16, 18, 20)]
    >>> round(math.log2(best_size(rows)["parameters"]), 6)
    17.0
    """
    sizes = np.log([row["multiplying"] for row in rows])
    bits = np.array([row["bits_per_byte"] for row in rows])
    lowest = int(bits.argmin())
    near = slice(max(0, min(lowest - 1, len(rows) - 3)), max(3, lowest + 2))
    a, b, _ = np.polyfit(sizes[near], bits[near], 2)
    at = float(np.clip(-b / (2 * a), sizes[0], sizes[-1])) if a > 0 else float(sizes[lowest])
    operations = float(np.exp(np.interp(at, sizes, np.log([row["operations"] for row in rows]))))
    return {"parameters": math.exp(at), "operations": operations}


def dial_en(desk: Desk) -> dict[str, Any]:
    """tinyshakespeare."""
    return _beside_presets(desk, "tinyshakespeare")


def dial_zh(desk: Desk) -> dict[str, Any]:
    """The Chinese encyclopedia's sample."""
    return _beside_presets(desk, "lm-zh-wiki")


def _beside_presets(desk: Desk, name: str) -> dict[str, Any]:
    """A row a run: the dial's and both presets', by turns; of the dial's, what it saves beside each preset of its seed."""
    corpus = _prepared(desk, name)

    def learned(desk: Desk, of: tuple[int, str]) -> tuple[dict[str, Any], list[float]]:
        seed, who = of
        place = desk.folder / name / str(seed) / who
        preset = [f"preset={who}"] if who in PRESETS else []
        row = desk.bimo("train", corpus, *preset, "--budget", BUDGET, "--seed", seed, "--out", place)
        shape = {} if preset else {"dial": store.read_json(place / "run.json")["dial"]}
        return {**picked(row), "seed": seed, "who": who, **shape}, store.read_json(place / RESULT)["rows"][0]["unit_nats"]

    asked = [(seed, who) for seed in SEEDS for who in (*PRESETS, "dial")]
    runs = dict(zip(asked, desk.each(learned, asked), strict=True))
    for seed in SEEDS:
        row, ours = runs[seed, "dial"]
        row["saved"] = {preset: vars(paired_bootstrap(ours, runs[seed, preset][1])) for preset in PRESETS}
    rows = [row for row, _ in runs.values()]
    reached = all(s["low"] > 0 for row in rows if row["who"] == "dial" for s in row["saved"].values())
    return {"budgeted": True, "text": name, "rows": rows, "reached": reached}


def shown(figures: Mapping[str, Any], say: Say) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the dial's table: bits per byte of each seed."""
    rows = []
    for who in (*PRESETS, "dial"):
        runs = [row for row in figures["rows"] if row["who"] == who]
        labels = ", ".join(sorted({row["label"] for row in runs}))
        saved = [row["saved"] for row in runs if "saved" in row]
        over = "; ".join(
            f"{display.percent(min(s[preset]['estimate'] for s in saved))} {say('at least')} ({say('interval from')} "
            f"{display.percent(min(s[preset]['low'] for s in saved))}), {preset}" for preset in PRESETS
        ) if saved else ""  # fmt: skip
        rows.append([f"{say(who)} ({labels})", ", ".join(display.bits(row["bits_per_byte"], 3) for row in runs), over])
    return [say("model"), say("bits per byte, each seed"), say("saved, over")], rows
