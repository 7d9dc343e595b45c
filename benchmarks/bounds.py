"""The bound of a trained model with a latent on the test text, of many importance samples, and how the latent is used."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from bimo.data.corpus import Corpus
from bimo.evaluation.latents import latent_use
from bimo.evaluation.metrics import bootstrap_interval
from bimo.evaluation.perplexity import evaluate
from bimo.models.base import load_model
from bimo.models.latent import scored_with


def around(unit_nats: Any, unit_bytes: Any, bytes_per_token: float) -> dict[str, float]:
    """The bootstrap interval of a perplexity, over sentences, or over blocks of a stream; empty where there are too few."""
    interval = bootstrap_interval(unit_nats, unit_bytes)
    if interval is None:
        return {}
    per_token = bytes_per_token * math.log(2)  # bits a byte → nats a token
    return {"perplexity_low": math.exp(interval.low * per_token), "perplexity_high": math.exp(interval.high * per_token)}


def main() -> None:
    """Measure the model of a folder; print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--samples", type=int, default=50)
    asked = parser.parse_args()
    model, test = load_model(asked.model), Corpus.open(asked.corpus).splits["test"]
    with scored_with(model, asked.samples):
        bound = evaluate(model, test)
    told = {"nats": bound.nats, "bits_per_byte": bound.bits_per_byte, "perplexity": bound.perplexity, "samples": asked.samples}
    told |= around(bound.unit_nats, bound.unit_bytes, bound.bytes / bound.tokens)
    print(json.dumps({**told, "latent": latent_use(model, test).to_dict()}))


if __name__ == "__main__":
    main()
