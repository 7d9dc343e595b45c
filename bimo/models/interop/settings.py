"""Settings that another program wrote: each key is read, refused by name, known to change no result, or the user is warned of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from bimo.core.errors import BimoWarning, ModelError

NO_EFFECT: dict[str, Sequence[str]] = {  # keys of config.json that change no result here, by reason
    "about the file or the program that wrote it": (
        "model_type", "architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path", "name_or_path", "_commit_hash",
        "model_max_length", "tokenizer_class", "unsloth_fixed", "unsloth_version", "transformers.js_config",
    ),
    "how transformers runs a model, which ends in the same numbers": (
        "use_cache", "return_dict", "output_attentions", "output_hidden_states", "torchscript", "use_bfloat16", "pretraining_tp",
        "chunk_size_feed_forward", "is_encoder_decoder", "attn_implementation", "_attn_implementation",
        "_attn_implementation_autoset", "experts_implementation", "gradient_checkpointing", "tie_last_hidden_states",
        "reorder_and_upcast_attn", "scale_attention_softmax_in_fp32", "n_ctx",
    ),
    "how random weights are drawn": ("initializer_range", "initializer_factor"),
    "about heads that Bimo does not read; their tensors are refused": (
        "id2label", "label2id", "num_labels", "_num_labels", "problem_type", "classifier_dropout", "finetuning_task", "summary_type",
        "summary_use_proj", "summary_activation", "summary_proj_to_labels", "summary_first_dropout", "pooler_fc_size",
        "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type", "directionality",
    ),
    "defaults of transformers' pipelines": ("task_specific_params", "prefix"),
}  # fmt: skip


ACTIVATIONS = {  # transformers' names of activations and ours
    "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh", "gelu_accurate": "gelu_tanh", "gelu_10": "gelu_clipped", "silu": "silu", "swish": "silu",
    **{name: name for name in ("quick_gelu", "relu", "relu2", "relu6", "leaky_relu", "mish", "hardswish", "sigmoid", "tanh", "laplace",
                               "sqrtsoftplus", "linear")},
}  # fmt: skip
WRITTEN_ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu", "silu": "silu"}
WRITTEN_ACTIVATIONS |= {ours: theirs for theirs, ours in ACTIVATIONS.items() if ours not in WRITTEN_ACTIVATIONS}


class Settings(Mapping[str, Any]):
    """The settings of one file, which remembers the keys that were read; `left` complains of the others.

    >>> settings = Settings({"width": 8, "dropout": 0.1, "shift": 3}, "config.json")
    >>> settings["width"], settings.get("dropout"), settings.unread()
    (8, 0.1, ['shift'])
    """

    def __init__(self, values: Mapping[str, Any], file: str) -> None:
        self.file, self._values = file, values
        self._read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self._read.add(key)
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def value(self, key: str, default: Any) -> Any:
        """The value of `key`; the default where it is missing or null."""
        found = self.get(key)
        return default if found is None else found

    def forget(self, key: str) -> None:
        """Count `key` as unread: its value cannot be followed."""
        self._read.discard(key)

    def refuse(self, key: str, wanted: str) -> NoReturn:
        """Raise a `ModelError` that names the file, the key, what was found and what is possible."""
        raise ModelError(f"{self.file}: {key} = {self._values.get(key)!r} is not supported; it must be {wanted}")

    def only(self, key: str, *allowed: Any) -> Any:
        """The value of `key`, one of `allowed`; the first of them where the key is missing."""
        found = self.get(key, allowed[0])
        if not any(type(found) is type(one) and found == one for one in allowed):
            self.refuse(key, " or ".join(map(repr, allowed)))
        return found

    def warn_of_cross_attention(self) -> None:
        """Warn of a model that may read another's states, which no model of Bimo that opens such a folder does."""
        if self.get("add_cross_attention"):
            warnings.warn(
                f"{self.file}: add_cross_attention = True: the attention to another model's states is left out, as where it is given none",
                BimoWarning,
                stacklevel=3,
            )

    def unread(self) -> list[str]:
        """The keys that nobody read and that say something: not null, false, zero or empty."""
        return [key for key, value in self._values.items() if key not in self._read and value not in (None, False, 0, "", [], {})]

    def left(self, without_effect: Mapping[str, Sequence[str]]) -> None:
        """Warn of the unread keys that are not known to be without effect."""
        known = {key for keys in without_effect.values() for key in keys}
        if unknown := [key for key in self.unread() if key not in known]:
            said = ", ".join(f"{key} = {str(self._values[key])[:60]}" for key in unknown)
            warnings.warn(
                f"{self.file}: settings that Bimo does not know and does not follow: {said}; results may differ from other programs'",
                BimoWarning,
                stacklevel=2,
            )
