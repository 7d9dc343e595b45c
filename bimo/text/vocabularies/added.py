"""Tokens that settings add to a vocabulary: `added_tokens_decoder`, `additional_special_tokens`, and the special tokens by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from bimo.core.errors import ModelError

NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_FLAGS = ("single_word", "lstrip", "rstrip")


def written(token: Any) -> str | None:
    """How a special token is written: a string, or a mapping with `content`; None for anything else.

    >>> written({"content": "<s>", "lstrip": False}), written("<s>"), written(None)
    ('<s>', '<s>', None)
    """
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def told_tokens(settings: Mapping[str, Any], where: str) -> Iterator[tuple[int, Any]]:
    """(id, token) of `added_tokens_decoder`, by id.

    >>> list(told_tokens({"added_tokens_decoder": {"7": {"content": "<x>"}, "5": {"content": "<y>"}}}, "x"))
    [(5, {'content': '<y>'}), (7, {'content': '<x>'})]
    """
    told = settings.get("added_tokens_decoder") or {}
    if not isinstance(told, dict):
        raise ModelError(f"{where}: added_tokens_decoder must be a mapping from ids to tokens, found a {type(told).__name__}")
    for i, token in told.items():
        if not str(i).isdecimal() or len(str(i)) > 9 or not written(token):
            raise ModelError(f"{where}: added_tokens_decoder: {i!r}: {token!r} is no id and its token")
    yield from sorted(((int(i), token) for i, token in told.items()), key=lambda pair: pair[0])


def add_told(hub: Any, settings: Mapping[str, Any], where: str) -> bool:
    """Add what the settings tell of and the tokenizer lacks; True if it changed. An id that the tokenizer gives otherwise is an error."""
    from tokenizers import AddedToken

    known = hub.get_added_tokens_decoder()
    changed = False
    for i, token in told_tokens(settings, where):
        content, flags = written(token) or "", token if isinstance(token, dict) else {}
        special = bool(flags.get("special", True))
        if i in known and known[i].content == content and known[i].special == special:
            continue
        chosen = {name: bool(flags.get(name, False)) for name in _FLAGS}
        added = AddedToken(content, normalized=bool(flags.get("normalized", not special)), special=special, **chosen)
        _ = hub.add_special_tokens([added]) if special else hub.add_tokens([added])
        changed = True
        if hub.token_to_id(content) != i:
            raise ModelError(
                f"{where}: added_tokens_decoder: {content!r} has the id {i} there, and {hub.token_to_id(content)} in the vocabulary; "
                "the files are not of one model"
            )
    more = settings.get("additional_special_tokens") or []
    named = [token for name in NAMES if (token := written(settings.get(name))) and hub.token_to_id(token) is not None]
    special = {token.content for token in hub.get_added_tokens_decoder().values() if token.special}
    wanted = [token for token in (*named, *map(written, more if isinstance(more, list) else [])) if token and token not in special]
    if wanted:
        hub.add_special_tokens(list(dict.fromkeys(wanted)))
    return changed or bool(wanted)


_NONE = '"post_processor":null'


def with_ends(text: str, bos: str | None, eos: str | None) -> str:
    """The text of a `tokenizer.json` that adds no special tokens, made to add these (None: nothing there); `without_ends` takes it back."""
    from tokenizers import Tokenizer

    hub = Tokenizer.from_str(text)
    begin_and_end(hub, bos, eos)
    if _NONE not in text:  # another program wrote it anew
        return str(hub.to_str())
    return text.replace(_NONE, f'"post_processor":{_compact(json.loads(hub.to_str())["post_processor"])}', 1)


def without_ends(text: str, told: Any) -> str:
    """The text of a `tokenizer.json`, which tells `told`, as it was before `with_ends`."""
    return text.replace(f'"post_processor":{_compact(told.get("post_processor"))}', _NONE, 1) if isinstance(told, dict) else text


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def begin_and_end(hub: Any, bos: str | None, eos: str | None) -> None:
    """Make the tokenizer put `bos` before and `eos` behind a text where special tokens are asked for (None: nothing there)."""
    from tokenizers import processors

    marks = [token for token in (bos, eos) if token is not None]
    single = " ".join([*([bos] if bos else []), "$A", *([eos] if eos else [])])
    pair = " ".join([single, *([f"{bos}:1"] if bos else []), "$B:1", *([f"{eos}:1"] if eos else [])])
    if marks:
        hub.post_processor = processors.TemplateProcessing(
            single, pair, [(token, hub.token_to_id(token)) for token in dict.fromkeys(marks)]
        )
