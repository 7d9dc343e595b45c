"""What each entry about the families does: every family on one text, ten minutes each, and what only some of them can do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarks.quality import PTB, picked, text_of
from benchmarks.record import Desk
from bimo.core import store
from bimo.data.corpus import Corpus
from bimo.evaluation.latents import latent_use
from bimo.evaluation.metrics import bootstrap_interval
from bimo.evaluation.perplexity import evaluate
from bimo.evaluation.runs import RESULT
from bimo.models.base import load_model

TEN_MINUTES = "10m"
ONCE, THRICE = (0,), (0, 1, 2)
STREAM = {"ngram": ONCE, "rnn": ONCE, "lstm": THRICE, "gru": ONCE, "decoder": THRICE}  # seeds of each family
LINE = {"lstm": THRICE, "vae": THRICE}  # sentences by themselves: a latent is of one
SAMPLES = 10  # importance samples of the bound that is told
EXCHANGED = 3.0  # nats a sentence that exchanging latents must cost
NEAR = 1.05  # the bound over the LSTM's nats, at most
BOWMAN = {"standard": {"nll": 100.0, "kl": 2.0}, "inputless": {"nll": 125.0, "kl": 15.0}}  # Bowman et al. 2016, table 2: PTB, test


def ptb_families(desk: Desk) -> dict[str, Any]:
    """A row a run, its perplexity with an interval; then whether the latents are used and what the bound is near to."""
    rows: list[dict[str, Any]] = []
    for documents, families in (("stream", STREAM), ("line", LINE)):
        corpus = desk.folder / documents
        desk.bimo("prepare", *text_of(desk, *PTB), "--documents", documents, "--tokenizer", "word", "--out", corpus)
        for family, seeds in families.items():
            for seed in seeds:
                folder = desk.folder / f"{family}-{documents}-{seed}"
                row = desk.bimo("train", corpus, "--family", family, "--budget", TEN_MINUTES, "--seed", seed, "--out", folder)
                rows.append({**picked(row), "documents": documents, "seed": seed, **_interval(folder, row)})
    beside = min(row["nats"] for row in rows if row["family"] == "lstm" and row["documents"] == "line")
    for row in rows:
        if row["family"] == "vae":
            row |= _latents(desk, desk.folder / f"vae-line-{row['seed']}", beside)
    return {"budgeted": True, "bowman": BOWMAN, "rows": rows}


def _interval(folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    """The bootstrap interval of a run's test perplexity, over sentences, or over blocks of a stream."""
    result = store.read_json(folder / RESULT)
    units = result["rows"][0].get("unit_nats")
    interval = bootstrap_interval(units, result["unit_bytes"]) if units and None not in units else None
    if interval is None:
        return {}
    per_token = row["bytes"] * math.log(2) / row["tokens"]  # bits a byte → nats a token
    return {"perplexity_low": math.exp(interval.low * per_token), "perplexity_high": math.exp(interval.high * per_token)}


def _latents(desk: Desk, folder: Path, beside: float) -> dict[str, Any]:
    """How a VAE uses its latent on the test text, and its bound, tightened, over the LSTM's nats."""
    model = load_model(folder)
    split = Corpus.open(desk.folder / "line").splits["test"]
    use = latent_use(model, split).to_dict()
    model.config.score_samples = SAMPLES  # type: ignore[attr-defined]
    tight = evaluate(model, split).nats
    reached = use["exchanged"] >= EXCHANGED and tight <= NEAR * beside
    return {"latent": use, "bound_nats": tight, "samples": SAMPLES, "over_the_lstm": tight / beside, "reached": reached}
