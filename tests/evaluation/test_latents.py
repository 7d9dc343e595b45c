"""Whether a latent is used: the figures of `latent_use`, and a latent that has a KL and is ignored all the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bimo.core.errors import CapabilityError, UserError
from bimo.data.split import Split
from bimo.evaluation.latents import exchange, latent_use
from bimo.evaluation.perplexity import evaluate
from bimo.models.latent import drawn, fixed_noise
from bimo.models.vae import VAE, VAEConfig
from bimo.text.vocabulary import Vocabulary
from tests.fakes import FakeModel

VOCABULARY = Vocabulary(12, bos=0, eos=1, pad=2, suppressed=(0, 2))


def split(documents: int = 40) -> Split:
    """Random documents of one to nine words."""
    generator = np.random.default_rng(0)
    parts = [np.array([0, *generator.integers(3, 12, generator.integers(1, 10)), 1]) for _ in range(documents)]
    starts = np.cumsum([0, *map(len, parts[:-1])])
    return Split("valid", [np.concatenate(parts).astype(np.uint16)], starts, np.array([2 * len(p) for p in parts]))


def model(body: str = "recurrent") -> VAE:
    torch.manual_seed(0)
    made = VAE.build(VAEConfig(body=body, width=8, heads=2, latent=4, context=12), VOCABULARY)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
        made.posterior.weight[0] = 0  # the first unit is the same for every text …
        made.posterior.bias[0] = 2.0  # … and costs 2 nats
    return made.eval()


@pytest.mark.parametrize("body", ["recurrent", "transformer"])
def test_the_figures(body):
    used, text = latent_use(model(body), split()), split()
    assert (used.documents, used.units, used.active_units) == (40, 4, 3)
    assert used.bound == pytest.approx(used.kl + used.reconstruction)
    assert used.bound == pytest.approx(evaluate(model(body), text).nats / 40, rel=1e-6)
    kls, own, others = [], [], []
    one, order = model(body), exchange(40)
    encoded = [one.encode(torch.from_numpy(text.document(i))[None]) for i in range(40)]

    latents = []
    for i, (mean, log_variance) in enumerate(encoded):
        tokens = torch.from_numpy(text.document(i))[None]
        latents.append(drawn(mean, log_variance, fixed_noise(tokens, torch.tensor([tokens.shape[1]]), 1, 4)[:, 0].float()))
        kls.append(0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum().item())
    for i in range(40):
        tokens = torch.from_numpy(text.document(i))[None]
        own.append(float(one.score(tokens, given=latents[i]).nats.sum()))
        others.append(float(one.score(tokens, given=latents[order[i]]).nats.sum()))
    assert used.kl == pytest.approx(np.mean(kls), rel=1e-4)
    assert used.reconstruction == pytest.approx(np.mean(own), rel=1e-4)
    cost = np.array(others) - np.array(own)
    assert used.exchanged == pytest.approx(cost.mean(), rel=1e-3)
    assert used.exchanged_error == pytest.approx(cost.std(ddof=1) / 40**0.5, rel=1e-3)
    assert used.to_dict()["bound"] == used.bound
    assert "3 of 4" in used.describe()


def test_a_latent_that_is_ignored_has_a_kl_and_costs_nothing_to_exchange():
    deaf = model()
    with torch.no_grad():
        deaf.decoder.first.weight.zero_()
        deaf.decoder.stack.layers[0].weight_input[:, -4:] = 0
    used = latent_use(deaf, split())
    assert used.kl > 2
    assert used.exchanged == pytest.approx(0, abs=1e-5)
    assert abs(latent_use(model(), split()).exchanged) > 0.1


def test_every_place_is_exchanged_by_a_fixed_order():
    for number in (2, 3, 10, 101):
        order = exchange(number)
        assert sorted(order) == list(range(number))
        assert (order != np.arange(number)).all()
        assert (exchange(number) == order).all()
    assert (exchange(101, 1) != exchange(101)).any()


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(CapabilityError, match="latent"):
        latent_use(FakeModel.of(), split())
    with pytest.raises(UserError, match="fewer than two"):
        latent_use(model(), split(1))
