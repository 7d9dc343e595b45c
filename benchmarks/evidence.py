"""The slow figures, one file each: `python -m benchmarks.evidence [names…] [--force] [--list]` (`make evidence`)."""

from __future__ import annotations

import sys

from benchmarks import quality, tables
from benchmarks.record import Entry, main

TEXT = (
    *(f"bimo/text/{name}.py" for name in ("tokenizer", "trainers", "runners", "kernels")),
    *(f"bimo/data/{name}.py" for name in ("corpus", "split", "splits", "batches", "windows")),
    "bimo/evaluation/perplexity.py",
)
NGRAM = ("bimo/models/ngram/*.py", "bimo/models/base.py")
LEARNING = (*(f"bimo/training/{name}.py" for name in ("fit", "loop", "objectives", "optimizers", "plan")), "bimo/models/base.py")
RECURRENT = ("bimo/models/recurrent.py", "bimo/models/kernels/recurrent.py")
DECODER = ("bimo/models/decoder.py", "bimo/models/layers.py")
RESUMING = ("bimo/training/checkpoint.py", "bimo/core/store.py", "bimo/data/batches.py", "bimo/evaluation/runs.py")
PRESETS = ("bimo/recipes/lstm-*.yaml", "bimo/recipes/decoder-*.yaml")

ENTRIES = (
    Entry(
        "ptb-ngram",
        "Penn Treebank by lines: 5-gram and 3-gram test perplexity beside KenLM's",
        quality.ptb_ngram,
        (*TEXT, *NGRAM),
        budget="none: counted in one pass",
        minutes=0.5,
    ),
    Entry(
        "ptb-lstm",
        "Penn Treebank as a stream: test perplexity of an LSTM of at most 5 M parameters within an hour",
        quality.ptb_lstm,
        (*TEXT, *LEARNING, *RECURRENT),
        budget="1h",
        minutes=62,
        recipes=("bimo/recipes/ptb-lstm.yaml", *PRESETS),
    ),
    Entry(
        "tinyshakespeare-147",
        "tinyshakespeare by characters: nats a character of a decoder's final weights within 15 minutes",
        quality.tinyshakespeare,
        (*TEXT, *LEARNING, *DECODER, "benchmarks/shakespeare.py"),
        budget="15m",
        minutes=17,
        recipes=("bimo/recipes/tinyshakespeare.yaml", *PRESETS),
    ),
    Entry(
        "wikitext2",
        "WikiText-2: 5-gram, LSTM and decoder, ten minutes each (budgeted)",
        quality.wikitext2,
        (*TEXT, *NGRAM, *LEARNING, *RECURRENT, *DECODER),
        budget="10m",
        minutes=40,
        recipes=PRESETS,
    ),
    Entry(
        "chinese",
        "Chinese encyclopedia and poetry by characters, BPE and words: three families, 60 s each (budgeted)",
        quality.chinese,
        (*TEXT, *NGRAM, *LEARNING, *RECURRENT, *DECODER),
        budget="60s",
        minutes=45,
        recipes=PRESETS,
    ),
    Entry(
        "kills",
        "runs killed with SIGKILL, half of them inside a save, and resumed: final weights to the bit",
        quality.kills,
        (*LEARNING, *RECURRENT, *DECODER, *RESUMING, "benchmarks/kills.py"),
        budget="24 steps a run",
        minutes=25,
    ),
    Entry(
        "quickstart",
        "the main job: three families on Python's own language manual",
        quality.quickstart,
        (*TEXT, *NGRAM, *LEARNING, *RECURRENT, *DECODER, "bimo/quickstart.py", "bimo/evaluation/runs.py"),
        budget="30s",
        minutes=3,
        recipes=PRESETS,
    ),
)

if __name__ == "__main__":
    sys.exit(main("benchmarks.evidence", ENTRIES, always=False, after=tables.rewrite_all))
