"""From text to text: prompts are encoded, continued and decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bimo.generation import search
from bimo.generation.sampling import GenerationConfig
from bimo.generation.search import Generated
from bimo.generation.streaming import DecoderFactory
from bimo.models.bundle import Bundle


def continue_texts(bundle: Bundle, prompts: Sequence[str], config: GenerationConfig) -> Generated:
    """Continue each prompt; `text` of each row is the continuation, without the prompt."""
    ids = [bundle.prompt(prompt) for prompt in prompts]
    return search.generate(bundle.model, ids, config, eos=bundle.eos, decoder=_decoders(bundle))


def stream_text(bundle: Bundle, prompt: str, config: GenerationConfig) -> Iterator[str]:
    """Yield a prompt's continuation piece by piece, whole characters only."""
    return search.stream(bundle.model, bundle.prompt(prompt), config, eos=bundle.eos, decoder=_decoders(bundle))


def _decoders(bundle: Bundle) -> DecoderFactory:
    return lambda prompt: bundle.tokenizer.stream_decoder(bundle.stream, after=prompt)
