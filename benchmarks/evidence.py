"""The slow figures, one file each: `python -m benchmarks.evidence [names…] [--force] [--list]` (`make evidence`)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks import (
    adversarial,
    dial,
    families,
    features,
    foreign_folders,
    foreign_tokenizers,
    fuzzing,
    hybrids,
    long_writing,
    pretrained,
    quality,
    sentences,
    tables,
)
from benchmarks.imports import reached
from benchmarks.record import Entry, main
from bimo.core import registry

# What cannot change a figure: what only tells of it, what no entry asks for, the lists of entries (whose functions count one by one).
APART = (
    "!bimo/evaluation/report/*.py",
    *(f"!bimo/evaluation/{name}.py" for name in ("display", "hybrids", "passage")),
    *("!bimo/explanation/*.py", "!bimo/models/grounds.py", "!bimo/models/hybrid/grounds.py", "!bimo/models/ngram/grounds.py"),
    *("!bimo/data/overlap.py", "!bimo/generation/filling.py", "!bimo/training/progress.py"),
    *("!benchmarks/quality.py", "!benchmarks/desk.py"),
)


def run(*families: str, also: Sequence[str] = (), objectives: Sequence[str] = ("causal",), apart: Sequence[str] = APART) -> tuple[str, ...]:
    """The code that learns and measures `families`, and `also`: all that is imported, but for `apart`."""
    found = [registry.family(name).target.partition(":")[0] for name in families]
    learned = [f"bimo.training.objectives.{name}" for name in objectives]
    return (*reached("bimo.api", *found, *learned, *also), *apart)


MEMORIES = ("bimo.models.hybrid.cache", "bimo.models.hybrid.neighbours")
PRESETS = ("bimo/recipes/lstm-*.yaml", "bimo/recipes/decoder-*.yaml")

ENTRIES = (
    Entry(
        "ptb-ngram",
        "Penn Treebank by lines: 5-gram and 3-gram test perplexity beside KenLM's",
        quality.ptb_ngram,
        run("ngram", objectives=()),
        budget="none: counted in one pass",
        minutes=0.5,
    ),
    Entry(
        "ptb-lstm",
        "Penn Treebank as a stream: test perplexity of an LSTM of at most 5 M parameters within an hour",
        quality.ptb_lstm,
        run("lstm"),
        budget=quality.budget_of("ptb-lstm"),
        minutes=60,
        recipes=("bimo/recipes/ptb-lstm.yaml", *PRESETS),
    ),
    Entry(
        "tinyshakespeare-147",
        "tinyshakespeare by characters: nats a character of a decoder's final weights within 15 minutes",
        quality.tinyshakespeare,
        run("decoder", also=["benchmarks.shakespeare"]),
        budget=quality.budget_of("tinyshakespeare"),
        minutes=16,
        recipes=("bimo/recipes/tinyshakespeare.yaml", *PRESETS),
    ),
    Entry(
        "wikitext2",
        "WikiText-2: 5-gram, LSTM and decoder, ten minutes each (budgeted)",
        quality.wikitext2,
        run(*registry.FIRST),
        budget="10m",
        minutes=40,
        recipes=PRESETS,
    ),
    Entry(
        "chinese",
        "Chinese encyclopedia and poetry by characters, BPE and words: three families, 30 s each (budgeted)",
        quality.chinese,
        run(*registry.FIRST),
        budget=quality.CHINESE_BUDGET,
        minutes=25,
        recipes=PRESETS,
    ),
    Entry(
        "ptb-recurrent",
        "Penn Treebank as a stream: 5-gram, RNN, GRU and three LSTMs, ten minutes a run (budgeted)",
        families.ptb_recurrent,
        run("ngram", "rnn", "gru", "lstm", also=["benchmarks.families"]),
        budget=families.TEN_MINUTES,
        minutes=56,
        recipes=tuple(f"bimo/recipes/{cell}-middle.yaml" for cell in ("rnn", "gru", "lstm")),
    ),
    Entry(
        "ptb-decoder",
        "Penn Treebank as a stream: three decoders, ten minutes a run (budgeted)",
        families.ptb_decoder,
        run("decoder", also=["benchmarks.families"]),
        budget=families.TEN_MINUTES,
        minutes=32,
        recipes=("bimo/recipes/decoder-middle.yaml",),
    ),
    Entry(
        "ptb-vae",
        "Penn Treebank by lines: three VAEs and three LSTMs beside them, ten minutes a run (budgeted)",
        families.ptb_vae,
        run("lstm", "vae", also=["benchmarks.families", "benchmarks.bounds"], objectives=["causal", "elbo"]),
        budget=families.TEN_MINUTES,
        minutes=100,
        recipes=("bimo/recipes/lstm-middle.yaml", "bimo/recipes/ptb-vae.yaml"),
    ),
    Entry(
        "multi30k",
        "Multi30k, English to German: BLEU of the 2016 test set within 75 minutes",
        families.multi30k,
        run("seq2seq", also=["benchmarks.families"]),
        budget=families.MULTI30K_BUDGET,
        minutes=72,
        recipes=("bimo/recipes/multi30k.yaml",),
    ),
    Entry(
        "contrast",
        "STS-B in English and Chinese: Spearman's correlation of an encoder's sentence vectors before and after contrast",
        sentences.contrast,
        run("encoder", also=["benchmarks.sentences"], objectives=["masked", "contrastive"]),
        budget=f"{sentences.BUDGET} an encoder, {sentences.CONTRAST_BUDGET} each contrast",
        minutes=26,
        recipes=("bimo/recipes/encoder-middle.yaml",),
    ),
    Entry(
        "adversarial",
        "names and lines of Tang poems: quality against diversity, a GAN beside the likelihood alone, three runs each",
        adversarial.adversarial,
        run("gan", also=["benchmarks.adversarial"], objectives=["adversarial"]),
        budget=adversarial.BUDGET,
        minutes=45,
        recipes=("bimo/recipes/gan-small.yaml", "bimo/recipes/gan-middle.yaml"),
    ),
    Entry(
        "features",
        "Penn Treebank and a Chinese encyclopedia by words: tags and positions as further input, three minutes a run (budgeted)",
        features.features,
        run("lstm", "decoder", also=["benchmarks.features"]),
        budget=features.BUDGET,
        minutes=42,
        recipes=PRESETS,
    ),
    Entry(
        "ptb-hybrids",
        "Penn Treebank as a stream: mixtures of a 5-gram, an LSTM and a decoder, a cache and neighbours, beside their parts (budgeted)",
        hybrids.ptb_hybrids,
        run("ngram", "lstm", "decoder", "hybrid", also=["benchmarks.hybrids", *MEMORIES]),
        budget=hybrids.BUDGET,
        minutes=32,
        recipes=("bimo/recipes/lstm-middle.yaml", "bimo/recipes/decoder-middle.yaml"),
    ),
    Entry(
        "wikitext2-hybrids",
        "WikiText-2 as a stream: LSTM and cache, 5-gram and decoder, beside their parts (budgeted)",
        hybrids.wikitext2_hybrids,
        run("ngram", "lstm", "decoder", "hybrid", also=["benchmarks.hybrids", *MEMORIES]),
        budget=hybrids.BUDGET,
        minutes=32,
        recipes=("bimo/recipes/lstm-middle.yaml", "bimo/recipes/decoder-middle.yaml"),
    ),
    Entry(
        "scaling",
        "decoders of five widths, as many operations each, English and Chinese characters: the best size for so many operations",
        dial.scaling,
        run("decoder", also=["benchmarks.dial", "bimo.training.dial"]),
        budget=", ".join(f"{operations:g} operations" for operations in dial.OPERATIONS),
        minutes=240,
        recipes=("bimo/recipes/decoder-middle.yaml",),
    ),
    Entry(
        "dial-en",
        "the dial, with its tokenizer, beside the small and the middle preset, five minutes each, three seeds: tinyshakespeare (budgeted)",
        dial.dial_en,
        run("ngram", "decoder", "hybrid", also=["benchmarks.dial", "bimo.training.dial"]),
        budget=dial.BUDGET,
        minutes=48,
        recipes=("bimo/recipes/decoder-*.yaml",),
    ),
    Entry(
        "dial-zh",
        "the dial beside the small and the middle preset, five minutes each, three seeds: a Chinese encyclopedia (budgeted)",
        dial.dial_zh,
        run("ngram", "decoder", "hybrid", also=["benchmarks.dial", "bimo.training.dial"]),
        budget=dial.BUDGET,
        minutes=48,
        recipes=("bimo/recipes/decoder-*.yaml",),
    ),
    Entry(
        "long-writing",
        "20,000 tokens from each hybrid: memory along the way; neighbours among a million entries beside the decoder's own time a token",
        long_writing.long_writing,
        run("ngram", "lstm", "decoder", "hybrid", also=["benchmarks.long_writing", *MEMORIES]),
        budget=long_writing.PART_BUDGET,
        minutes=40,
        recipes=PRESETS,
    ),
    Entry(
        "smollm2",
        "SmolLM2-135M-Instruct: logits, chat ids and greedy answers beside transformers', of its GGUF file and our export; llama.cpp's",
        pretrained.smollm2,
        reached("benchmarks.pretrained"),
        budget="none: nothing is learned",
        minutes=5,
    ),
    Entry(
        "minilm",
        "all-MiniLM-L6-v2: features beside transformers', Spearman's correlation on STS-B",
        pretrained.minilm,
        reached("benchmarks.pretrained"),
        budget="none: nothing is learned",
        minutes=2,
    ),
    Entry(
        "smollm2-lora",
        "SmolLM2-135M-Instruct fine-tuned by LoRA on 1,000 instructions: nats of held-out answers before and after (budgeted)",
        pretrained.lora,
        run("decoder", also=["benchmarks.pretrained"]),
        budget="10m",
        minutes=15,
        recipes=("bimo/recipes/lora.yaml", "bimo/recipes/decoder-middle.yaml"),
    ),
    Entry(
        "fuzzing",
        "spoiled files of models, vocabularies, adapters and recipes: opened, or refused in words",
        fuzzing.fuzzing,
        reached("benchmarks.fuzzing"),
        budget="100,000 files",
        minutes=40,
    ),
    Entry(
        "foreign-folders",
        "model folders that transformers saves, every field of its configurations drawn at random: equal logits, or refused by name",
        foreign_folders.evidence,
        reached("benchmarks.foreign_folders"),
        budget=f"{foreign_folders.FOLDERS} folders",
        minutes=5,
    ),
    Entry(
        "foreign-tokenizers",
        "tokenizers that transformers saves, every setting drawn at random: the same ids, ends and texts, or refused by name",
        foreign_tokenizers.evidence,
        reached("benchmarks.foreign_tokenizers"),
        budget=f"{foreign_tokenizers.FOLDERS} folders",
        minutes=4,
    ),
    Entry(
        "kills",
        "runs killed with SIGKILL, half of them inside a save, and resumed: final weights to the bit",
        quality.kills,
        run("rnn", "lstm", "gru", "decoder", also=["benchmarks.kills"]),
        budget="24 steps a run",
        minutes=25,
    ),
    Entry(
        "quickstart",
        "the main job: three families on Python's own language manual",
        quality.quickstart,
        run(*registry.FIRST, also=["bimo.quickstart"], apart=()),
        budget="30s",
        minutes=3,
        recipes=PRESETS,
    ),
)

if __name__ == "__main__":
    sys.exit(main("benchmarks.evidence", ENTRIES, always=False, after=tables.rewrite_all, patience=300))
