"""GGUF: what is written reads back in each type, others find in our files what they should, and logits are those of transformers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bimo.core import registry
from bimo.core.errors import BimoError, MachineError, ModelError, UserError
from bimo.models.base import model_of
from bimo.models.decoder import Decoder, DecoderConfig
from bimo.models.interop.gguf import read_gguf, write_gguf
from bimo.text.vocabulary import Vocabulary

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")

SHAPE = {"vocab_size": 37, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
ROTARY = {
    **SHAPE,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}  # fmt: skip
GPT2 = {
    "vocab_size": 37,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 1024,
}  # which transformers takes for granted in a GGUF file
MADE: dict[str, tuple[str, dict[str, Any]]] = {  # a model of transformers: its name there, its settings
    "llama": ("Llama", {**ROTARY, "tie_word_embeddings": True}),
    "llama biased": ("Llama", {**ROTARY, "attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-5}),
    "llama wide heads": ("Llama", {**ROTARY, "head_dim": 32}),
    "qwen2": ("Qwen2", ROTARY),
    "qwen3": ("Qwen3", {**ROTARY, "head_dim": 128, "tie_word_embeddings": True}),  # transformers looks for no other in a GGUF file
    "gpt2": ("GPT2", GPT2),
    "gpt2 untied, narrow": ("GPT2", {**GPT2, "n_inner": 72, "tie_word_embeddings": False}),
    "bert": ("Bert", {**SHAPE, "max_position_embeddings": 32}),
}
TOKENS = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": [f"词{i}" for i in range(37)],
    "tokenizer.ggml.token_type": [3, *[1] * 36],
    "tokenizer.ggml.scores": [0.0, *[-0.5] * 36],
    "tokenizer.ggml.merges": ["a b", "ab c"],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.ggml.precompiled_charsmap": b"\x00\xff",
    "tokenizer.chat_template": "{{ messages }}",
    "general.name": "小模型",
    "general.license": "apache-2.0",
    "general.languages": ["zh", "en"],
}


@functools.cache
def made(name: str) -> tuple[Any, dict[str, Any], dict[str, torch.Tensor]]:
    """The model, its config.json and its tensors."""
    kind, settings = MADE[name]
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    model = getattr(transformers, f"{kind}Model" if kind == "Bert" else f"{kind}{'LMHeadModel' if kind == 'GPT2' else 'ForCausalLM'}")
    model = model(getattr(transformers, f"{kind}Config")(**settings, **special), **({"add_pooling_layer": False} if kind == "Bert" else {}))
    torch.manual_seed(5)
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.4, 0.4)
    tensors = {n: t.detach() for n, t in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    return model.eval(), model.config.to_dict(), tensors


def known_model_types() -> set[str]:
    return {kind for name in registry.families() for kind in registry.family(name).model_types}


def stored(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the gguf package finds in a file: facts and tensors."""
    reader = gguf.GGUFReader(path)
    return {name: field.contents() for name, field in reader.fields.items()}, {t.name: t for t in reader.tensors}


def rounded(name: str, tensor: torch.Tensor, dtype: str) -> torch.Tensor:
    """A tensor as `dtype` keeps it, by torch or by the gguf package."""
    if tensor.dim() == 1 or dtype == "f32" or any(part in name for part in ("wpe", "position_embeddings", "token_type")):
        return tensor
    if ".c_" in name:  # Conv1D: GGUF's rows are its columns
        return rounded("", tensor.t(), dtype).t()
    if dtype in ("f16", "bf16") or tensor.shape[1] % 32:
        return tensor.to(torch.bfloat16 if dtype == "bf16" else torch.float16).float()
    kind = gguf.GGMLQuantizationType["Q8_0" if any(part in name for part in ("embe", "wte", "lm_head")) else dtype.upper()]
    return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(tensor.contiguous().numpy(), kind), kind))


