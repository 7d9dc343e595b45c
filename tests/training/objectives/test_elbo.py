"""The ELBO: its gradient, how its parts are weighted over a run, and that it keeps a latent in use."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from bimo.core.errors import CapabilityError
from bimo.data.batches import Batch
from bimo.data.rows import DocumentBatches
from bimo.data.split import Split
from bimo.models.vae import VAE, VAEConfig
from bimo.text.vocabulary import Vocabulary
from bimo.training.loop import Hooks, Loop
from bimo.training.objectives.elbo import Elbo, ElboConfig, blank_id, floored, kl_weight
from bimo.training.progress import Reporter
from tests.training.toy import Toy, training

VOCABULARY = Vocabulary(12, bos=0, eos=1, pad=2, suppressed=(0, 2))


class Bound(Elbo):
    """The ELBO over batches that stand already."""

    def __init__(self, source: Any = None, **config: Any) -> None:
        self.config, self.source = ElboConfig(**config), source


def model_of(**fields: Any) -> VAE:
    torch.manual_seed(0)
    return VAE.build(VAEConfig(**{"width": 6, "latent": 3, **fields}), VOCABULARY)


def text(documents: int = 40, seed: int = 0) -> Split:
    """Documents of one word, written three to five times."""
    generator = np.random.default_rng(seed)
    words, times = generator.integers(3, 12, documents), generator.integers(3, 6, documents)
    parts = [np.array([0, *[word] * time, 1]) for word, time in zip(words, times, strict=True)]
    starts = np.cumsum([0, *map(len, parts[:-1])])
    return Split("train", [np.concatenate(parts).astype(np.uint16)], starts, np.full(documents, 5))


def a_batch(rows: int = 5) -> Batch:
    return DocumentBatches(text(), rows, None, 0).batch(0, 0)


# -- the loss ---------------------------------------------------------------------------------------------------------------


def torchs_lstm(part: Any) -> nn.LSTM:
    """torch's own layer with the weights of one of ours."""
    made = nn.LSTM(part.weight_input.shape[1], part.weight_hidden.shape[1], batch_first=True)
    names = {"weight_ih_l0": part.weight_input, "weight_hh_l0": part.weight_hidden, "bias_ih_l0": part.bias_input}
    for name in dict(made.named_parameters()):
        delattr(made, name)
        setattr(made, name, names.get(name, torch.zeros_like(part.bias_input)))
    return made


def plainly(model: VAE, batch: Batch, beta: float) -> Tensor:
    """The negative ELBO with weight β, a document at a time, by torch's layers and distributions."""
    noise = torch.randn(len(batch.tokens), 3)
    encoder, decoder = torchs_lstm(model.encoder.stack.layers[0]), torchs_lstm(model.decoder.stack.layers[0])
    total = torch.zeros(())
    for tokens, length, epsilon in zip(batch.tokens, batch.lengths.tolist(), noise, strict=True):
        words = F.embedding(tokens[:length], model.embedding.weight)
        mean, log_variance = model.posterior(encoder(words[None])[0][0].max(0).values).chunk(2)
        posterior = Normal(mean, (0.5 * log_variance).exp())
        z = posterior.mean + posterior.stddev * epsilon
        cell = model.decoder.first(z).view(1, 1, -1)
        inputs = torch.cat([words[:-1], z.expand(length - 1, 3)], 1)
        logits = F.linear(decoder(inputs[None], (cell.tanh(), cell))[0][0], model.embedding.weight, model.output_bias)
        logits = logits.index_fill(1, torch.tensor(VOCABULARY.suppressed), float("-inf"))
        total = total + F.cross_entropy(logits, tokens[1:length], reduction="sum")
        total = total + beta * kl_divergence(posterior, Normal(torch.zeros(3), 1.0)).sum()
    return total


