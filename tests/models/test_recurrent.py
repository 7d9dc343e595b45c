"""Recurrent models: one state whether read at once, step by step or for learning."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from bimo.models.kernels.recurrent import Cell
from bimo.models.recurrent import Recurrent, RecurrentConfig
from bimo.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary(13, bos=0, eos=1, suppressed=(0,))
CELLS = get_args(Cell)
VARIANTS = [{}, {"embedding": 5}, {"embedding": 5, "tied": False, "layers": 3}]


def make(cell: str, seed: int = 0, **fields: object) -> Recurrent:
    torch.manual_seed(seed)
    model = Recurrent.build(RecurrentConfig(cell=cell, width=7, **fields), VOCABULARY).double()
    for parameter in model.parameters():  # biases away from zero, weights large enough to matter
        torch.nn.init.uniform_(parameter, -0.7, 0.7)
    return model


def near(a: torch.Tensor, b: torch.Tensor) -> bool:
    assert (a[..., 0] == -torch.inf).all()
    return torch.allclose(a[..., 1:], b[..., 1:], rtol=0, atol=1e-9)


@pytest.mark.parametrize("fields", VARIANTS)
@pytest.mark.parametrize("cell", CELLS)
def test_steps_bulk_and_hidden_agree(cell, fields):
    model = make(cell, **fields)
    tokens = torch.randint(0, 13, (3, 9))
    bulk, _ = model.advance(model.start(3), tokens)
    state, steps = model.start(3), []
    for t in range(9):
        logits, state = model.advance(state, tokens[:, t : t + 1])
        steps.append(logits)
    assert near(torch.cat(steps, 1), bulk)
    assert near(model.logits(model.hidden(tokens)[0]).detach(), bulk)


@pytest.mark.parametrize("cell", CELLS)
def test_boundaries_make_documents_stand_alone(cell):
    model = make(cell)
    tokens = torch.randint(0, 13, (2, 9))
    boundaries = torch.zeros(2, 9, dtype=torch.bool)
    boundaries[0, 0] = boundaries[1, 4] = boundaries[1, 8] = True
    carry = tuple(torch.randn_like(s) for s in model.start(2))
    hidden, after = model.hidden(tokens, carry, boundaries)
    logits = model.logits(hidden).detach()
    assert near(logits[0:1], model.advance(model.start(1), tokens[0:1])[0])
    assert near(logits[1:2, 4:8], model.advance(model.start(1), tokens[1:2, 4:8])[0])
    alone, state = model.advance(model.start(1), tokens[1:2, 8:])
    assert near(logits[1:2, 8:], alone)
    assert all(torch.allclose(a[:, 1:2], s) for a, s in zip(after, state, strict=True))
