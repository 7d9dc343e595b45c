"""Training steps of an encoder–decoder: a plain loop over torch.nn.Transformer and ours, step by step in turn, as one JSON object.

    python -m benchmarks.translation_speed [--rounds 30] [--precision fp32|bf16] [--post-norm]

3 + 3 layers, 4 heads, width 256, feed-forward 1,024, vocabulary 8,000 shared and tied, 64 pairs a batch; the same weights, AdamW (fused)
and clipping at 1 on both sides, no dropout. The sentences are random; their lengths are about multi30k's (a text of 6 to 40 tokens, 15 on
average, its source longer or shorter by a few). bf16 by autocast on both sides where the machine multiplies it in hardware, fp32 otherwise.

Three sides: `ours`, with the batches that Bimo makes; `theirs`, with the same batches; `theirs_shuffled`, with what a loader makes that
shuffles pairs and pads each batch to its longest, as everyone's does.

Fields: parameters (of each side), first_loss_difference (before step 1: the same function), medians, ratio (theirs / ours, the same
batches), ratio_shuffled (text tokens a second, padding left out: ours / theirs_shuffled).
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.interleave import compared, interleaved, pick_precision
from bimo.core.recipe import TrainingSection
from bimo.data.batches import Batch, Given
from bimo.data.rows import DocumentBatches, gather_documents
from bimo.data.split import Split
from bimo.models.seq2seq import Seq2Seq, Seq2SeqConfig
from bimo.text.vocabulary import Vocabulary
from bimo.training.objectives.base import training_step
from bimo.training.objectives.causal import causal_likelihood
from bimo.training.optimizers import make_optimizers


class Ours:
    """Our encoder–decoder and our training step."""

    def __init__(self, options: argparse.Namespace, precision: str) -> None:
        config = Seq2SeqConfig(
            encoder_layers=options.layers, decoder_layers=options.layers, heads=options.heads, width=options.width,
            feed_forward=options.feed_forward, norm_first=not options.post_norm, final_norm=True, dropout=0.0,
        )  # type: ignore[call-arg]  # fmt: skip
        self.model = Seq2Seq.build(config, Vocabulary(options.vocab)).train()
        self.precision, self.optimizers = precision, make_optimizers(self.model, TrainingSection(learning_rate=1e-4))

    def step(self, batch: Batch) -> float:
        """One step; mean nats."""
        made = training_step(causal_likelihood, self.model, [batch], None, self.precision)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return made.nats / made.targets


@torch.no_grad()
def torch_transformer(model: Seq2Seq) -> nn.Transformer:
    """torch.nn.Transformer with the weights of our two stacks (layer norms, relu or gelu, biases), without dropout."""
    c = model.config
    made = nn.Transformer(
        c.width, c.heads, c.encoder_layers, c.decoder_layers, c.inner, 0.0, c.activation, layer_norm_eps=c.norm_epsilon,
        batch_first=True, norm_first=c.norm_first, dtype=model.embedding.weight.dtype,
    )  # fmt: skip
    if not c.last_norm:  # torch adds a norm after a post-norm stack, which Vaswani's has not
        made.encoder.norm = made.decoder.norm = None
    stacks: Any = [(model.encoder, made.encoder, model.encoder_norm), (model.decoder, made.decoder, model.decoder_norm)]
    for blocks, theirs, last_norm in stacks:
        for ours, layer in zip(blocks, theirs.layers, strict=True):
            norms = [ours.attention_norm, ours.feed_forward_norm]
            _copy_attention(layer.self_attn, [ours.attention.qkv], ours.attention.out)
            if hasattr(ours, "cross"):
                norms.insert(1, ours.cross_norm)
                _copy_attention(layer.multihead_attn, [ours.cross.query, ours.cross.key_value], ours.cross.out)
            layer.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
            layer.linear2.load_state_dict(ours.feed_forward.outer.state_dict())
            for number, norm in enumerate(norms, 1):
                getattr(layer, f"norm{number}").load_state_dict(norm.state_dict())
        if theirs.norm is not None:
            theirs.norm.load_state_dict(last_norm.state_dict())
    return made


def _copy_attention(theirs: nn.MultiheadAttention, inputs: list[nn.Linear], out: nn.Linear) -> None:
    theirs.in_proj_weight.copy_(torch.cat([part.weight for part in inputs]))
    theirs.in_proj_bias.copy_(torch.cat([part.bias for part in inputs]))
    theirs.out_proj.load_state_dict(out.state_dict())


class Theirs(nn.Module):
    """torch.nn.Transformer with our weights, in the loop that everyone writes (pytorch/tutorials, translation_transformer)."""

    def __init__(self, ours: Seq2Seq, precision: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(ours.embedding.weight.detach().clone(), freeze=False)
        self.transformer = torch_transformer(ours).train()
        self.waves = ours.waves.clone()
        self.precision = precision
        self.optimizer = torch.optim.AdamW(self.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def _embed(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens) * self.embedding.embedding_dim**0.5 + self.waves[: tokens.shape[1]]

    def step(self, batch: Batch) -> float:
        """One step; mean nats."""
        assert batch.given is not None
        tokens, source = batch.tokens[:, :-1], batch.given.tokens
        targets = batch.tokens[:, 1:].masked_fill(~batch.targets_scored, -100)
        source_padding = torch.arange(source.shape[1]) >= batch.given.lengths[:, None]
        ahead = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).triu(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            hidden = self.transformer(
                self._embed(source), self._embed(tokens), tgt_mask=ahead, src_key_padding_mask=source_padding,
                tgt_key_padding_mask=~F.pad(batch.targets_scored[:, :-1], (1, 0), value=True), memory_key_padding_mask=source_padding,
            )  # fmt: skip
            logits = F.linear(hidden, self.embedding.weight)
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


def sentences(options: argparse.Namespace) -> Split:
    """Pairs of random sentences with the lengths of the module's documentation."""
    generator = np.random.default_rng(0)
    texts = generator.normal(15, 4.5, options.pairs).clip(6, 40).round().astype(np.int64)
    sources = (texts + generator.normal(0, 2.5, options.pairs).round().astype(np.int64)).clip(4, 44)
    made = []
    for lengths in (sources, texts):
        tokens = generator.integers(0, options.vocab, int(lengths.sum()))
        made.append(Split("pairs", [tokens], np.concatenate([[0], lengths.cumsum()[:-1]]), lengths))
    made[1].given = made[0]
    return made[1]


