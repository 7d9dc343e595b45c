"""BERT's `vocab.txt` (Devlin et al. 2019): a token a line, its number the id; `##` begins a token that goes on a word."""

from __future__ import annotations

from typing import Any

from bimo.core.errors import ModelError
from bimo.text.vocabularies.added import written

NAMES = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
_WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"


def bert(text: str, settings: dict[str, Any], where: str) -> tuple[Any, dict[str, Any]]:
    """(tokenizer, settings) of a `vocab.txt`; `do_lower_case` of the settings decides on case, else whether a token is cased.

    >>> hub, settings = bert("[UNK]\\n[CLS]\\n[SEP]\\ncat\\n##s\\n", {}, "vocab.txt")
    >>> hub.encode("Cats", add_special_tokens=False).tokens, settings["do_lower_case"]
    (['cat', '##s'], True)
    """
    tokens = read_bert(text)
    given = {name: written(settings.get(name)) or usual for name, usual in NAMES.items()}
    lower = settings.get("do_lower_case")
    if not isinstance(lower, bool):
        lower = not any(token != token.lower() for token in tokens if not (token.startswith("[") and token.endswith("]")))
    accents = settings.get("strip_accents")
    hub = wordpiece_hub(tokens, given, lower, accents if isinstance(accents, bool) else None, where)
    ids = hub.get_vocab()
    return hub, {name: token for name, token in given.items() if token in ids} | {"do_lower_case": lower}


def read_bert(text: str) -> list[str]:
    """The token of each line of a `vocab.txt`, without the white space behind it."""
    return [line.rstrip(_WHITE) for line in text.removesuffix("\n").split("\n")]


def wordpiece_hub(tokens: list[str], names: dict[str, str], lower: bool, accents: bool | None, where: str) -> Any:
    """A `tokenizers.Tokenizer` of WordPiece as BERT has it; a text is put between [CLS] and [SEP] where there are such tokens.

    Of two equal tokens the last counts, as in BERT's own code: the other's id is never met.

    names: how the special tokens are written, by `unk_token`, `cls_token`, …; accents: whether they are stripped (None: with case).
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    ids = {token: i for i, token in enumerate(tokens)}
    if names["unk_token"] not in ids:
        raise ModelError(f"{where}: no token {names['unk_token']}, which stands for unknown words; this is not a vocabulary of BERT")
    hub = Tokenizer(models.WordPiece(ids, unk_token=names["unk_token"]))
    hub.normalizer = normalizers.BertNormalizer(True, True, accents, lower)
    hub.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    hub.decoder = decoders.WordPiece("##", cleanup=False)
    cls, sep = names["cls_token"], names["sep_token"]
    if cls in ids and sep in ids:
        hub.post_processor = processors.BertProcessing((sep, ids[sep]), (cls, ids[cls]))
    hub.add_special_tokens([token for token in names.values() if token in ids])
    return hub