# -- there and back -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "q8_0", "q4_0"])
@pytest.mark.parametrize("name", MADE)
def test_what_is_written_reads_back(name: str, dtype: str, tmp_path: Path) -> None:
    _, config, tensors = made(name)
    notes = write_gguf(tmp_path / "m.gguf", config, tensors, TOKENS, dtype)
    again = read_gguf(tmp_path / "m.gguf")
    assert set(again.tensors) == {n if n.startswith(("transformer.", "lm_head", "model.")) else n.removeprefix("bert.") for n in tensors}
    for n, tensor in tensors.items():
        torch.testing.assert_close(again.tensors[n], rounded(n, tensor, dtype), rtol=0, atol=0)
    told = {key for key in again.config if config.get(key) is not None} - {"architectures", "dtype", "rope_theta"}
    assert {"model_type", "vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings"} <= told
    assert {key: again.config[key] for key in told - {"n_inner"}} == {key: config[key] for key in told - {"n_inner"}}
    assert {key: again.vocabulary[key] for key in TOKENS} == TOKENS
    assert any("F16" in note for note in notes) == ("narrow" in name and dtype.endswith("_0"))


def test_a_model_of_ours_goes_there_and_back(tmp_path: Path) -> None:
    """What Bimo never writes (<s>, padding) is told by the file, too."""
    settings: dict[str, Any] = {"layers": 2, "heads": 4, "kv_heads": 2, "width": 32, "context": 16}
    model = Decoder.build(DecoderConfig(**settings), Vocabulary(37, bos=0, eos=1, pad=2, suppressed=(0, 2)))
    notes = write_gguf(tmp_path / "m.gguf", model.config_dict(), model.tensors(), {}, "f32")
    assert any("llama.cpp does not open" in note for note in notes)
    found = read_gguf(tmp_path / "m.gguf")
    again = model_of(found.config, found.tensors, "m.gguf")
    assert again.vocabulary == model.vocabulary
    assert again.config_dict() == model.config_dict()
    tokens = torch.arange(12).view(2, 6)
    assert torch.equal(again.advance(again.start(2), tokens)[0], model.advance(model.start(2), tokens)[0])


