"""Recurrent models: one state whether read at once, step by step or for learning."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from bimo.core.errors import CapabilityError, ModelError
from bimo.models.base import load_model
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


@pytest.mark.parametrize("cell", CELLS)
def test_positions_count_from_the_beginning_of_each_document(cell):
    """Carried from window to window, from 0 where a document begins, the last one shared by all that stand further."""
    model = make(cell, positions=5)
    tokens = torch.randint(0, 13, (2, 12))
    boundaries = torch.zeros(2, 12, dtype=torch.bool)
    boundaries[:, 0] = boundaries[1, 7] = True
    whole, after = model.hidden(tokens, None, boundaries)
    first, carry = model.hidden(tokens[:, :5], None, boundaries[:, :5])
    second, end = model.hidden(tokens[:, 5:], carry, boundaries[:, 5:])
    assert torch.allclose(whole, torch.cat([first, second], 1), rtol=0, atol=1e-9)
    assert (carry[-1].tolist(), end[-1].tolist(), after[-1].tolist()) == ([[5, 5]], [[12, 5]], [[12, 5]])
    logits = model.logits(whole).detach()
    assert near(logits[1:, 7:], model.advance(model.start(1), tokens[1:, 7:])[0])
    x = model.embedding(tokens[:1])
    for moved in (0, 1):
        places = model.places(torch.tensor([(min(t, 4) + moved) % 5 for t in range(12)]))
        assert torch.allclose(plain(model, x + places), whole[:1], rtol=0, atol=1e-9) is (moved == 0)


def plain(model: Recurrent, x: torch.Tensor) -> torch.Tensor:
    """What a model without positions gives for inputs [1, T, E], fed as the embeddings of as many tokens."""
    fields = {**model.config.model_dump(), "positions": None}
    bare = Recurrent(RecurrentConfig(**fields), Vocabulary(x.shape[1])).double()
    bare.embedding.weight = torch.nn.Parameter(x[0])
    bare.layers = model.layers
    return bare.hidden(torch.arange(x.shape[1])[None])[0]


def test_unknown_and_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="lstn"):
        RecurrentConfig(cell="lstn")
    with pytest.raises(ValueError, match="widht"):
        RecurrentConfig(widht=3)
    with pytest.raises(CapabilityError, match="given"):
        make("gru").start(1, given="a source")
    with pytest.raises(CapabilityError, match="rewind"):
        make("gru").rewind(make("gru").start(1), torch.tensor([0]))


@pytest.mark.parametrize("cell", CELLS)
def test_ragged_rows_and_padding(cell):
    model = make(cell)
    tokens, lengths = torch.randint(0, 13, (3, 9)), torch.tensor([1, 9, 4])
    logits, state = model.advance(model.start(3), tokens, lengths, keep="last")
    for row, length in enumerate(lengths.tolist()):
        alone, one = model.advance(model.start(1), tokens[row : row + 1, :length])
        assert near(logits[row], alone[0, -1:])
        assert all(torch.equal(s[:, row : row + 1], o) or torch.allclose(s[:, row : row + 1], o) for s, o in zip(state, one, strict=True))


@pytest.mark.parametrize("cell", CELLS)
def test_select_and_join(cell):
    model = make(cell)
    _, state = model.advance(model.start(3), torch.randint(0, 13, (3, 4)))
    first, rest = model.select(state, torch.tensor([0])), model.select(state, torch.tensor([1, 2]))
    again = model.join([first, rest])
    assert all(torch.equal(a, b) for a, b in zip(again, state, strict=True))
    swapped = model.select(state, torch.tensor([2, 2, 0]))
    next_token = torch.tensor([[5], [5], [5]])
    logits, _ = model.advance(model.select(state, torch.tensor([0, 1, 2])), next_token)
    moved, _ = model.advance(swapped, next_token)
    assert near(moved, logits[[2, 2, 0]])
    assert model.state_bytes(state) == model.state_bytes(first) == sum(s.nbytes for s in state) // 3


@pytest.mark.parametrize("cell", CELLS)
def test_carry_continues_and_cuts_the_gradient(cell):
    model = make(cell)
    tokens = torch.randint(0, 13, (2, 10))
    whole, end = model.hidden(tokens)
    first, carry = model.hidden(tokens[:, :6])
    second, last = model.hidden(tokens[:, 6:], carry)
    assert torch.allclose(torch.cat([first, second], 1), whole)
    assert all(torch.allclose(a, b) for a, b in zip(last, end, strict=True))
    assert not any(s.requires_grad for s in carry)


def test_saved_and_opened_is_the_same(tmp_path):
    for cell in CELLS:
        model = make(cell, embedding=5, variational=True, output_dropout=0.3)
        model.save(tmp_path / cell)
        opened = load_model(tmp_path / cell)
        assert isinstance(opened, Recurrent)
        assert (opened.config, opened.vocabulary) == (model.config, model.vocabulary)
        assert not opened.training
        tokens = torch.randint(0, 13, (2, 5))
        assert torch.equal(opened.advance(opened.start(2), tokens)[0], model.advance(model.start(2), tokens)[0])
    tensors = model.tensors()
    tensors.pop("output_bias")
    with pytest.raises(ModelError, match="output_bias"):
        Recurrent.from_tensors(model.config_dict(), tensors)


def test_build_is_reproducible_and_ties():
    torch.manual_seed(3)
    one = Recurrent.build(RecurrentConfig(width=8), VOCABULARY)
    torch.manual_seed(3)
    two = Recurrent.build(RecurrentConfig(width=8), VOCABULARY)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert one.head()[0] is one.embedding.weight
    assert torch.equal(one.layers[0].bias_input[8:16], torch.ones(8))
    untied = Recurrent.build(RecurrentConfig(width=8, tied=False), VOCABULARY)
    assert untied.parameter_count() == one.parameter_count() + 13 * 8


@pytest.mark.parametrize("field", ["input_dropout", "layer_dropout", "output_dropout", "recurrent_dropout", "embedding_dropout"])
def test_each_dropout_acts_in_training_alone(field):
    model = make("lstm", **{field: 0.5})
    tokens = torch.randint(0, 13, (2, 8))
    model.train()
    torch.manual_seed(0)
    one, two = model.hidden(tokens)[0], model.hidden(tokens)[0]
    assert not torch.allclose(one, two)
    torch.manual_seed(0)
    assert torch.equal(model.hidden(tokens)[0], one)
    logits = model.advance(model.start(2), tokens)[0]
    model.eval()
    assert near(model.logits(model.hidden(tokens)[0]).detach(), logits)


def test_variational_dropout_keeps_its_mask_over_the_steps():
    for variational in (False, True):
        model = make("rnn", output_dropout=0.5, variational=variational).train()
        dropped = model.hidden(torch.randint(0, 13, (4, 8)))[0] == 0
        assert bool((dropped == dropped[:, :1]).all()) is variational


def test_embedding_dropout_drops_words():
    model = make("rnn", embedding_dropout=0.5).train()
    tokens = torch.tensor([[3, 4, 5, 6, 7, 8], [8, 7, 6, 5, 4, 3]])
    kept = (model._embed(tokens, True) != 0).all(-1)
    assert bool((kept[0] == kept[1].flip(0)).all())
    assert 0 < int(kept[0].sum()) < 6
