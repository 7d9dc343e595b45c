"""Greedy and beam search write transformers' tokens on the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bimo.generation.sampling import GenerationConfig
from bimo.generation.search import generate
from bimo.models.base import load_model
from tests.generation.reference import EOS, Reference, tiny

PROMPTS = [[0, 3, 5, 7], [0], [0, 9, 9, 9, 2, 4, 6]]
PROCESSED = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "bad_words_ids": [[4], [5, 6]], "min_new_tokens": 3}


def theirs(network: Any, prompts: list[list[int]], **options: Any) -> Any:
    """transformers' generate on left-padded prompts."""
    width = max(map(len, prompts))
    ids = torch.tensor([[EOS] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    made = network.generate(ids, attention_mask=mask, do_sample=False, return_dict_in_generate=True, output_scores=True, **options)
    return made, [_cut(row) for row in made.sequences[:, width:].tolist()]


def _cut(ids: list[int]) -> list[int]:
    return ids[: ids.index(EOS) + 1] if EOS in ids else ids


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("options", [{}, PROCESSED], ids=["plain", "processed"])
def test_greedy(kind, options):
    for seed in range(3):
        network = tiny(kind, seed)
        _, expected = theirs(network, PROMPTS[:1], max_new_tokens=20, **options)
        config = GenerationConfig.of(max_new_tokens=20, temperature=0, **options)
        assert generate(Reference(network), PROMPTS[:1], config, eos=EOS).ids == expected
        if not options:  # transformers' processors see the padding on the left as text
            _, expected = theirs(network, PROMPTS, max_new_tokens=20)
            assert generate(Reference(network), PROMPTS, config, eos=EOS).ids == expected


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, -1.0, 2.0])
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize(("beams", "returned"), [(2, 1), (4, 3)])
def test_beam_search(kind, length_penalty, early_stopping, beams, returned):
    options = {
        "max_new_tokens": 9,
        "num_beams": beams,
        "num_return_sequences": returned,
        "length_penalty": length_penalty,
        "early_stopping": early_stopping,
    }
    network = tiny(kind, beams)
    made, expected = theirs(network, PROMPTS, **options)
    ours = generate(Reference(network), PROMPTS, GenerationConfig.of(**options), eos=EOS)
    assert ours.ids == expected
    assert torch.tensor([row.score for row in ours.rows]).tolist() == pytest.approx(made.sequences_scores.tolist(), abs=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_beam_search_processed(kind):
    for seed in range(3):
        network = tiny(kind, seed)
        options = {"max_new_tokens": 12, "num_beams": 3, **PROCESSED}
        _, expected = theirs(network, PROMPTS[:1], **options)
        assert generate(Reference(network), PROMPTS[:1], GenerationConfig.of(**options), eos=EOS).ids == expected


def test_beam_search_of_several_ends():
    network = tiny("gpt2", 7)
    options = {"max_new_tokens": 12, "num_beams": 3, "num_return_sequences": 3}
    made = network.generate(torch.tensor(PROMPTS[:1]), do_sample=False, eos_token_id=[1, 8, 9], pad_token_id=1, **options)
    ours = generate(Reference(network), PROMPTS[:1], GenerationConfig.of(**options), eos=[1, 8, 9])
    for row, ids in zip(made[:, 4:].tolist(), ours.ids, strict=True):
        assert row[: len(ids)] == ids
        assert set(row[len(ids) :]) <= {1}


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_our_own_model_of_the_same_weights(kind, tmp_path):
    """The folder that transformers saves, opened here: state, batches and beams together give its tokens."""
    network = tiny(kind, 3)
    network.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    _, expected = theirs(network, PROMPTS, max_new_tokens=20)
    assert generate(model, PROMPTS, GenerationConfig.of(max_new_tokens=20, temperature=0), eos=EOS).ids == expected
    options = {"max_new_tokens": 12, "num_beams": 4, "num_return_sequences": 3}
    _, expected = theirs(network, PROMPTS, **options)
    assert generate(model, PROMPTS, GenerationConfig.of(**options), eos=EOS).ids == expected
