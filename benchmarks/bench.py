"""Side-by-side timings, each measured again whenever asked for: `python -m benchmarks.bench [names…] [--runs N]` (`make bench`)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from benchmarks import tables
from benchmarks.desk import Desk, data_folder
from benchmarks.evidence import run
from benchmarks.imports import reached
from benchmarks.record import Entry, main


def timed(name: str, least: float | None, option: str = "--rounds") -> Callable[[Desk], dict[str, Any]]:
    """The work of an entry that is a benchmark of its own; with `least` its ratio is asked to be at least that."""

    def work(desk: Desk) -> dict[str, Any]:
        found = desk.module(f"benchmarks.{name}", *([option, desk.rounds] if desk.rounds else []))
        ratio = found.get("ratio")
        return found if least is None else {**found, "target": least, "reached": ratio is not None and ratio >= least}

    return work


def ngram_kenlm(desk: Desk) -> dict[str, Any]:
    """Beside KenLM on Penn Treebank; without the `kenlm` package, our figures alone."""
    desk.data("lm-ptb/ptb.train.txt.gz")
    found = desk.module("benchmarks.ngram_kenlm", "--data", data_folder(), *(["--rounds", desk.rounds] if desk.rounds else []))
    small = found["seconds_to_model"] <= 2 and found["peak_mib_above_imports"] <= 500
    same = abs(found["perplexity"] / 141.19 - 1) <= 0.001
    beside = found.get("ratio_1", 0) >= 1 and found.get("ratio_N", 0) >= 2 and found.get("largest_log10_difference", 1) <= 0.001
    return {**found, "kenlm_installed": "kenlm_words_per_s" in found, "reached": small and same and beside}


def conformance(desk: Desk) -> dict[str, Any]:
    """Wall time of the conformance test over all families and variants, and of its mutants, from the command to its end."""
    begin = desk.clock()
    told = desk.run("python", "-m", "pytest", "tests/conformance", "-n", 2)
    seconds = desk.clock() - begin
    return {"seconds": seconds, "target": 180, "reached": seconds < 180, "told": told.strip().splitlines()[-1]}


ENTRIES = (
    Entry(
        "ngram-kenlm",
        "n-grams beside KenLM: perplexity, time to a model, memory, scored words a second",
        ngram_kenlm,
        reached("benchmarks.ngram_kenlm"),
        budget="5 rounds",
        minutes=1,
    ),
    Entry(
        "nanogpt-cpu",
        "seconds from process start to 1.88 nats a character on tinyshakespeare, beside nanoGPT's CPU recipe",
        timed("nanogpt_cpu", 3.5, "--runs"),
        run("decoder", also=["benchmarks.nanogpt_cpu"]),
        budget="5 runs",
        minutes=20,
        recipes=("bimo/recipes/tinyshakespeare-quick.yaml", "bimo/recipes/decoder-*.yaml"),
    ),
    Entry(
        "training-speed",
        "training steps of one architecture beside a plain transformers GPT-2 loop",
        timed("training_speed", 1.2),
        reached("benchmarks.training_speed"),
        budget="12 rounds",
        minutes=2,
    ),
    Entry(
        "recurrent-speed",
        "training steps of an LSTM beside a plain torch.nn.LSTM loop",
        timed("recurrent_speed", 1.3),
        reached("benchmarks.recurrent_speed"),
        budget="30 rounds",
        minutes=1,
    ),
    Entry(
        "encoder-speed",
        "training steps of an encoder beside a plain transformers BERT loop",
        timed("encoder_speed", 1.2),
        reached("benchmarks.encoder_speed"),
        budget="12 rounds",
        minutes=2,
    ),
    Entry(
        "translation-speed",
        "training steps of an encoder–decoder beside a plain torch.nn.Transformer loop",
        timed("translation_speed", 1.2),
        reached("benchmarks.translation_speed"),
        budget="30 rounds",
        minutes=1,
    ),
    Entry(
        "adapter-speed",
        "steps of LoRA fine-tuning of SmolLM2 beside transformers with peft, batches of like length",
        timed("adapter_speed", 1.3),
        reached("benchmarks.adapter_speed"),
        budget="5 rounds",
        minutes=3,
    ),
    Entry(
        "tokenizer-speed",
        "byte-level BPE beside the tokenizers library",
        timed("tokenizer_speed", None),
        ("bimo/text/*.py", "benchmarks/tokenizer_speed.py", "benchmarks/interleave.py"),
        budget="5 rounds",
        minutes=0.5,
    ),
    Entry(
        "conformance",
        "the conformance test and its mutants, in two processes",
        conformance,
        ("bimo/models/**/*.py", "tests/conformance/*.py"),
        budget="1 run",
        minutes=3,
    ),
    Entry(
        "first-word",
        "how long a terminal stays silent: each command with a text of 36 MB",
        lambda desk: desk.module("benchmarks.first_word"),
        ("bimo/**/*.py", "benchmarks/first_word.py"),
        budget="20 s a model",
        minutes=6,
    ),
    Entry(
        "cli-start",
        "how soon `bimo --help` answers",
        timed("cli_start", None),
        ("bimo/cli/*.py", "bimo/__init__.py", "bimo/core/registry.py", "bimo/core/errors.py", "benchmarks/cli_start.py"),
        budget="10 rounds",
        minutes=0.2,
    ),
)

if __name__ == "__main__":
    sys.exit(main("benchmarks.bench", ENTRIES, always=True, after=tables.rewrite_all, patience=300))
