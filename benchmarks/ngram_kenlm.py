"""n-grams on Penn Treebank beside KenLM: quality, speed and memory, as one JSON object on standard output.

    python benchmarks/ngram_kenlm.py --data DATA [--order 5] [--rounds 5] [--threads 2]

DATA holds lm-ptb/ptb.train.txt.gz and ptb.test.txt. `pip install kenlm` (built from source: a C++ compiler and cmake) for the other
side; without it, only our figures are given. Both sides run in this process, in turn; times are medians over the rounds.

Fields:
  perplexity, tokens          test perplexity, and the tokens it is over (</s> included); every line is a document
  discounts                   Kneser-Ney's D1, D2, D3+ of each order
  seconds_to_model            from the list of training lines to the estimated model (vocabulary, ids, counts, probabilities)
  peak_mib_above_imports      peak resident memory of the same, in a process of its own, less what the imports took (text included)
  ours_words_per_s_1, _N      from the list of test lines to a log-probability for each, on 1 and on N threads (words include </s>)
  ours_ids_words_per_s_1, _N  the same from ids
  kenlm_words_per_s           kenlm.Model.score on the same lines, one thread
  kenlm_perplexity            by the kenlm package from our ARPA file
  largest_log10_difference    between both sides' sentence scores
  ratio_1, ratio_N            ours_words_per_s over kenlm_words_per_s
  threads, processors, load   threads N of the second figures; the machine's processors and load average at the end
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from bimo.models.interop.arpa import write_arpa
from bimo.models.ngram import NGram, NGramConfig
from bimo.text.kernels import WordIndex
from bimo.text.vocabulary import Vocabulary

SPECIALS = ["<s>", "</s>", "<unk>"]


def lines(path: Path) -> list[str]:
    """Lines of a text; its `<unk>` is renamed, so that it is a word like any other on both sides."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    return [line.strip().replace("<unk>", "<rare>") for line in text.removesuffix("\n").split("\n")]


def build(text: list[str], order: int) -> tuple[NGram, WordIndex, list[str]]:
    """From lines to an estimated model."""
    words = SPECIALS + sorted(Counter(word for line in text for word in line.split()))
    index = WordIndex(words)
    ids, _ = index.ids(text, bos=0, eos=1, unknown=2)
    model = NGram.build(NGramConfig(order=order), Vocabulary(len(words), bos=0, eos=1, unk=2, suppressed=(0,)))
    model.count([ids])
    model.estimate()
    return model, index, words


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def peak(data: Path, order: int) -> float:
    """MiB above the imports; meant for a process of its own."""
    before = psutil.Process().memory_info().rss
    build(lines(data / "lm-ptb/ptb.train.txt.gz"), order)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before / 2**20


def measure(data: Path, order: int, rounds: int, threads: int) -> dict[str, object]:
    """All fields of the module's documentation."""
    train, test = lines(data / "lm-ptb/ptb.train.txt.gz"), lines(data / "lm-ptb/ptb.test.txt")
    building = [timed(lambda: build(train, order)) for _ in range(rounds)]
    model, index, words = build(train, order)
    ids, offsets = index.ids(test, bos=0, eos=1, unknown=2)
    tokens = len(ids) - len(test)

    def ours(count: int) -> np.ndarray:
        ids, offsets = index.ids(test, bos=0, eos=1, unknown=2, threads=count)
        return np.add.reduceat(model.score_documents(ids, offsets, threads=count), offsets[:-1]) / -math.log(10)

    sides: dict[str, Callable[[], object]] = {
        "ours_words_per_s_1": lambda: ours(1),
        "ours_words_per_s_N": lambda: ours(threads),
        "ours_ids_words_per_s_1": lambda: model.score_documents(ids, offsets, threads=1),
        "ours_ids_words_per_s_N": lambda: model.score_documents(ids, offsets, threads=threads),
    }
    found: dict[str, object] = {
        "order": order,
        "perplexity": 10 ** (-float(ours(1).sum()) / tokens),
        "tokens": tokens,
        "discounts": model.discounts,
        "seconds_to_model": statistics.median(building),
    }
    own = [sys.executable, __file__, "--data", str(data), "--order", str(order), "--only-peak"]
    found["peak_mib_above_imports"] = float(subprocess.run(own, capture_output=True, text=True, check=True).stdout)
    try:
        import kenlm  # type: ignore[import-not-found]
    except ImportError:
        kenlm = None
    if kenlm is not None:
        with tempfile.TemporaryDirectory() as folder:
            write_arpa(model, words, Path(folder) / "model.arpa")
            other = kenlm.Model(str(Path(folder) / "model.arpa"))
        theirs = np.array([other.score(line) for line in test])
        found["kenlm_perplexity"] = 10 ** (-float(theirs.sum()) / tokens)
        found["largest_log10_difference"] = float(np.abs(theirs - ours(1)).max())
        sides["kenlm_words_per_s"] = lambda: [other.score(line) for line in test]
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            seconds[name].append(timed(side))
    found |= {name: round(tokens / statistics.median(times)) for name, times in seconds.items()}
    if kenlm is not None:
        for count in ("1", "N"):
            found[f"ratio_{count}"] = found[f"ours_words_per_s_{count}"] / found["kenlm_words_per_s"]  # type: ignore[operator]
    return found | {"threads": threads, "processors": os.cpu_count(), "load": os.getloadavg()[0]}


def main() -> None:
    """Read the options, print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BIMO_DATA", "data")))
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only-peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.data / "lm-ptb").is_dir():
        parser.error(f"{options.data}: no folder lm-ptb; give --data or set BIMO_DATA")
    if options.only_peak:
        print(peak(options.data, options.order))
    else:
        print(json.dumps(measure(options.data, options.order, options.rounds, options.threads), indent=2))


if __name__ == "__main__":
    main()
