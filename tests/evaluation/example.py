"""A made-up comparison that looks like a real one: fixtures for the tests of tables, plots and the report."""

from __future__ import annotations

import math
import random

from bimo.evaluation.results import (
    Comparison,
    Estimate,
    Machine,
    Passage,
    Point,
    ReadFile,
    Row,
    RowPart,
    Sample,
    Skipped,
    SplitFacts,
    TextFacts,
    TokenizerFacts,
)

TEXT = "The statement executes the suite. If the condition is found to be true, the expression is evaluated; otherwise "
UNITS = 40


def curve(final: float, seconds: float, speed: float, points: int = 12) -> list[Point]:
    """A learning curve that falls to `final` bits per byte."""
    made = []
    for i in range(points + 1):
        part = i / points
        value = final + (8.0 - final) * math.exp(-5.5 * part**0.6)
        made.append(
            Point(
                step=int(part * 900),
                tokens=int(part * seconds * speed) + 1000,
                seconds=part * seconds,
                train_loss=value * 3.05 * math.log(2) * 0.97,
                valid_loss=value * 3.05 * math.log(2),
                valid_bits_per_byte=value,
            )
        )
    return made


def units(bits: float, seed: int, noise: float = 0.04) -> list[float]:
    """Nats of UNITS documents of 4,000 bytes, hard and easy ones alike for every model."""
    common, own = random.Random(7), random.Random(seed)
    return [bits * math.log(2) * 4000 * common.uniform(0.8, 1.2) * (1 + own.gauss(0, noise)) for _ in range(UNITS)]


def row(family: str, label: str, bits: float, used: float, seed: int, **more: object) -> Row:
    """A finished row of the comparison."""
    nats = units(bits, seed)
    found = sum(nats) / (UNITS * 4000 * math.log(2))
    counted = family == "ngram"
    fields: dict[str, object] = {
        "family": family,
        "label": label,
        "run": family,
        "learning": "counted" if counted else "gradient",
        "bits_per_byte": found,
        "perplexity": math.exp(sum(nats) / 52_000),
        "nats": sum(nats),
        "tokens": 52_000,
        "bytes": UNITS * 4000,
        "unit_nats": nats,
        "parameters": 1_834_211 if counted else 1_213_440 + seed * 1000,
        "disk_bytes": 29_300_000 if counted else 4_870_000,
        "peak_memory_bytes": 412_000_000 + seed * 31_000_000,
        "training_tokens": 480_000 if counted else 1_430_000,
        "training_tokens_per_second": 412_000.0 if counted else 48_000.0 - seed * 3000,
        "generation_tokens_per_second": 21_300.0 if counted else 1_830.0 - seed * 200,
        "generation_batch": 8,
        "generation_precision": "fp32",
        "generation_threads": 2,
        "precision": "" if counted else "bf16",
        "batch": None if counted else 12,
        "threads": 2,
        "steps": None if counted else 912,
        "budget_seconds": 30.0,
        "used_seconds": used,
        "plan": Estimate(seconds=used * 1.06, parameters=1_834_211 if counted else 1_213_440 + seed * 1000, memory_bytes=390_000_000),
        "recipe": f"model:\n  family: {family}\ntraining:\n  budget: 30s\n  seed: 0\n",
        "samples": [Sample(prompt="The ", continuation=TEXT * 2, settings="temperature 0.8, seed 0"), Sample(continuation=TEXT)],
        "curve": [Point(seconds=used, tokens=480_000, valid_bits_per_byte=found)] if counted else curve(found, used, 48_000.0),
        "measures": {"distinct_1": 0.41, "distinct_2": 0.83, "repetition_4": 0.06},
    }
    return Row.model_validate(fields | more)


