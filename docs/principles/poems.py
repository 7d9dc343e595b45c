"""Ten short poems and a short way to learn them, for the pages that show a trained model go right and wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bimo.core import registry
from bimo.core.validation import validated
from bimo.models.base import NeuralLanguageModel
from bimo.text.tokenizer import Tokenizer
from bimo.training.cross_entropy import chunked_cross_entropy

FILE = Path(__file__).with_name("poem.txt")
POEMS = [poem.strip("\n") for poem in FILE.read_text(encoding="utf-8").split("\n\n")]
TOKENIZER = Tokenizer.train("char", POEMS)
ROWS = torch.from_numpy(np.stack([TOKENIZER.encode_document(poem) for poem in POEMS]))  # [10, 27], <s> … </s>


def fresh(family: str, **fields: Any) -> NeuralLanguageModel:
    """A fresh model of a family over the poems' characters, always the same."""
    torch.manual_seed(0)
    row = registry.family(family)
    kind = row.load()
    return kind.build(validated(kind.Config, {**fields, **row.preset}, "model"), TOKENIZER.vocabulary)


def learn(model: NeuralLanguageModel, inputs: Tensor, targets: Tensor, steps: int) -> float:
    """Learn targets [B, T] at the places of inputs [B, T] with AdamW at 0.01; the last mean nats. Nothing is held out."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    model.train()
    nats = torch.zeros(())
    for _ in range(steps):
        hidden, _ = model.hidden(inputs)
        weight, bias = model.head()
        nats = chunked_cross_entropy(hidden.flatten(0, 1), weight, bias, targets.flatten()) / targets.numel()
        optimizer.zero_grad()
        nats.backward()
        optimizer.step()
    model.eval()
    return float(nats.detach())
