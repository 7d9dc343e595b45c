"""How the next token is chosen: the distribution and the draw that follow from the options of generation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bimo.generation import processors
from bimo.generation.config import GenerationConfig

__all__ = ["GenerationConfig", "draw", "process", "row_generators", "sample", "warp"]


def process(logits: Tensor, history: Tensor, generated: int, config: GenerationConfig, eos: Sequence[int] = ()) -> Tensor:
    """Logits [B, V] after penalties and prohibitions, for greedy choice, beams and drawing alike.

    history: int64 [B, L], aligned on the right, -1 where a row is shorter; its last `generated` columns were written.
    """
    if config.repetition_penalty != 1:
        logits = processors.repetition_penalty(logits, history, config.repetition_penalty)
    if generated and (config.frequency_penalty or config.presence_penalty):
        logits = processors.count_penalties(logits, history[:, -generated:], config.frequency_penalty, config.presence_penalty)
    if config.no_repeat_ngram_size:
        logits = processors.no_repeat_ngram(logits, history, config.no_repeat_ngram_size)
    if config.bad_words_ids:
        logits = processors.bad_words(logits, history, config.bad_words_ids)
    if eos and generated < config.min_new_tokens:
        logits = processors.without(logits, eos)
    return logits


def warp(logits: Tensor, config: GenerationConfig) -> Tensor:
    """Logits [B, V] after temperature and truncation, for drawing; each row keeps at least its likeliest id."""
    return _truncated(_head(logits, config), config)


def _head(logits: Tensor, config: GenerationConfig) -> Tensor:
    if config.temperature != 1:
        logits = processors.temperature(logits, config.temperature)
    return processors.top_k(logits, config.top_k) if config.top_k else logits


def _truncated(logits: Tensor, config: GenerationConfig) -> Tensor:
    if config.top_p is not None and config.top_p < 1:
        logits = processors.top_p(logits, config.top_p)
    if config.min_p:
        logits = processors.min_p(logits, config.min_p)
    if config.typical_p is not None and config.typical_p < 1:
        logits = processors.typical_p(logits, config.typical_p)
    return logits


def sample(logits: Tensor, uniforms: Tensor, config: GenerationConfig) -> Tensor:
    """Ids [B] drawn from warp(logits) [B, V]; with top_k only the ids it keeps are sorted and summed."""
    logits = _head(logits, config)
    if not config.top_k or 2 * (kept := int((logits > float("-inf")).sum(-1).max())) > logits.shape[1]:
        return draw(_truncated(logits, config), uniforms)
    places = logits.topk(kept).indices.sort(dim=-1).values  # [B, kept], in the order of the ids, as ties ask for
    return places.gather(1, draw(_truncated(logits.gather(1, places), config), uniforms)[:, None]).squeeze(1)


def draw(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Ids [B] of softmax(logits) [B, V] by inversion, from one uniform number in [0, 1) a row, float64 [B].

    >>> draw(torch.tensor([[0.0, float("-inf"), 0.0]] * 2), torch.tensor([0.49, 0.51], dtype=torch.float64)).tolist()
    [0, 2]
    """
    cumulative = logits.softmax(-1).cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    target = torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target[:, None], right=True).squeeze(1)


def row_generators(prompts: Sequence[Sequence[int]], copies: int, seed: int) -> list[np.random.Generator]:
    """One generator a row, prompt by prompt and `copies` rows a prompt.

    A row's numbers depend on the seed, its prompt and how many rows with the same prompt stand before it, not on the
    batch: n copies of a prompt draw what num_return_sequences=n draws.
    """
    before: dict[bytes, int] = {}
    generators = []
    for prompt in prompts:
        key = hashlib.blake2b(np.asarray(prompt, dtype=np.int64).tobytes(), digest_size=8).digest()
        for _ in range(copies):
            number = before.get(key, 0)
            before[key] = number + 1
            generators.append(np.random.default_rng([seed, int.from_bytes(key, "little"), number]))
    return generators
