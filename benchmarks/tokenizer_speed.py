"""Byte-level BPE, text to ids: the `tokenizers` library and ours on one and the same tokenizer.json, in turn, as one JSON object.

    python -m benchmarks.tokenizer_speed [--rounds 5] [FILE…]

The text is Python's own language manual (about 465 kB) and, where BIMO_DATA has it, Chinese encyclopedia; 8,192 ids learned from the text.

Fields of each text: megabytes, equal (all ids), and MB/s of the text as one string (one) and as a batch of its lines (lines).
The library's `encode_batch_fast` is timed, its quickest form; ratio_one and ratio_lines are ours / theirs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.desk import data_folder
from benchmarks.interleave import interleaved
from bimo.data.sources import read_documents
from bimo.quickstart import built_in_text
from bimo.text.tokenizer import Tokenizer


def measure_text(text: str, rounds: int, vocab_size: int) -> dict[str, Any]:
    """The fields of one text."""
    import tokenizers

    tokenizer = Tokenizer.train("bpe", [text], vocab_size)
    with tempfile.TemporaryDirectory(prefix="bimo-bpe-") as folder:
        tokenizer.save(Path(folder))
        library = tokenizers.Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    lines = text.split("\n")

    def theirs(texts: list[str]) -> list[list[int]]:
        return [e.ids for e in library.encode_batch_fast(texts, add_special_tokens=False)]

    found: dict[str, Any] = {"megabytes": len(text.encode()) / 1e6, "vocab_size": tokenizer.vocabulary.size}
    found["equal"] = [ids.tolist() for ids in tokenizer.encode_batch(lines)] == theirs(lines) and tokenizer.encode(text) == theirs([text])[
        0
    ]
    forms = {
        "one": {"theirs": lambda: theirs([text]), "ours": lambda: tokenizer.encode_batch([text])},
        "lines": {"theirs": lambda: theirs(lines), "ours": lambda: tokenizer.encode_batch(lines)},
    }
    for form, sides in forms.items():
        seconds = {name: statistics.median(times) for name, times in interleaved(sides, rounds, warmup=1).items()}
        found |= {f"{name}_{form}_megabytes_per_s": found["megabytes"] / value for name, value in seconds.items()}
        found[f"ratio_{form}"] = seconds["theirs"] / seconds["ours"]
    return found


def measure(files: list[str], rounds: int, vocab_size: int = 8192) -> dict[str, Any]:
    """The fields of every text, by name."""
    chinese = data_folder() / "lm-zh-wiki" / "train.txt.gz"
    texts = {Path(f).name: "\n".join(d.text for d in read_documents([f])) for f in files}
    if not files:
        texts["python-manual"] = built_in_text()
        if chinese.is_file():
            texts["lm-zh-wiki"] = "\n".join(d.text for d in read_documents([str(chinese)]))
    return {name: measure_text(text, rounds, vocab_size) for name, text in texts.items()}


def main() -> None:
    """Read the options, print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="texts of your own")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(json.dumps(measure(options.files, options.rounds), indent=2))


if __name__ == "__main__":
    main()
