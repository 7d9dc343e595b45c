"""Texts by way of a latent: written again, and written on the way from one to another.

For models with the capability `latent`; any other is a `CapabilityError`. Such a model writes from the prior where `generate` is given
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bimo.core.errors import UserError
from bimo.generation import search
from bimo.generation.sampling import GenerationConfig
from bimo.models.bundle import Bundle
from bimo.models.latent import arc, line, with_latent


@torch.no_grad()
def encode(bundle: Bundle, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Mean and logarithm of the variance, [N, Z] each, of the latents of texts: each is a document of its own."""
    model, given = with_latent(bundle.model), bundle.given(texts)
    return model.encode(given.tokens, given.lengths)


def write(bundle: Bundle, latents: Tensor, config: GenerationConfig | None = None) -> list[str]:
    """The texts that the decoder writes from latents [N, Z], the likeliest token by token if not said otherwise."""
    with_latent(bundle.model)
    config = (config or GenerationConfig.of(temperature=0)).forbidding(bundle.tokenizer)
    if config.num_return_sequences > 1:
        raise UserError("num_return_sequences: there is one text for each latent; repeat the latent for more")
    done = search.generate(
        bundle.model,
        [bundle.prompt("")] * len(latents),
        config,
        given=latents,
        eos=bundle.text_ends,
        decoder=bundle.decoder,
    )
    return [row.text or "" for row in done.rows]


def reconstruct(bundle: Bundle, texts: Sequence[str], config: GenerationConfig | None = None) -> list[str]:
    """Each text, written again from the mean of its latent alone."""
    return write(bundle, encode(bundle, texts)[0], config)


def interpolate(
    bundle: Bundle, first: str, last: str, steps: int = 5, config: GenerationConfig | None = None, spherical: bool = False
) -> list[str]:
    """`steps` texts on the way from `first` to `last`, both written again among them (Bowman et al. 2016, section 4.3).

    The way is a straight line between the means of their latents, or an arc (see `bimo.models.latent.arc`).
    """
    ends = encode(bundle, [first, last])[0]
    return write(bundle, (arc if spherical else line)(ends[0], ends[1], steps), config)
