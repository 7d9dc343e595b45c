"""Properties around a model: folders, seeds, limits, errors."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bimo.core import store
from bimo.core.errors import CapabilityError, ContextError, ModelError, UserError
from bimo.core.registry import family_of_model_type
from bimo.generation.sampling import GenerationConfig
from bimo.generation.search import generate
from bimo.models.base import LanguageModel, load_model
from tests.conformance.yardstick import (
    begin,
    continues,
    given_for,
    holds,
    longest,
    of_texts_that_go_on,
    ragged,
    random_ids,
    score,
    state_after,
)  # fmt: skip


@holds
def saving_and_loading_is_identity(model: LanguageModel) -> None:
    """Bit-equal logits and nats, the same vocabulary, the same folder again."""
    tokens, lengths = ragged(model, longest(model))
    with tempfile.TemporaryDirectory() as name:
        folder, again = Path(name, "first"), Path(name, "second")
        model.save(folder)
        config = store.read_json(folder / "config.json")
        loaded = type(model).from_tensors(config, store.read_tensors(folder / "model.safetensors"))
        opened = [loaded]
        if _registered(config["model_type"]):
            opened.append(load_model(folder))
        loaded.save(again)
        assert store.read_json(again / "config.json") == config
        assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
        vocabulary = model.vocabulary
        special = {"bos": vocabulary.bos, "eos": vocabulary.eos, "pad": vocabulary.pad, "unk": vocabulary.unk}
        assert config["vocab_size"] == vocabulary.size
        assert config["suppress_tokens"] == list(vocabulary.suppressed)
        for key, value in special.items():
            assert config[f"{key}_token_id"] == value, key
    for twin in opened:
        assert type(twin) is type(model)
        assert twin.vocabulary == vocabulary
        assert (twin.kind, twin.context) == (model.kind, model.context)
        assert twin.parameter_count() == model.parameter_count() > 0
        if model.continues_text:
            logits = [one.advance(begin(one, len(tokens)), tokens, lengths)[0] for one in (twin, model)]
            assert torch.equal(*logits)
        assert torch.equal(score(twin, tokens, lengths).nats, score(model, tokens, lengths).nats)
        if "latent" in model.capabilities:  # the bound, whose noise is the same again
            assert torch.equal(twin.score(tokens, lengths).nats, model.score(tokens, lengths).nats)


def _registered(model_type: str) -> bool:
    try:
        family_of_model_type(model_type)
    except ModelError:
        return False
    return True


@of_texts_that_go_on
def same_seed_same_text(model: LanguageModel) -> None:
    """Drawn texts repeat, alone and in a batch, past the context too."""
    prompts = [[2], [3, 4, 5], [2, 2]]
    config = GenerationConfig.of(max_new_tokens=12, seed=5, num_return_sequences=2)
    first = generate(model, prompts, config, given=given_for(model, 3)).ids
    assert generate(model, prompts, config, given=given_for(model, 3)).ids == first
    assert [ids for prompt in prompts for ids in generate(model, [prompt], config, given=given_for(model, 1)).ids] == first


@holds
def the_context_is_its_limit(model: LanguageModel) -> None:
    """As many tokens as the context fit; one more is a ContextError, at once or as a step, in one row of many."""
    if model.context is None:
        if not model.continues_text:
            return
        _, state = model.advance(begin(model, 1), random_ids(model, 1, 50))
        continues(model, state, [random_ids(model, 1, 50)[0]], "no limit")
        return
    full = random_ids(model, 2, model.context)
    lengths = torch.tensor([1, model.context])
    if not model.continues_text:
        with pytest.raises(ContextError):
            score(model, torch.cat([full, full[:, :2]], 1))
        return
    _, state = model.advance(begin(model, 2), full, lengths)
    for attempt in (
        lambda: model.advance(state, full[:, :1]),
        lambda: model.advance(begin(model, 2), torch.cat([full, full[:, :1]], 1)),
        lambda: model.advance(state_after(model, full[:, :-1]), full[:, :2], torch.tensor([1, 2])),
        lambda: score(model, torch.cat([full, full[:, :2]], 1)),
    ):
        with pytest.raises(ContextError):
            attempt()


@holds
def bad_input_is_a_clear_error(model: LanguageModel) -> None:
    """Ids out of range, nothing to read, lengths that are none: a UserError that names the field."""
    good = random_ids(model, 2, 3)
    bad: list[tuple[Tensor, Any, str]] = [
        (good + model.vocab_size, None, "tokens"),
        (good - model.vocab_size, None, "tokens"),
        (good[:, :0], None, "tokens"),
        (good[0], None, "tokens"),
        (good, torch.tensor([1]), "lengths"),
        (good, torch.tensor([0, 3]), "lengths"),
        (good, torch.tensor([1, 4]), "lengths"),
    ]
    for tokens, lengths, field in bad:
        with pytest.raises(UserError, match=field):
            score(model, tokens, lengths)
        if model.continues_text:
            with pytest.raises(UserError, match=field):
                model.advance(begin(model, 2), tokens, lengths)


@holds
def it_goes_on_or_says_so(model: LanguageModel) -> None:
    """A model that does not continue texts refuses to, in words that name what it does instead."""
    if model.continues_text:
        assert model.advance(begin(model, 1), random_ids(model, 1, 2))[0].shape[:2] == (1, 2)
        return
    for attempt in (lambda: model.start(1), lambda: model.advance(None, random_ids(model, 1, 2)), lambda: generate(model, [[2]])):
        with pytest.raises(CapabilityError, match="score"):
            attempt()
