"""20,000 tokens from each hybrid, the memory of its process along the way; and neighbours among a million entries beside the decoder alone.

`python -m benchmarks.long_writing FOLDER [--tokens N]` prints one JSON object: of a model folder, resident bytes after each tenth of them.
`… FOLDER --beside PART` times a token of the hybrid and of its part instead, by turns, and counts the entries that its memories hold;
`--exact` has all of them looked at, in a folder whose neighbours are found by cells.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.desk import Desk
from benchmarks.quality import WIKITEXT
from bimo.core import runtime, store
from bimo.core.errors import UserError
from bimo.evaluation import display
from bimo.generation.reader import Reader
from bimo.models.base import LanguageModel
from bimo.models.bundle import Bundle
from bimo.models.hybrid import Hybrid
from bimo.models.hybrid.memory import Memory
from bimo.models.hybrid.neighbours import Neighbours

LINEAR = ("ngram+lstm", "lstm+cache", "ngram+decoder", "decoder+cache", "decoder+knn", "ngram+lstm+decoder+cache")
HYBRIDS = {  # parts, and what is said beside them
    **{words: (words.split("+"), ()) for words in LINEAR},
    "ngram+lstm, gate": (["ngram", "lstm"], ("model.weights=gate",)),
    "ngram+lstm, product": (["ngram", "lstm"], ("model.mixture=product",)),
    "ngram+lstm, documents": (["ngram", "lstm"], ("model.mixture=documents",)),
    "(ngram+lstm)+decoder": (["ngram-lstm", "decoder"], ()),  # a hybrid of a hybrid
}
TOKENS = 20_000
TEST_LINES = 300  # of the test text: what is measured here is no perplexity, and a million entries are looked at for each token
FLAT = 1.1  # most that memory may grow by from the tenth to the last of the tokens
ENTRIES = 1_000_000
SLOWEST = 2  # times the decoder's own time a token, with neighbours among so many entries
ROUNDS = 5
Say = Callable[[str], str]
PART_BUDGET = "20s"


def written(model: LanguageModel, tokens: int) -> list[dict[str, Any]]:
    """Resident bytes, and seconds a token, in each tenth of `tokens` drawn ones."""
    generator = torch.Generator().manual_seed(0)
    reader = Reader(model, [[model.vocabulary.bos or 0]])
    told = []
    for part in range(10):
        begin = time.perf_counter()
        for _ in range(tokens // 10):
            reader.read(torch.multinomial(reader.logits.softmax(-1), 1, generator=generator)[:, 0])
        seconds = (time.perf_counter() - begin) / (tokens // 10)
        told.append({"tokens": (part + 1) * tokens // 10, "bytes": runtime.memory_bytes(), "seconds_a_token": seconds})
    return told


def beside(hybrid: LanguageModel, part: LanguageModel, tokens: int = 500) -> dict[str, float]:
    """Seconds a token of both, by turns: the median of five means over so many tokens; and their ratio."""
    times: dict[str, list[float]] = {"hybrid": [], "part": []}
    for _ in range(ROUNDS):
        for name, model in (("hybrid", hybrid), ("part", part)):
            times[name].append(statistics.fmean(tenth["seconds_a_token"] for tenth in written(model, tokens)))
    found = {f"{name}_seconds_a_token": statistics.median(of) for name, of in times.items()}
    return {**found, "ratio": found["hybrid_seconds_a_token"] / found["part_seconds_a_token"]}


def memories(model: LanguageModel | None) -> list[Memory]:
    """Those of a hybrid, and of hybrids in it; none of another model."""
    if not isinstance(model, Hybrid):
        return []
    return [m for voice in model.voices for m in ([voice.memory] if voice.memory is not None else memories(voice.model))]


def entries(model: LanguageModel) -> int:
    """How many tokens of the training text the memories of a hybrid hold."""
    return sum(len(memory.tensors().get("values", ())) for memory in memories(model))


def look_at_all(model: LanguageModel) -> None:
    """Have a hybrid look at all of its entries from now on: the same ones, under the same weights."""
    found = [memory for memory in memories(model) if isinstance(memory, Neighbours)]
    if not found:
        raise UserError("--exact: this model seeks no neighbours")
    for memory in found:
        memory.config = memory.config.model_copy(update={"search": "exact"})


def reached(rows: list[dict[str, Any]], searches: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """Which aims were met: memory stays flat; a million entries are there, and are found fast."""
    return {
        "flat": all(row["flat"] for row in rows),
        "entries": all(search["entries"] >= ENTRIES for search in searches.values()),
        "neighbours": searches["faiss"]["ratio"] <= SLOWEST,
    }


def long_writing(desk: Desk) -> dict[str, Any]:
    """Each hybrid of parts that learned for seconds on WikiText-2, and a decoder with a million entries, exact and by faiss."""
    corpus, rows, test = desk.folder / "corpus", [], desk.folder / "test.txt"
    with gzip.open(desk.data(WIKITEXT[2]), "rt", encoding="utf-8") as file:
        store.write_text(test, "".join(itertools.islice(file, TEST_LINES)))
    train, valid = (desk.data(name) for name in WIKITEXT[:2])
    desk.bimo("prepare", train, "--valid", valid, "--test", test, "--documents", "stream", "--tokenizer", "bpe", "--vocab-size", 4096,
              "--out", corpus)  # fmt: skip
    for family in ("ngram", "lstm", "decoder"):
        desk.bimo("train", corpus, "--family", family, "--budget", PART_BUDGET, "--out", desk.folder / family)
    for words, (parts, options) in HYBRIDS.items():
        folder = _mixed(desk, corpus, parts, options)
        told = desk.module("benchmarks.long_writing", folder, "--tokens", TOKENS)["written"]
        grown = told[-1]["bytes"] / told[0]["bytes"]
        rows.append({"name": words, "written": told, "grown": grown, "flat": grown <= FLAT})
    timed = desk.folder / "decoder-knn", "--beside", desk.folder / "decoder"
    searches = {
        "exact": desk.module("benchmarks.long_writing", *timed, "--exact")["beside"],
        "faiss": desk.module("benchmarks.long_writing", *timed)["beside"],
    }
    return {"rows": rows, "entries": ENTRIES, "neighbours": searches, "reached": reached(rows, searches), "tokens": TOKENS}


def _mixed(desk: Desk, corpus: Path, words: Sequence[str], options: Sequence[str]) -> Path:
    """A hybrid of the parts in the desk's folder, which is called after them."""
    parts = [{"memory": part} if part in ("cache", "knn") else {"folder": str(desk.folder / part)} for part in words]
    for part in parts:
        if part.get("memory") == "knn":
            part["model"] = {"entries": ENTRIES, "search": "faiss"}  # type: ignore[assignment]
    said = [option.partition("=")[2] for option in options]
    folder = desk.folder / "-".join([*words, *said])
    desk.bimo("train", corpus, "family=hybrid", f"model.parts={json.dumps(parts)}", *options, "--budget", "10m", "--out", folder)
    return folder


