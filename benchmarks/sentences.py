"""Sentence vectors of an encoder before and after contrast, against people's ratings of likeness (STS-B), English and Chinese.

One encoder a language learns hidden words of sentences, and its mean-pooled features are measured. From its weights two go on
by contrast (SimCSE, Gao et al. 2021): unsupervised (a sentence is its own positive, dropout makes the difference) and supervised
(positives are pairs that people called alike). Which of them is told as the gain, the dev file chooses; the test file chooses nothing.

Sentences: those of STS-B's training file, and, for English, Multi30k's captions and WikiText-2's lines, for Chinese the wiki sample's
lines and AFQMC's questions. Pairs: STS-B's training pairs rated 4 or more of 5; for Chinese also AFQMC's training pairs of one meaning.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.desk import Desk
from bimo.core import store
from bimo.evaluation.similarity import RatedPair, Similarity, paired_difference, read_rated_pairs, similarity
from bimo.models.bundle import Bundle

BUDGET, CONTRAST_BUDGET = "8m", "2m"
GAIN = 0.05  # what contrast is asked to add to Spearman's correlation
ALIKE = 4.0  # of 5: "mostly equivalent" and better
LONGEST = 300  # characters of a line to learn from: sentences and short paragraphs

TEXTS = {
    "en": ("mt-multi30k/train.en.gz", "lm-wikitext2/train.txt.gz"),
    "zh": ("lm-zh-wiki/train.txt.gz",),
}
TOKENIZERS = {"en": ("--tokenizer", "wordpiece", "--vocab-size", 8000), "zh": ("--tokenizer", "char")}
QUESTIONS = "sts-afqmc-zh/train.txt.gz"
CONTRAST = {
    "unsupervised": ("model.dropout=0.1", "training.batch_size=64", "training.learning_rate=3e-4"),
    "supervised": ("model.dropout=0.1", "training.batch_size=64", "training.learning_rate=3e-4"),
}


def lines_of(file: str) -> Iterator[str]:
    """The lines of a file, packed or not, that hold a text of a sentence's length."""
    with gzip.open(file, "rt", encoding="utf-8") if file.endswith(".gz") else open(file, encoding="utf-8") as opened:
        for line in opened:
            text = line.strip()
            if text and not text.startswith("=") and len(text) <= LONGEST:
                yield text


def rated(desk: Desk, language: str, part: str) -> list[RatedPair]:
    """STS-B's pairs of "train", "dev" or "test"."""
    return read_rated_pairs(desk.data(f"sts-stsb-en-zh/stsb-{language}-{part}.csv{'.gz' if part == 'train' else ''}"))


def questions(desk: Desk) -> list[tuple[str, str, bool]]:
    """AFQMC's training pairs, and whether each is of one meaning."""
    rows = csv.reader(lines_of(desk.data(QUESTIONS)), delimiter="\t", quoting=csv.QUOTE_NONE)
    return [(first, second, label == "1") for first, second, label in rows]


def texts_of(desk: Desk, language: str, folder: Path) -> tuple[Path, Path, Path]:
    """Three files: lines to learn hidden words from, sentences for unsupervised contrast, and pairs for supervised contrast."""
    pairs = rated(desk, language, "train")
    sentences = list(dict.fromkeys(text for pair in pairs for text in (pair.first, pair.second)))
    alike = [(pair.first, pair.second) for pair in pairs if pair.rating >= ALIKE and pair.first != pair.second]
    if language == "zh":
        asked = questions(desk)
        sentences += dict.fromkeys(text for first, second, _ in asked for text in (first, second))
        alike += [(first, second) for first, second, same in asked if same]
    else:
        sentences += dict.fromkeys(lines_of(desk.data(TEXTS["en"][0])))
    lines = [line for name in TEXTS[language] for line in lines_of(desk.data(name))]
    store.write_text(folder / "lines.txt", "\n".join([*lines, *sentences]) + "\n")
    store.write_text(folder / "sentences.txt", "\n".join(sentences) + "\n")
    records = (json.dumps({"anchor": a, "positive": b}, ensure_ascii=False) for a, b in alike)
    store.write_text(folder / "pairs.jsonl", "\n".join(records) + "\n")
    return folder / "lines.txt", folder / "sentences.txt", folder / "pairs.jsonl"


def of_language(desk: Desk, language: str, budget: str = BUDGET, contrast_budget: str = CONTRAST_BUDGET) -> dict[str, Any]:
    """The encoder's own measure, and that of each kind of contrast with its gain."""
    folder = desk.folder / language
    folder.mkdir(parents=True, exist_ok=True)
    lines, sentences, pairs = texts_of(desk, language, folder)
    common = ("--documents", "line", "--seed", desk.seed)
    desk.bimo("train", lines, *common, *TOKENIZERS[language], "--family", "encoder", "--budget", budget, "model.context=64",
              "--out", folder / "encoder")  # fmt: skip
    for kind, options in CONTRAST.items():
        records = [f"objective.records={pairs}"] if kind == "supervised" else []
        desk.bimo("train", sentences, *common, "--budget", contrast_budget, f"start={folder / 'encoder'}", "objective.name=contrastive",
                  "training.keep=last", *options, *records, "--out", folder / kind)  # fmt: skip
    measured: dict[str, dict[str, Similarity]] = {}
    for part in ("dev", "test"):
        pairs_of = rated(desk, language, part)
        measured[part] = {kind: similarity(Bundle.load(folder / kind), pairs_of) for kind in ("encoder", *CONTRAST)}
    best = max(CONTRAST, key=lambda kind: measured["dev"][kind].spearman.estimate)
    gain = paired_difference(measured["test"][best], measured["test"]["encoder"])
    return {
        **{part: {kind: found.to_dict() for kind, found in of.items()} for part, of in measured.items()},
        "chosen_on_dev": best,
        "gain": vars(gain),
        "reached": gain.estimate >= GAIN and gain.low > 0,
    }


def contrast(desk: Desk) -> dict[str, Any]:
    """Both languages."""
    found = {language: of_language(desk, language) for language in TEXTS}
    return {**found, "target": GAIN, "reached": all(f["reached"] for f in found.values())}
