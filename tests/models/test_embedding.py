"""Tags as input: added where a model reads, absent where it predicts, known from the token alone, in every neural family."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bimo.core import store
from bimo.core.errors import ModelError
from bimo.core.registry import families, family
from bimo.models.base import NeuralLanguageModel, load_model
from bimo.models.embedding import TokenEmbedding, reads_tags
from bimo.models.encoder import Encoder
from bimo.models.gan import GAN
from tests.conformance.variants import SIZE, TAGGED, VARIANTS, make
from tests.conformance.yardstick import alone, given_for, random_ids

NEURAL = [name for name in families() if family(name).learning == "gradient"]
WRITING = [name for name in NEURAL if name != "encoder"]


def tagged(name: str) -> NeuralLanguageModel:
    model = make(f"{name}/tags")
    assert isinstance(model, NeuralLanguageModel)
    return model


@pytest.mark.parametrize("name", NEURAL)
def test_every_neural_family_reads_tags(name: str) -> None:
    model = tagged(name)
    assert reads_tags(model)
    assert model.config_dict()["tag_names"] == list(TAGGED.tags)
    assert model.config_dict()["model_type"].startswith("bimo-")
    weight = model.head()[0]
    assert weight.shape[0] == SIZE
    assert all(weight is not m.tags.weight for m in model.modules() if isinstance(m, TokenEmbedding) and m.tags is not None)


@pytest.mark.parametrize("name", WRITING)
def test_tags_change_what_is_predicted_next_and_nothing_before(name: str) -> None:
    """A later token with another tag leaves all earlier logits to the bit; another tag of an earlier token does not."""
    model = tagged(name)
    first = random_ids(model, 1, 6, seed=3)
    other = first.clone()
    other[0, 4] = next(i for i in range(2, 9) if TAGGED.tag_of[i] != TAGGED.tag_of[int(first[0, 4])])
    logits = [model.advance(model.start(1, given_for(model, 1)), tokens)[0] for tokens in (first, other)]
    assert torch.equal(logits[0][:, :4], logits[1][:, :4])
    assert not torch.allclose(logits[0][:, 4:], logits[1][:, 4:])
    before = alone(model, first[0])
    tables = [m for n, m in model.named_modules() if isinstance(m, TokenEmbedding) and m.tags is not None and n != "source_embedding"]
    kept = [table.tag_of.clone() for table in tables]
    try:
        for table in tables:
            table.tag_of[first[0, 2]] = 3 - table.tag_of[first[0, 2]]
        after = alone(model, first[0])
    finally:
        for table, old in zip(tables, kept, strict=True):
            table.tag_of.copy_(old)
    at = int((first[0] == first[0, 2]).nonzero()[0])
    assert torch.equal(before[:at], after[:at])
    assert not torch.allclose(before[at], after[at])


def test_a_hidden_token_has_the_tag_of_what_hides_it() -> None:
    model = tagged("encoder")
    assert isinstance(model, Encoder)
    assert model.mask_id is not None
    assert TAGGED.tags[TAGGED.tag_of[model.mask_id]] == "<special>"


@pytest.mark.parametrize("name", NEURAL)
def test_without_tags_nothing_is_different(name: str) -> None:
    """As many parameters as before, no table in the file, none in the config: a plain nn.Embedding under another name."""
    model = make(f"{name}/{next(iter(VARIANTS[name]))}")
    assert isinstance(model, NeuralLanguageModel)
    assert not reads_tags(model)
    assert "tag_names" not in model.config_dict()
    assert not [n for n in model.tensors() if "tag" in n]
    torch.manual_seed(5)
    plain = torch.nn.Embedding(SIZE, 3).weight
    torch.manual_seed(5)
    ours = TokenEmbedding(model.vocabulary, 3)
    assert torch.equal(ours.weight, plain)
    assert [n for n, _ in ours.named_parameters()] == ["weight"]


def test_the_game_reads_weights_of_all_tokens_with_their_tags() -> None:
    model = tagged("gan")
    assert isinstance(model, GAN)
    own = model.generator
    state = own.start(2)
    _, state = own.advance(state, torch.tensor([[0, 3], [0, 5]]))
    tokens = torch.tensor([4, 7])
    hard = torch.nn.functional.one_hot(tokens, SIZE).float()
    found, after = model._read_relaxed(hard, tokens, state)
    wanted, expected = own.extend(state, tokens[:, None], torch.ones(2, dtype=torch.int64))
    torch.testing.assert_close(found, wanted[:, 0])
    for a, b in zip(after, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("spoiled", [torch.full((SIZE,), 4), torch.full((SIZE,), -1), torch.zeros(SIZE)])
def test_a_table_that_names_no_tag_is_refused(tmp_path: Path, spoiled: torch.Tensor) -> None:
    model = tagged("lstm")
    model.save(tmp_path)
    store.write_tensors(tmp_path / "model.safetensors", {**model.tensors(), "embedding.tag_of": spoiled})
    with pytest.raises(ModelError, match=r"embedding\.tag_of must hold int64 places of 4 tags"):
        load_model(tmp_path)
    config = {**model.config_dict(), "tag_names": "NOUN"}
    store.write_json(tmp_path / "config.json", config)
    with pytest.raises(ModelError, match="tag_names must be a list of names"):
        load_model(tmp_path)
