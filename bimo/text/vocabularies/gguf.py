"""The vocabulary of a GGUF file, in and out: its `tokenizer.*` fields as plain Python.

How texts are parted is `tokenizer.ggml.pre` there, a name for a pattern (llama.cpp, `llama-vocab.cpp`).
"""

from __future__ import annotations

import base64
import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

from bimo.core.errors import BimoWarning, ModelError, UserError, did_you_mean
from bimo.text.chat import end_ids
from bimo.text.tokenizer import Tokenizer
from bimo.text.vocabularies.added import begin_and_end, written
from bimo.text.vocabularies.bert import NAMES, wordpiece_hub
from bimo.text.vocabularies.bytelevel import PARTINGS, byte_level_hub, parting_of
from bimo.text.vocabularies.pieces import (
    BYTE,
    CONTROL,
    GUARD,
    NEVER,
    NORMAL,
    RUNS,
    TRIM,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Pieces,
    pieces_hub,
)  # fmt: skip

_GGML = "tokenizer.ggml."
_IDS = {
    "bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "cls": "cls", "mask": "mask",
}  # fmt: skip
_SPACE = "▁"
# As in llama.cpp (`llama_vocab::impl::load`): tokens of these names end a text and are special, whatever type the file gives them.
_ENDS = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>", "<|endoftext|>", "</s>",
    "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "<end_of_utterance>", "<eos>", "<turn|>",
    "<|tool_response>",
)  # fmt: skip
_NO_ENDS = {"<|end|>": ({"<|return|>", "<|call|>"}, {"<|calls|>", "<|flush|>"}), "</s>": ({"<|tool_response>"},)}  # beside all of these
_MIDDLE = {  # tokens that fill a gap in a text: by key, and where there is no such key by name; those of the last three end a text
    "fim_pre": ("prefix", ("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>", "<|code_prefix|>", "<|prefix|>")),
    "fim_suf": ("suffix", ("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<SUF>", "<|code_suffix|>", "<|suffix|>")),
    "fim_mid": ("middle", ("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<MID>", "<|code_middle|>", "<|middle|>")),
    "fim_pad": ("fim_pad", ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]")),
    "fim_rep": ("fim_rep", ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>")),
    "fim_sep": ("fim_sep", ("<|file_sep|>",)),
}
_USUAL = {"llama": {"bos": 1, "eos": 2, "unk": 0}, "t5": {"eos": 1, "unk": 2, "pad": 0}}  # ids where the file names none
_MARK_IN = re.compile(r"<\|[^<>|]+\|>")  # what a chat template marks turns with
_KNOWN = frozenset({  # of every other key of `tokenizer.` the user is warned
    "tokenizer.chat_template",
    *(f"{_GGML}{name}" for name in (
        "model", "pre", "tokens", "token_type", "scores", "merges", "precompiled_charsmap", "add_bos_token", "add_eos_token",
        "add_space_prefix", "remove_extra_whitespaces", "normalizer.lowercase", "normalizer.strip_accents", "suppress_tokens",
        *(f"{name}_token_id" for name in (*_IDS.values(), "eot", "eom", *_MIDDLE, *(old for old, _ in _MIDDLE.values()))),
    )),
})  # fmt: skip
# No effect: that of pairs of texts, segments (the tensor says how many), templates beside the default one, the makers' own file.
_NO_EFFECT = ("tokenizer.ggml.add_sep_token", "tokenizer.ggml.token_type_count", "tokenizer.chat_templates", "tokenizer.huggingface.json")
_NAMED_TEMPLATE = "tokenizer.chat_template."


# -- in ---------------------------------------------------------------------------------------------------------------


def tokenizer_of(fields: Mapping[str, Any], where: str = "GGUF") -> tuple[Any, dict[str, Any]]:
    """(tokenizer of the tokenizers library, settings) of a GGUF file's metadata; raises `ModelError` that names the field.

    where: the file to name in warnings.

    >>> hub, settings = tokenizer_of({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.merges": ["a b"],
    ...     "tokenizer.ggml.tokens": ["a", "b", "ab", "<end>"], "tokenizer.ggml.eos_token_id": 3})
    >>> hub.encode("abb").tokens, settings["eos_token"]
    (['ab', 'b'], '<end>')
    """
    _warn_of_unknown(fields, where)
    model = fields.get(_GGML + "model")
    tokens = [token or f"[EMPTY_{i}]" for i, token in enumerate(_list(fields, "tokens", str))]
    types = _list(fields, "token_type", int, len(tokens)) or [NORMAL] * len(tokens)
    ids = {name: _id(fields, f"{key}_token_id", len(tokens)) for name, key in _IDS.items()}
    for name, i in _USUAL.get(str(model), {}).items():
        if ids[name] is None and i < len(tokens) and types[i] in (CONTROL, UNKNOWN):
            ids[name] = i
    named = {name: tokens[i] for name, i in ids.items() if i is not None}
    if model != "bert":
        types = _with_control(fields, tokens, types)
    settings: dict[str, Any] = {f"{name}_token": token for name, token in named.items()}
    if model == "gpt2":
        hub, begins, ends = _gpt2(fields, tokens, types, named)
    elif model in ("llama", "t5"):
        hub, begins, ends = _by_scores(fields, tokens, types, model, ids), model == "llama", model == "t5"
    elif model == "bert":
        hub, begins, ends = _bert(fields, tokens, types, named), False, False
        settings |= {name: usual for name, usual in NAMES.items() if name not in settings and hub.token_to_id(usual) is not None}
    else:
        raise ModelError(f"{_GGML}model: {model!r} is not known; gpt2, llama, bert and t5 can be read")
    hub.add_special_tokens([token for token in named.values() if hub.token_to_id(token) is not None])
    if model != "bert":
        begins, ends = (_flag(fields, f"add_{name}_token", usual) for name, usual in (("bos", begins), ("eos", ends)))
        settings |= {"add_bos_token": begins and "bos" in named, "add_eos_token": ends and "eos" in named}
        begin_and_end(hub, named.get("bos") if begins else None, named.get("eos") if ends else None)
    template = fields.get("tokenizer.chat_template")
    if isinstance(template, str):
        settings["chat_template"] = template
    return hub, settings


def end_ids_of(fields: Mapping[str, Any]) -> tuple[int, ...]:
    """The ids that end a text or an answer beside `eos_token_id`: by their keys, and by their names as in llama.cpp.

    >>> end_ids_of({"tokenizer.ggml.tokens": ["a", "<|im_end|>", "<tool>"], "tokenizer.ggml.eot_token_id": 2})
    (2, 1)
    """
    tokens = _list(fields, "tokens", str)
    places = {token: i for i, token in enumerate(tokens)}
    middle = _middle(fields, places)
    found = [_id(fields, f"{name}_token_id", len(tokens)) for name in ("eot", "eom")]
    found += [middle.get(name) for name in ("fim_pad", "fim_rep", "fim_sep")]
    met = {name for name in _ENDS if name in places}
    met -= {name for name, others in _NO_ENDS.items() if any(other <= met for other in others)}
    return tuple(dict.fromkeys(i for i in (*found, *(places[name] for name in _ENDS if name in met)) if i is not None))


def _middle(fields: Mapping[str, Any], places: Mapping[str, int]) -> dict[str, int]:
    """The tokens that fill a gap, by key."""
    found: dict[str, int] = {}
    for key, (old, names) in _MIDDLE.items():
        ids = [_id(fields, f"{one}_token_id", len(places)) for one in (old, key)]
        i = next((i for i in ids if i is not None), None)
        i = next((places[name] for name in names if name in places), None) if i is None else i
        if i is not None:
            found[key] = i
    return found


def _with_control(fields: Mapping[str, Any], tokens: list[str], types: list[int]) -> list[int]:
    """The types, where every token that ends a text, fills a gap or marks a turn in the chat template is a control token.

    llama.cpp overrides the types of the first two. The marks of turns that a file calls user-defined it lets people type, and so take
    another's part in a conversation; here they cannot.
    """
    template = fields.get("tokenizer.chat_template")
    control = {*end_ids_of(fields), *_middle(fields, {token: i for i, token in enumerate(tokens)}).values()}
    if isinstance(template, str):
        marks = set(_MARK_IN.findall(template))
        control |= {i for i, token in enumerate(tokens) if types[i] == USER_DEFINED and token in marks}
    return [CONTROL if i in control and kind != UNKNOWN else kind for i, kind in enumerate(types)]


def _warn_of_unknown(fields: Mapping[str, Any], where: str) -> None:
    """Warn of the keys of `tokenizer.` that nobody reads."""
    for key, value in fields.items():
        if key.startswith("tokenizer.") and key not in _KNOWN and key not in _NO_EFFECT and not key.startswith(_NAMED_TEMPLATE):
            warnings.warn(f"{where}: {key} = {str(value)[:60]} is not known and not used", BimoWarning, stacklevel=2)
    if fields.get(_GGML + "model") == "gpt2" and not fields.get(_GGML + "pre"):
        warnings.warn(
            f"{where}: {_GGML}pre is missing: texts are parted by the pattern called default, which may not be the model's; "
            "convert the model again",
            BimoWarning,
            stacklevel=2,
        )


def _gpt2(fields: Mapping[str, Any], tokens: list[str], types: list[int], named: Mapping[str, str]) -> tuple[Any, bool, bool]:
    from tokenizers import AddedToken

    pre = fields.get(_GGML + "pre") or "default"
    if not isinstance(pre, str) or pre not in PARTINGS:
        raise ModelError(f"{_GGML}pre: {pre!r} is not known, so texts would be parted wrongly; {did_you_mean(str(pre), PARTINGS)}")
    ids: dict[str, int] = {}
    for i, token in enumerate(tokens):
        if ids.setdefault(token, i) != i:
            raise ModelError(f"{_GGML}tokens: {ids[token]} and {i} are both {token!r}; the file is damaged")
    merges = []
    for number, merge in enumerate(_list(fields, "merges", str)):
        left, _, right = merge.partition(" ")
        if not left or not right:
            raise ModelError(f"{_GGML}merges: number {number} is {merge!r}; expected two tokens parted by a space")
        merges.append((left, right))
    parting = PARTINGS[pre]
    hub = byte_level_hub(ids, merges, parting, f"{_GGML}merges")
    for i, token in enumerate(tokens):
        if types[i] in (CONTROL, UNKNOWN):
            hub.add_special_tokens([AddedToken(token, normalized=False, special=True)])
        elif types[i] == USER_DEFINED:
            hub.add_tokens([AddedToken(token, normalized=False)])
    return hub, parting.bos and "bos" in named, False


def _by_scores(fields: Mapping[str, Any], tokens: list[str], types: list[int], model: str, named_ids: Mapping[str, int | None]) -> Any:
    scores = [float(score) for score in _list(fields, "scores", int | float, len(tokens))]
    if not scores:
        raise ModelError(f"{_GGML}scores: missing; a vocabulary of the kind {model} needs them")
    if UNKNOWN not in types and (unk := named_ids.get("unk")) is not None:
        types = [*types[:unk], UNKNOWN, *types[unk + 1 :]]
    charsmap = fields.get(_GGML + "precompiled_charsmap") or b""
    pieces = Pieces(
        "bpe" if model == "llama" else "unigram", tokens, scores, types, byte_fallback=BYTE in types,
        prefix=_flag(fields, "add_space_prefix", model == "llama"), squeeze=_flag(fields, "remove_extra_whitespaces", False),
        compose=True, charsmap=charsmap if isinstance(charsmap, bytes) else bytes(i % 256 for i in charsmap),
    )  # fmt: skip
    return pieces_hub(pieces, f"{_GGML}tokens")


def _bert(fields: Mapping[str, Any], tokens: list[str], types: list[int], named: Mapping[str, str]) -> Any:
    words = []
    for token, kind in zip(tokens, types, strict=True):
        if token.startswith(_SPACE):
            words.append(token.removeprefix(_SPACE))
        elif kind in (CONTROL, UNKNOWN) or (token.startswith("[") and token.endswith("]")):
            words.append(token)
        else:
            words.append(f"##{token}")
    lower = _flag(fields, "normalizer.lowercase", True)
    accents = _flag(fields, "normalizer.strip_accents", lower)
    names = {name: named.get(name.removesuffix("_token"), usual) for name, usual in NAMES.items()}
    return wordpiece_hub(words, names, lower, accents, f"{_GGML}tokens")


def _list(fields: Mapping[str, Any], name: str, kind: Any, length: int | None = None) -> list[Any]:
    value = fields.get(_GGML + name)
    if value is None and name != "tokens":
        return []
    if not isinstance(value, list | tuple) or not all(isinstance(item, kind) for item in value):
        raise ModelError(f"{_GGML}{name}: expected a list, found {type(value).__name__}; the file is damaged or holds no vocabulary")
    if length is not None and len(value) != length:
        raise ModelError(f"{_GGML}{name}: {len(value):,} of them for {length:,} tokens; the file is damaged")
    return list(value)


def _id(fields: Mapping[str, Any], name: str, size: int) -> int | None:
    key = _GGML + name
    value = fields.get(key)
    if value is not None and (type(value) is not int or not 0 <= value < size):
        raise ModelError(f"{key}: {value!r} is no id of the {size:,} tokens")
    return value


def _flag(fields: Mapping[str, Any], name: str, usual: bool) -> bool:
    value = fields.get(_GGML + name)
    return usual if value is None else bool(value)


# -- out --------------------------------------------------------------------------------------------------------------


def fields_of(tokenizer: Tokenizer, rows: int = 0) -> dict[str, Any]:
    """The `tokenizer.*` fields of a GGUF file for a tokenizer; `UserError` where GGUF has no kind that gives the same ids.

    rows: of the model's embedding, which may be more than there are tokens; the rest get names that are never met.

    >>> fields = fields_of(Tokenizer.train("bpe", ["a b"]))
    >>> fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"], fields["tokenizer.ggml.tokens"][:3]
    ('gpt2', 'gpt-2', ['<s>', '</s>', '<pad>'])
    """
    told = json.loads(tokenizer.hub.to_str())
    model = told["model"]
    if tokenizer.kind in ("byte", "char", "word"):
        raise UserError(f"GGUF has no kind of vocabulary for a {tokenizer.kind} tokenizer; train with --tokenizer bpe to export")
    size = max(rows, tokenizer.vocabulary.size)
    tokens, types = [f"[PAD{i}]" for i in range(size)], [UNUSED] * size
    for token, i in tokenizer.hub.get_vocab(with_added_tokens=True).items():
        tokens[i], types[i] = token, NORMAL
    for token in told["added_tokens"]:
        types[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    if model["type"] == "BPE" and (parting := parting_of(tokenizer.hub)) is not None:
        pre = next(name for name, known in PARTINGS.items() if known == parting)
        merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
        fields: dict[str, Any] = {"model": "gpt2", "pre": pre, "merges": merges}
    elif model["type"] == "BPE" and (ready := _spaces(told)) is not None and model["byte_fallback"]:
        fields = {"model": "llama", "pre": "default", "scores": _scores(model, tokens), **ready}
        types = _with_bytes(types, tokens, model["unk_token"])
    elif model["type"] == "Unigram" and (ready := _spaces(told)) is not None:
        scores = [score for _, score in model["vocab"]] + [0.0] * (size - len(model["vocab"]))
        types = _with_bytes(types, tokens, tokens[model["unk_id"]])
        fields = {"model": "t5", "pre": "default", "scores": [0.0 if s <= NEVER else s for s in scores], **ready}
    elif model["type"] == "WordPiece" and (ready := _case(told)) is not None:
        tokens = [_as_phantom(token, kind) for token, kind in zip(tokens, types, strict=True)]
        fields = {"model": "bert", "pre": "default", "token_type_count": 2, **ready}
    else:
        raise UserError(
            f"GGUF has no kind of vocabulary that gives this tokenizer's ids ({model['type']}, parted by "
            f"{(told['pre_tokenizer'] or {}).get('type')}); export the model as a Hugging Face folder"
        )
    fields |= {"tokens": tokens, "token_type": types, **_special_ids(tokenizer)}
    written = {_GGML + name: value for name, value in fields.items()}
    return written | ({"tokenizer.chat_template": tokenizer.chat_template} if tokenizer.chat_template else {})


def _special_ids(tokenizer: Tokenizer) -> dict[str, Any]:
    v, settings = tokenizer.vocabulary, tokenizer.settings
    ids: dict[str, int | None] = {"bos": v.bos, "eos": v.eos, "unk": v.unk, "pad": v.pad}
    for name in ("sep", "cls", "mask"):
        ids[name] = tokenizer.hub.token_to_id(written(settings.get(f"{name}_token")) or "")
    ids |= {name: None for name, other in (("bos", "cls"), ("eos", "sep")) if ids[name] == ids[other]}
    fields: dict[str, Any] = {f"{_IDS[name]}_token_id": i for name, i in ids.items() if i is not None}
    if (ends := end_ids(tokenizer)) and ends[0] != ids["eos"]:  # by which the chat template ends an answer
        fields["eot_token_id"] = ends[0]
    if ids["cls"] is None:  # what is generated from has no </s> behind it, though documents end with one
        fields |= {"add_bos_token": tokenizer.adds_bos, "add_eos_token": tokenizer.kind == "loaded" and tokenizer.adds_eos}
    return fields


def _with_bytes(types: list[int], tokens: list[str], unk: str | None) -> list[int]:
    names = {f"<0x{byte:02X}>" for byte in range(256)}
    return [BYTE if token in names else UNKNOWN if token == unk else kind for token, kind in zip(tokens, types, strict=True)]


def _scores(model: dict[str, Any], tokens: list[str]) -> list[float]:
    """Scores by which the pairs are merged in the order of their ranks."""
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(model["merges"]):
        ranks.setdefault("".join(pair) if isinstance(pair, list) else pair.replace(" ", "", 1), rank)
    return [-float(ranks.get(token, len(ranks))) for token in tokens]


def _spaces(told: dict[str, Any]) -> dict[str, Any] | None:
    """What a vocabulary of pieces does to a text before it parts it, in GGUF's words; None where that cannot be said in them."""
    step, before = told["normalizer"] or {}, told["pre_tokenizer"] or {}
    steps = step.get("normalizers", [step] if step else [])
    seen = [_written_step(step) for step in steps]
    if [part["pattern"].get("Regex", "")[: len(GUARD)] for part in before.get("pretokenizers", []) if part["type"] == "Split"] == [GUARD]:
        before = {}  # it keeps texts from being taken for special tokens, as GGUF's programs do anyway
    if before and before["type"] != "Metaspace":
        return None
    ready = {"add_space_prefix": "prefix" in seen or before.get("prepend_scheme", "never") != "never"}
    ready["remove_extra_whitespaces"] = "squeeze" in seen
    known = [name for name in ("compose", "charsmap", "trim", "squeeze", "prefix", "escape") if name in seen]
    if seen != known or ("escape" in seen) == bool(before) or ("trim" in seen) != ("squeeze" in seen):
        return None
    table = next((step["precompiled_charsmap"] for step in steps if step["type"] == "Precompiled"), None)
    return ready | ({"precompiled_charsmap": base64.b64decode(table)} if table else {})


def _written_step(step: dict[str, Any]) -> str:
    """A step of normalisation by the part that it plays."""
    plain = {"NFC": "compose", "Precompiled": "charsmap"}
    if step["type"] != "Replace":
        return "prefix" if step == {"type": "Prepend", "prepend": _SPACE} else plain.get(step["type"], "other")
    pattern = step["pattern"].get("Regex") or step["pattern"].get("String")
    return {(TRIM, ""): "trim", (RUNS, " "): "squeeze", (" ", _SPACE): "escape"}.get((pattern, step["content"]), "other")


def _case(told: dict[str, Any]) -> dict[str, Any] | None:
    """Whether WordPiece lowers case and strips accents; None where it prepares a text in another way than BERT."""
    normalizer, before = told["normalizer"] or {}, told["pre_tokenizer"] or {}
    parts = (normalizer.get("type"), before.get("type"), told["model"]["continuing_subword_prefix"])
    if parts != ("BertNormalizer", "BertPreTokenizer", "##") or not normalizer["handle_chinese_chars"]:
        return None
    lower, accents = normalizer["lowercase"], normalizer["strip_accents"]
    return {"normalizer.lowercase": lower, "normalizer.strip_accents": lower if accents is None else accents}


def _as_phantom(token: str, kind: int) -> str:
    """A token of WordPiece as GGUF has it: what begins a word has a space before it, what goes on one has not."""
    if kind in (CONTROL, UNUSED) or (token.startswith("[") and token.endswith("]")):
        return token
    return token.removeprefix("##") if token.startswith("##") and len(token) > 2 else _SPACE + token
