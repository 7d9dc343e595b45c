"""From text to text: prompts are encoded, continued and decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bimo.generation import search
from bimo.generation.sampling import GenerationConfig
from bimo.generation.search import Generated
from bimo.generation.streaming import DecoderFactory
from bimo.models.bundle import Bundle


def continue_texts(bundle: Bundle, prompts: Sequence[str], config: GenerationConfig, given: Sequence[str] | None = None) -> Generated:
    """Continue each prompt; `text` of each row is the continuation, without the prompt. given: a source text for each prompt."""
    ids = [bundle.prompt(prompt) for prompt in prompts]
    sources = None if given is None else bundle.given(given)
    return search.generate(bundle.model, ids, config, given=sources, eos=bundle.eos, decoder=_decoders(bundle))


def stream_text(bundle: Bundle, prompt: str, config: GenerationConfig, given: str | None = None) -> Iterator[str]:
    """Yield a prompt's continuation piece by piece, whole characters only. given: a source text."""
    source = None if given is None else bundle.given([given])
    return search.stream(bundle.model, bundle.prompt(prompt), config, given=source, eos=bundle.eos, decoder=_decoders(bundle))


def _decoders(bundle: Bundle) -> DecoderFactory:
    return lambda prompt: bundle.tokenizer.stream_decoder(bundle.stream, after=prompt)
