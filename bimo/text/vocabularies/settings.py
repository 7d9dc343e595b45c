"""What a folder says of its tokenizer: `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`, `chat_template.jinja`.

They are read as transformers reads them: where `tokenizer_config.json` has `added_tokens_decoder`, the two older files say nothing;
otherwise `special_tokens_map.json` goes before it, and `added_tokens.json` adds tokens with their ids.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bimo.core import store
from bimo.core.errors import BimoWarning, ModelError
from bimo.text.template import find_template, put_template
from bimo.text.vocabularies.added import DECODER, NAMES, added_by_id, written
from bimo.text.vocabularies.classes import CLASSES, TokenizerClass

CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
_HONOURED = frozenset({
    *NAMES, DECODER, "tokenizer_class", "additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens",
    "chat_template", "add_bos_token", "add_eos_token", "clean_up_tokenization_spaces",
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", "bimo_kind",
    *(name for one in CLASSES.values() for name in one.settings),
})  # fmt: skip
NO_EFFECT: Mapping[str, str] = {  # keys that change no ids here, by reason
    "about the file and its loading": (
        "_commit_hash added_tokens_file auto_map backend chat_template_file device_map files_loaded "
        "from_slow full_tokenizer_file is_fast is_local local_files_only merges_file name_or_path "
        "processor_class slow_tokenizer_class special_tokens_map_file tokenizer_file tokenizer_type "
        "torch_dtype transformers_version use_fast verbose vocab_file vocab_size"
    ),
    "padding, truncation and batches are Bimo's own": (
        "max_len max_length max_model_input_sizes model_input_names model_max_length "
        "pad_to_multiple_of pad_token_type_id padding_side stride truncation_side "
        "truncation_strategy"
    ),
    "no class of transformers 5 reads it": (
        "unk_id clean_text do_basic_tokenize do_tokenize keep_accents legacy_behaviour never_split "
        "remove_space sp_model_kwargs stream wordpieces_prefix"
    ),
    "of images, audio and chats": (
        "audio_tokens chat_control_tokens feature_extractor_type image_processor_type image_tokens "
        "response_schema response_template use_default_system_prompt"
    ),
    "special tokens in a text stay text, broken bytes become U+FFFD": "errors spaces_between_special_tokens split_special_tokens",
}
_NO_EFFECT = frozenset(" ".join(NO_EFFECT.values()).split())
_ONLY: Mapping[str, tuple[Any, ...]] = {  # what would change ids and is not supported
    "init_inputs": ([], None),
    "fast_tokenizer_files": ([], ["tokenizer.json"], None),
    "fix_mistral_regex": (False, None),
    "vocab": (None,), "merges": (None,), "post_processor": (None,), "tokenizer_object": (None,),
}  # fmt: skip


@dataclass
class TokenizerSettings:
    """values: every setting by name; added: the tokens that it adds, by id; where, added_where: the files to name in errors."""

    values: dict[str, Any]
    added: dict[int, Any]
    where: str
    added_where: str = ""
    model_type: str | None = None
    declared: str | None = None  # tokenizer_class
    extra: list[Any] = field(default_factory=list)  # special tokens without a name


def read_settings(folder: Path) -> TokenizerSettings:
    """What the files beside a vocabulary say; raises `ModelError` that names the file and the key which is wrong."""
    where = str(folder / CONFIG)
    config, names = store.read_mapping(folder / CONFIG), store.read_mapping(folder / MAP)
    for key, allowed in _ONLY.items():
        if key in config and config[key] not in allowed:
            raise ModelError(f"{where}: {key} = {str(config[key])[:60]} would change the ids and is not supported; leave it out")
    values = dict(config)
    if not values.get("extra_special_tokens") and "additional_special_tokens" in values:
        values["extra_special_tokens"] = values.pop("additional_special_tokens")
    if DECODER in config:
        added, added_where = added_by_id(config, where), f"{where}: {DECODER}"
        for key, token in names.items():
            if written(token) is not None and written(token) != written(config.get(key)):
                _warn(f"{folder / MAP}: {key} {written(token)!r} is not used, since {CONFIG} has {DECODER}; name it there")
    else:
        values |= {key: value for key, value in names.items() if key not in (DECODER, "tokenizer_class")}
        if isinstance(names.get("extra_special_tokens"), list) and isinstance(config.get("extra_special_tokens"), list):
            values["extra_special_tokens"] = [*config["extra_special_tokens"], *names["extra_special_tokens"]]
        added, added_where = _added(folder / ADDED, values), str(folder / ADDED)
    template = folder / "chat_template.jinja"
    if template.is_file():
        put_template(values, _text(template))
    find_template(values, where)
    for key in unknown_keys(values):
        _warn(f"{where}: {key} = {str(values[key])[:60]} is not known and not used")
    model = store.read_mapping(folder / "config.json")
    said = [values.get("tokenizer_class") or model.get("tokenizer_class"), model.get("model_type")]
    declared, kind = (one if isinstance(one, str) and one else None for one in said)
    for name in NAMES:
        if values.get(name) is not None and written(values[name]) is None:
            raise ModelError(f"{where}: {name} must be a token, found {str(values[name])[:60]}")
    specific = values.get("model_specific_special_tokens")
    if specific is not None and not isinstance(specific, dict):
        raise ModelError(f"{where}: model_specific_special_tokens must be a mapping from names to tokens, found {str(specific)[:60]}")
    extra = _extra(values, where)
    if "extra_special_tokens" in values:  # then the older key says nothing, here and where the settings are saved
        values.pop("additional_special_tokens", None)
    return TokenizerSettings(values, added, where, added_where, kind, declared, extra)


def unknown_keys(values: Mapping[str, Any]) -> list[str]:
    """The keys that are in no table: neither honoured nor known to have no effect on ids.

    >>> unknown_keys({"do_lower_case": True, "padding_side": "left", "image_token": "<image>", "new": 1})
    ['new']
    """
    known = _HONOURED | _NO_EFFECT | _ONLY.keys()
    return sorted(key for key, value in values.items() if key not in known and not _names_token(key, value))


def _names_token(key: str, value: Any) -> bool:
    """Whether a key names a special token that one model alone has (`image_token`), or says that it has none."""
    return key.endswith("_token") and (value is None or written(value) is not None)


def with_defaults(kind: TokenizerClass, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings with what the class means where they say nothing; raises `ModelError` for a value that it cannot take."""
    found = {**kind.special, **kind.settings, **values}
    for name in kind.required:
        if not written(found[name]):
            raise ModelError(f"{where}: {name} must be a token of a {kind.name}, found {found[name]!r}")
    for name, usual in kind.settings.items():
        value, kinds = found[name], (int,) if type(usual) is int else (bool,) if usual is not None else (bool, type(None))
        if name == "legacy" and value is None:
            found[name] = False
        elif type(value) not in kinds or (type(value) is int and value < 0):
            wanted = "a whole number" if type(usual) is int else "true or false"
            raise ModelError(f"{where}: {name} must be {wanted}, found {value!r}")
    return {name: written(value) if name in NAMES else value for name, value in found.items()}


