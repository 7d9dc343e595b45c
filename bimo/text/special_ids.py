"""Which ids of a vocabulary are special, by the names that transformers has for them."""

from __future__ import annotations

from bimo.text.tokenizer import Tokenizer

_IN_VOCABULARY = ("bos", "eos", "pad", "unk")
_IN_SETTINGS = ("cls", "sep", "mask")  # of BERT and its kin: what begins a text, what ends it, what hides a token


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Ids by name, of bos, eos, pad, unk, cls, sep and mask those that there are.

    The last three stand in `tokenizer_config.json` of loaded tokenizers; vocabularies that Bimo makes have none of them.

    >>> special_ids(Tokenizer.train("char", ["ab"]))
    {'bos': 0, 'eos': 1, 'pad': 2, 'unk': 3}
    """
    found = {name: i for name in _IN_VOCABULARY if (i := getattr(tokenizer.vocabulary, name)) is not None}
    wanted = {token: name for name in _IN_SETTINGS if (token := _written(tokenizer, name))}
    for i in range(tokenizer.vocabulary.size if wanted else 0):
        name = wanted.pop(tokenizer.decode([i]), None)
        if name is not None:
            found[name] = i
        if not wanted:
            break
    return found


def _written(tokenizer: Tokenizer, name: str) -> str | None:
    """How the special token called `name` is written."""
    token = tokenizer.settings.get(f"{name}_token")
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None
