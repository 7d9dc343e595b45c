"""Whether a latent is used: what it costs, what it holds, and what it costs to exchange it for another text's.

A latent that a model ignores has a KL of nearly zero; one that has a KL and is ignored all the same shows here alone: exchanging it
costs nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bimo.core.errors import UserError
from bimo.data.split import Split
from bimo.data.windows import evaluation_windows
from bimo.models.base import LanguageModel
from bimo.models.latent import drawn, fixed_noise, kl_to_prior, with_latent
from bimo.models.scoring import tokens_together

_ROWS = 64
ACTIVE = 0.01  # variance of a unit's mean over texts, above which it is active (Burda et al. 2016, section 5.2)


@dataclass(frozen=True)
class LatentUse:
    """How a model's latent is used on a text. All nats are means over documents; `documents`: how many were measured.

    kl: of the posterior to the prior; reconstruction: −log p(x|z), z drawn from the text's own posterior (with kl, the negative
    ELBO); exchanged: how much more the reconstruction costs given the latent of another document; exchanged_error: the standard error
    of that; active_units: dimensions whose mean varies between texts, of `units`.
    """

    documents: int
    kl: float
    reconstruction: float
    exchanged: float
    exchanged_error: float
    active_units: int
    units: int

    @property
    def bound(self) -> float:
        """The negative ELBO, nats a document."""
        return self.kl + self.reconstruction

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "bound": self.bound}

    def describe(self) -> str:
        """A few lines for a person."""
        return (
            f"bound         {self.bound:.2f} nats a document: {self.reconstruction:.2f} to write it, {self.kl:.2f} for its latent (KL)\n"
            f"exchanged     {self.exchanged:+.2f} ± {self.exchanged_error:.2f} nats given another document's latent\n"
            f"active units  {self.active_units} of {self.units} ({self.documents:,} documents)"
        )


@torch.no_grad()
def latent_use(model: LanguageModel, split: Split, seed: int = 0) -> LatentUse:
    """Measure every document of `split`; each is given its own latent, and that of another one by a fixed exchange of all.

    The noise is what `score` draws, so that `bound` is the model's score of the text with one sample.
    """
    width = with_latent(model).latent_width
    if split.documents < 2:
        raise UserError(f"{split.name}: latents are exchanged between documents, and there are fewer than two (--documents line?)")
    means, latents, kls = (np.zeros((split.documents, n)) for n in (width, width, 1))
    for tokens, lengths, documents in _documents(model, split):
        mean, log_variance = with_latent(model).encode(tokens, lengths)
        noise = fixed_noise(tokens, lengths, 1, width)[:, 0].to(mean)
        means[documents], latents[documents] = mean.cpu(), drawn(mean, log_variance, noise).cpu()
        kls[documents] = kl_to_prior(mean, log_variance).sum(1, keepdim=True).cpu()
    own, others = _written(model, split, latents), _written(model, split, latents[exchange(split.documents, seed)])
    cost = others - own
    return LatentUse(
        documents=split.documents,
        kl=float(kls.mean()),
        reconstruction=float(own.mean()),
        exchanged=float(cost.mean()),
        exchanged_error=float(cost.std(ddof=1) / np.sqrt(len(cost))),
        active_units=int((means.var(0) > ACTIVE).sum()),
        units=width,
    )


def exchange(number: int, seed: int = 0) -> NDArray[np.int64]:
    """A fixed order of `number` things in which none stays in its place: one drawn circle.

    >>> bool((exchange(5) != np.arange(5)).all())
    True
    """
    circle = np.random.Generator(np.random.Philox(key=seed)).permutation(number)
    order = np.empty(number, dtype=np.int64)
    order[circle] = np.roll(circle, 1)
    return order


def _documents(model: LanguageModel, split: Split) -> Any:
    """(tokens [B, T], lengths [B], numbers of the documents [B]) of all documents."""
    for batch in evaluation_windows(split, None, batch_size=_ROWS, max_tokens=tokens_together(model)):
        yield batch.tokens.to(model.device), batch.lengths.to(model.device), batch.documents.numpy()


def _written(model: LanguageModel, split: Split, latents: NDArray[np.float64]) -> NDArray[np.float64]:
    """−log p(x|z) of each document, nats [documents], given the latents [documents, Z]."""
    nats = np.zeros(split.documents)
    for tokens, lengths, documents in _documents(model, split):
        z: Tensor = torch.from_numpy(latents[documents]).float()
        nats[documents] = model.score(tokens, lengths, given=z).per_row().cpu()
    return nats
