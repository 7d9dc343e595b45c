"""The processed distribution is transformers'; what it has not is checked by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as hf

from bimo.generation import processors
from bimo.generation.sampling import GenerationConfig, draw, process, sample, warp

SIZE, EOS = 11, 1


def reference(options: dict[str, Any], prompt_length: int) -> hf.LogitsProcessorList:
    """transformers' processors in the order of `GenerationMixin._get_logits_processor`."""
    makers = {
        "repetition_penalty": hf.RepetitionPenaltyLogitsProcessor,
        "no_repeat_ngram_size": hf.NoRepeatNGramLogitsProcessor,
        "bad_words_ids": hf.NoBadWordsLogitsProcessor,
        "min_new_tokens": lambda n: hf.MinNewTokensLengthLogitsProcessor(prompt_length, n, EOS),
        "temperature": hf.TemperatureLogitsWarper,
        "top_k": hf.TopKLogitsWarper,
        "top_p": hf.TopPLogitsWarper,
        "min_p": hf.MinPLogitsWarper,
        "typical_p": hf.TypicalLogitsWarper,
    }
    return hf.LogitsProcessorList([make(options[name]) for name, make in makers.items() if name in options])


words = st.lists(st.lists(st.integers(2, SIZE - 1), min_size=1, max_size=3), min_size=1, max_size=3)
options = st.fixed_dictionaries(
    {},
    optional={
        "repetition_penalty": st.sampled_from([0.5, 1.3, 4.0]),
        "no_repeat_ngram_size": st.integers(1, 4),
        "bad_words_ids": words,
        "min_new_tokens": st.integers(1, 5),
        "temperature": st.sampled_from([0.1, 0.7, 2.5]),
        "top_k": st.sampled_from([1, 3, SIZE, 50]),
        "top_p": st.sampled_from([0.0, 0.25, 0.5, 0.9]),
        "min_p": st.sampled_from([0.05, 0.5, 1.0]),
        "typical_p": st.sampled_from([0.2, 0.9]),
    },
)


@settings(max_examples=300, deadline=None)
@given(options, st.integers(0, 10**6), st.integers(1, 7), st.integers(0, 3), st.booleans(), st.booleans())
def test_the_distribution_is_transformers(options, seed, prompt_length, generated, ties, holes):
    """Every option and combination, also where logits tie or ids are suppressed."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, SIZE, generator=generator, dtype=torch.float64) * 3
    if ties:
        logits = logits.round()
    if holes:
        logits[:, [0, 5]] = float("-inf")
    history = torch.randint(0, SIZE, (3, prompt_length + generated), generator=generator)
    config = GenerationConfig.of(max_new_tokens=9, **options)
    processed = process(logits, history, generated, config, [EOS])
    theirs = reference(options, prompt_length)(history, logits)
    allowed = processed.amax(-1) > float("-inf")
    ours = warp(processed[allowed], config)
    torch.testing.assert_close(ours.softmax(-1), theirs[allowed].softmax(-1), rtol=1e-9, atol=1e-12)
    assert (theirs[~allowed] == float("-inf")).all() or theirs[~allowed].isnan().any()


def test_shorter_rows_are_as_if_alone():
    """-1 on the left of a row is no token: not repeated, not counted, part of no n-gram and no word."""
    torch.manual_seed(0)
    logits = torch.randn(2, SIZE, dtype=torch.float64)
    history = torch.tensor([[4, 5, 4, 5, 4], [-1, -1, -1, 3, 3]])
    for options in (
        {"repetition_penalty": 2.0},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2},
        {"no_repeat_ngram_size": 3},
        {"bad_words_ids": [[10, 3, 3, 7], [3, 3, 8], [3, 2]]},
    ):
        config = GenerationConfig.of(**options)
        together = process(logits, history, 1, config)
        alone = process(logits[1:], history[1:, 3:], 1, config)
        assert torch.equal(together[1:], alone), options


def test_count_penalties_are_openais():
    logits = torch.zeros(1, 5)
    history = torch.tensor([[4, 4, 2, 2, 3]])  # two of the prompt, then three written
    bent = process(logits, history, 3, GenerationConfig.of(frequency_penalty=0.5, presence_penalty=1.0))
    assert bent.tolist() == [[0.0, 0.0, -2.0, -1.5, 0.0]]
    assert torch.equal(process(logits, history, 0, GenerationConfig.of(frequency_penalty=0.5)), logits)


@pytest.mark.parametrize("logits", [[float("-inf")] * 4 + [0.0], [-1e5, 0.0, 1e5, 3e4, 0.0]])
@pytest.mark.parametrize("temperature", [1e-40, 1e-3, 1e5])
def test_extreme_temperatures_stay_finite(logits, temperature):
    bent = warp(torch.tensor([logits]), GenerationConfig.of(temperature=temperature, top_p=0.9, typical_p=0.9))
    assert not bent.softmax(-1).isnan().any()
    assert bent.argmax() == torch.tensor(logits).argmax()


def test_inputs_are_left_alone():
    logits = torch.randn(2, SIZE)
    history = torch.randint(0, SIZE, (2, 6))
    before = logits.clone()
    config = GenerationConfig.of(
        repetition_penalty=1.5, no_repeat_ngram_size=2, bad_words_ids=[[3]], min_new_tokens=9, frequency_penalty=1.0,
        temperature=0.5, top_k=5, top_p=0.9, min_p=0.1, typical_p=0.9,
    )  # fmt: skip
    warp(process(logits, history, 2, config, [EOS]), config)
    assert torch.equal(logits, before)


def test_draw_follows_the_distribution():
    """A fine grid of uniform numbers hits each id in proportion, never one of probability zero."""
    probabilities = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0], dtype=torch.float64)
    uniforms = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    drawn = draw(probabilities.log().expand(10_000, -1), uniforms)
    assert torch.bincount(drawn, minlength=6).tolist() == [0, 5000, 0, 3000, 2000, 0]
    highest = torch.tensor([1 - 2**-53], dtype=torch.float64)
    assert draw(probabilities.log()[None], highest).item() == 4


def test_top_p_keeps_one():
    for p in (0.0, 1e-9):
        assert processors.top_p(torch.tensor([[1.0, 1.0, 0.0]]), p).isfinite().sum() == 1


@settings(max_examples=100, deadline=None)
@given(options, st.integers(0, 10**6), st.booleans())
def test_sampling_draws_from_the_warped_distribution(options, seed, ties):
    """Whichever way is taken: the few ids of top_k alone, or all."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 40, generator=generator, dtype=torch.float64) * 3
    logits = logits.round() if ties else logits
    uniforms = torch.rand(4, generator=generator, dtype=torch.float64)
    config = GenerationConfig.of(max_new_tokens=9, **options)
    assert torch.equal(sample(logits, uniforms, config), draw(warp(logits, config), uniforms))
