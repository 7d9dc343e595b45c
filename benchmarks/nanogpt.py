"""nanoGPT's own CPU recipe for tinyshakespeare, written again plainly: time from process start to a validation loss.

From the README and config/train_shakespeare_char.py of github.com/karpathy/nanoGPT: 4 layers, 4 heads, width 128, context 64, batch 12,
2,000 steps, no dropout, no biases, tied embeddings, AdamW (0.9, 0.99) at 1e-3 falling by a cosine to 1e-4 after 100 steps of
warm-up, weight decay 0.1 on matrices, gradients clipped at 1, fp32, no compilation. `benchmarks.nanogpt_cpu` runs it beside ours.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.shakespeare import validation_loss


class Block(nn.Module):
    """GPT-2's block: x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = (nn.LayerNorm(width, bias=False) for _ in range(2))
        self.attend, self.project = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.widen, self.narrow = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        B, T, D = x.shape
        q, k, v = (a.view(B, T, self.heads, D // self.heads).transpose(1, 2) for a in self.attend(self.norm_1(x)).split(D, dim=2))
        x = x + self.project(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, D))
        return x + self.narrow(F.gelu(self.widen(self.norm_2(x))))


class GPT(nn.Module):
    """GPT-2 without biases."""

    def __init__(self, vocab: int, context: int, layers: int, heads: int, width: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, 0.0, 0.02 / math.sqrt(2 * layers) if name.endswith(("project.weight", "narrow.weight")) else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [B, T, V] of ids int64 [B, T]."""
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.tokens.weight)


def learning_rate(step: int, steps: int, warmup: int = 100, peak: float = 1e-3, lowest: float = 1e-4) -> float:
    """Linear warm-up, then a cosine down to `lowest` at `steps`."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return lowest + 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) * (peak - lowest)


def train(folder: Path, options: argparse.Namespace, started: float) -> dict[str, object]:
    """Learn until the whole validation text's loss is at the target; evaluation is left out of the clock."""
    torch.manual_seed(options.seed)
    texts = [(folder / f"{name}.txt").read_text(encoding="utf-8") for name in ("train", "valid")]
    number = {c: i for i, c in enumerate(sorted(set("".join(texts))))}
    ids, valid = (torch.tensor([number[c] for c in text]) for text in texts)
    context, batch = options.context, options.batch
    model = GPT(len(number), context, options.layers, options.heads, options.width)
    matrices, vectors = ([p for p in model.parameters() if (p.dim() >= 2) == two] for two in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    left_out, curve = 0.0, []
    for step in range(1, options.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step - 1, options.steps)
        starts = torch.randint(len(ids) - context, (batch,))
        x, y = (torch.stack([ids[s + i : s + i + context] for s in starts]) for i in (0, 1))
        F.cross_entropy(model(x).view(-1, len(number)), y.view(-1)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step == options.steps or (step >= options.check_from and step % options.check_every == 0):
            seconds, begin = time.monotonic() - started - left_out, time.monotonic()
            curve.append({"step": step, "seconds": seconds, "loss": validation_loss(model, valid, context)})
            left_out += time.monotonic() - begin
            if curve[-1]["loss"] <= options.target:
                break
    return {**curve[-1], "reached": curve[-1]["loss"] <= options.target, "curve": curve}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The recipe, so that a smaller one can be tried; and how often the loss is looked at."""
    for name, value in {"layers": 4, "heads": 4, "width": 128, "context": 64, "batch": 12, "steps": 2000}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--target", type=float, default=1.88, help="nats a character, of the whole validation text")
    parser.add_argument("--check-every", type=int, default=50, help="steps between looks at the loss")
    parser.add_argument("--check-from", type=int, default=1000, help="first step at which it is looked at")
    parser.add_argument("--seed", type=int, default=0)


def main() -> None:
    """One run; prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds train.txt and valid.txt")
    parser.add_argument("--started", type=float, default=time.monotonic(), help="time.monotonic() when the process was started")
    add_options(parser)
    options = parser.parse_args()
    print(json.dumps(train(options.folder, options, options.started)))


if __name__ == "__main__":
    main()
