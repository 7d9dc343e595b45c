"""Shared fixtures."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets (BIMO_DATA); tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("BIMO_DATA", _DEFAULT_DATA))
    if not (folder / "lm-ptb").is_dir():
        pytest.skip(f"no real data at {folder}; set BIMO_DATA")
    return folder


@pytest.fixture
def native_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done on a processor that multiplies bf16 in hardware, on any machine (only slower)."""
    from bimo.core import runtime

    monkeypatch.setattr(runtime, "bf16_is_native", lambda device: True)


@dataclass
class Ran:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


@pytest.fixture
def bimo_cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs `bimo WORDS…` in this process; `stdin` is what standard input holds."""

    def run(*words: object, stdin: bytes | None = None) -> Ran:
        from bimo.cli import main

        monkeypatch.setattr("sys.argv", ["bimo", *map(str, words)])
        capfd.readouterr()
        with tempfile.TemporaryFile() as held:
            held.write(stdin or b"")
            held.seek(0)
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(held))
            with pytest.raises(SystemExit) as ended:
                main()
        out, err = capfd.readouterr()
        code = ended.value.code
        return Ran(code if isinstance(code, int) else 0, out, err)

    return run


@pytest.fixture
def compare_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of a comparison work in this process, as each would in one of its own, which imports torch first."""
    from bimo.evaluation import compare

    monkeypatch.setattr(compare, "_in_a_process", lambda job: compare.work(json.loads(job)))


SMALL = ["model.layers=1", "model.width=16", "training.batch_size=4", "training.threads=1", "training.precision=fp32"]
SHAPES = {"decoder": ["model.heads=2", "model.context=16"], "ngram": ["model.order=3"]}


def small(family: str) -> list[str]:
    """Overrides that make a family small enough for a run of a second."""
    return SHAPES["ngram"] if family == "ngram" else [*SMALL, *SHAPES.get(family, ["training.context=8"])]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text (text.txt), a corpus by characters (corpus) and a finished small run of three families."""
    from pydoc_data.topics import topics

    from bimo import api

    folder = tmp_path_factory.mktemp("place")
    (folder / "text.txt").write_text("\n\n".join(topics[name] for name in sorted(topics))[:12_000], encoding="utf-8")
    api.prepare(folder / "text.txt", folder / "corpus", tokenizer="char")
    for family in ("ngram", "lstm", "decoder"):
        api.train(str(folder / "corpus"), family=family, out=folder / family, budget="4steps", overrides=small(family))
    return folder