def shown(figures: Mapping[str, Any], say: Say) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: of each hybrid its memory along the way; of neighbours their time beside the decoder's own."""
    rows = []
    for row in figures["rows"]:
        first, last = (display.size(row["written"][at]["bytes"]) for at in (0, -1))
        each = display.seconds(row["written"][-1]["seconds_a_token"])
        rows.append([row["name"], f"{first}, {last}", f"{row['grown'] - 1:+.1%}", f"≤ {100 * (FLAT - 1):.0f} %", each])
    for search, found in figures["neighbours"].items():
        ours, alone = (display.seconds(found[f"{who}_seconds_a_token"]) for who in ("hybrid", "part"))
        each = f"{ours} ({say('the decoder alone')} {alone})"
        what = f"{say('neighbours among a million entries')}{say(', ')}{say(search)} ({display.count(found['entries'])})"
        rows.append([what, "", f"{found['ratio']:.2f}×", f"≤ {SLOWEST}×" if search == "faiss" else "", each])
    heads = ("hybrid", "memory, first and last tenth", "grown", "asked", "a token, last tenth")
    return [say(head) for head in heads], rows


def main() -> int:
    """One model folder, in this process alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--beside")
    parser.add_argument("--exact", action="store_true")
    asked = parser.parse_args()
    model = Bundle.load(asked.folder).model
    if asked.exact:
        look_at_all(model)
    if asked.beside:
        told = {"beside": {**beside(model, Bundle.load(asked.beside).model), "entries": entries(model)}}
    else:
        told = {"written": written(model, asked.tokens)}
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
