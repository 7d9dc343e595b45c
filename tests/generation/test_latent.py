"""Texts by way of a latent: written again, between two, from the prior; in English and Chinese."""

from __future__ import annotations

import pytest
import torch

from bimo.core.errors import CapabilityError, UserError
from bimo.generation import search
from bimo.generation.latent import encode, interpolate, reconstruct, write
from bimo.generation.sampling import GenerationConfig
from bimo.generation.texts import continue_texts, stream_text
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
    """Given nothing, a latent of its own for each row, from the seed alone."""
    config = GenerationConfig.of(seed=3, max_new_tokens=30, num_return_sequences=12)
    state = torch.get_rng_state()
    found = continue_texts(bundle, [""], config)
    texts = [row.text for row in found.rows]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    assert continue_texts(bundle, [""], config).ids == found.ids
    assert continue_texts(bundle, [""] * 5, config.model_copy(update={"num_return_sequences": 1})).ids == found.ids[:5]
    one = config.model_copy(update={"num_return_sequences": 1})
    assert "".join(stream_text(bundle, "", one)) == texts[0]
    assert len(set(texts)) > 3
    assert continue_texts(bundle, [""], config.model_copy(update={"seed": 4})).ids != found.ids


def test_from_the_prior_without_drawing_tokens(bundle):
    """The likeliest text of each latent, and the best beams: what is drawn is the latent alone, one for each prompt of a search."""
    greedy = GenerationConfig.of(seed=3, max_new_tokens=30, num_return_sequences=12, temperature=0)
    texts = [row.text for row in continue_texts(bundle, [""], greedy).rows]
    assert len(set(texts)) > 3
    beams = GenerationConfig.of(seed=3, max_new_tokens=30, num_beams=3)
    torch.manual_seed(8)
    found = continue_texts(bundle, [""] * 12, beams)
    torch.manual_seed(9)
    assert continue_texts(bundle, [""] * 12, beams).ids == found.ids
    assert len({row.text for row in found.rows}) > 3
    assert len({row.text for row in continue_texts(bundle, [""], beams.model_copy(update={"num_return_sequences": 3})).rows}) == 3
    means = encode(bundle, TEXTS)[0]
    with pytest.raises(UserError, match="temperature=0 has one text"):
        search.generate(bundle.model, [bundle.prompt("")], greedy, given=means[:1])


def test_a_row_that_reads_again_keeps_its_latent(monkeypatch):
    """In a context of 8 tokens, 40 are written: each reading starts from the row's own latent."""
    tokenizer = Tokenizer.train("char", TEXTS)
    torch.manual_seed(0)
    made = Bundle(VAE.build(VAEConfig(body="transformer", width=16, latent=4, heads=2, context=8), tokenizer.vocabulary).eval(), tokenizer)
    given: list[torch.Tensor] = []
    start = VAE.start
    monkeypatch.setattr(VAE, "start", lambda model, batch, z=None: given.append(z) or start(model, batch, z))
    config = GenerationConfig.of(seed=1, max_new_tokens=40, min_new_tokens=40, num_return_sequences=3)
    assert continue_texts(made, [""], config).rereads > 3
    first, *again = given
    assert len(again) > 3
    assert len(first.unique(dim=0)) == 3
    for z in again:
        assert all(bool((row == first).all(1).any()) for row in z)
    assert all(torch.equal(z, first) for z in again if len(z) == 3)


def test_texts_that_are_given_are_written_again(bundle):
    greedy = GenerationConfig.of(temperature=0, max_new_tokens=40)
    found = continue_texts(bundle, [""] * len(TEXTS), greedy, TEXTS)
    assert [row.text for row in found.rows] == TEXTS == reconstruct(bundle, TEXTS)
    assert "".join(stream_text(bundle, "", greedy, TEXTS[3])) == TEXTS[3]
    begun = continue_texts(bundle, ["a "], greedy, [TEXTS[1]]).rows[0]
    assert begun.text == TEXTS[1].removeprefix("a ")


def test_a_latent_is_what_decides(bundle):
    """Each text is the likeliest under its own latent, and beams find it too."""
    means = encode(bundle, TEXTS)[0]
    assert write(bundle, means[[3, 3, 0]]) == [TEXTS[3], TEXTS[3], TEXTS[0]]
    assert write(bundle, means[:2], GenerationConfig.of(num_beams=3)) == TEXTS[:2]


def test_what_cannot_be_done_is_refused(bundle):
    with pytest.raises(UserError, match="num_return_sequences"):
        reconstruct(bundle, TEXTS, GenerationConfig.of(num_return_sequences=2))
    with pytest.raises(UserError, match=r"given: expected latents \[1, 8\]"):
        write(bundle, torch.zeros(1, 7))
    other = Bundle(FakeModel.of(), bundle.tokenizer)
    for attempt in (lambda: reconstruct(other, ["a"]), lambda: interpolate(other, "a", "b")):
        with pytest.raises(CapabilityError, match="latent"):
            attempt()
