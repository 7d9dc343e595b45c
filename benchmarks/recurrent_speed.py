"""Training steps of an LSTM: a plain loop over torch.nn.LSTM and ours, step by step in turn, as one JSON object.

    python -m benchmarks.recurrent_speed [--rounds 30] [--precision fp32|bf16]

2 layers of 320 units, tied embeddings, vocabulary 10,000, batch 20, windows of 35 tokens with carried state, no dropout, fused AdamW and
clipping at 1 on both sides. torch's LSTM has a second bias a gate, which adds to the same sum: parameters are told for both.

Fields: parameters (of each side), medians, ratio (theirs / ours).
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.interleave import compared, interleaved, pick_precision
from bimo.core.recipe import TrainingSection
from bimo.data.batches import Batch
from bimo.models.recurrent import Recurrent, RecurrentConfig
from bimo.text.vocabulary import Vocabulary
from bimo.training.objectives.base import training_step
from bimo.training.objectives.causal import causal_likelihood
from bimo.training.optimizers import make_optimizers


class Ours:
    """Our LSTM and our training step."""

    def __init__(self, options: argparse.Namespace, precision: str) -> None:
        config = RecurrentConfig(cell="lstm", layers=options.layers, width=options.width)  # type: ignore[call-arg]
        self.model = Recurrent.build(config, Vocabulary(options.vocab)).train()
        self.precision, self.optimizers, self.carry = precision, make_optimizers(self.model, TrainingSection()), None

    def step(self, tokens: Tensor) -> float:
        """One step on tokens [B, T+1]; mean nats."""
        inside = torch.zeros(tokens.shape[0], tokens.shape[1] - 1, dtype=torch.bool)
        made = training_step(causal_likelihood, self.model, [Batch(tokens, inside, ~inside)], self.carry, self.precision)
        self.carry = made.carry
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return made.nats / made.targets


class Theirs(nn.Module):
    """torch.nn.LSTM in the loop that everyone writes (pytorch/examples, word_language_model)."""

    def __init__(self, options: argparse.Namespace, precision: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(options.vocab, options.width)
        self.lstm = nn.LSTM(options.width, options.width, options.layers, batch_first=True)
        self.bias = nn.Parameter(torch.zeros(options.vocab))
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.precision, self.carry = precision, None
        self.optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step(self, tokens: Tensor) -> float:
        """One step on tokens [B, T+1]; mean nats."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            hidden, carry = self.lstm(self.embedding(tokens[:, :-1]), self.carry)
            logits = F.linear(hidden, self.embedding.weight, self.bias)
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.carry = tuple(c.detach() for c in carry)
        return loss.item()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All fields of the module's documentation."""
    torch.manual_seed(0)
    precision = pick_precision(options.precision)
    ours, theirs = Ours(options, precision), Theirs(options, precision)
    tokens = torch.randint(options.vocab, (options.batch, options.context + 1), generator=torch.Generator().manual_seed(0))
    seconds = interleaved({"theirs": lambda: theirs.step(tokens), "ours": lambda: ours.step(tokens)}, options.rounds, options.warmup)
    return {
        "ours_parameters": ours.model.parameter_count(),
        "theirs_parameters": sum(p.numel() for p in theirs.parameters()),
        **compared(seconds, options.batch * options.context, precision),
    }


def parser() -> argparse.ArgumentParser:
    """The options, whose defaults are the measured setting."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    setting = {"layers": 2, "width": 320, "context": 35, "batch": 20, "vocab": 10_000, "rounds": 30, "warmup": 3}
    for name, value in setting.items():
        asked.add_argument(f"--{name}", type=int, default=value)
    asked.add_argument("--precision", choices=("fp32", "bf16"))
    return asked


if __name__ == "__main__":
    print(json.dumps(measure(parser().parse_args()), indent=2))
