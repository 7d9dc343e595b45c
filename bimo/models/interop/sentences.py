"""How a text's vector is made of its tokens' states, said in a folder as the sentence-transformers library says it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bimo.core import store

CONFIG, MODULES = Path("1_Pooling") / "config.json", "modules.json"
_TEXTS, _PROMPTS = "sentence_bert_config.json", "config_sentence_transformers.json"
_SAID = {"mean": "pooling_mode_mean_tokens", "first": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
_KINDS = (("", "Transformer"), (str(CONFIG.parent), "Pooling"), ("2_Normalize", "Normalize"))  # where each module lies, its class
_BESIDE = "bimo_beside"  # what else makes a vector and is not supported, kept where a model is saved again


def read_pooling(folder: Path) -> str | None:
    """mean, first or last, as the folder says; its own words where they mean another, or more than that; None where it says nothing.

    More are: a module after the pooling (a `Dense` layer), texts made lower case, and a prompt before each text.
    """
    settings = _settings(folder / CONFIG)
    modes = sorted(name for name, value in settings.items() if name.startswith("pooling_mode_") and value is True)
    known = {said: name for name, said in _SAID.items()}
    pooling = known.get(modes[0], modes[0]) if len(modes) == 1 else ", ".join(modes)
    beside = [*map(str, settings.get(_BESIDE) or []), *_beside(folder)]
    return ", ".join([pooling or "mean", *beside]) if beside else pooling or None


def normalises(folder: Path) -> bool:
    """Whether the folder's vectors have length 1."""
    return "Normalize" in _modules(folder)


def write_pooling(folder: Path, pooling: str, width: int | None, unit: bool = False) -> None:
    """Say in the folder of a model of that width, if it is known, how its vectors are made; unit: they have length 1."""
    asked = [_SAID.get(name, name) for name in pooling.split(", ")]
    flags, beside = ([name for name in asked if name.startswith("pooling_mode_") is is_flag] for is_flag in (True, False))
    said: dict[str, Any] = {} if width is None else {"word_embedding_dimension": width}
    said |= {name: name in flags for name in dict.fromkeys((*_SAID.values(), *flags))} | ({_BESIDE: beside} if beside else {})
    store.write_json(folder / CONFIG, said)
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(_KINDS if unit else _KINDS[:2])
    ]
    store.write_json(folder / MODULES, modules)


def _beside(folder: Path) -> Iterator[str]:
    """What else the folder says of a text's vector."""
    known = [kind for _, kind in _KINDS]
    yield from (f"a module {kind}" for kind in _modules(folder) if kind not in known)
    if _settings(folder / _TEXTS).get("do_lower_case") is True:
        yield "texts in lower case (do_lower_case)"
    settings = _settings(folder / _PROMPTS)
    prompts, name = settings.get("prompts"), settings.get("default_prompt_name")
    if isinstance(prompts, dict) and isinstance(name, str) and prompts.get(name):
        yield f"a prompt {prompts[name]!r} before each text"


def _modules(folder: Path) -> list[str]:
    read: Any = store.read_json(folder / MODULES) if (folder / MODULES).is_file() else []
    listed = [module.get("type") for module in read if isinstance(module, dict)] if isinstance(read, list) else []
    return [kind.rpartition(".")[2] for kind in listed if isinstance(kind, str)]


def _settings(path: Path) -> dict[str, Any]:
    values: Any = store.read_json(path) if path.is_file() else {}
    return values if isinstance(values, dict) else {}
