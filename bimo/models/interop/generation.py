"""What a model's makers say of generating text with it: `generation_config.json`, or the `general.sampling.*` keys of a GGUF file.

Ids that end a text, and defaults of `bimo.generation.config.GenerationConfig` under its names. What it has no option for is warned of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bimo.models.interop.settings import Settings

FILE = "generation_config.json"


def _number(least: float, most: float = math.inf, above: bool = False) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        return type(value) in (int, float) and (least < value if above else least <= value) and value <= most and value < math.inf

    return fits


def _count(least: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= least


def _ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(run, list) and run and all(map(_count(0), run)) for run in value)


def _texts(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(text, str) and text for text in value))


# The options that say how a token is drawn, in the order in which they are shown.
DRAWING = ("temperature", "top_k", "top_p", "min_p", "typical_p")
_OPTIONS: dict[str, Callable[[Any], bool]] = {  # options that Bimo has under the same name, and their values
    "temperature": _number(0), "top_k": _count(0), "top_p": _number(0, 1), "min_p": _number(0, 1), "typical_p": _number(0, 1, above=True),
    "repetition_penalty": _number(0, above=True), "no_repeat_ngram_size": _count(0), "bad_words_ids": _ids,
    "num_beams": _count(1), "length_penalty": _number(-math.inf), "early_stopping": lambda value: value in (True, False, "never"),
    "max_new_tokens": _count(1), "min_new_tokens": _count(0),
}  # fmt: skip
_NEUTRAL: dict[str, Any] = {  # values by which an option that Bimo lacks changes nothing
    "min_length": 0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "encoder_repetition_penalty": 1.0, "diversity_penalty": 0.0,
    "num_beam_groups": 1, "guidance_scale": 1.0, "penalty_alpha": 0.0,
}  # fmt: skip
NO_EFFECT: dict[str, Sequence[str]] = {
    "about the file": ("transformers_version", "_from_model_config"),
    "the tokenizer and config.json say it": ("bos_token_id", "pad_token_id", "decoder_start_token_id"),
    "max_new_tokens counts what is written; Bimo has no limit of prompt and text together": ("max_length", "max_cache_len"),
    "what a call returns": (
        "num_return_sequences", "return_dict_in_generate", "output_attentions", "output_hidden_states", "output_scores", "output_logits",
    ),
    "how transformers runs a model, which ends in the same text": (
        "use_cache", "cache_implementation", "cache_config", "return_legacy_cache", "low_memory", "prefill_chunk_size", "compile_config",
        "disable_compile", "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold",
        "prompt_lookup_num_tokens", "max_matching_ngram_size", "assistant_early_exit", "assistant_lookbehind", "target_lookbehind",
        "use_mtp", "speculation_type", "continuous_batching_config", "remove_invalid_values",
    ),
    "for encoder–decoders": ("encoder_no_repeat_ngram_size",),
}  # fmt: skip


def ids_of(value: Any, size: int) -> list[int]:
    """The ids below `size` that a setting names: one, several, or none."""
    return [i for i in (value if isinstance(value, list) else [value]) if type(i) is int and 0 <= i < size]


def read_options(settings: Settings, suppressed: Sequence[int] = ()) -> dict[str, Any]:
    """The defaults that a `generation_config.json` holds, under our names; suppressed: ids that the model itself never writes.

    >>> read_options(Settings({"do_sample": True, "temperature": 0.6, "stop_strings": ["\\n\\n"]}, FILE))
    {'temperature': 0.6, 'stop': ['\\n\\n']}
    """
    found: dict[str, Any] = {}
    for key, fits in _OPTIONS.items():
        if _fits(settings, key, fits):
            found[key] = settings[key]
    for key, value in _NEUTRAL.items():
        _fits(settings, key, lambda given, value=value: given == value)
    if _fits(settings, "stop_strings", _texts):
        found["stop"] = [stop] if isinstance(stop := settings["stop_strings"], str) else stop
    if _fits(settings, "suppress_tokens", lambda ids: isinstance(ids, list) and all(map(_count(0), ids))):
        runs = [[i] for i in settings["suppress_tokens"] if i not in suppressed]
        found |= {"bad_words_ids": [*found.get("bad_words_ids", []), *runs]} if runs else {}
    if settings.get("do_sample") is False:  # greedy, or beams, whatever is said of drawing
        found = {"temperature": 0.0, **{key: value for key, value in found.items() if key not in DRAWING}}
    settings.get("eos_token_id")
    settings.left(NO_EFFECT)
    return found


def _fits(settings: Settings, key: str, fits: Callable[[Any], bool]) -> bool:
    """Whether `key` is there with a value that can be followed; any other but null is left to be warned of."""
    value = settings.get(key)
    if value is not None and not fits(value):
        settings.forget(key)
    return value is not None and fits(value)


def write_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults under transformers' names, as `generation_config.json` holds them.

    >>> write_options({"temperature": 0.6, "stop": ["."]})
    {'do_sample': True, 'temperature': 0.6, 'stop_strings': ['.']}
    """
    found = dict(options)
    stop = {"stop_strings": found.pop("stop")} if "stop" in found else {}
    if found.get("temperature") == 0:
        return {"do_sample": False, **{key: value for key, value in found.items() if key not in DRAWING}, **stop}
    return {**({"do_sample": True} if any(key in found for key in DRAWING) else {}), **found, **stop}


_GGUF = {"temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p", "penalty_repeat": "repetition_penalty"}
_SAMPLING = "general.sampling."
_GGUF_NO_EFFECT = {"of the order and the ways that llama.cpp has alone, where they are switched off": (_SAMPLING + "mirostat_tau",
    _SAMPLING + "mirostat_eta", _SAMPLING + "xtc_threshold")}  # fmt: skip


def read_sampling(facts: Mapping[str, Any], file: str) -> dict[str, Any]:
    """The defaults that the `general.sampling.*` keys of a GGUF file hold.

    >>> read_sampling({"general.sampling.temp": 0.5}, "a.gguf")
    {'temperature': 0.5}
    """
    settings = Settings({key: value for key, value in facts.items() if key.startswith(_SAMPLING)}, file)
    found = {ours: settings[_SAMPLING + name] for name, ours in _GGUF.items() if _fits(settings, _SAMPLING + name, _OPTIONS[ours])}
    settings.left(_GGUF_NO_EFFECT)
    return found


def write_sampling(options: Mapping[str, Any]) -> dict[str, Any]:
    """The `general.sampling.*` keys of defaults, as far as GGUF has them."""
    return {_SAMPLING + name: options[ours] for name, ours in _GGUF.items() if ours in options}
