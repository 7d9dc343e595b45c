"""Tokens that settings add to a vocabulary, with their ids or behind all others, and what stands before and behind a text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bimo.core.errors import ModelError

NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
DECODER = "added_tokens_decoder"
_FLAGS = ("single_word", "lstrip", "rstrip")


def written(token: Any) -> str | None:
    """How a special token is written: a string, or a mapping with `content`; None for anything else.

    >>> written({"content": "<s>", "lstrip": False}), written("<s>"), written(None)
    ('<s>', '<s>', None)
    """
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def added_by_id(settings: Mapping[str, Any], where: str) -> dict[int, Any]:
    """The tokens of `added_tokens_decoder`, by id.

    >>> added_by_id({"added_tokens_decoder": {"7": {"content": "<x>"}, "5": {"content": "<y>"}}}, "x")
    {5: {'content': '<y>'}, 7: {'content': '<x>'}}
    """
    told = settings.get(DECODER) or {}
    if not isinstance(told, dict):
        raise ModelError(f"{where}: {DECODER} must be a mapping from ids to tokens, found a {type(told).__name__}")
    for i, token in told.items():
        if not str(i).isdecimal() or len(str(i)) > 9 or not written(token):
            raise ModelError(f"{where}: {DECODER}: {i!r}: {token!r} is no id and its token")
    return {int(i): token for i, token in sorted(told.items(), key=lambda pair: int(pair[0]))}


def add_tokens(hub: Any, added: Mapping[int, Any], named: Mapping[str, Any], extra: Sequence[Any], where: str) -> bool:
    """Add the tokens that the hub lacks, in the order in which transformers does; True if it changed.

    added: by id; named: special tokens by name; extra: special tokens without one. All that are named or extra are special then. An id
    that the hub gives otherwise is an error.
    """
    before = hub.get_added_tokens_decoder()
    known = {_flags(token) for token in before.values()}
    special = {written(token) for token in (*named.values(), *extra)}
    declared = [_token(token, False) for _, token in sorted(added.items())]
    wanted = [token for token in declared if _flags(token) not in known]
    names = {token.content for token in (*before.values(), *wanted)}
    by_content = {token.content: token for token in (*before.values(), *declared)}
    for token in (*named.values(), *extra):
        if written(token) not in names:
            wanted.append(by_content.get(written(token) or "") or _token(token, True))
            names.add(written(token))
    hub.add_tokens(wanted)
    now = hub.get_added_tokens_decoder()
    plain = [token for token in now.values() if token.content in special and not token.special]
    for token in plain:
        token.special = True
    hub.add_tokens(plain)
    for i, token in added.items():
        if hub.token_to_id(written(token) or "") != i:
            raise ModelError(
                f"{where}: {written(token)!r} has the id {i} there, and {hub.token_to_id(written(token))} in the vocabulary; "
                "the files are not of one model"
            )
    return bool(wanted or plain)


def _token(token: Any, special: bool) -> Any:
    """A token of the settings, written or a mapping with its flags, as the tokenizers library has it."""
    from tokenizers import AddedToken

    flags = token if isinstance(token, dict) else {}
    special = bool(flags.get("special", special))
    chosen = {name: bool(flags.get(name, False)) for name in _FLAGS}
    return AddedToken(written(token) or "", normalized=bool(flags.get("normalized", not special)), special=special, **chosen)


def _flags(token: Any) -> tuple[Any, ...]:
    return (token.content, token.single_word, token.lstrip, token.rstrip, token.normalized, token.special)


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


def tokens_around(hub: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that a tokenizer's post-processor puts before and behind a text.

    >>> from tokenizers import Tokenizer, models
    >>> hub = Tokenizer(models.BPE({"a": 0}, []))
    >>> _ = hub.add_special_tokens(["<s>", "</s>"])
    >>> begin_and_end(hub, None, "</s>")
    >>> tokens_around(hub)
    ((), (2,))
    """
    step = None if hub.post_processor is None else json.loads(hub.post_processor.__getstate__())
    return _around(step)


def _around(step: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    before: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()
    kind = (step or {}).get("type")
    if kind == "Sequence":
        for one in step["processors"]:
            more = _around(one)
            before, behind = more[0] + before, behind + more[1]
    elif kind in ("BertProcessing", "RobertaProcessing"):
        before, behind = (step["cls"][1],), (step["sep"][1],)
    elif kind == "TemplateProcessing":
        ids = [step["special_tokens"][part["SpecialToken"]["id"]]["ids"] if "SpecialToken" in part else None for part in step["single"]]
        text = ids.index(None) if None in ids else len(ids)
        before, behind = (tuple(i for found in part for i in found or ()) for part in (ids[:text], ids[text:]))
    return before, behind


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
