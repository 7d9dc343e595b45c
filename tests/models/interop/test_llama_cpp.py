"""What Bimo writes as GGUF, and reads again, is what llama.cpp makes of the same file: against a record of its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.llama_reference import DTYPES, RECORD, SHAPES, TEXT, WRITTEN, small_model
from bimo.model import Model
from bimo.models.bundle import Bundle

if not RECORD.exists():
    pytest.skip("llama.cpp's figures are not recorded yet: python -m benchmarks.llama_reference", allow_module_level=True)
MODELS: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))["models"]
CLOSE = {"f32": 1e-4, "f16": 5e-3, "bf16": 0.05, "q8_0": 0.15, "q4_0": 0.15}  # llama.cpp rounds the states to the weights' precision, too
GELU = 2e-3  # of a table of half precision, in which llama.cpp looks it up


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_ids_the_same_chances_the_same_tokens(shape: str, dtype: str, folder: Path) -> None:
    theirs, path = MODELS[shape][dtype], folder / f"{shape}-{dtype}.gguf"
    Model(small_model(shape)).export(path, dtype)
    bundle = Bundle.load(path)
    ids = bundle.tokenizer.encode(TEXT)[:32]
    assert ids == theirs["ids"]
    logits, state = bundle.model.advance(bundle.model.start(1), torch.tensor([ids]), keep="last")
    told = logits[0, -1] > float("-inf")  # llama.cpp knows no tokens that are never written, <pad> and <s> here
    assert int((~told).sum()) == 2
    expected = torch.log_softmax(torch.tensor(theirs["logs"], dtype=torch.float64)[told], dim=-1)
    ours = torch.log_softmax(logits[0, -1].double()[told], dim=-1)
    assert float((expected.exp() * (expected - ours)).sum()) < (1e-8 if dtype == "f32" and shape != "gpt2" else 1e-3), "KL"
    close = max(CLOSE[dtype], GELU) if shape == "gpt2" else CLOSE[dtype]
    assert torch.allclose(ours, expected, rtol=0, atol=close)
    if dtype in ("f32", "f16"):
        written: list[int] = []
        while len(written) < WRITTEN:
            written.append(int(logits[0, -1].argmax()))
            logits, state = bundle.model.advance(state, torch.tensor([written[-1:]]))
        assert written == theirs["written"]
