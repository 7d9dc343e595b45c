"""tinyshakespeare as nanoGPT splits it, and the one evaluator that measures every side's final weights on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

SOURCE = "lm-tinyshakespeare/input.txt"


def split(source: Path, folder: Path) -> tuple[Path, Path]:
    """The first 90 % of the characters and the rest, as two files in `folder`."""
    text = source.read_text(encoding="utf-8")
    cut = int(len(text) * 0.9)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "train.txt", folder / "valid.txt"
    for path, part in zip(paths, (text[:cut], text[cut:]), strict=True):
        path.write_text(part, encoding="utf-8")
    return paths


@torch.no_grad()
def validation_loss(logits: Callable[[Tensor], Tensor], ids: Tensor, context: int, rows: int = 64) -> float:
    """Mean nats of every id but the first, in windows of `context` fed ids without overlap.

    logits: tokens int64 [B, T] to [B, T, V]; ids: int64 [N].

    >>> round(validation_loss(lambda x: torch.zeros(*x.shape, 8), torch.arange(8), 3), 4)  # ln 8
    2.0794
    """
    whole = (len(ids) - 1) // context
    fed, wanted = (ids[i : i + whole * context].view(whole, context) for i in (0, 1))
    parts = list(zip(fed.split(rows), wanted.split(rows), strict=True)) if whole else []
    if whole * context < len(ids) - 1:
        parts.append((ids[None, whole * context : -1], ids[None, whole * context + 1 :]))
    nats = sum(float(F.cross_entropy(logits(x).flatten(0, 1).float(), y.flatten(), reduction="sum")) for x, y in parts)
    return nats / (len(ids) - 1)


def loss_of_run(folder: Path, valid: Path) -> tuple[float, int]:
    """`validation_loss` of a finished run of Bimo, in windows of its training length; and the characters that are scored."""
    import bimo

    bundle = bimo.load(folder).bundle
    model = bundle.model
    ids = torch.tensor(bundle.tokenizer.encode(valid.read_text(encoding="utf-8")))
    context = bundle.context or len(ids)
    return validation_loss(lambda x: model.advance(model.start(len(x)), x)[0], ids, context), len(ids) - 1
