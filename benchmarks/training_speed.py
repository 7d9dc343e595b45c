"""Training steps of one architecture: a plain loop over transformers' GPT-2 and ours, step by step in turn, as one JSON object.

    python -m benchmarks.training_speed [--rounds 12] [--precision fp32|bf16]

6 layers, 6 heads, width 384, context 256, batch 16, vocabulary 8,192; the same weights, tokens and AdamW (fused on both sides), gradients
clipped at 1, no dropout. bf16 by autocast on both sides where the machine multiplies bf16 in hardware, fp32 on both otherwise.

Fields: parameters (of each side), first_loss_difference (before step 1: the same function), medians, ratio (theirs / ours), shares of
the machine's best matrix rate (6 floating-point operations a weight and token; attention's own products left out).
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.interleave import compared, interleaved, pick_precision
from bimo.core.recipe import TrainingSection
from bimo.data.batches import Batch
from bimo.models.decoder import Decoder, DecoderConfig
from bimo.text.vocabulary import Vocabulary
from bimo.training.objectives.base import training_step
from bimo.training.objectives.causal import causal_likelihood
from bimo.training.optimizers import make_optimizers
from bimo.training.plan import flops_per_token

AS_GPT2: dict[str, Any] = {
    "norm": "layer", "positions": "learned", "activation": "gelu_tanh", "qk_norm": False, "bias": True, "tied": True,
}  # fmt: skip


class Ours:
    """Our decoder and our training step."""

    def __init__(self, options: argparse.Namespace, precision: str) -> None:
        shape = {name: getattr(options, name) for name in ("layers", "heads", "width", "context")}
        self.model = Decoder.build(DecoderConfig(**shape, **AS_GPT2), Vocabulary(options.vocab)).train()
        self.precision, self.optimizers = precision, make_optimizers(self.model, TrainingSection(learning_rate=1e-4))

    def step(self, tokens: torch.Tensor) -> float:
        """One step on tokens [B, T+1]; mean nats."""
        inside = torch.zeros(tokens.shape[0], tokens.shape[1] - 1, dtype=torch.bool)
        made = training_step(causal_likelihood, self.model, [Batch(tokens, inside, ~inside)], None, self.precision)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return made.nats / made.targets


class Theirs:
    """transformers' GPT-2 with our weights, in the loop that everyone writes."""

    def __init__(self, ours: Decoder, precision: str) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "use_cache": False}
        self.model = GPT2LMHeadModel(GPT2Config(**{**ours.config_dict(), **none})).train()
        missing, unknown = self.model.load_state_dict({k: t.clone() for k, t in ours.tensors().items()}, strict=False)
        if unknown or set(missing) - {"lm_head.weight"}:
            raise ValueError(f"GPT-2's tensors differ from ours: missing {missing}, unknown {unknown}")
        self.model.tie_weights()
        self.precision = precision
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step(self, tokens: torch.Tensor) -> float:
        """One step on tokens [B, T+1]; mean nats."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.model(input_ids=tokens[:, :-1]).logits
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All fields of the module's documentation."""
    torch.manual_seed(0)
    precision = pick_precision(options.precision)
    ours = Ours(options, precision)
    theirs = Theirs(ours.model, precision)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(options.vocab, (options.batch, options.context + 1), generator=generator)
    first = {"ours": ours.step(tokens), "theirs": theirs.step(tokens)}
    seconds = interleaved({"theirs": lambda: theirs.step(tokens), "ours": lambda: ours.step(tokens)}, options.rounds, options.warmup)
    fed = options.batch * options.context
    return {
        "ours_parameters": ours.model.parameter_count(),
        "theirs_parameters": theirs.model.num_parameters(),
        "first_loss_difference": abs(first["ours"] - first["theirs"]),
        **compared(seconds, fed, precision, flops_per_token(ours.model) * fed),
    }


def parser() -> argparse.ArgumentParser:
    """The options, whose defaults are the measured setting."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {
        "layers": 6,
        "heads": 6,
        "width": 384,
        "context": 256,
        "batch": 16,
        "vocab": 8192,
        "rounds": 12,
        "warmup": 2,
    }.items():
        asked.add_argument(f"--{name}", type=int, default=value)
    asked.add_argument("--precision", choices=("fp32", "bf16"))
    return asked


if __name__ == "__main__":
    print(json.dumps(measure(parser().parse_args()), indent=2))
