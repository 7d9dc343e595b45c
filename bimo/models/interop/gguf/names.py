"""Names of tensors, and how they lie, in GGUF and in the Hugging Face layout.

GGUF's Llama has the rows of each head's query and key in another order: Hugging Face turns the two halves of a head, GGUF neighbouring
rows (llama.cpp's conversion, `LlamaModel.permute`). GPT-2's `Conv1D` weights are [in, out] in Hugging Face, [out, in] in GGUF. All others
lie alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bimo.core.errors import ModelError

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gpt2", "bert")  # one name in GGUF and as model_type

_ROTARY_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_ROTARY_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_QK_NORM = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_GPT2_OUTER = {"token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f", "output": "lm_head"}
_GPT2_INNER = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
_BERT_OUTER = {
    "token_embd": "embeddings.word_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
}
_BERT_INNER = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
_OUTER = {"gpt2": _GPT2_OUTER, "bert": _BERT_OUTER}
_INNER = {"gpt2": _GPT2_INNER, "bert": _BERT_INNER, "qwen3": {**_ROTARY_INNER, **_QK_NORM}}
_PREFIX = {"gpt2": "transformer.h", "bert": "encoder.layer"}
_LAYERS = {"gpt2": "n_layer"}
_TURNED = re.compile(r"blk\.\d+\.attn_(q|k)\.(weight|bias)")  # Llama's, by rows
_TRANSPOSED = re.compile(r"blk\.\d+\.(attn_qkv|attn_output|ffn_up|ffn_down)\.weight")  # GPT-2's


def layers_of(config: Mapping[str, Any]) -> int:
    """How many layers a config.json tells of."""
    return config[_LAYERS.get(config["model_type"], "num_hidden_layers")]


def _biased(config: Mapping[str, Any]) -> set[str]:
    """The modules of GGUF that have a bias."""
    kind = config["model_type"]
    if kind == "gpt2":
        return {"output_norm", *_GPT2_INNER}
    if kind == "bert":
        return {"token_embd_norm", *_BERT_INNER}
    if kind == "qwen2":
        return {"attn_q", "attn_k", "attn_v"}
    attention = {"attn_q", "attn_k", "attn_v", "attn_output"} if config.get("attention_bias") else set()
    return attention | ({"ffn_gate", "ffn_up", "ffn_down"} if config.get("mlp_bias") else set())


def tensor_names(config: Mapping[str, Any]) -> dict[str, str]:
    """Hugging Face's name of each tensor that GGUF has for this config.json, by GGUF's name.

    >>> qwen2 = {"model_type": "qwen2", "num_hidden_layers": 1, "tie_word_embeddings": True}
    >>> list(tensor_names(qwen2))[:4]
    ['token_embd.weight', 'output_norm.weight', 'blk.0.attn_norm.weight', 'blk.0.attn_q.weight']
    >>> tensor_names(qwen2)["blk.0.attn_q.bias"]
    'model.layers.0.self_attn.q_proj.bias'
    """
    kind, biased = config["model_type"], _biased(config)
    found: dict[str, str] = {}
    for ours, theirs in _OUTER.get(kind, _ROTARY_OUTER).items():
        if ours == "output" and config["tie_word_embeddings"]:
            continue
        found |= {f"{ours}.{leaf}": f"{theirs}.{leaf}" for leaf in (("weight", "bias") if ours in biased else ("weight",))}
    for layer in range(layers_of(config)):
        for ours, theirs in _INNER.get(kind, _ROTARY_INNER).items():
            for leaf in ("weight", "bias") if ours in biased else ("weight",):
                found[f"blk.{layer}.{ours}.{leaf}"] = f"{_PREFIX.get(kind, 'model.layers')}.{layer}.{theirs}.{leaf}"
    return found


def _heads(config: Mapping[str, Any], name: str) -> int:
    return config["num_attention_heads" if "attn_q." in name else "num_key_value_heads"]


def to_gguf(name: str, tensor: Tensor, config: Mapping[str, Any]) -> Tensor:
    """Hugging Face's tensor as GGUF's `name` has it: [rows, columns], or [values].

    >>> import torch
    >>> llama = {"model_type": "llama", "num_attention_heads": 1}
    >>> to_gguf("blk.0.attn_q.bias", torch.tensor([0, 1, 2, 3]), llama).tolist()
    [0, 2, 1, 3]
    """
    return _arranged(name, tensor, config, lambda heads: (heads, 2, -1))


def from_gguf(name: str, tensor: Tensor, config: Mapping[str, Any]) -> Tensor:
    """GGUF's tensor `name` as Hugging Face has it: what `to_gguf` did is undone."""
    return _arranged(name, tensor, config, lambda heads: (heads, -1, 2))


def _arranged(name: str, tensor: Tensor, config: Mapping[str, Any], parted: Any) -> Tensor:
    kind = config["model_type"]
    if kind == "llama" and _TURNED.fullmatch(name):
        heads = _heads(config, name)
        if len(tensor) % (2 * heads):
            raise ModelError(f"tensor {name} has {len(tensor)} rows, no multiple of 2 × {heads} heads")
        return tensor.reshape(*parted(heads), *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)
    if kind == "gpt2" and _TRANSPOSED.fullmatch(name):
        return tensor.t().contiguous()
    return tensor
