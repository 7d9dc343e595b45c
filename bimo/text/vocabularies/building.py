"""A tokenizer as its class builds it, of `tokenizer.json` or of the class's own files."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from bimo.core.errors import ModelError
from bimo.text.runners import told_panics
from bimo.text.vocabularies.added import DECODER, add_tokens, written
from bimo.text.vocabularies.bytelevel import check_merges
from bimo.text.vocabularies.classes import Parts, TokenizerClass, flag_ends
from bimo.text.vocabularies.settings import TokenizerSettings, named_tokens, with_defaults

_STEPS = tuple(part.name for part in fields(Parts) if part.name != "options")  # the steps around a model, in order
_ALWAYS = {"BPE": {"dropout": None, "ignore_merges": False}, "WordPiece": {"max_input_chars_per_word": 100}}  # whatever the class


def rebuild(kind: TokenizerClass, hub: Any, told: Mapping[str, Any], s: TokenizerSettings, where: str) -> tuple[Any, dict[str, Any], bool]:
    """(tokenizer, settings, whether it differs) of a `tokenizer.json`: `hub`, and `told`, what the file holds.

    transformers takes vocabulary, merges, added tokens and post-processor from the file, the rest from the class and its settings.
    """
    values = with_defaults(kind, s.values, s.where)
    model = told["model"] if "type" in told["model"] else json.loads(hub.to_str())["model"]  # some old files leave the type out
    if model["type"] != kind.model:
        raise ModelError(f"{where}: a model of the type {model['type']}; a {kind.name} has {kind.model}; the files are not of one model")
    with _named(where):
        parts = kind.parts(values, _charsmap(told.get("normalizer")))
    changed = False
    post = hub.post_processor
    listed = {written(token) for token in s.added.values()}
    if DECODER in s.values and any(token["content"] not in listed for token in told.get("added_tokens", ())):  # then the settings' alone
        hub, changed = _bare(hub), True
    options = _ALWAYS.get(kind.model, {}) | parts.options
    if any((model.get(name) or None) != (value or None) for name, value in options.items()):
        hub.model, changed = _model(kind.model, model["vocab"], model.get("merges", ()), parts, where), True
    for name in _STEPS:
        if _state(getattr(hub, name)) != _state(wanted := getattr(parts, name)):
            setattr(hub, name, wanted)
            changed = True
    changed |= _finish(kind, hub, s, values, post)
    return hub, values, changed


def build(
    kind: TokenizerClass, vocab: Any, merges: Sequence[tuple[str, str]], charsmap: bytes, s: TokenizerSettings, where: str
) -> tuple[Any, dict[str, Any]]:
    """(tokenizer, settings) of what a class's own files hold: ids by token, or pieces with scores."""
    from tokenizers import Tokenizer

    values = with_defaults(kind, s.values, s.where)
    if kind.model == "Unigram":
        vocab = kind.pieces(vocab, values)
    with _named(where):
        parts = kind.parts(values, charsmap)
    hub = Tokenizer(_model(kind.model, vocab, merges, parts, where))
    for name in _STEPS:
        if getattr(parts, name) is not None:
            setattr(hub, name, getattr(parts, name))
    _finish(kind, hub, s, values, flag_ends)
    return hub, values


def _finish(kind: TokenizerClass, hub: Any, s: TokenizerSettings, values: dict[str, Any], post: Any) -> bool:
    """Add the special tokens, and set the post-processor: the class's own, else `post`; True if anything changed."""
    extra = s.extra
    if "extra_ids" in kind.settings:
        extra = _sentinels(s, values["extra_ids"])
    changed = add_tokens(hub, s.added, named_tokens({**kind.special, **s.values}), extra, s.added_where)
    ends = kind.ends or (post if callable(post) else None)
    if ends is not None:
        with _named(s.where):
            post = ends(values, lambda token: hub.token_to_id(token))
    if _state(hub.post_processor) == _state(post):
        return changed
    hub.post_processor = post
    return True


def _sentinels(s: TokenizerSettings, count: int) -> list[Any]:
    """T5's special tokens without a name: those of the settings, and <extra_id_0>, … where they hold none of them."""
    own = [f"<extra_id_{i}>" for i in range(count)]
    if "extra_special_tokens" in s.values:
        return s.extra
    listed = [token for token in s.extra if "<extra_id_" in (written(token) or "")]
    if listed and count and len(listed) != count:
        raise ModelError(f"{s.where}: extra_ids is {count}, and the special tokens hold {len(listed)} of them; name as many")
    return s.extra if listed else [*s.extra, *own]


def _model(kind: str, vocab: Any, merges: Sequence[Any], parts: Parts, where: str) -> Any:
    from tokenizers import models

    options = {name: value for name, value in parts.options.items() if value is not None}
    with _named(where):
        if kind == "WordPiece":
            return models.WordPiece(dict(vocab), **options)
        if kind == "Unigram":
            return models.Unigram([(piece, score) for piece, score in vocab], **options)
        split = (pair.split(" ", 1) if isinstance(pair, str) else pair for pair in merges)
        pairs = [(left, right) for left, right in split]
        check_merges(vocab, pairs, where)
        return models.BPE(dict(vocab), pairs, **options)


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Turn what the tokenizers library says of a file or a setting that it cannot take into a `ModelError` that names the file."""
    try:
        with told_panics():
            yield
    except ModelError as cause:
        said = str(cause)
        raise cause if said.startswith(where) else ModelError(f"{where}: {said}") from None
    except (ValueError, TypeError) as cause:
        raise ModelError(f"{where}: {cause}") from None


def _bare(hub: Any) -> Any:
    """A tokenizer of the same model, without added tokens."""
    from tokenizers import Tokenizer

    return Tokenizer(hub.model)


def _state(step: Any) -> Any:
    return None if step is None else json.loads(step.__getstate__())


def _charsmap(step: Mapping[str, Any] | None) -> bytes:
    """SentencePiece's table of normalisation among the steps of a `tokenizer.json`."""
    steps = (step or {}).get("normalizers", [step] if step else [])
    return next((base64.b64decode(one["precompiled_charsmap"]) for one in steps if one.get("type") == "Precompiled"), b"")
