"""From text to text: prompts are encoded, continued and decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bimo.generation import search
from bimo.generation.latent import encode
from bimo.generation.sampling import GenerationConfig
from bimo.generation.search import Generated
from bimo.models.bundle import Bundle


def continue_texts(bundle: Bundle, prompts: Sequence[str], config: GenerationConfig, given: Sequence[str] | None = None) -> Generated:
    """Continue each prompt; `text` of each row is the continuation, without the prompt. given: a source text for each prompt.

    A model with a latent is given the mean of its source's latent, or where there is no source one that it draws.
    """
    ids = [bundle.prompt(prompt) for prompt in prompts]
    config = config.forbidding(bundle.tokenizer)
    return search.generate(bundle.model, ids, config, given=_sources(bundle, given), eos=bundle.text_ends, decoder=bundle.decoder)


def stream_text(bundle: Bundle, prompt: str, config: GenerationConfig, given: str | None = None) -> Iterator[str]:
    """Yield a prompt's continuation piece by piece, whole characters only. given: as in `continue_texts`, one."""
    source, config = _sources(bundle, None if given is None else [given]), config.forbidding(bundle.tokenizer)
    return search.stream(bundle.model, bundle.prompt(prompt), config, given=source, eos=bundle.text_ends, decoder=bundle.decoder)


def _sources(bundle: Bundle, texts: Sequence[str] | None) -> Any:
    """Source texts as the model's `start` takes them."""
    if texts is None:
        return None
    return encode(bundle, texts)[0] if "latent" in bundle.model.capabilities else bundle.given(texts)
