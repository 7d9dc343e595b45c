"""The VAE: one model whether read at once or step by step, and a bound that is one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from bimo.core.errors import CapabilityError, ContextError, ModelError, UserError
from bimo.core.registry import Kind
from bimo.models.base import load_model
from bimo.models.kernels import recurrent
from bimo.models.latent import fixed_noise
from bimo.models.vae import VAE, VAEConfig
from bimo.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary(9, bos=0, eos=1, pad=8, suppressed=(0, 8))
BODIES: dict[str, dict[str, Any]] = {
    "lstm": {"layers": 2, "width": 8},
    "gru": {"cell": "gru", "width": 8, "embedding": 5, "pooling": "mean", "encoder_layers": 2},
    "rnn": {"cell": "rnn", "width": 8, "embedding": 5, "tied": False, "pooling": "last"},
    "transformer": {"body": "transformer", "heads": 2, "width": 8, "context": 12, "layers": 2},
}
bodies = pytest.mark.parametrize("body", BODIES)


def make(body: str, seed: int = 0, **fields: Any) -> VAE:
    torch.manual_seed(seed)
    model = VAE.build(VAEConfig(**{"latent": 3, **BODIES[body], **fields}), VOCABULARY).double()
    with torch.no_grad():  # weights that matter
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.4 if parameter.dim() > 1 else 0.2))
    return model.eval()


def documents(rows: int = 4, width: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Documents <s> … </s> of several lengths, with random padding."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, 8, (rows, width), generator=generator)
    lengths = torch.randint(2, width + 1, (rows,), generator=generator)
    lengths[0] = width
    tokens[:, 0] = 0
    tokens[torch.arange(rows), lengths - 1] = 1
    return tokens, lengths


def nats_given(model: VAE, text: Tensor, z: Tensor) -> Tensor:
    """−log p(token | z, tokens before) of one text [n], token by token, float64 [n - 1]."""
    state, found = model.start(1, z[None]), []
    for token, target in pairwise(text):
        logits, state = model.advance(state, token.view(1, 1))
        found.append(-logits[0, 0].log_softmax(-1)[target])
    return torch.stack(found)


# -- given a latent -----------------------------------------------------------------------------------------------------


@bodies
def test_given_a_latent_steps_bulk_hidden_and_score_agree(body):
    model = make(body)
    tokens, lengths = documents()
    z = torch.randn(4, 3, dtype=torch.float64)
    bulk, _ = model.advance(model.start(4, z), tokens)
    hidden, carry = model.hidden(tokens, given=z)
    assert carry is None
    torch.testing.assert_close(model.logits(hidden).detach(), bulk)
    result = model.score(tokens, lengths, given=z)
    assert result.kind is Kind.CONDITIONAL
    for row, length in enumerate(lengths.tolist()):
        alone = nats_given(model, tokens[row, :length], z[row])
        torch.testing.assert_close(result.nats[row, 1:length], alone)
        assert (result.nats[row, length:] == 0).all()
    assert not torch.allclose(model.advance(model.start(4, -z), tokens)[0][..., 1:8], bulk[..., 1:8])


@pytest.mark.parametrize("shut", ["nothing", "the first state", "the inputs"])
@bodies
def test_the_latent_comes_in_by_the_first_state_and_beside_every_input(body, shut):
    """Either way alone is enough for it to matter at the first token and, beside the inputs, at the last."""
    model = make(body)
    with torch.no_grad():
        if shut == "the first state":
            model.decoder.first.weight.zero_()
        elif shut == "the inputs" and body == "transformer":
            model.decoder.added.weight.zero_()
        elif shut == "the inputs":
            model.decoder.stack.layers[0].weight_input[:, -3:] = 0
    tokens = torch.cat([torch.zeros(2, 1, dtype=torch.int64), torch.full((2, 9), 4)], 1)
    logits, _ = model.advance(model.start(2, torch.tensor([[1.0, -1.0, 0.5], [-1.0, 1.0, 0.5]]).double()), tokens)
    gap = (logits[0] - logits[1])[:, 1:8].abs().amax(1)
    assert gap[0] > 1e-3
    assert gap[-1] > (1e-3 if shut != "the inputs" else 1e-9)


def test_without_one_it_is_drawn_from_the_prior():
    model = make("lstm")
    torch.manual_seed(5)
    z = model.start(4000).z
    torch.manual_seed(5)
    assert torch.equal(model.start(4000).z, z)
    assert not torch.equal(model.start(4000).z, z)
    assert z.mean(0).abs().max() < 0.1
    assert (z.std(0) - 1).abs().max() < 0.1


def test_latents_that_are_none_are_refused():
    model = make("lstm")
    for given in (torch.zeros(2, 4).double(), torch.zeros(3, 3).double(), torch.zeros(2, 3, dtype=torch.int64), "a text"):
        with pytest.raises(UserError, match=r"given: expected latents \[2, 3\]"):
            model.start(2, given)
    state = model.start(2, torch.zeros(2, 3).double())
    with pytest.raises(UserError, match="other latents"):
        model.score(torch.tensor([[0, 2], [0, 3]]), given=torch.ones(2, 3).double(), state=state)


# -- the posterior --------------------------------------------------------------------------------------------------------


@bodies
def test_a_text_is_encoded_alike_in_any_company(body):
    model = make(body).train()  # nothing is dropped out of it
    tokens, lengths = documents()
    mean, log_variance = model.encode(tokens, lengths)
    assert mean.shape == log_variance.shape == (4, 3)
    for row, length in enumerate(lengths.tolist()):
        alone = model.encode(tokens[row : row + 1, :length])
        torch.testing.assert_close(torch.stack(alone)[:, 0], torch.stack([mean[row], log_variance[row]]))
    changed = tokens.clone()
    changed[0, 2] = 2 if int(tokens[0, 2]) != 2 else 3
    assert not torch.allclose(model.encode(changed, lengths)[0][0], mean[0])


# -- the bound ------------------------------------------------------------------------------------------------------------


@bodies
def test_with_one_sample_it_is_the_elbo(body):
    model = make(body)
    tokens, lengths = documents()
    result = model.score(tokens, lengths)
    assert result.kind is model.kind is Kind.BOUND
    for row, length in enumerate(lengths.tolist()):
        text = tokens[row, :length]
        mean, log_variance = model.encode(text[None])
        posterior = Normal(mean[0], (0.5 * log_variance[0]).exp())
        z = posterior.mean + posterior.stddev * fixed_noise(text[None], lengths[row : row + 1], 1, 3)[0, 0]
        expected = nats_given(model, text, z)
        expected[-1] += kl_divergence(posterior, Normal(torch.zeros(3).double(), 1.0)).sum()
        torch.testing.assert_close(result.nats[row, 1:length], expected.detach())


@bodies
def test_with_several_it_is_the_importance_weighted_bound(body):
    model = make(body, score_samples=6)
    tokens, lengths = documents()
    sums = model.score(tokens, lengths).per_row()
    for row, length in enumerate(lengths.tolist()):
        text = tokens[row, :length]
        mean, log_variance = model.encode(text[None])
        posterior, prior = Normal(mean[0], (0.5 * log_variance[0]).exp()), Normal(torch.zeros(3).double(), 1.0)
        weights = []
        for noise in fixed_noise(text[None], lengths[row : row + 1], 6, 3)[0]:
            z = posterior.mean + posterior.stddev * noise
            weights.append(-nats_given(model, text, z).sum() + prior.log_prob(z).sum() - posterior.log_prob(z).sum())
        torch.testing.assert_close(sums[row], -torch.stack(weights).exp().mean().log().detach())


def test_it_is_a_bound_and_more_samples_tighten_it():
    """Against −log p(x) itself, by the integral over a latent of one number."""
    model = make("lstm", latent=1)
    with torch.no_grad():  # a latent that says much, and a posterior that is not quite where it should be
        model.decoder.first.weight.mul_(4)
        model.posterior.bias.copy_(torch.tensor([1.0, 0.5]))
    tokens, lengths = documents(rows=60, seed=3)
    grid = torch.linspace(-7, 7, 281, dtype=torch.float64)
    weights = (Normal(0.0, 1.0).log_prob(grid) + (grid[1] - grid[0]).log())[:, None]
    with torch.no_grad():
        likelihood = torch.stack([-model.score(tokens, lengths, given=z.expand(60, 1)).per_row() for z in grid])
    truth = -(likelihood + weights).logsumexp(0).mean()
    bounds = []
    for samples in (1, 4, 16, 128):
        model.config.score_samples = samples
        assert model.scoring_passes == samples + 1
        bounds.append(float(model.score(tokens, lengths).per_row().mean() - truth))
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > 0.3
    assert -0.02 < bounds[-1] < 0.1 * bounds[0]


@bodies
@pytest.mark.parametrize("samples", [1, 4])
def test_a_score_is_the_same_in_any_company_and_leaves_torchs_generator_alone(body, samples):
    model = make(body, score_samples=samples)
    tokens, lengths = documents(rows=6)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    together = model.score(tokens, lengths).nats
    assert torch.equal(torch.get_rng_state(), before)
    order = torch.tensor([4, 1, 5])
    padded = torch.cat([tokens, torch.randint(0, 9, (6, 3))], 1)
    torch.testing.assert_close(model.score(padded[order], lengths[order]).nats[:, :7], together[order])
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(model.score(tokens[row : row + 1, :length]).nats[0], together[row, :length])


def test_samples_that_do_not_fit_together_are_scored_apart(monkeypatch):
    model = make("lstm", score_samples=7)
    tokens, lengths = documents()
    expected = model.score(tokens, lengths).nats
    for most in (1, 60):
        monkeypatch.setattr("bimo.models.scoring._BATCH_TOKENS", most)
        torch.testing.assert_close(model.score(tokens, lengths).nats, expected)


@pytest.mark.parametrize("samples", [1, 3])
def test_edges_of_a_score(samples):
    model = make("transformer", score_samples=samples)
    nats = model.score(torch.tensor([[0, 4, 8, 5, 1], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]]), torch.tensor([5, 2, 1])).nats
    assert nats.isinf().nonzero().tolist() == [[0, 2]], "padding in a text is impossible; what stands around it is not"
    assert not nats.isnan().any()
    assert nats[1, 1] > 0
    assert (nats[2] == 0).all(), "a document of which nothing is scored costs nothing"


def test_nothing_goes_on_from_a_bound():
    model = make("lstm")
    tokens, lengths = documents()
    state = model.score(tokens, lengths).state
    rows = torch.arange(4)
    for attempt in (
        lambda: model.score(tokens, lengths, state=state),
        lambda: model.advance(state, tokens),
        lambda: model.select(state, rows),
        lambda: model.join([state, state]),
        lambda: model.state_bytes(state),
    ):
        with pytest.raises(CapabilityError, match="whole document"):
            attempt()


def test_the_context_holds_for_reading_and_writing():
    model = make("transformer")
    fits = torch.randint(2, 8, (2, 13))  # twelve are fed, the thirteenth is only scored
    assert model.score(fits).nats[:, 1:].isfinite().all()
    for attempt in (lambda: model.encode(torch.randint(2, 8, (2, 14))), lambda: model.score(torch.randint(2, 8, (2, 14)))):
        with pytest.raises(ContextError):
            attempt()


# -- folders --------------------------------------------------------------------------------------------------------------


@bodies
def test_saved_and_opened_is_the_same(body, tmp_path):
    model = make(body, score_samples=3).float()
    model.save(tmp_path)
    opened = load_model(tmp_path)
    assert isinstance(opened, VAE)
    assert (opened.config, opened.vocabulary) == (model.config, model.vocabulary)
    assert not opened.training
    tokens, lengths = documents()
    assert torch.equal(opened.score(tokens, lengths).nats, model.score(tokens, lengths).nats)
    tensors = model.tensors()
    with pytest.raises(ModelError, match=r"posterior.bias is missing"):
        VAE.from_tensors(model.config_dict(), {name: t for name, t in tensors.items() if name != "posterior.bias"})
    with pytest.raises(ModelError, match=r"posterior.bias has shape \[5\]"):
        VAE.from_tensors(model.config_dict(), {**tensors, "posterior.bias": torch.zeros(5)})
    with pytest.raises(ModelError, match="unknown tensors strange"):
        VAE.from_tensors(model.config_dict(), {**tensors, "strange": torch.zeros(1)})


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="width 10 is no multiple of twice heads 4"):
        VAEConfig(body="transformer", width=10)
    with pytest.raises(ValueError, match="embedding 4 is not width 8"):
        VAEConfig(body="transformer", width=8, embedding=4)
    assert VAEConfig(cell="GRU").cell == "gru"


def test_dropout_acts_in_learning_alone():
    for body in ("lstm", "transformer"):
        model = make(body, dropout=0.5).train()
        tokens, z = documents()[0], torch.randn(4, 3, dtype=torch.float64)
        assert not torch.allclose(model.hidden(tokens, given=z)[0], model.hidden(tokens, given=z)[0])
        torch.testing.assert_close(
            model.advance(model.start(4, z), tokens)[0], model.eval().logits(model.hidden(tokens, given=z)[0]).detach()
        )


@bodies
def test_states_are_float32_under_bf16_autocast(body, native_bf16, monkeypatch):
    """On processors with bf16 products no LSTM kernel takes bf16 states beside float32 weights; elsewhere the same dtypes are seen."""
    seen: list[tuple[torch.dtype, ...]] = []
    kernel = recurrent._vendor_layer
    monkeypatch.setattr(
        recurrent, "_vendor_layer", lambda cell, *t: (seen.append(tuple(x.dtype for x in t if x is not None)), kernel(cell, *t))[1]
    )
    model = make(body).float().train()
    tokens, lengths = documents()
    with torch.autocast("cpu", torch.bfloat16):
        mean, _ = model.encode(tokens, lengths)
        hidden, _ = model.hidden(tokens, given=mean)
        read, state = model.advance(model.start(4, mean), tokens)
    assert {dtype for each in seen for dtype in each} <= {torch.float32}
    assert bool(seen) == (body == "lstm")
    assert mean.dtype == torch.float32
    if body != "transformer":
        assert {values.dtype for values in state.inner} == {torch.float32}
    (hidden.float().sum() + read.float().sum()).backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.encoder.parameters())
