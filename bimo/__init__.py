"""Bimo (笔墨): every family of language model, prepared, trained, compared and served in the same way.

    >>> import bimo
    >>> "lstm" in bimo.families()
    True

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Waiting threads sleep instead of spinning, unless the user says otherwise: as fast on an idle machine, and on a busy one
# several times faster in the trials made (docs/lab-notes.md). It must be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from bimo.api import (
        chat,
        compare,
        convert,
        env,
        evaluate,
        explain,
        families,
        fill,
        finetune,
        generate,
        info,
        interpolate,
        load,
        plan,
        prepare,
        resume,
        train,
    )  # fmt: skip
    from bimo.core.errors import BimoError, UserError
    from bimo.model import Model

__all__ = [
    "BimoError",
    "Model",
    "UserError",
    "chat",
    "compare",
    "convert",
    "env",
    "evaluate",
    "explain",
    "families",
    "fill",
    "finetune",
    "generate",
    "info",
    "interpolate",
    "load",
    "plan",
    "prepare",
    "resume",
    "train",
]

_ELSEWHERE = {"BimoError": "bimo.core.errors", "UserError": "bimo.core.errors", "Model": "bimo.model"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'bimo' has no attribute {name!r}; it has {', '.join(__all__)}")
    import importlib

    value = getattr(importlib.import_module(_ELSEWHERE.get(name, "bimo.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
