"""Ordinary tokens added to a vocabulary, so that a text with them comes back as it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bimo.core.errors import UserError
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
    if kind not in ("char", "word") and model["type"] != "WordPiece" and not spaced:
        copy = Tokenizer.from_str(json.dumps(told))
        copy.add_tokens([AddedToken(word, normalized=False) for word in words])
        return copy
    if model["type"] == "Unigram":
        behind = {token["id"]: token["content"] for token in told["added_tokens"]}
        model["vocab"] += [[behind.get(i, f"<unused {i}>"), NEVER] for i in range(len(model["vocab"]), size)]
        least = min(score for _, score in model["vocab"] if score > NEVER)
        model["vocab"] += [[word, least] for word in words]
    else:
        model["vocab"] |= {word: size + i for i, word in enumerate(words)}
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
