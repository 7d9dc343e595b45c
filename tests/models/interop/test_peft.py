"""Adapters of the peft library whose settings choose maps by paths, expressions, layers, and ranks of their own: the same logits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bimo.core.errors import ModelError
from bimo.core.recipe import AdapterSection
from bimo.core.store import read_tensors, write_tensors
from bimo.models.adapters import adapt, merge, strip
from bimo.models.base import load_model
from bimo.models.interop.peft import read_adapter, write_adapter

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

TOKENS = torch.randint(0, 32, (1, 9), generator=torch.Generator().manual_seed(1))
SETTINGS = {
    "names": {"target_modules": ["q_proj", "v_proj"]},
    "all-linear": {"target_modules": "all-linear"},
    "ends of names": {"target_modules": ["self_attn.q_proj", "mlp.down_proj"]},
    "one path": {"target_modules": ["model.layers.1.self_attn.k_proj"]},
    "an expression": {"target_modules": r".*\.layers\.0\..*(up|o)_proj"},
    "one layer": {"target_modules": ["q_proj", "up_proj"], "layers_to_transform": 1},
    "layers by pattern": {"target_modules": ["q_proj", "up_proj"], "layers_to_transform": [0], "layers_pattern": "layers"},
    "some left out": {"target_modules": ["q_proj", "k_proj"], "exclude_modules": ["model.layers.0.self_attn.q_proj"]},
    "ranks of their own": {"target_modules": ["q_proj", "k_proj", "v_proj"], "rank_pattern": {"k_proj": 3, "layers.1.self_attn.v_proj": 1}},
    "alphas of their own": {"target_modules": ["q_proj", "v_proj"], "alpha_pattern": {"v_proj": 20}, "rank_pattern": {"q_proj": 4}},
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        initializer_range=0.3,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("base")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def theirs(base: Path, adapter: Path) -> torch.Tensor:
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        return peft.PeftModel.from_pretrained(model, adapter).eval()(TOKENS).logits


@pytest.mark.parametrize("name", SETTINGS)
def test_maps_are_chosen_as_peft_chooses_them(name, base, tmp_path):
    torch.manual_seed(3)
    settings = peft.LoraConfig(r=2, lora_alpha=6, init_lora_weights=False, **SETTINGS[name])
    peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), settings).save_pretrained(tmp_path / "theirs")
    wanted = theirs(base, tmp_path / "theirs")
    model = load_model(base)
    plain = model.advance(model.start(1), TOKENS)[0]
    read_adapter(model, tmp_path / "theirs")
    assert float((model.advance(model.start(1), TOKENS)[0] - wanted).abs().max()) < 1e-4 < float((plain - wanted).abs().max())
    write_adapter(model, tmp_path / "ours")
    assert float((theirs(base, tmp_path / "ours") - wanted).abs().max()) < 1e-4
    merge(model)
    assert float((model.advance(model.start(1), TOKENS)[0] - wanted).abs().max()) < 1e-4
    strip(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"target_modules": ["q_prj"]}, "q_prj is no linear map.*did you mean q_proj"),
        ({"target_modules": "("}, "no regular expression"),
        ({"target_modules": "nothing"}, "chooses no linear map"),
        ({"rank_pattern": {"q_proj": "many"}}, "rank_pattern"),
        ({"layers_to_transform": ["first"]}, "layers_to_transform"),
        ({"use_dora": True}, "use_dora"),
        ({"a_new_setting": 3}, "a_new_setting"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(change, message, base, tmp_path):
    model = load_model(base)
    adapt(model, AdapterSection(rank=2, targets=["q_proj"]))
    write_adapter(model, tmp_path)
    said = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**said, **change}))
    with pytest.raises(ModelError, match=message):
        read_adapter(load_model(base), tmp_path)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_an_adapter_that_holds_no_numbers_is_refused_before_it_is_added(number, base, tmp_path):
    model = load_model(base)
    adapt(model, AdapterSection(rank=2, targets=["q_proj"]))
    write_adapter(model, tmp_path)
    tensors = read_tensors(tmp_path / "adapter_model.safetensors")
    broken = next(name for name in tensors if name.endswith("lora_B.weight"))
    write_tensors(tmp_path / "adapter_model.safetensors", {**tensors, broken: torch.full_like(tensors[broken], number)})
    with pytest.raises(ModelError, match=rf"{broken} holds NaN or infinity"):
        read_adapter(load_model(base), tmp_path)