# -- as others see it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MADE)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    model, config, tensors = made(name)
    if config["model_type"] not in known_model_types():
        pytest.skip(f"{config['model_type']} is no model type of Bimo")
    write_gguf(tmp_path / "m.gguf", config, tensors, TOKENS, "f32")
    found = read_gguf(tmp_path / "m.gguf")
    ours: Any = model_of(found.config, found.tensors, "m.gguf")
    tokens = torch.randint(0, 37, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        answer = model(tokens)
        if config["model_type"] == "bert":
            given, wanted = ours.features(tokens), answer.last_hidden_state
        else:
            given, wanted = ours.advance(ours.start(2), tokens)[0], answer.logits
    assert wanted.abs().max() > 0.2
    torch.testing.assert_close(given, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gpt2"])
def test_transformers_reads_our_file(name: str, tmp_path: Path) -> None:
    """All but a Llama's biases, which transformers does not look for in a GGUF file."""
    pytest.importorskip("accelerate", reason="transformers reads GGUF with it")
    model, config, tensors = made(name)
    write_gguf(tmp_path / "m.gguf", config, tensors, TOKENS, "f32")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf", dtype=torch.float32).eval()
    tokens = torch.arange(18).view(2, 9)
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, model(tokens).logits, rtol=0, atol=1e-4)


def test_the_rows_of_llamas_heads_are_paired_and_gpt2_is_transposed(tmp_path: Path) -> None:
    """Rows j and j + E/2 of a head (E wide) are neighbours in GGUF, in queries (4 heads) and keys (2); values lie as they are."""
    _, config, tensors = made("llama biased")
    write_gguf(tmp_path / "m.gguf", config, tensors, TOKENS, "f32")
    for part, heads in (("q", 4), ("k", 2)):
        for leaf in ("weight", "bias"):
            theirs = tensors[f"model.layers.1.self_attn.{part}_proj.{leaf}"].numpy()
            ours = stored(tmp_path / "m.gguf")[1][f"blk.1.attn_{part}.{leaf}"].data
            for head in range(heads):
                for j in range(8):
                    assert np.array_equal(ours[16 * head + 2 * j], theirs[16 * head + j])
                    assert np.array_equal(ours[16 * head + 2 * j + 1], theirs[16 * head + 8 + j])
    value = tensors["model.layers.1.self_attn.v_proj.weight"].numpy()
    assert np.array_equal(stored(tmp_path / "m.gguf")[1]["blk.1.attn_v.weight"].data, value)
    _, config, tensors = made("gpt2")
    write_gguf(tmp_path / "g.gguf", config, tensors, TOKENS, "f32")
    found = stored(tmp_path / "g.gguf")[1]
    assert np.array_equal(found["blk.0.attn_qkv.weight"].data, tensors["transformer.h.0.attn.c_attn.weight"].numpy().T)
    assert np.array_equal(found["position_embd.weight"].data, tensors["transformer.wpe.weight"].numpy())


def test_facts_are_as_llama_cpp_asks_for_them(tmp_path: Path) -> None:
    """Names and types: llama.cpp refuses a file where a length is no unsigned number of 32 bits."""
    _, config, tensors = made("llama wide heads")
    write_gguf(tmp_path / "m.gguf", config, tensors, {**TOKENS, "tokenizer.ggml.eos_token_id": 5}, "q4_0")
    facts, found = stored(tmp_path / "m.gguf")
    wanted = {"block_count": 2, "context_length": 32, "embedding_length": 64, "feed_forward_length": 96, "vocab_size": 37,
              "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 32, "attention.value_length": 32,
              "rope.dimension_count": 32}  # fmt: skip
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    for key, value in wanted.items():
        assert (facts[f"llama.{key}"], reader.fields[f"llama.{key}"].types) == (value, [gguf.GGUFValueType.UINT32])
    assert facts["llama.rope.freq_base"] == 500.0
    assert facts["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert (facts["general.architecture"], facts["general.type"], facts["general.name"]) == ("llama", "model", "小模型")
    assert (facts["general.file_type"], facts["general.quantization_version"]) == (2, 2)
    assert (facts["tokenizer.ggml.eos_token_id"], facts["tokenizer.ggml.padding_token_id"]) == (5, 0)  # the vocabulary's, the config's
    lists = {"tokens": "STRING", "token_type": "INT32", "scores": "FLOAT32", "precompiled_charsmap": "UINT8"}
    for key, kind in lists.items():
        assert reader.fields[f"tokenizer.ggml.{key}"].types == [gguf.GGUFValueType.ARRAY, gguf.GGUFValueType[kind]]
    kinds = {name: tensor.tensor_type.name for name, tensor in found.items()}
    assert (kinds["token_embd.weight"], kinds["output.weight"], kinds["blk.0.ffn_up.weight"]) == ("Q8_0", "Q8_0", "Q4_0")
    assert kinds["output_norm.weight"] == kinds["blk.1.attn_norm.weight"] == "F32"
    _, config, tensors = made("bert")
    notes = write_gguf(tmp_path / "b.gguf", config, tensors, {"bert.pooling_type": 1}, "f16")
    facts, found = stored(tmp_path / "b.gguf")
    assert (facts["bert.attention.causal"], facts["bert.pooling_type"], facts["tokenizer.ggml.token_type_count"]) == (False, 1, 2)
    assert found["token_types.weight"].tensor_type.name == found["position_embd.weight"].tensor_type.name == "F32"
    assert any("GELU" in note for note in notes)
    assert read_gguf(tmp_path / "b.gguf").vocabulary["bert.pooling_type"] == 1


@pytest.mark.parametrize("kind", ["Q4_1", "Q4_K", "Q6_K"])
def test_types_that_are_read_but_not_written(kind: str, tmp_path: Path) -> None:
    """Each as the gguf package dequantises it; the K-types, which it cannot make, from random bytes."""
    _, config, tensors = made("llama")
    tensors = {**tensors, "model.embed_tokens.weight": torch.randn(37, 256)}
    write_gguf(tmp_path / "f32.gguf", config, tensors, TOKENS, "f32")
    facts, found = stored(tmp_path / "f32.gguf")
    type_, (block, size) = gguf.GGMLQuantizationType[kind], gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    raw = np.random.default_rng(1).integers(0, 60, (37, 256 // block * size), dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    for key in ("context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"):
        writer.add_uint32(f"llama.{key}", facts[f"llama.{key}"])
    writer.add_uint32("llama.attention.head_count_kv", 2)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-6)
    for name, tensor in found.items():
        writer.add_tensor(
            name, raw if name == "token_embd.weight" else np.array(tensor.data), raw_dtype=type_ if name == "token_embd.weight" else None
        )
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    wanted = gguf.quants.dequantize(raw, type_)
    assert np.abs(wanted).max() > 0
    assert np.array_equal(read_gguf(tmp_path / "m.gguf").tensors["model.embed_tokens.weight"].numpy(), wanted)


def test_slices_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, config, tensors = made("gpt2")
    write_gguf(tmp_path / "m.gguf", config, tensors, TOKENS, "q8_0")
    whole = read_gguf(tmp_path / "m.gguf").tensors
    monkeypatch.setattr("bimo.models.interop.gguf.reading._SLICE", 608)  # 19 blocks: none of the matrices is a multiple
    sliced = read_gguf(tmp_path / "m.gguf").tensors
    assert all(torch.equal(whole[name], sliced[name]) for name in whole)


# -- what has no place in GGUF ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("llama", {"model_type": "bimo-decoder"}, "bimo-decoder's.*norm=rms"),
        ("llama", {"model_type": "bimo-rnn"}, "'bimo-rnn'.*it can hold llama, qwen2, qwen3, gpt2, bert"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ("llama", {"rope_parameters": {"rope_type": "longrope", "factor": 8.0}}, "'longrope'"),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "must tell low_freq_factor"),
        ("llama", {"rope_parameters": {**LLAMA3, "factor": 0.5}}, "greater than or equal to 1"),
        ("llama", {"rope_parameters": {**LLAMA3, "original_max_position_embeddings": float("nan")}}, "original_max_position_embeddings"),
        ("llama", {"rope_parameters": {"rope_type": "linear"}}, "must tell a factor"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "attention_factor": 1.5}}, "attention_factor"),
        ("llama", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("llama", {"hidden_size": None}, "hidden_size .* must be told"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("llama", {"num_hidden_layers": 3}, r"model\.layers\.2\.input_layernorm\.weight is missing"),
        ("llama", {"num_hidden_layers": 1}, r"unknown tensors model\.|unknown tensors layers\.1"),
        ("qwen3", {"attention_bias": True}, "attention_bias"),
        ("qwen3", {"layer_types": ["sliding_attention"] * 2}, "layer_types"),
        ("gpt2", {"activation_function": "relu"}, "activation_function"),
        ("bert", {"hidden_act": "gelu_new"}, "hidden_act"),
    ],
)
def test_models_that_gguf_cannot_hold_are_refused_by_name(name: str, change: dict[str, Any], word: str, tmp_path: Path) -> None:
    _, config, tensors = made(name)
    with pytest.raises(UserError, match=word):
        write_gguf(tmp_path / "m.gguf", {**config, **change}, tensors, TOKENS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"tokenizer.ggml.tokens": ["a"]}, "1 tokens, the embedding 37 rows"),
        ({"llama.block_count": 1}, r"llama\.block_count is not of the vocabulary"),
        ({"general.architecture": "gpt2"}, r"general\.architecture is not"),
        ({"tokenizer.ggml.scores": [{}]}, "scores must be a number"),
        ({"tokenizer.ggml.bos_token_id": None}, "bos_token_id must be a number"),
        ({"tokenizer.ggml.eos_token_id": 1 << 40}, "eos_token_id must be a number"),
        ({"tokenizer.ggml.scores": [1e300]}, "scores must be a number"),
        ({"general.name": "\ud800"}, "no UTF-8"),
    ],
)
def test_vocabularies_that_gguf_cannot_hold_are_refused_by_name(facts: dict[str, Any], word: str, tmp_path: Path) -> None:
    _, config, tensors = made("llama")
    with pytest.raises(UserError, match=word):
        write_gguf(tmp_path / "m.gguf", config, tensors, facts)


