"""Two players: what judges sees whole texts alone, what writes is a recurrent model, and a gradient flows from one to the other."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bimo.core.errors import ModelError
from bimo.models.base import load_model
from bimo.models.gan import GAN, Discriminator, GANConfig
from bimo.models.kernels.recurrent import Cell
from bimo.models.recurrent import Recurrent
from bimo.text.vocabulary import Vocabulary
from bimo.training.game import discriminator_loss

VOCABULARY = Vocabulary(11, bos=0, eos=1, pad=9, unk=10, suppressed=(0, 9))
KINDS = ["cnn", "recurrent"]
TINY = {"layers": 2, "width": 6, "embedding": 5, "discriminator_embedding": 4, "discriminator_width": 3}


def make(seed: int = 0, **fields: object) -> GAN:
    torch.manual_seed(seed)
    model = GAN.build(GANConfig(**{**TINY, **fields}), VOCABULARY).double()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -0.7, 0.7)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_judge_ignores_padding_and_other_rows(kind):
    model = make(discriminator=kind)
    tokens, lengths = torch.randint(2, 9, (5, 9)), torch.tensor([1, 2, 9, 5, 3])
    judged = model.judge(tokens, lengths)
    assert judged.shape == (5,), "one number a text"
    other = torch.where(torch.arange(9) < lengths[:, None], tokens, torch.randint(0, 11, (5, 9)))
    assert not torch.equal(other, tokens)
    assert torch.equal(model.judge(other, lengths), judged)
    wider = torch.cat([tokens, torch.randint(0, 11, (5, 4))], 1)
    torch.testing.assert_close(model.judge(wider, lengths), judged)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(model.judge(tokens[row : row + 1, :length])[0], judged[row])


@pytest.mark.parametrize("kind", KINDS)
def test_judge_sees_every_token_and_its_place(kind):
    model = make(discriminator=kind)
    text = torch.tensor([[2, 3, 4, 5, 6, 1]])
    for place in range(6):
        changed = text.clone()
        changed[0, place] = 8
        assert model.judge(changed) != model.judge(text)
    assert model.judge(text.flip(1)) != model.judge(text)


@pytest.mark.parametrize("kind", KINDS)
def test_judge_never_drops_out_and_learning_does(kind):
    model = make(discriminator=kind, discriminator_dropout=0.5).train()
    tokens, lengths = torch.randint(2, 9, (3, 5)), torch.full((3,), 5)
    assert torch.equal(model.judge(tokens), model.judge(tokens))
    assert not torch.equal(model.discriminator(tokens, lengths, learning=True), model.discriminator(tokens, lengths, learning=True))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_ones_and_zeros_are_ids(kind):
    model = make(discriminator=kind)
    tokens, lengths = torch.randint(2, 9, (4, 6)), torch.tensor([6, 1, 3, 5])
    torch.testing.assert_close(model.discriminator(F.one_hot(tokens, 11).double(), lengths), model.judge(tokens, lengths))


def test_the_generator_is_the_language_model():
    model = make()
    tokens = torch.randint(2, 9, (3, 7))
    assert torch.equal(model.score(tokens).nats, model.generator.score(tokens).nats)
    assert model.parameter_count() == model.generator.parameter_count()
    judges = sum(p.numel() for p in model.discriminator.parameters())
    assert model.config_dict()["discriminator_parameters"] == judges > 0
    assert sum(t.numel() for t in model.tensors().values()) == judges + model.parameter_count()


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_opened_is_the_same(kind, tmp_path):
    model = make(discriminator=kind, cell="gru", kernels=[1, 3]).float()
    model.save(tmp_path)
    opened = load_model(tmp_path)
    assert isinstance(opened, GAN)
    assert not opened.training
    assert opened.config == model.config
    tokens, lengths = torch.randint(2, 9, (3, 5)), torch.tensor([5, 2, 1])
    assert torch.equal(opened.judge(tokens, lengths), model.judge(tokens, lengths))
    assert torch.equal(opened.score(tokens).nats, model.score(tokens).nats)
    assert int(opened.stopped) == -1
    assert opened.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_that_do_not_fit_are_told(kind):
    model = make(discriminator=kind)
    tensors, config = model.tensors(), model.config_dict()
    for name in ("generator.output_bias", "discriminator.output.weight"):
        with pytest.raises(ModelError, match=name.partition(".")[2]):
            GAN.from_tensors(config, {n: t for n, t in tensors.items() if n != name})
    with pytest.raises(ModelError, match=r"shape|size"):
        GAN.from_tensors(config, {**tensors, "discriminator.output.weight": torch.zeros(1, 99)})
    with pytest.raises(ModelError, match="judge"):
        GAN.from_tensors(config, {**tensors, "judge.weight": torch.zeros(1)})


RELAXED = [*({"cell": cell} for cell in get_args(Cell)), {"positions": 3, "ngrams": 3}, {"ngrams": 2, "cell": "gru"}]


@pytest.mark.parametrize("fields", RELAXED)
def test_relaxed_reading_is_the_generators_own(fields):
    model = make(**fields)
    tokens = torch.randint(2, 9, (3, 4))
    state = model.start(3)
    for t in range(4):
        hidden, state = model._read_relaxed(F.one_hot(tokens[:, t], 11).double(), tokens[:, t], state)
    expected, after = model.extend(model.start(3), tokens, torch.full((3,), 4))
    torch.testing.assert_close(hidden, expected[:, -1])
    for one, other in zip(state, after, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("fields", [{}, {"tied": False, "layers": 1}, {"embedding": None}, {"ngrams": 3, "ngram_buckets": 5}])
def test_relaxed_texts_are_texts_with_a_gradient(fields):
    model = make(**fields)
    torch.manual_seed(1)
    weights, tokens, lengths = model.draw_relaxed(50, 6, 0.7)
    assert weights.shape[:2] == tokens.shape
    inside = torch.arange(tokens.shape[1]) < lengths[:, None]
    torch.testing.assert_close(weights[inside], F.one_hot(tokens[inside], 11).double())
    assert bool((tokens[:, 0] == 0).all())
    assert not bool(torch.isin(tokens[inside][tokens[inside] != 0], torch.tensor([0, 9])).any()), "suppressed ids are never drawn"
    ended = tokens[torch.arange(50), lengths - 1] == 1
    assert bool((ended | (lengths == 7)).all())
    assert 0 < int(ended.sum()) < 50
    assert bool(((tokens == 1).sum(1) == ended.long()).all()), "nothing stands behind </s>"
    model.discriminator(weights, lengths).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.generator.parameters())
    assert all(bool((p.grad != 0).any()) for p in model.generator.parameters())


def test_relaxed_texts_are_drawn_from_the_models_probabilities():
    model = make()
    torch.manual_seed(0)
    _, tokens, _ = model.draw_relaxed(20_000, 1, 0.3)
    found = torch.bincount(tokens[:, 1], minlength=11) / 20_000
    logits, _ = model.advance(model.start(1), torch.tensor([[0]]))
    torch.testing.assert_close(found.double(), logits[0, 0].softmax(0).double(), atol=0.015, rtol=0)


class Textbook(Discriminator):
    """Judges what it is given, as it is."""

    def features(self, x: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        return x[:, 0]


def test_textbook_numbers():
    """W_g z = [.17, .39]; the article's two rows of "discriminator" on it give [.595, .807], where one number is wanted."""
    matrix, z = torch.tensor([[0.1, 0.2], [0.3, 0.4]]), torch.tensor([0.5, 0.6])
    drawn = F.linear(z, matrix)
    torch.testing.assert_close(drawn, torch.tensor([0.17, 0.39]))
    torch.testing.assert_close(F.linear(drawn, matrix, torch.tensor([0.5, 0.6])), torch.tensor([0.595, 0.807]))
    judge = Textbook(2, 2, GANConfig(discriminator_embedding=2))
    with torch.no_grad():
        judge.embedding.weight.copy_(torch.eye(2))
        judge.output.weight.copy_(matrix[:1])
        judge.output.bias.fill_(0.5)
    logit = judge(drawn[None, None], torch.tensor([1]))
    assert logit.shape == (1,), "one number for one sample, which is judged alone"
    assert logit.item() == pytest.approx(0.595)
    assert logit.sigmoid().item() == pytest.approx(0.6445, abs=1e-4)
    real = judge(torch.tensor([[[1.0, 1.0]]]), torch.tensor([1]))  # .1 + .2 + .5
    expected = -torch.log(torch.sigmoid(torch.tensor(0.8))) - torch.log(1 - torch.sigmoid(torch.tensor(0.595)))
    assert discriminator_loss(real, logit).item() == pytest.approx(expected.item())


def test_the_generator_keeps_its_kind():
    model = make(cell="rnn")
    assert isinstance(model.generator, Recurrent)
    assert model.generator.config.cell == "rnn"
    assert set(model.generator.config.model_dump()) < set(model.config.model_dump())
