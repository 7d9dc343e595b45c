"""Embeddings of the last tokens together: which tokens they see, and that they begin as nothing."""

from __future__ import annotations

import pytest
import torch

from bimo.core.registry import family
from bimo.core.validation import validated
from bimo.models.embedding import NONE, NgramEmbedding, last_tokens
from tests.conformance.variants import VOCABULARY


def test_a_row_is_read_for_each_length() -> None:
    embedding = NgramEmbedding(3, 1000, 4)
    with torch.no_grad():
        for table in embedding.tables:
            table.weight.normal_(generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr,operator]
    found = embedding(torch.tensor([[7, 5, 6], [8, 5, 6], [7, 6, 5], [NONE, 5, 6], [7, 5, 6]]))
    assert torch.equal(found[0], found[4])
    for other in (1, 2, 3):
        assert not torch.allclose(found[0], found[other])
    pairs, triples = (set(found.flatten().tolist()) for found in (embedding.tables[0].weight[:, 0], embedding.tables[1].weight[:, 0]))
    assert any(abs(a + b - found[0, 0].item()) < 1e-6 for a in list(pairs)[:1000] for b in list(triples)[:1000])


def test_hashes_spread_over_the_table() -> None:
    rows = []
    embedding = NgramEmbedding(2, 64, 1)
    embedding.tables[0].forward = lambda found: rows.append(found) or torch.zeros(*found.shape, 1)  # type: ignore[method-assign]
    ids = torch.cartesian_prod(torch.arange(100), torch.arange(100))
    embedding(ids)
    counts = torch.bincount(rows[0], minlength=64)
    assert int(counts.min()) > 100
    assert int(counts.max()) < 220


def test_last_tokens_do_not_look_over_the_beginning_of_a_document() -> None:
    tokens, before = torch.tensor([[3, 4, 5, 6]]), torch.tensor([[NONE, 9]])
    far = torch.full((1, 4), 9)
    assert last_tokens(tokens, 3, far, before)[0].tolist() == [[-1, 9, 3], [9, 3, 4], [3, 4, 5], [4, 5, 6]]
    assert last_tokens(tokens, 3, torch.tensor([[9, 9, 0, 1]]), before)[0].tolist() == [[-1, 9, 3], [9, 3, 4], [-1, -1, 5], [-1, 5, 6]]


@pytest.mark.parametrize(("name", "shape"), [("lstm", {"width": 8}), ("decoder", {"width": 16, "heads": 2, "context": 8})])
def test_a_fresh_model_reads_as_one_without(name: str, shape: dict[str, int]) -> None:
    row, tokens = family(name), torch.tensor([[2, 3, 4, 3, 4]])
    models = []
    for extra in ({}, {"ngrams": 3, "ngram_buckets": 50}):
        torch.manual_seed(0)
        models.append(row.load().build(validated(row.load().Config, {**shape, **row.preset, **extra}, "model"), VOCABULARY))
    plain, with_ngrams = models
    with_ngrams.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(with_ngrams.score(tokens).nats, plain.score(tokens).nats)
    loss = with_ngrams.logits(with_ngrams.hidden(tokens)[0])[..., 5].sum()
    loss.backward()
    assert all(float(table.weight.grad.abs().sum()) > 0 for table in with_ngrams.ngrams.tables)
    assert with_ngrams.config_dict()["model_type"] == f"bimo-{name}"
