"""An n-gram model on disk: `config.json` and, in `model.safetensors`, a sorted table per order.

Order 1: `order1.logprob` [V]. Order k ≥ 2: `orderK.word` int32 and `orderK.logprob` float32, both [N_k], sorted by (prefix, word).
Below the highest order: `orderK.backoff` float32 and `orderK.children` int32 [N_k], how many n-grams of the next order begin
with each row. Logarithms are natural. `orderK.count` int32 (int64 if one is larger), in every order or in none: how often each
n-gram stands in the training text, which no probability needs (models read from ARPA, and older folders, have none).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from bimo.core.errors import ModelError
from bimo.models.ngram.config import NGramConfig
from bimo.models.ngram.trie import Trie
from bimo.text.vocabulary import Vocabulary

_SPECIALS = ("bos", "eos", "pad", "unk")


def config_dict(
    config: NGramConfig, vocabulary: Vocabulary, trie: Trie, discounts: list[list[float]], notices: list[str]
) -> dict[str, Any]:
    """What `config.json` holds."""
    return {
        "model_type": "bimo-ngram",
        "architectures": ["NGram"],
        "vocab_size": vocabulary.size,
        **{f"{name}_token_id": getattr(vocabulary, name) for name in _SPECIALS},
        "suppress_tokens": list(vocabulary.suppressed),
        **config.model_dump(mode="json"),
        "ngrams": list(trie.sizes),
        "discounts": discounts,
        "notices": notices,
    }


def read_config(config: Mapping[str, Any]) -> tuple[NGramConfig, Vocabulary]:
    """The choices and the vocabulary that `config_dict` wrote."""
    try:
        choices = NGramConfig(**{name: config[name] for name in NGramConfig.model_fields if name in config})
        specials: dict[str, Any] = {name: config.get(f"{name}_token_id") for name in _SPECIALS}
        vocabulary = Vocabulary(int(config["vocab_size"]), **specials, suppressed=tuple(config.get("suppress_tokens") or ()))
    except KeyError as cause:
        raise ModelError(f"config.json: no {cause.args[0]}; is this an n-gram model?") from None
    except (ValidationError, TypeError, ValueError) as cause:
        raise ModelError(f"config.json: damaged n-gram settings ({cause})") from None
    ids = [*(id for id in specials.values() if id is not None), *vocabulary.suppressed]
    if vocabulary.size < 1 or any(not isinstance(id, int) or not 0 <= id < vocabulary.size for id in ids):
        raise ModelError(f"config.json: special ids {ids} do not lie within vocab_size {vocabulary.size}")
    return choices, vocabulary


def to_tensors(trie: Trie) -> dict[str, Tensor]:
    """The tables of all orders by name."""
    found: dict[str, Tensor] = {}
    for k in range(1, trie.order + 1):
        rows = trie.rows(k)
        if k > 1:
            found[f"order{k}.word"] = torch.from_numpy(trie.words[rows])
        found[f"order{k}.logprob"] = torch.from_numpy(trie.logprob[rows])
        if trie.counts is not None:
            found[f"order{k}.count"] = torch.from_numpy(trie.counts[rows])
        if k < trie.order:
            found[f"order{k}.backoff"] = torch.from_numpy(trie.backoff[rows])
            children = np.diff(trie.first[rows.start : rows.stop + 1]).astype(np.int32)
            found[f"order{k}.children"] = torch.from_numpy(children)
    return found


def from_tensors(order: int, size: int, tensors: Mapping[str, Tensor]) -> Trie:
    """The trie of such tables; what does not fit together is a `ModelError` that names the tensor."""

    def table(name: str, dtype: torch.dtype, rows: int | None) -> np.ndarray:
        tensor = tensors.get(name)
        if tensor is None:
            raise ModelError(f"model.safetensors: no tensor {name!r}; the file is damaged or belongs to another model")
        if tensor.dtype != dtype or tensor.dim() != 1 or (rows is not None and len(tensor) != rows):
            wanted = f"{dtype} [{'N' if rows is None else rows}]"
            raise ModelError(f"model.safetensors: {name}: expected {wanted}, found {tensor.dtype} {list(tensor.shape)}")
        return tensor.numpy()

    sizes, words, children, logprob, backoff, counts = [], [], [], [], [], []
    counted = tensors.get("order1.count")
    whole = torch.int32 if counted is None or counted.dtype != torch.int64 else torch.int64
    rows = size
    for k in range(1, order + 1):
        words.append(np.arange(size, dtype=np.int32) if k == 1 else table(f"order{k}.word", torch.int32, rows))
        logprob.append(table(f"order{k}.logprob", torch.float32, rows))
        sizes.append(rows)
        if len(words[-1]) and not 0 <= int(words[-1].min()) <= int(words[-1].max()) < size:
            raise ModelError(f"model.safetensors: order{k}.word: ids must lie in 0…{size - 1}")
        if np.isnan(logprob[-1]).any():
            raise ModelError(f"model.safetensors: order{k}.logprob: holds NaN")
        if counted is not None:
            counts.append(table(f"order{k}.count", whole, rows))
            if len(counts[-1]) and int(counts[-1].min()) < 0:
                raise ModelError(f"model.safetensors: order{k}.count: negative count")
        if k < order:
            backoff.append(table(f"order{k}.backoff", torch.float32, rows))
            children.append(table(f"order{k}.children", torch.int32, rows))
            if len(children[-1]) and int(children[-1].min()) < 0:
                raise ModelError(f"model.safetensors: order{k}.children: negative count")
            rows = int(children[-1].sum(dtype=np.int64))
    trie = Trie.from_tables(sizes, words, children, logprob, backoff, None if counted is None else counts)
    _check_sorted(trie)
    return trie


def _check_sorted(trie: Trie) -> None:
    """Children must ascend: look-ups search among them."""
    rising = np.diff(trie.words.astype(np.int64)) > 0
    begins = np.zeros(len(trie.words) + 1, bool)
    begins[trie.first] = True
    bad = np.flatnonzero(~rising & ~begins[1:-1])
    if len(bad):
        raise ModelError(f"model.safetensors: the n-grams are not sorted (row {int(bad[0])}); the file is damaged")
