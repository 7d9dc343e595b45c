"""What the report tells of a run beside its figures: the text, the machine, how the loss fell."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bimo.core import runtime, store
from bimo.data.corpus import Corpus
from bimo.data.split import Split
from bimo.evaluation.results import Machine, Point, SplitFacts, TextFacts, TokenizerFacts
from bimo.text.words import guess_language


def curve(folder: Path, valid: Split | None) -> list[Point]:
    """The points of a run's metrics.jsonl; losses in bits per byte too where validation text tells how many tokens a byte has."""
    ratio = valid.scored_tokens / valid.bytes / math.log(2) if valid is not None and valid.bytes else None
    points = []
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if "loss" in record or "valid_loss" in record:
            loss = record.get("valid_loss")
            points.append(
                Point(
                    step=record["step"], tokens=record["tokens"], seconds=record["seconds"], train_loss=record.get("loss"),
                    valid_loss=loss, valid_bits_per_byte=loss * ratio if loss is not None and ratio else None,
                )
            )  # fmt: skip
    return points


def text_facts(corpus: Corpus, name: str, sources: Sequence[str] = ()) -> TextFacts:
    """What the report tells of the text."""
    beginning = corpus.splits["train"].read(0, 4000).tolist()
    manifest = corpus.manifest
    reading = manifest["reading"]
    return TextFacts(
        name=name,
        measured=_measured(corpus),
        sources=[store.printable(source) for source in sources],
        language=guess_language(corpus.tokenizer.decode(beginning, stream=corpus.documents == "stream")),
        documents=corpus.documents,
        tokenizer=TokenizerFacts(
            kind=corpus.tokenizer.kind, vocab_size=corpus.tokenizer.vocabulary.size, fingerprint=corpus.tokenizer.fingerprint
        ),
        splits={n: SplitFacts(documents=s.documents, tokens=s.tokens, bytes=s.bytes) for n, s in corpus.splits.items()},
        read=[{k: f[k] for k in ("name", "format", "encoding", "documents", "bytes")} for r in reading.values() for f in r["files"]],  # type: ignore[misc]
        skipped=[s for r in reading.values() for s in r["skipped"]],  # type: ignore[misc]
        notices=manifest["summary"],
    )


def _measured(corpus: Corpus) -> str:
    """The name of the file that the test text (validation text, if there is no test) was read from; nothing where it was held out."""
    own = corpus.manifest["reading"].get("test" if "test" in corpus.splits else "valid", {"files": []})
    files = [Path(file["name"]).name for file in own["files"]]
    return f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else files[0] if files else ""


def machine_facts() -> Machine:
    """What the report tells of the machine."""
    e = runtime.environment()
    return Machine(
        cpu=e["processor"], cores=e["cores"], threads=runtime.cores(), memory_bytes=e["memory_bytes"], torch=e["torch"],
        python=e["python"], system=e["system"], bimo=e["bimo"], date=datetime.now(UTC).date().isoformat(),
    )  # fmt: skip
