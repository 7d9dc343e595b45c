"""A vocabulary under the names that transformers has for it, as `config.json` and `generation_config.json` hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bimo.core.errors import ModelError
from bimo.text.vocabulary import Vocabulary

_SPECIAL = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "pad", "unk_token_id": "unk"}


def write_vocabulary(vocabulary: Vocabulary) -> dict[str, Any]:
    """The vocabulary as every family's config.json holds it.

    >>> write_vocabulary(Vocabulary(9, bos=0, eos=1, suppressed=(0,)))["suppress_tokens"]
    [0]
    """
    ids = {key: getattr(vocabulary, name) for key, name in _SPECIAL.items()}
    tags = {"tag_names": list(vocabulary.tags)} if vocabulary.tags else {}
    return {"vocab_size": vocabulary.size, **ids, "suppress_tokens": list(vocabulary.suppressed), **tags}


def read_vocabulary(config: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of a config.json; of several ends of text the first counts."""
    size = config.get("vocab_size")
    if not isinstance(size, int) or size < 1:
        raise ModelError(f"config.json: vocab_size must be a positive integer, found {size!r}")
    ids: dict[str, Any] = {}
    for key, name in _SPECIAL.items():
        value = config.get(key)
        value = value[0] if isinstance(value, list) and value else value
        ids[name] = value if isinstance(value, int) and 0 <= value < size else None  # HF writes 50256 beside small vocabularies
    suppressed = config.get("suppress_tokens") or []
    if not all(isinstance(i, int) and 0 <= i < size for i in suppressed):
        raise ModelError(f"config.json: suppress_tokens must be ids below {size}, found {suppressed!r}")
    tags = config.get("tag_names") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ModelError(f"config.json: tag_names must be a list of names, found {tags!r}")
    return Vocabulary(size, suppressed=tuple(suppressed), tags=tuple(tags), **ids)


def generation_config(vocabulary: Vocabulary, ends: Sequence[int] = (), options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What `generation_config.json` holds, as transformers reads it: special ids, and the ids that are never written.

    ends: ids that end a text beside the vocabulary's own; options: defaults of generation, under transformers' names.

    >>> generation_config(Vocabulary(9, eos=1), ends=(4,))
    {'_from_model_config': False, 'eos_token_id': [1, 4]}
    """
    ids = {key: value for key, value in write_vocabulary(vocabulary).items() if key not in ("vocab_size", "unk_token_id", "tag_names")}
    if ends:
        ids["eos_token_id"] = [i for i in (vocabulary.eos, *ends) if i is not None]
    return {
        "_from_model_config": False,
        **{key: value for key, value in ids.items() if value is not None and value != []},
        **(options or {}),
    }
