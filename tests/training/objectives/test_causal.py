"""The causal likelihood: what is scored, and which batches a model reads."""

from __future__ import annotations

import pytest
import torch

from bimo.data.batches import Batch
from bimo.training.objectives.causal import causal_likelihood
from tests.training.toy import Toy


def test_targets_that_begin_a_document_are_not_scored() -> None:
    torch.manual_seed(0)
    model = Toy()
    tokens = torch.tensor([[0, 3, 4, 1, 0, 5]])
    begins = tokens == 0
    batch = Batch(tokens, begins[:, :-1], ~begins[:, 1:])
    loss = causal_likelihood(model, batch)
    assert batch.count == 4
    alone = sum(float(model.score(torch.tensor([part])).nats.sum()) for part in ([0, 3, 4, 1], [0, 5]))
    assert loss.nats.item() == pytest.approx(alone, rel=1e-5)
