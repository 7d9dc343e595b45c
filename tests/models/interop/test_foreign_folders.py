"""Other programs' model folders beside transformers: drawn at random over all fields of their configurations, and kinds by name."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

from bimo.core.errors import BimoWarning, ModelError
from bimo.models.base import load_model
from bimo.models.decoder import DecoderConfig
from bimo.models.encoder import EncoderConfig
from bimo.models.interop import bert, huggingface

transformers = pytest.importorskip("transformers")

from benchmarks import foreign_folders  # noqa: E402 - draws need transformers

SMALL = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
SHAPES = {
    "gpt2": {"vocab_size": 64, "n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2},
    "llama": {**SMALL, "max_position_embeddings": 32},
    "qwen2": {**SMALL, "max_position_embeddings": 32, "num_key_value_heads": 1},
    "qwen3": {**SMALL, "max_position_embeddings": 32, "num_key_value_heads": 1, "head_dim": 8},
    "bert": {**SMALL, "max_position_embeddings": 32},
}
TOKENS = torch.randint(0, 64, (1, 20), generator=torch.Generator().manual_seed(3))


def test_folders_drawn_at_random_are_as_in_transformers_or_refused_by_name():
    drawn = foreign_folders.folders(40, seed=18)
    assert drawn["differences"] == []
    assert drawn.get("refused", 0) <= foreign_folders.MOST_REFUSED * 40, drawn["why"]
    assert drawn["equal"] + drawn.get("refused", 0) == 40


def test_every_field_of_a_configuration_is_drawn():
    assert foreign_folders.unknown_fields() == []


def folder(path: Path, kind: str, base: bool = False, **config: object) -> tuple[Path, dict]:
    """A folder of a random model of that type, and its config.json."""
    names = foreign_folders.CLASSES[kind]
    torch.manual_seed(5)
    model = getattr(transformers, names[1][base])(getattr(transformers, names[0])(**SHAPES[kind], **config))
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.4, 0.4)
    model.save_pretrained(path)
    return path, json.loads((path / "config.json").read_text())


def rewrite(path: Path, said: dict, **change: object) -> None:
    (path / "config.json").write_text(json.dumps({**said, **change}))


def difference(path: Path, kind: str) -> float:
    found = load_model(path)
    ours = found.fill(TOKENS) if kind == "bert" else found.advance(found.start(1), TOKENS)[0]
    return float((ours - foreign_folders.theirs(path, kind, TOKENS)[0]).abs().max())


@pytest.mark.parametrize("kind", SHAPES)
def test_the_defaults_of_a_configuration_are_opened(kind):
    said = getattr(transformers, foreign_folders.CLASSES[kind][0])().to_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("error", BimoWarning)
        config = bert.read_config(said, {}, EncoderConfig) if kind == "bert" else huggingface.read_config(said, DecoderConfig)
    assert config[1].size == said["vocab_size"]


@pytest.mark.parametrize("kind", SHAPES)
def test_a_head_of_its_own_counts_though_it_is_said_to_be_tied(kind, tmp_path):
    path, said = folder(tmp_path / "theirs", kind, tie_word_embeddings=False)
    rewrite(path, said, tie_word_embeddings=True)
    assert difference(path, kind) < 1e-4
    load_model(path).save(tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["tie_word_embeddings"] is False
    assert difference(tmp_path / "ours", kind) < 1e-4


@pytest.mark.parametrize("kind", ["gpt2", "qwen3", "bert"])
def test_names_with_and_without_the_prefix_open(kind, tmp_path):
    from safetensors.torch import load_file, save_file

    path, _ = folder(tmp_path, kind, tie_word_embeddings=True)
    wanted = foreign_folders.theirs(path, kind, TOKENS)[0]
    tensors = load_file(path / "model.safetensors")
    for prefix in ("transformer.", "model.", "bert."):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    found = load_model(path)
    ours = found.fill(TOKENS) if kind == "bert" else found.advance(found.start(1), TOKENS)[0]
    assert float((ours - wanted).abs().max()) < 1e-4


def test_a_base_model_without_a_head_says_so(tmp_path):
    path, _ = folder(tmp_path, "llama", base=True)
    with pytest.raises(ModelError, match=r"lm_head\.weight is missing .*LlamaForCausalLM"):
        load_model(path)


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}
ROPES = {
    "rope_scaling beside rope_parameters": {"rope_scaling": YARN},
    "its base is the one beside it": {"rope_scaling": YARN, "rope_theta": 77.0},
    "an empty one is none": {"rope_scaling": {}, "rope_parameters": {**YARN, "rope_theta": 55.0}},
    "the original context beside it counts": {"rope_scaling": YARN, "original_max_position_embeddings": 16},
    "a factor of its own making": {"rope_scaling": {**YARN, "factor": None}},
    "scales": {"rope_scaling": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.4}},
    "nothing cut off": {"rope_scaling": {**YARN, "truncate": False, "beta_fast": 4.0}},
    "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
}


@pytest.mark.parametrize("name", ROPES)
def test_rotary_scaling_is_read_as_transformers_reads_it(name, tmp_path):
    path, said = folder(tmp_path / "theirs", "llama")
    rewrite(path, said, **ROPES[name])
    assert difference(path, "llama") < 1e-4
    load_model(path).save(tmp_path / "ours")
    assert difference(tmp_path / "ours", "llama") < 1e-4


def test_longrope_reads_what_its_short_factors_are_for(tmp_path):
    path, said = folder(tmp_path, "llama")
    factors = {"short_factor": [1.0, 1.5, 2.0, 3.0], "long_factor": [2.0] * 4}
    rewrite(path, said, rope_scaling={"rope_type": "longrope", "factor": 2.0, "original_max_position_embeddings": 20, **factors})
    with pytest.warns(BimoWarning, match="texts of up to original_max_position_embeddings = 20"):
        assert load_model(path).context == 20
    assert difference(path, "llama") < 1e-4


@pytest.mark.parametrize("kind", SHAPES)
def test_settings_that_nobody_knows_are_named(kind, tmp_path):
    path, said = folder(tmp_path, kind)
    rewrite(path, said, logit_softcapping=30.0, unused=None, off=False, gradient_checkpointing=True)
    with pytest.warns(BimoWarning, match=r"config.json: settings .*: logit_softcapping = 30.0;"):
        load_model(path)
