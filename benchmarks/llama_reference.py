"""What llama.cpp says of small models that Bimo writes as GGUF: to be recorded here and compared in the tests.

`python -m benchmarks.llama_reference` writes the record, where llama-cpp-python is installed; the tests need no llama.cpp to read it, and
are skipped while there is none.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bimo.core import store
from bimo.model import Model
from bimo.models.bundle import Bundle
from bimo.models.decoder import Decoder, DecoderConfig
from bimo.text.tokenizer import Tokenizer

RECORD = Path(__file__).resolve().parents[1] / "tests" / "models" / "interop" / "llama_cpp.json"
_SMALL = {"layers": 2, "heads": 4, "kv_heads": 2, "width": 64, "feed_forward": 96, "context": 64, "qk_norm": False, "tied": False}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": _SMALL,
    "qwen2": {**_SMALL, "bias": "qkv"},
    "qwen3": {**_SMALL, "qk_norm": True},
    "gpt2": {**_SMALL, "kv_heads": 4, "feed_forward": 256, "norm": "layer", "positions": "learned", "activation": "gelu_tanh", "bias": True,
             "tied": True},
}  # fmt: skip
DTYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")
TEXT = "To be, or not to be: that is the question. 你好，世界。 "
WRITTEN = 16  # tokens


def small_model(shape: str) -> Bundle:
    """A model whose weights are numpy's numbers of seed 0, the same in every version."""
    tokenizer = Tokenizer.train("bpe", [TEXT * 30], 320)
    model = Decoder.build(DecoderConfig(**SHAPES[shape]), tokenizer.vocabulary)
    generator = np.random.default_rng(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            drawn = torch.from_numpy(generator.standard_normal(tuple(parameter.shape)))
            parameter.copy_(1 + 0.1 * drawn if "norm" in name and parameter.dim() == 1 else drawn / math.sqrt(parameter.shape[-1]))
    return Bundle(model, tokenizer)


def files(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """(shape, dtype, file) of every model, written by Bimo."""
    for shape in SHAPES:
        bundle = small_model(shape)
        for dtype in DTYPES:
            path = folder / f"{shape}-{dtype}.gguf"
            Model(bundle).export(path, dtype)
            yield shape, dtype, path


def told(path: Path) -> dict[str, Any]:
    """What llama.cpp makes of a file: ids of the text, its last token's log-probabilities, the likeliest tokens that follow."""
    from llama_cpp import Llama

    llama = Llama(str(path), n_ctx=64, logits_all=True, verbose=False, type_k=0, type_v=0)  # keys and values as F32, not rounded to F16
    ids = [int(i) for i in llama.tokenize(TEXT.encode(), add_bos=False)][:32]
    llama.eval(ids)
    last = torch.log_softmax(torch.from_numpy(np.array(llama.scores[len(ids) - 1])).double(), dim=-1)
    llama.reset()
    written: list[int] = []
    for token in llama.generate(ids, temp=0.0, top_k=1):
        written.append(int(token))
        if len(written) == WRITTEN:
            break
    return {"ids": ids, "logs": [round(float(x), 5) for x in last], "written": written}


def main() -> None:
    """Record what the installed llama.cpp says."""
    import llama_cpp

    found: dict[str, Any] = {"by": f"llama-cpp-python {llama_cpp.__version__}", "text": TEXT, "models": {}}
    with tempfile.TemporaryDirectory(prefix="bimo-llama-") as folder:
        for shape, dtype, path in files(Path(folder)):
            found["models"].setdefault(shape, {})[dtype] = told(path)
    store.write_text(RECORD, json.dumps(found, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