def named_tokens(values: Mapping[str, Any]) -> dict[str, Any]:
    """Every special token that has a name: the seven of transformers, and those that one model alone has."""
    more = {key: value for key, value in values.items() if key not in NAMES and _names_token(key, value)}
    flagged = {key: value for key, value in more.items() if isinstance(value, dict)}
    extra = values.get("extra_special_tokens")
    plain = {key: value for key, value in more.items() if key not in flagged} | (extra if isinstance(extra, dict) else {})
    specific = values.get("model_specific_special_tokens")
    more = flagged | (plain or (specific if isinstance(specific, dict) else {}))  # as in transformers, the first two replace the last
    return {key: value for key, value in {**{name: values.get(name) for name in NAMES}, **more}.items() if written(value)}


def _extra(values: Mapping[str, Any], where: str) -> list[Any]:
    """Special tokens without a name: `extra_special_tokens`, or where there is none `additional_special_tokens`."""
    listed = values["extra_special_tokens"] if "extra_special_tokens" in values else values.get("additional_special_tokens")
    if listed is None or isinstance(listed, dict):  # a mapping: they have names
        return []
    if not isinstance(listed, list) or not all(written(token) is not None for token in listed):
        raise ModelError(f"{where}: extra_special_tokens must be a list of tokens, found {str(listed)[:60]!r}")
    return listed


def _added(path: Path, values: Mapping[str, Any]) -> dict[int, Any]:
    """Tokens and their ids of `added_tokens.json`; those are special that the settings name."""
    told = store.read_mapping(path)
    if bad := [(token, i) for token, i in told.items() if type(i) is not int or not 0 <= i < 2**31 or not token]:
        raise ModelError(f"{path}: {bad[0][0]!r}: {bad[0][1]!r} is no token and its id")
    listed = [*named_tokens(values).values(), *_extra(values, str(path.with_name(CONFIG)))]
    special = {written(token) for token in listed}
    return {i: {"content": token, "special": token in special} for token, i in told.items()}


def _text(path: Path) -> str:
    store.refuse_pointer(path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise ModelError(f"{path}: cannot be read ({cause}); the file is damaged or another kind of file") from None


def _warn(message: str) -> None:
    warnings.warn(message, BimoWarning, stacklevel=2)
