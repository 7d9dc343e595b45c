"""Decoders and transformers' GPT-2, Llama, Qwen2 and Qwen3: the same logits both ways, on random weights."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from bimo.core import store
from bimo.core.errors import ModelError
from bimo.models.base import load_model
from bimo.models.decoder import Decoder, DecoderConfig
from bimo.models.vocabulary import generation_config, read_vocabulary
from bimo.text.vocabulary import Vocabulary

transformers = pytest.importorskip("transformers")

VOCABULARY = Vocabulary(37, bos=0, eos=1, pad=2, suppressed=(0, 2))
SMALL = {"layers": 2, "heads": 4, "width": 16, "feed_forward": 24, "context": 32}
GPT2 = {**SMALL, "norm": "layer", "positions": "learned", "activation": "gelu_tanh", "bias": True, "qk_norm": False}
OURS = {
    "gpt2": GPT2,
    "gpt2 untied, relu": {**GPT2, "tied": False, "activation": "relu"},
    "llama": {**SMALL, "qk_norm": False, "kv_heads": 2, "tied": False, "rope_theta": 500.0},
    "llama biased": {**SMALL, "qk_norm": False, "bias": True},
    "llama half biased": {**SMALL, "qk_norm": False, "bias": "feed_forward", "head_width": 6},
    "llama slowed": {**SMALL, "qk_norm": False, "rope_scaling": {"type": "linear", "factor": 2.5}},
    "llama 3.1": {**SMALL, "qk_norm": False, "head_width": 8, "rope_scaling": {"type": "llama3", "factor": 8.0, "original_context": 16}},
    "qwen2": {**SMALL, "qk_norm": False, "bias": "qkv", "kv_heads": 2},
    "qwen2 yarn": {**SMALL, "qk_norm": False, "bias": "qkv", "rope_scaling": {"type": "yarn", "factor": 4.0, "original_context": 8}},
    "qwen3": {**SMALL, "kv_heads": 1, "head_width": 6, "norm_epsilon": 1e-6},
    "qwen3 biased": {**SMALL, "bias": "attention", "tied": False},
}


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(5)
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.4, 0.4)
    return model.eval()


def theirs(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()


def assert_same(ours: Decoder, other: torch.nn.Module, tolerance: float) -> None:
    tokens = torch.randint(0, ours.vocab_size, (3, 20), generator=torch.Generator().manual_seed(1))
    found, _ = ours.advance(ours.start(3), tokens)
    with torch.no_grad():
        wanted = other(tokens).logits
    ids = [i for i in range(ours.vocab_size) if i not in ours.vocabulary.suppressed]
    assert wanted.abs().max() > 0.2
    assert float((found[..., ids] - wanted[..., ids]).abs().max()) < tolerance


@pytest.mark.parametrize("name", OURS)
def test_our_folder_opens_there(name, tmp_path):
    model = shaken(Decoder.build(DecoderConfig(**OURS[name]), VOCABULARY))
    model.save(tmp_path)
    assert store.read_json(tmp_path / "config.json")["model_type"] == name.split()[0]
    store.write_json(tmp_path / "generation_config.json", generation_config(VOCABULARY))  # as Bundle.save does
    assert_same(model, other := theirs(tmp_path, torch.float32), 1e-3)
    assert (other.generation_config.suppress_tokens, other.generation_config.eos_token_id) == ([0, 2], 1)
    assert_same(copy.deepcopy(model).double(), theirs(tmp_path, torch.float64), 1e-8)
    again = load_model(tmp_path)
    assert again.config_dict() == model.config_dict()
    assert_same(again, theirs(tmp_path, torch.float32), 1e-3)


def their_models() -> dict[str, tuple[type, object]]:
    t = transformers
    llama = {"vocab_size": 37, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    rope = {"rope_type": "default", "rope_theta": 300.0}
    llama3 = {"rope_type": "llama3", "rope_theta": 300.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    llama3["original_max_position_embeddings"] = 16
    yarn = {"rope_type": "yarn", "rope_theta": 300.0, "factor": 4.0, "original_max_position_embeddings": 8, "attention_factor": 1.2}
    return {
        "gpt2": (t.GPT2LMHeadModel, t.GPT2Config(vocab_size=37, n_positions=32, n_embd=16, n_layer=2, n_head=4)),
        "llama": (t.LlamaForCausalLM, t.LlamaConfig(**llama, num_key_value_heads=2, attention_bias=True, rope_parameters=rope)),
        "llama tied": (t.LlamaForCausalLM, t.LlamaConfig(**llama, tie_word_embeddings=True, mlp_bias=True)),
        "llama 3.1": (t.LlamaForCausalLM, t.LlamaConfig(**llama, head_dim=8, rope_parameters=llama3)),
        "qwen2": (t.Qwen2ForCausalLM, t.Qwen2Config(**llama, num_key_value_heads=2, rope_parameters=rope)),
        "qwen2 yarn": (t.Qwen2ForCausalLM, t.Qwen2Config(**llama, num_key_value_heads=1, rope_parameters=yarn)),
        "qwen3": (t.Qwen3ForCausalLM, t.Qwen3Config(**llama, num_key_value_heads=2, head_dim=6, rope_parameters=rope)),
    }


@pytest.mark.parametrize("name", their_models())
def test_their_folder_opens_here(name, tmp_path):
    cls, config = their_models()[name]
    model = shaken(cls(config))
    model.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert ours.vocabulary.suppressed == ()
    assert_same(ours, model, 1e-3)
    assert_same(copy.deepcopy(ours).double(), theirs(tmp_path, torch.float64), 1e-8)
    prompt = torch.tensor([[5, 6, 7]])
    wanted = model.generate(prompt, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)[0, 3:]
    logits, state = ours.advance(ours.start(1), prompt, keep="last")
    for token in wanted:
        assert int(logits.argmax()) == int(token)
        logits, state = ours.advance(state, token.view(1, 1))


def test_gpt2_without_prefix_and_with_masks_opens():
    cls, config = their_models()["gpt2"]
    model = shaken(cls(config))
    tensors = {name.removeprefix("transformer."): t for name, t in model.state_dict().items() if name != "lm_head.weight"}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
    assert_same(Decoder.from_tensors(config.to_dict(), tensors), model, 1e-3)


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("gpt2", {"activation_function": "prelu"}, "activation_function"),
        ("llama", {"hidden_act": "xielu"}, "hidden_act"),
        ("llama", {"rope_scaling": {"type": "proportional", "factor": 2.0}, "rope_parameters": None}, "proportional"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("qwen2", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("qwen3", {"per_layer_config": {"1": {"head_dim": 4}}}, "per_layer_config"),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "factor": 0.5}}, "factor"),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "use_sliding_window"),
        ("qwen2", {"layer_types": ["full_attention"]}, "layer_types"),
        ("llama", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ("llama", {"vocab_size": None}, "vocab_size"),
        ("llama", {"suppress_tokens": [99]}, "suppress_tokens"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_what_would_change_the_result_is_refused_by_name(name, change, word):
    cls, config = their_models()[name]
    with pytest.raises(ModelError, match=word):
        Decoder.from_tensors({**config.to_dict(), **change}, cls(config).state_dict())


def test_tensors_that_do_not_fit_are_named():
    model = Decoder.build(DecoderConfig(**OURS["llama"]), VOCABULARY)
    config, tensors = model.config_dict(), model.tensors()
    with pytest.raises(ModelError, match=r"missing.*|self_attn\.k_proj"):
        Decoder.from_tensors(config, {n: t for n, t in tensors.items() if "k_proj" not in n})
    with pytest.raises(ModelError, match="unknown tensors surprise"):
        Decoder.from_tensors(config, {**tensors, "surprise": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"model\.norm\.weight.*\[3\]"):
        Decoder.from_tensors(config, {**tensors, "model.norm.weight": torch.zeros(3)})


def test_shapes_of_no_other_program_are_written_as_our_own(tmp_path):
    model = shaken(Decoder.build(DecoderConfig(**SMALL, activation="relu2", norm="layer", bias="attention"), VOCABULARY))
    model.save(tmp_path)
    assert store.read_json(tmp_path / "config.json")["model_type"] == "bimo-decoder"
    opened = load_model(tmp_path)
    tokens = torch.randint(0, 37, (2, 9))
    assert torch.equal(opened.advance(opened.start(2), tokens)[0], model.advance(model.start(2), tokens)[0])


def test_ids_beyond_a_small_vocabulary_and_lists_of_ends():
    assert read_vocabulary({"vocab_size": 37, "eos_token_id": [4, 5], "bos_token_id": 50256}) == Vocabulary(37, eos=4)