@pytest.mark.parametrize("done", [0.1, 0.9])
def test_loss_and_gradient_are_those_of_a_plainly_written_elbo(done):
    model, batch = model_of(), a_batch()
    objective = Bound(annealing="linear", rise=0.4, free_bits=0.0)
    torch.manual_seed(1)
    loss = objective.loss(model, batch, None, done)
    loss.nats.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    torch.manual_seed(1)
    expected = plainly(model, batch, kl_weight(objective.config, done))
    expected.backward()
    assert float(loss.nats.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("body", ["recurrent", "transformer"])
def test_what_is_told_is_the_bound_itself(body):
    """Whatever the KL weighs in learning, kl and reconstruction are the parts of the ELBO, which scoring finds on average."""
    fields = {"heads": 1, "context": 8} if body == "transformer" else {}
    model, batch = model_of(body=body, **fields), a_batch(8)
    told = [Bound(free_bits=50.0).loss(model, batch, None, 0.1).told for _ in range(200)]
    found = np.mean([t["kl"] + t["reconstruction"] for t in told])
    model.config.score_samples = 1
    assert set(told[0]) == {"kl", "reconstruction"}
    assert found == pytest.approx(float(model.score(batch.tokens, batch.lengths).per_row().sum()), rel=0.02)


def test_a_model_without_a_latent_is_refused():
    with pytest.raises(CapabilityError, match="latent"):
        Bound().loss(Toy(), a_batch(), None, 0.0)


# -- over a run -------------------------------------------------------------------------------------------------------------


def test_how_the_weight_rises():
    steps = np.linspace(0, 0.999, 200)
    for annealing in ("linear", "logistic"):
        weights = [kl_weight(ElboConfig(annealing=annealing, hold=0.2, rise=0.5, beta=0.8), d) for d in steps]
        assert weights == sorted(weights)
        assert weights[0] == 0
        assert weights[-1] == pytest.approx(0.8, rel=0.003)
        assert kl_weight(ElboConfig(annealing=annealing, rise=0.5), 0.25) == pytest.approx(0.5)
    cyclical = [kl_weight(ElboConfig(annealing="cyclical", cycles=4, rise=0.5), d) for d in steps]
    assert sum(after < before for before, after in pairwise(cyclical)) == 3
    assert np.mean(np.array(cyclical) == 1) == pytest.approx(0.5, abs=0.02)
    assert kl_weight(ElboConfig(annealing="none", beta=0.3), 0.0) == 0.3


@pytest.mark.parametrize("of", ["total", "dimension"])
def test_free_bits_cost_nothing(of):
    config = ElboConfig(free_bits=3.0, free_bits_of=of)
    below = torch.tensor([[0.5, 0.1, 0.0], [0.9, 0.3, 0.0]], requires_grad=True)
    floored(below, config).backward()
    assert floored(below, config).item() == pytest.approx(6.0), "three a document"
    assert (below.grad == 0).all()
    above = torch.tensor([[9.0, 0.5, 0.0], [9.0, 0.3, 0.0]], requires_grad=True)
    floored(above, config).backward()
    if of == "total":
        assert (above.grad == 1).all()
    else:  # the first dimension alone is above its share of 1
        assert floored(above, config).item() == pytest.approx(2 * (9 + 1 + 1))
        assert above.grad.tolist() == [[1, 0, 0], [1, 0, 0]]


def test_words_are_blanked_but_never_the_first():
    model, tokens = model_of(), torch.full((400, 11), 7)
    tokens[:, 0] = 0
    torch.manual_seed(0)
    found = Bound(word_dropout=0.3)._blanked(model, tokens)
    assert (found[:, 0] == 0).all()
    assert set(found[:, 1:].unique().tolist()) == {7, VOCABULARY.pad}
    assert float((found[:, 1:] == VOCABULARY.pad).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert torch.equal(Bound()._blanked(model, tokens), tokens)
    whole = Bound(word_dropout=1.0)._blanked(model, tokens)
    assert (whole[:, 1:] == VOCABULARY.pad).all()
    assert [blank_id(Vocabulary(5, **v)) for v in ({"unk": 3, "bos": 1}, {"bos": 1}, {})] == [3, 1, 0]


def loop(folder: Path, steps: int, **objective: Any) -> Loop:
    folder.mkdir(exist_ok=True)
    model = model_of(width=16, latent=4)
    source = DocumentBatches(text(), 8, None, 0)
    section = training(steps=steps, budget=f"{steps}steps", learning_rate=0.02)
    return Loop(model, Bound(source, **objective), section, folder, Hooks(), Reporter("", 1, quiet=True))


def test_it_learns_and_free_bits_keep_the_latent_in_use(tmp_path):
    """Which word it is costs log 9 = 2.2 nats, said by the latent or by the first word; the number of words log 3."""
    runs = {}
    for free_bits in (0.0, 2.0):
        made = loop(tmp_path / str(free_bits), 150, free_bits=free_bits, rise=0.1)
        made.run()
        lines = [json.loads(line) for line in (tmp_path / str(free_bits) / "metrics.jsonl").read_text().splitlines()]
        a_document = made.objective.source.batch(0, 0).count / 8
        runs[free_bits] = (lines[-1]["kl"] * a_document, (lines[-1]["kl"] + lines[-1]["reconstruction"]) * a_document)
    assert runs[2.0][0] > 1.5
    assert runs[0.0][0] < 0.5 * runs[2.0][0]
    assert max(bound for _, bound in runs.values()) < 5.5, "a word of nine and a number of three cost 3.3 nats at the least"