def shuffled(split: Split, batch_size: int) -> Iterator[Batch]:
    """Batches as a shuffling loader makes them."""
    generator = np.random.default_rng(1)
    while True:
        for rows in generator.permutation(split.documents).reshape(-1, batch_size):
            assert split.given is not None
            tokens, lengths = gather_documents(split, rows)
            scored = torch.arange(1, tokens.shape[1]) < lengths[:, None]
            yield Batch(tokens, torch.zeros_like(scored), scored, True, Given(*gather_documents(split.given, rows)))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All fields of the module's documentation."""
    torch.manual_seed(0)
    precision = pick_precision(options.precision)
    ours = Ours(options, precision)
    theirs = Theirs(ours.model, precision)
    split = sentences(options)
    source = DocumentBatches(split, options.batch, None)
    own = [source.batch(0, i % source.steps_per_epoch) for i in range(options.warmup + options.rounds)]
    loaded = list(itertools.islice(shuffled(split, options.batch), len(own)))
    first = abs(ours.step(own[0]) - theirs.step(own[0]))
    fed = {"theirs": iter(own), "theirs_shuffled": iter(loaded), "ours": iter(own)}
    sides = {
        name: partial(lambda step, batches: step(next(batches)), ours.step if name == "ours" else theirs.step, fed[name]) for name in fed
    }
    seconds = interleaved(sides, options.rounds, options.warmup)
    tokens = {name: sum(b.count for b in batches[options.warmup :]) for name, batches in (("ours", own), ("theirs_shuffled", loaded))}
    speed = {name: tokens[name] / sum(seconds[name]) for name in tokens}
    return {
        "ours_parameters": ours.model.parameter_count(),
        "theirs_parameters": sum(p.numel() for p in theirs.parameters()),
        "first_loss_difference": first,
        **compared(seconds, tokens["ours"] // options.rounds, precision),
        "ratio_shuffled": speed["ours"] / speed["theirs_shuffled"],
    }


def parser() -> argparse.ArgumentParser:
    """The options, whose defaults are the measured setting."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    setting = {"layers": 3, "heads": 4, "width": 256, "feed-forward": 1024, "vocab": 8000, "batch": 64, "pairs": 4096, "rounds": 30}
    for name, value in {**setting, "warmup": 3}.items():
        asked.add_argument(f"--{name}", type=int, default=value)
    asked.add_argument("--post-norm", action="store_true")
    asked.add_argument("--precision", choices=("fp32", "bf16"))
    return asked


if __name__ == "__main__":
    print(json.dumps(measure(parser().parse_args()), indent=2))
