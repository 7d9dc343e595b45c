"""Tokens added to a vocabulary: ordinary ones, so that a text with them comes back as it was, and special ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bimo.core.errors import UserError
from bimo.text.vocabularies.bytelevel import to_alphabet
from bimo.text.vocabularies.pieces import NEVER


def extended(hub: Any, kind: str, words: Sequence[str], size: int) -> Any:
    """A copy of a `tokenizers.Tokenizer` that has `words`, none of which it knows, as tokens from the id `size` on.

    They stand in the model's own vocabulary where it is made of whole words or characters (char, word, WordPiece), or where every
    stretch of text gets a space before it (SentencePiece): parting a text there would change it. Elsewhere they part the text.
    """
    from tokenizers import AddedToken, Tokenizer

    told = json.loads(hub.to_str())
    model = told["model"]
    spaced = _puts_space(told["normalizer"]) or _puts_space(told["pre_tokenizer"])
    odd = next((word for word in words if not word or _misfit(word, kind, model["type"], spaced)), None)
    if odd is not None:
        what = "words without white space" if kind == "word" or model["type"] == "WordPiece" else "single characters other than a space"
        raise UserError(f"tokens to add: {odd!r} cannot be one here; this vocabulary takes {what}")
    behind = {token["content"]: token["id"] for token in told["added_tokens"]}
    if kind in ("char", "word") or model["type"] == "WordPiece" or spaced:
        return _inside(told, {word: size + i for i, word in enumerate(words)}, behind)
    # The name of a token of bytes that is a text as well (é is the byte E9 there): it cannot part a text, so its bytes are merged.
    names = {word: to_alphabet(word.encode()) for word in words if word in model["vocab"]} if model["type"] == "BPE" else {}
    long = next((word for word, name in names.items() if len(name) != 2), None)
    if long is not None:
        raise UserError(f"tokens to add: {long!r} cannot be one here; it is the name of another token in this vocabulary")
    copy = Tokenizer.from_str(json.dumps(told))
    copy.add_tokens([AddedToken(word, normalized=False) for word in words if word not in names])
    if not names:
        return copy
    told = json.loads(copy.to_str())
    told["model"]["merges"] += [list(name) for name in names.values()]
    behind = {token["content"]: token["id"] for token in told["added_tokens"]}
    return _inside(told, {name: size + len(words) - len(names) + i for i, name in enumerate(names.values())}, behind)


def with_special(hub: Any, words: Sequence[str], size: int) -> Any:
    """A copy of a `tokenizers.Tokenizer` that has `words`, none of which it knows, as special tokens from the id `size` on."""
    from tokenizers import AddedToken, Tokenizer

    if odd := [word for word in words if not word.strip()]:
        raise UserError(f"special tokens to add: {odd[0]!r} is no name; give one like <|user|>")
    if known := [word for word in words if hub.token_to_id(word) is not None]:
        raise UserError(f"special tokens to add: {known[0]!r} is a token of this vocabulary already; give it another name")
    copy = Tokenizer.from_str(hub.to_str())
    copy.add_special_tokens([AddedToken(word, normalized=False, special=True) for word in words])
    if [copy.token_to_id(word) for word in words] != [*range(size, size + len(words))]:  # ids that no token has stand behind its last
        raise UserError("special tokens to add: the ids of this vocabulary have gaps, and none can be put behind them")
    return copy


def _inside(told: dict[str, Any], ids: dict[str, int], behind: dict[str, int]) -> Any:
    """The tokenizer with more tokens in the model's own vocabulary, and with those that were added `behind` it."""
    from tokenizers import Tokenizer

    model = told["model"]
    if model["type"] == "Unigram":
        names = {i: name for name, i in behind.items()}
        model["vocab"] += [[names.get(i, f"<unused {i}>"), NEVER] for i in range(len(model["vocab"]), min(ids.values()))]
        least = min(score for _, score in model["vocab"] if score > NEVER)
        model["vocab"] += [[word, least] for word in ids]
    else:
        model["vocab"] |= behind | ids
    return Tokenizer.from_str(json.dumps(told))


def _misfit(word: str, kind: str, model: str, spaced: bool) -> bool:
    if kind == "word" or model == "WordPiece":
        return word.split() != [word]
    return (kind == "char" or spaced) and (len(word) > 1 or (spaced and word == " "))


def _puts_space(step: dict[str, Any] | None) -> bool:
    """Whether a step puts a space before every stretch of text."""
    if step is None:
        return False
    inner = step.get("normalizers") or step.get("pretokenizers") or []
    always = step["type"] == "Metaspace" and step["prepend_scheme"] == "always"
    return step["type"] == "Prepend" or always or bool(step.get("add_prefix_space")) or any(map(_puts_space, inner))
