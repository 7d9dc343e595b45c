"""How a text's vector is made of its tokens' states, said in a folder as the sentence-transformers library says it."""

from __future__ import annotations

from pathlib import Path

from bimo.core import store

CONFIG, MODULES = Path("1_Pooling") / "config.json", "modules.json"
_SAID = {"mean": "pooling_mode_mean_tokens", "first": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
_KINDS = (("", "Transformer"), (str(CONFIG.parent), "Pooling"))  # its modules: where each lies, and what it is


def read_pooling(folder: Path) -> str | None:
    """mean, first or last, as the folder says; its own words where they mean another; None where it says nothing."""
    path = folder / CONFIG
    told = store.read_json(path) if path.is_file() else {}
    flags = told.items() if isinstance(told, dict) else ()
    asked = sorted(name for name, value in flags if name.startswith("pooling_mode_") and value is True)
    known = {said: name for name, said in _SAID.items()}
    return known.get(asked[0], asked[0]) if len(asked) == 1 else ", ".join(asked) or None


def write_pooling(folder: Path, pooling: str, width: int | None) -> None:
    """Say in the folder of a model of that width, if it is known, how its vectors are made."""
    asked = [_SAID.get(name, name) for name in pooling.split(", ")]
    said = {} if width is None else {"word_embedding_dimension": width}
    store.write_json(folder / CONFIG, {**said, **{name: name in asked for name in dict.fromkeys((*_SAID.values(), *asked))}})
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"} for i, (path, kind) in enumerate(_KINDS)
    ]
    store.write_json(folder / MODULES, modules)
