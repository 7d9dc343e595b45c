"""Which ids of a vocabulary are special, by the names that transformers has for them."""

from __future__ import annotations

from bimo.text.tokenizer import Tokenizer
from bimo.text.vocabularies.added import written

_IN_VOCABULARY = ("bos", "eos", "pad", "unk")
_IN_SETTINGS = ("cls", "sep", "mask")  # of BERT and its kin: what begins a text, what ends it, what hides a token

_MASKS = ("[MASK]", "<mask>")


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Ids by name, of bos, eos, pad, unk, cls, sep and mask those that there are.

    The last three stand in `tokenizer_config.json` of loaded tokenizers; vocabularies that Bimo makes have none of them.

    >>> special_ids(Tokenizer.train("char", ["ab"]))
    {'bos': 0, 'eos': 1, 'pad': 2, 'unk': 3}
    """
    found = {name: i for name in _IN_VOCABULARY if (i := getattr(tokenizer.vocabulary, name)) is not None}
    named = {name: tokenizer.hub.token_to_id(token) for name in _IN_SETTINGS if (token := written(tokenizer.settings.get(f"{name}_token")))}
    found |= {name: i for name, i in named.items() if i is not None}
    special = tokenizer.special_tokens if tokenizer.kind == "loaded" else {}
    if "mask" not in found and (masks := [special[name].id for name in _MASKS if name in special]):  # no setting names it
        found["mask"] = masks[0]
    twice = {name for name, other in (("bos", "cls"), ("eos", "sep")) if other in found and found[other] == found.get(name)}
    return {name: i for name, i in found.items() if name not in twice}
