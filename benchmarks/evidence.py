"""The slow figures, one file each: `python -m benchmarks.evidence [names…] [--force] [--list]` (`make evidence`)."""

from __future__ import annotations

import sys

from benchmarks import families, quality, sentences, tables
from benchmarks.record import Entry, main

# What makes the figures, floor by floor; after "!" what cannot change them.
CORE = tuple(f"bimo/core/{name}.py" for name in ("budget", "recipe", "registry", "runtime"))
TEXT = ("bimo/text/*.py", "!bimo/text/streaming.py", "bimo/data/*.py", "!bimo/data/overlap.py")
MEASURING = ("bimo/evaluation/perplexity.py", "bimo/evaluation/runs.py", "bimo/generation/*.py", "!bimo/generation/beam.py")
RUN = (*CORE, *TEXT, *MEASURING)
NGRAM = ("bimo/models/ngram/*.py", "bimo/models/base.py", "bimo/text/kernels.py")
_BATCHES = ("bimo/data/batches.py", "bimo/data/windows.py")
LEARNING = (
    *CORE,
    "bimo/training/*.py",
    "bimo/training/objectives/base.py",
    "bimo/training/objectives/causal.py",
    "!bimo/training/progress.py",
    *_BATCHES,
    "bimo/models/base.py",
)
RECURRENT = ("bimo/models/recurrent.py", "bimo/models/kernels/*.py", "bimo/text/kernels.py")
DECODER = ("bimo/models/decoder.py", "bimo/models/layers.py", "bimo/models/cache.py")
FIRST = (*NGRAM, *LEARNING, *RECURRENT, *DECODER)
VAE = ("bimo/models/vae/*.py", "bimo/models/latent.py", "bimo/training/objectives/elbo.py", "bimo/evaluation/latents.py")
SEQ2SEQ = ("bimo/models/seq2seq.py", "bimo/models/layers.py", "bimo/models/cache.py", "bimo/evaluation/translation.py")
ENCODER = (
    "bimo/models/encoder.py",
    "bimo/models/masked.py",
    "bimo/models/layers.py",
    "bimo/training/objectives/masked.py",
    "bimo/data/masking.py",
)
GAN = ("bimo/models/gan.py", "bimo/training/game.py", "bimo/training/rollouts.py", "bimo/training/objectives/adversarial.py")
RESUMING = ("bimo/core/store.py", "bimo/data/*.py", "bimo/evaluation/runs.py")
PRESETS = ("bimo/recipes/lstm-*.yaml", "bimo/recipes/decoder-*.yaml")

ENTRIES = (
    Entry(
        "ptb-ngram",
        "Penn Treebank by lines: 5-gram and 3-gram test perplexity beside KenLM's",
        quality.ptb_ngram,
        (*RUN, *NGRAM, "bimo/training/fit.py"),
        budget="none: counted in one pass",
        minutes=0.5,
    ),
    Entry(
        "ptb-lstm",
        "Penn Treebank as a stream: test perplexity of an LSTM of at most 5 M parameters within an hour",
        quality.ptb_lstm,
        (*RUN, *LEARNING, *RECURRENT),
        budget=quality.budget_of("ptb-lstm"),
        minutes=60,
        recipes=("bimo/recipes/ptb-lstm.yaml", *PRESETS),
    ),
    Entry(
        "tinyshakespeare-147",
        "tinyshakespeare by characters: nats a character of a decoder's final weights within 15 minutes",
        quality.tinyshakespeare,
        (*RUN, *LEARNING, *DECODER, "benchmarks/shakespeare.py"),
        budget=quality.budget_of("tinyshakespeare"),
        minutes=16,
        recipes=("bimo/recipes/tinyshakespeare.yaml", *PRESETS),
    ),
    Entry(
        "wikitext2",
        "WikiText-2: 5-gram, LSTM and decoder, ten minutes each (budgeted)",
        quality.wikitext2,
        (*RUN, *FIRST),
        budget="10m",
        minutes=40,
        recipes=PRESETS,
    ),
    Entry(
        "chinese",
        "Chinese encyclopedia and poetry by characters, BPE and words: three families, 30 s each (budgeted)",
        quality.chinese,
        (*RUN, *FIRST),
        budget=quality.CHINESE_BUDGET,
        minutes=25,
        recipes=PRESETS,
    ),
    Entry(
        "ptb-recurrent",
        "Penn Treebank as a stream: 5-gram, RNN, GRU and three LSTMs, ten minutes a run (budgeted)",
        families.ptb_recurrent,
        (*RUN, *NGRAM, *LEARNING, *RECURRENT, "benchmarks/families.py"),
        budget=families.TEN_MINUTES,
        minutes=56,
        recipes=tuple(f"bimo/recipes/{cell}-middle.yaml" for cell in ("rnn", "gru", "lstm")),
    ),
    Entry(
        "ptb-decoder",
        "Penn Treebank as a stream: three decoders, ten minutes a run (budgeted)",
        families.ptb_decoder,
        (*RUN, *LEARNING, *DECODER, "benchmarks/families.py"),
        budget=families.TEN_MINUTES,
        minutes=32,
        recipes=("bimo/recipes/decoder-middle.yaml",),
    ),
    Entry(
        "ptb-vae",
        "Penn Treebank by lines: three VAEs and three LSTMs beside them, ten minutes a run (budgeted)",
        families.ptb_vae,
        (*RUN, *LEARNING, *RECURRENT, *VAE, "benchmarks/families.py"),
        budget=families.TEN_MINUTES,
        minutes=70,
        recipes=("bimo/recipes/lstm-middle.yaml", "bimo/recipes/ptb-vae.yaml"),
    ),
    Entry(
        "multi30k",
        "Multi30k, English to German: BLEU of the 2016 test set within 75 minutes",
        families.multi30k,
        (*RUN, *LEARNING, *SEQ2SEQ, "bimo/generation/beam.py", "benchmarks/families.py"),
        budget=families.MULTI30K_BUDGET,
        minutes=72,
        recipes=("bimo/recipes/multi30k.yaml",),
    ),
    Entry(
        "contrast",
        "STS-B in English and Chinese: Spearman's correlation of an encoder's sentence vectors before and after contrast",
        sentences.contrast,
        (*RUN, *LEARNING, *ENCODER, "bimo/training/objectives/contrastive.py", "bimo/evaluation/similarity.py", "benchmarks/sentences.py"),
        budget=f"{sentences.BUDGET} an encoder, {sentences.CONTRAST_BUDGET} each contrast",
        minutes=26,
        recipes=("bimo/recipes/encoder-middle.yaml",),
    ),
    Entry(
        "adversarial",
        "names and lines of Tang poems: quality against diversity, a GAN beside the likelihood alone, three runs each",
        families.adversarial,
        (*RUN, *LEARNING, *RECURRENT, *GAN, "bimo/evaluation/diversity.py", "benchmarks/adversarial.py"),
        budget=families.GAN_BUDGET,
        minutes=45,
        recipes=("bimo/recipes/gan-small.yaml", "bimo/recipes/gan-middle.yaml"),
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
        (*RUN, *FIRST, "bimo/quickstart.py", "bimo/evaluation/*.py"),
        budget="30s",
        minutes=3,
        recipes=PRESETS,
    ),
)

if __name__ == "__main__":
    sys.exit(main("benchmarks.evidence", ENTRIES, always=False, after=tables.rewrite_all))
