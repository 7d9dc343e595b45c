"""Models with a latent: how they are asked, and the arithmetic of a diagonal Gaussian beside a standard one.

Shapes: B rows, T tokens, Z width of the latent, K samples. Source: Kingma & Welling 2014; importance samples: Burda et al. 2016.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from bimo.core.errors import CapabilityError, UserError
from bimo.models.base import LanguageModel

MOST_SAMPLES = 10_000  # of a document's bound: twice what anyone publishes; they are drawn at once, and what is beyond is a slip


class LatentModel(Protocol):
    """What a model with the capability `latent` has beside the interface: a text's place among all texts, which `start` takes back."""

    score_samples: int  # latents drawn for each document's bound; more tighten it

    @property
    def latent_width(self) -> int:
        """Z."""
        ...

    def encode(self, tokens: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance, [B, Z] each, of q(z | document)."""
        ...


def with_latent(model: LanguageModel) -> LatentModel:
    """The same model, asked by its latent; a model that has none is a `CapabilityError`."""
    if "latent" not in model.capabilities:
        raise CapabilityError(
            f"{type(model).__name__} has no latent: only a model trained as one that has (bimo train --family vae) can do this"
        )
    return cast(LatentModel, model)


@contextmanager
def scored_with(model: LanguageModel, samples: int | None) -> Iterator[None]:
    """Inside, the model's bound is made of so many samples a document (as many as it says itself, if None)."""
    if samples is None:
        yield
        return
    latent = with_latent(model)
    if not 1 <= samples <= MOST_SAMPLES:
        raise UserError(f"samples: must be 1 to {MOST_SAMPLES:,}, found {samples:,}")
    before, latent.score_samples = latent.score_samples, samples
    try:
        yield
    finally:
        latent.score_samples = before


def drawn(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """z = μ + σ ⊙ ε with σ = exp(½ log σ²) (Kingma & Welling 2014, section 2.4).

    >>> mean, spread, noise = (torch.tensor(v).double() for v in ([0.5, 0.6], [0.2, 0.3], [0.1, 0.2]))
    >>> [round(v, 4) for v in drawn(mean, 2 * spread.log(), noise).tolist()]  # σ = [.2, .3]
    [0.52, 0.66]
    >>> [round(v, 4) for v in drawn(mean, spread, noise).tolist()]  # the same numbers, read as log σ²
    [0.6105, 0.8324]
    """
    return mean + (0.5 * log_variance).exp() * noise


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½ (μ² + σ² − 1 − log σ²) of each dimension, nats (Kingma & Welling 2014, appendix B).

    >>> kl_to_prior(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 0.0])).tolist()
    [0.0, 2.0]
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def log_ratio(z: Tensor, noise: Tensor, log_variance: Tensor) -> Tensor:
    """log p(z) − log q(z | x) [...] of z = μ + σ ⊙ ε [..., Z]: ½ Σ (ε² + log σ² − z²); its mean is −KL."""
    return 0.5 * (noise.square() + log_variance - z.square()).sum(-1)


def from_prior(generators: Sequence[np.random.Generator], width: int) -> Tensor:
    """Latents [N, Z] drawn from N(0, I), each by a generator of its own.

    >>> from_prior([np.random.default_rng(seed) for seed in (1, 2)], 3).shape
    torch.Size([2, 3])
    """
    return torch.from_numpy(np.stack([generator.standard_normal(width) for generator in generators])).float()


def fixed_noise(tokens: Tensor, lengths: Tensor, samples: int, width: int) -> Tensor:
    """Standard normal noise, float64 [B, K, Z] on the CPU, that depends on each row's own tokens alone.

    A text's score is then the same whenever and beside whatever it is scored, and the first of many samples are those
    that fewer would be.
    """
    rows = []
    for row, length in zip(tokens.cpu().numpy(), lengths.tolist(), strict=True):
        digest = hashlib.blake2b(np.ascontiguousarray(row[:length]).astype("<i8").tobytes(), digest_size=16).digest()
        generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
        rows.append(generator.standard_normal((samples, width)))
    return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, samples, width, dtype=torch.float64)


def importance_bound(nats: Tensor, log_ratios: Tensor, ends: Tensor) -> Tensor:
    """Nats [B, T], whose sums are −log 1/K Σ p(x|z) p(z) / q(z|x), at least −log p(x) on average (Burda et al. 2016, eq. 8).

    nats: −log p(token | z, tokens before) float64 [K, B, T]; log_ratios: log p(z) − log q(z|x) [K, B]; ends: the place in
    each row [B] on which all that is not reconstruction is booked. Each token has the mean of its samples' nats, weighted
    as the samples are. Tokens that no latent makes possible have inf.

    >>> nats = torch.tensor([1.0, 3.0]).double().view(2, 1, 1).log().neg()  # two samples of one token: p = 1 and p = 3 …
    >>> round(importance_bound(nats, torch.zeros(2, 1).double(), torch.tensor([0])).neg().exp().item(), 4)  # … are p = 2
    2.0
    """
    impossible = nats.isinf()
    nats = nats.masked_fill(impossible, 0.0)
    weights = log_ratios - nats.sum(2)  # [K, B], logarithms
    bound = np.log(len(nats)) - weights.logsumexp(0)  # [B]
    booked = (weights.softmax(0)[:, :, None] * nats).sum(0)  # [B, T]
    rows = torch.arange(len(ends), device=ends.device)
    booked[rows, ends] += bound - booked.sum(1)
    return booked.masked_fill(impossible.any(0), float("inf"))


def line(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """`steps` latents [steps, Z], evenly spaced on the straight line from `first` [Z] to `last`, both included.

    >>> line(torch.tensor([0.0]), torch.tensor([1.0]), 3).flatten().tolist()
    [0.0, 0.5, 1.0]
    """
    shares = _shares(first, steps)
    return first + shares * (last - first)


def arc(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """`steps` latents [steps, Z] on the arc from `first` [Z] to `last`: angle and length change evenly (White 2016).

    In many dimensions the middle of a straight line is shorter than nearly all latents of the prior; the arc's is not.

    >>> round(arc(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]), 3)[1].norm().item(), 4)
    2.0
    """
    shares, lengths = _shares(first, steps), (first.norm(), last.norm())
    if min(float(n) for n in lengths) == 0:
        return line(first, last, steps)
    ends = first / lengths[0], last / lengths[1]
    angle = (ends[0] @ ends[1]).clamp(-1, 1).arccos()
    if float(angle.sin()) < 1e-4:  # one direction, or opposite ones, between which no arc is the shortest
        return line(first, last, steps)
    directions = (((1 - shares) * angle).sin() * ends[0] + (shares * angle).sin() * ends[1]) / angle.sin()
    return directions * (lengths[0] + shares * (lengths[1] - lengths[0]))


def _shares(like: Tensor, steps: int) -> Tensor:
    if steps < 2:
        raise UserError(f"steps: both ends are among them, so give 2 or more, found {steps}")
    return torch.linspace(0, 1, steps, device=like.device, dtype=like.dtype)[:, None]