@pytest.mark.parametrize(
    ("value", "dtype", "word"),
    [(1e5, "f16", "100000, more than F16 can; choose dtype bf16 or f32"), (float("nan"), "q8_0", "NaN"), (float("inf"), "f32", "infinity")],
)
def test_weights_beyond_a_type_leave_the_old_file(value: float, dtype: str, word: str, tmp_path: Path) -> None:
    _, config, tensors = made("llama")
    (tmp_path / "m.gguf").write_bytes(b"old")
    spoiled = tensors["model.layers.1.mlp.up_proj.weight"].clone()
    spoiled[3, 5] = value
    with pytest.raises(UserError, match=rf"tensor blk\.1\.ffn_up\.weight: .*{word}"):
        write_gguf(tmp_path / "m.gguf", config, {**tensors, "model.layers.1.mlp.up_proj.weight": spoiled}, TOKENS, dtype)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("m.gguf", b"old")]


def test_a_file_that_may_not_grow_is_told(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    _, config, tensors = made("llama")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(MachineError, match="ulimit"):
            write_gguf(tmp_path / "m.gguf", config, tensors, TOKENS, "f32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_other_heads_and_empty_lists_are_left_out_and_told(tmp_path: Path) -> None:
    model = transformers.BertForMaskedLM(transformers.BertConfig(**MADE["bert"][1]))
    notes = write_gguf(tmp_path / "m.gguf", model.config.to_dict(), model.state_dict(), {**TOKENS, "tokenizer.ggml.merges": []})
    assert any("the head for hidden tokens has no place" in note for note in notes)
    assert any("tokenizer.ggml.merges: empty" in note for note in notes)
    found = read_gguf(tmp_path / "m.gguf")
    assert not any(name.startswith("cls.") for name in found.tensors)
    assert "tokenizer.ggml.merges" not in found.vocabulary


def test_unknown_types_and_a_missing_library_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, config, tensors = made("llama")
    with pytest.raises(UserError, match=r"dtype: 'q8' .*did you mean q8_0"):
        write_gguf(tmp_path / "m.gguf", config, tensors, TOKENS, "q8")
    write_gguf(tmp_path / "m.gguf", config, tensors, TOKENS)
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    for call in (lambda: read_gguf(tmp_path / "m.gguf"), lambda: write_gguf(tmp_path / "n.gguf", config, tensors, TOKENS)):
        with pytest.raises(BimoError, match=r"pip install 'bimo\[gguf\]'") as told:
            call()
        assert not isinstance(told.value, ModelError)


@pytest.mark.parametrize(
    ("rope", "facts"),
    [
        ({"rope_type": "linear", "factor": 4.0}, {"type": "linear", "factor": 4.0}),
        (
            {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16},
            {"type": "yarn", "factor": 2.0, "original_context_length": 16},
        ),
        (
            {"rope_type": "yarn", "factor": 2.0, "beta_fast": 16.0, "beta_slow": 2.0},
            {"type": "yarn", "factor": 2.0, "yarn_beta_fast": 16.0, "yarn_beta_slow": 2.0},
        ),
    ],
)
def test_scaled_rotary_angles_go_there_and_back(rope: dict[str, Any], facts: dict[str, Any], tmp_path: Path) -> None:
    _, config, tensors = made("llama")
    rope = {**rope, "rope_theta": 500.0}
    write_gguf(tmp_path / "m.gguf", {**config, "rope_parameters": rope}, tensors, TOKENS)
    found = stored(tmp_path / "m.gguf")[0]
    assert {key: found[f"llama.rope.scaling.{key}"] for key in facts} == facts
    assert read_gguf(tmp_path / "m.gguf").config["rope_parameters"] == rope


def test_llama_3_1s_rotary_angles_go_there_and_back(tmp_path: Path) -> None:
    _, config, tensors = made("llama")
    rope = LLAMA3
    write_gguf(tmp_path / "m.gguf", {**config, "rope_parameters": rope}, tensors, TOKENS)
    assert read_gguf(tmp_path / "m.gguf").config["rope_parameters"] == rope
    stored = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}["rope_freqs.weight"]
    width = config["head_dim"] or config["hidden_size"] // config["num_attention_heads"]
    assert stored.shape == (width // 2,)
    theirs, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](
        transformers.LlamaConfig(**{**config, "rope_parameters": rope, "head_dim": width}), "cpu"
    )
    plain = 500000.0 ** -(np.arange(0, width, 2) / width)
    assert np.allclose(plain / stored, theirs.numpy(), rtol=1e-5)
    other = {**rope, "low_freq_factor": 2.0}
    other["original_max_position_embeddings"] = 64
    notes = write_gguf(tmp_path / "other.gguf", {**config, "rope_parameters": other}, tensors, TOKENS)
    assert any("does not open the file again" in note for note in notes)
    with pytest.raises(ModelError, match="otherwise than in Llama 3"):
        read_gguf(tmp_path / "other.gguf")
