"""Training steps of an encoder: a plain loop over transformers' BERT and ours, step by step in turn, as one JSON object.

    python -m benchmarks.encoder_speed [--rounds 12] [--precision fp32|bf16]

6 layers, 6 heads, width 384, windows of 128 tokens, batch 32, vocabulary 8,192; the same weights, tokens, hidden places (15 %, of them
80 / 10 / 10) and AdamW (fused on both sides), gradients clipped at 1, no dropout. The plain loop tells every token and leaves all but the
hidden ones out of its loss, as `DataCollatorForLanguageModeling` and `BertForMaskedLM` have it; ours tells the hidden ones. bf16 by
autocast on both sides where the machine multiplies bf16 in hardware, fp32 on both otherwise.

Fields: parameters (of each side), first_loss_difference (before step 1: the same function), medians, ratio (theirs / ours).
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from torch import nn

from benchmarks.interleave import compared, interleaved, pick_precision
from bimo.core.recipe import TrainingSection
from bimo.data.masking import MaskedBatch
from bimo.models.encoder import Encoder, EncoderConfig
from bimo.text.vocabulary import Vocabulary
from bimo.training.objectives.base import training_step
from bimo.training.objectives.masked import masked_likelihood
from bimo.training.optimizers import make_optimizers

AS_BERT: dict[str, Any] = {
    "norm": "layer", "norm_first": False, "embedding_norm": True, "positions": "learned", "token_types": 2, "activation": "gelu",
    "bias": True, "mask_token_id": 0,
}  # fmt: skip


class Ours:
    """Our encoder and our training step."""

    def __init__(self, options: argparse.Namespace, precision: str) -> None:
        shape = {name: getattr(options, name) for name in ("layers", "heads", "width", "context")}
        self.model = Encoder.build(EncoderConfig(**shape, **AS_BERT), Vocabulary(options.vocab)).train()
        self.precision, self.optimizers = precision, make_optimizers(self.model, TrainingSection(learning_rate=1e-4))

    def step(self, batch: MaskedBatch) -> float:
        """One step; mean nats of the hidden tokens."""

        def likelihood(model: Any, batch: Any, carry: Any) -> Any:
            return masked_likelihood(model, batch)

        made = training_step(likelihood, self.model, [batch], None, self.precision)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return made.nats / made.targets


class Theirs:
    """transformers' BertForMaskedLM with our weights, in the loop that everyone writes."""

    def __init__(self, ours: Encoder, precision: str) -> None:
        from transformers import BertConfig, BertForMaskedLM

        self.model = BertForMaskedLM(BertConfig(**ours.config_dict())).train()
        missing, unknown = self.model.load_state_dict({k: t.clone() for k, t in ours.tensors().items()}, strict=False)
        if unknown or set(missing) - {"cls.predictions.decoder.weight"}:
            raise ValueError(f"BERT's tensors differ from ours: missing {missing}, unknown {unknown}")
        self.model.tie_weights()
        self.precision = precision
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step(self, batch: MaskedBatch) -> float:
        """One step; mean nats of the hidden tokens."""
        labels = torch.full(batch.tokens.shape, -100)
        labels.view(-1)[batch.places] = batch.targets
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            loss = self.model(input_ids=batch.tokens, labels=labels).loss
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


def hidden_batch(options: argparse.Namespace) -> MaskedBatch:
    """Random windows, 15 % of their tokens hidden; each row is one document."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(1, options.vocab, (options.batch, options.context), generator=generator)
    places = torch.randperm(text.numel(), generator=generator)[: round(0.15 * text.numel())].sort().values
    tokens, targets = text.clone(), text.view(-1)[places]
    draw = torch.rand(len(places), generator=generator)
    other = torch.randint(1, options.vocab, (len(places),), generator=generator)
    tokens.view(-1)[places] = torch.where(draw < 0.8, 0, torch.where(draw < 0.9, other, targets))
    boundaries = torch.zeros(text.shape, dtype=torch.bool)
    boundaries[:, 0] = True
    return MaskedBatch(tokens, boundaries, places, targets, read=tokens.numel())


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All fields of the module's documentation."""
    torch.manual_seed(0)
    precision = pick_precision(options.precision)
    ours = Ours(options, precision)
    theirs = Theirs(ours.model, precision)
    batch = hidden_batch(options)
    first = abs(ours.step(batch) - theirs.step(batch))
    seconds = interleaved({"theirs": lambda: theirs.step(batch), "ours": lambda: ours.step(batch)}, options.rounds, options.warmup)
    return {
        "ours_parameters": ours.model.parameter_count(),
        "theirs_parameters": theirs.model.num_parameters(),
        "first_loss_difference": first,
        **compared(seconds, options.batch * options.context, precision),
    }


def parser() -> argparse.ArgumentParser:
    """The options, whose defaults are the measured setting."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    setting = {"layers": 6, "heads": 6, "width": 384, "context": 128, "batch": 32, "vocab": 8192, "rounds": 12, "warmup": 2}
    for name, value in setting.items():
        asked.add_argument(f"--{name}", type=int, default=value)
    asked.add_argument("--precision", choices=("fp32", "bf16"))
    return asked


if __name__ == "__main__":
    print(json.dumps(measure(parser().parse_args()), indent=2))
