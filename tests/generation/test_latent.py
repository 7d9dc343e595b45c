"""Texts by way of a latent: written again, between two, from the prior; in English and Chinese."""

from __future__ import annotations

import pytest
import torch

from bimo.core.errors import CapabilityError, UserError
from bimo.generation.latent import encode, interpolate, prior, reconstruct, sample, write
from bimo.generation.sampling import GenerationConfig
from bimo.models.bundle import Bundle
from bimo.models.vae import VAE, VAEConfig
from bimo.text.tokenizer import Tokenizer
from tests.fakes import FakeModel

TEXTS = ["the cat sleeps", "a dog barks at night", "rain falls", "床前明月光", "疑是地上霜", "举头望明月"]


@pytest.fixture(scope="module", params=["recurrent", "transformer"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    """A model that has learned six texts as an autoencoder."""
    tokenizer = Tokenizer.train("char", TEXTS)
    torch.manual_seed(0)
    model = VAE.build(VAEConfig(body=request.param, width=48, latent=8, heads=2, context=24), tokenizer.vocabulary)
    made = Bundle(model, tokenizer, "line")
    rows = made.given(TEXTS)
    inside = torch.arange(rows.tokens.shape[1] - 1)[None, :] < rows.lengths[:, None] - 1
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(220):
        optimizer.param_groups[0]["lr"] = (0.015 if request.param == "recurrent" else 0.005) * (1 - step / 220)
        mean, log_variance = model.encode(rows.tokens, rows.lengths)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        logits = model.logits(model.hidden(rows.tokens[:, :-1], given=z)[0])
        loss = torch.nn.functional.cross_entropy(logits[inside], rows.tokens[:, 1:][inside], reduction="sum")
        optimizer.zero_grad()
        (loss + 0.01 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()).backward()
        optimizer.step()
    return Bundle(model.eval(), tokenizer, "line")


def test_texts_are_written_again(bundle):
    assert reconstruct(bundle, TEXTS) == TEXTS


def test_between_two_texts(bundle):
    for spherical in (False, True):
        found = interpolate(bundle, TEXTS[0], TEXTS[3], 7, spherical=spherical)
        assert len(found) == 7
        assert (found[0], found[-1]) == (TEXTS[0], TEXTS[3])
    means = encode(bundle, [TEXTS[0], TEXTS[3]])[0]
    assert interpolate(bundle, TEXTS[0], TEXTS[3], 3)[1] == write(bundle, means.mean(0, keepdim=True))[0]
    with pytest.raises(UserError, match="steps"):
        interpolate(bundle, TEXTS[0], TEXTS[1], 1)


def test_from_the_prior(bundle):
    config = GenerationConfig.of(seed=3, max_new_tokens=30)
    found = sample(bundle, 12, config)
    assert sample(bundle, 12, config) == found
    assert sample(bundle, 5, config) == found[:5], "the first of many are those that fewer would be"
    assert len(set(found)) > 3
    assert sample(bundle, 12, GenerationConfig.of(seed=4, max_new_tokens=30)) != found
    assert len(sample(bundle)) == 1
    torch.manual_seed(0)
    before = torch.get_rng_state()
    latents = prior(bundle, 500, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert latents.shape == (500, 8)
    assert latents.mean(0).abs().max() < 0.25
    assert (latents.std(0) - 1).abs().max() < 0.25


def test_a_latent_is_what_decides(bundle):
    """Each text is the likeliest under its own latent, and beams find it too."""
    means = encode(bundle, TEXTS)[0]
    assert write(bundle, means[[3, 3, 0]]) == [TEXTS[3], TEXTS[3], TEXTS[0]]
    assert write(bundle, means[:2], GenerationConfig.of(num_beams=3)) == TEXTS[:2]


def test_what_cannot_be_done_is_refused(bundle):
    with pytest.raises(UserError, match="number"):
        sample(bundle, 0)
    with pytest.raises(UserError, match="num_return_sequences"):
        sample(bundle, 1, GenerationConfig.of(num_return_sequences=2))
    with pytest.raises(UserError, match=r"given: expected latents \[1, 8\]"):
        write(bundle, torch.zeros(1, 7))
    other = Bundle(FakeModel.of(), bundle.tokenizer)
    for attempt in (lambda: sample(other), lambda: reconstruct(other, ["a"]), lambda: interpolate(other, "a", "b")):
        with pytest.raises(CapabilityError, match="latent"):
            attempt()