def comparison(rows: list[Row] | None = None, **more: object) -> Comparison:
    """Three families on one text, the counted one ahead."""
    if rows is None:
        rows = [
            row("ngram", "5-gram", 2.31, 1.4, 1),
            row("lstm", "LSTM", 2.46, 29.1, 2),
            row("decoder", "Transformer", 2.71, 28.8, 3),
        ]
    fields: dict[str, object] = {
        "text": TextFacts(
            name="Python's language manual",
            sources=["pydoc_data.topics"],
            language="en",
            tokenizer=TokenizerFacts(kind="bpe", vocab_size=4096, fingerprint="a1"),
            splits={
                "train": SplitFacts(documents=91, tokens=480_000, bytes=1_450_000),
                "valid": SplitFacts(documents=5, tokens=26_000, bytes=80_000),
                "test": SplitFacts(documents=UNITS, tokens=52_000, bytes=UNITS * 4000),
            },
            read=[ReadFile(name="topics.py", format="py", encoding="utf-8", documents=96, bytes=1_690_000)],
            skipped=[Skipped(name="logo.png", why="not text: an image")],
        ),
        "machine": Machine(
            cpu="Two-core laptop", cores=2, threads=2, memory_bytes=24 * 10**9, torch="2.13.0", python="3.11.9", system="Linux",
            bimo="0.1.0", date="2026-01-31",
        ),
        "budget": "30s",
        "seed": 0,
        "command": "bimo quickstart --budget 30s",
        "unit_bytes": [4000] * UNITS,
        "rows": rows,
    }  # fmt: skip
    return Comparison.model_validate(fields | more)


PIECES = ["The", " with", " statement", " is", " used", " to", " wrap", " the", " exec", "ution", " of", " a", " block", ".", "\n", ""]


def surprise(bits: float, seed: int) -> list[float]:
    """Bits of the pieces, hard and easy ones alike for every model."""
    common, own = random.Random(3), random.Random(seed)
    return [common.expovariate(0.5 / bits) * own.uniform(0.5, 1.5) for _ in PIECES]


def mixed(parts: dict[str, tuple[str, float]], bits: float, used: float, seed: int, **more: object) -> Row:
    """A finished hybrid of these parts: the label and the weight of each family."""
    told = [
        RowPart(family=family, label=label, weight=weight, run=None if family == "cache" else family)
        for family, (label, weight) in parts.items()
    ]
    name = " + ".join(part.label for part in told)
    fields = {"learning": "composite", "curve": [], "parts": told, "mixture": "linear", **more}
    return row("+".join(parts), name, bits, used, seed, **fields)


def large(**more: object) -> Comparison:
    """Seven families and three hybrids: one wins, one may gain nothing, one is best but took more time than the budget."""
    ngram, lstm, decoder, cache = ("5-gram", 0.3), ("LSTM", 0.25), ("Transformer", 0.4), ("cache", 0.05)
    rows = [
        row("ngram", "5-gram", 2.31, 1.4, 1),
        row("rnn", "RNN", 2.62, 285, 2),
        row("lstm", "LSTM", 2.30, 291, 3),
        row("gru", "GRU", 2.33, 290, 4),
        row("decoder", "Transformer", 2.21, 288, 5),
        row("vae", "VAE", 2.75, 281, 6, kind="bound", score_samples=1),
        row("gan", "GAN", 2.90, 288, 7),
        mixed({"ngram": ngram, "decoder": decoder}, 2.05, 294, 8),
        mixed({"decoder": decoder, "cache": cache}, 2.21, 297, 9),
        mixed(
            {"ngram": ngram, "decoder": decoder, "lstm": lstm, "cache": cache}, 1.99, 583, 10, apart="took 583 s with its parts"
        ),
    ]  # fmt: skip
    for seed, made in enumerate(rows):
        made.budget_seconds, made.surprise = 300.0, surprise(made.bits_per_byte or 2.0, seed)
        made.measures["self_bleu"], made.self_bleu_texts = 0.2 + 0.03 * seed, 12
        made.generation_tokens_per_second = 2000.0 / (seed + 1)
        made.samples = [Sample(prompt="Whenever a suite", continuation=f" {TEXT}", settings="temperature 0.8, seed 0")]
    fields = {"budget": "5m", "passage": Passage(before="8.5. The with statement", pieces=PIECES), **more}
    return comparison(rows, **fields)
