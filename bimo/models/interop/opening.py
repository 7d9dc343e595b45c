"""Models that are single files: GGUF and ARPA, opened as a model and its tokenizer, and written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bimo.core import store
from bimo.core.errors import ModelError, UserError
from bimo.models.base import Kind, LanguageModel, model_of
from bimo.models.folders import FILES, refuse_no_model
from bimo.models.interop.generation import read_sampling, write_sampling
from bimo.text.tokenizer import Tokenizer

_POOLING_TYPE, _POOLINGS = ".pooling_type", {"mean": 1, "first": 2, "last": 3}  # llama.cpp's numbers
_ENDS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")  # ends of a turn and of a message, beside the text's


@dataclass(frozen=True)
class Opened:
    """What a file holds. pooling: how a text's vector is made, where it says so; ends, generation: see `Bundle`."""

    model: LanguageModel
    tokenizer: Tokenizer
    pooling: str | None = None
    ends: tuple[int, ...] = ()
    generation: dict[str, Any] = field(default_factory=dict)


def open_file(path: Path) -> Opened:
    """The model and the tokenizer that a `.gguf`, `.arpa` or `.arpa.gz` file holds."""
    refuse_no_model(path)
    return next(read for ending, read in _READERS.items() if path.name.lower().endswith(ending))(path)


def writes(path: Path) -> bool:
    """Whether a path names a single file that a model can be written to."""
    return any(path.name.lower().endswith(ending) for ending in _WRITERS)


def refuse_ending(out: str | Path) -> None:
    """Raise `UserError` where a name ends as a file's does that no model can be written to (`model.onnx`).

    What stands behind the dot of a folder's name is a number (`smollm2-0.1.2`, `Qwen2.5-0.5B`); otherwise the name needs a slash behind it.
    """
    path = Path(out)
    if re.fullmatch(r"\.[A-Za-z]\w*", path.suffix) and not (writes(path) or path.is_dir() or str(out).endswith(("/", os.sep))):
        raise UserError(
            f"{out}: no model is written to a {path.suffix} file; name one that ends with {', '.join(_WRITERS)}, "
            f"or a folder (a dot in its name needs a slash behind it: {path}/)"
        )


def refuse_target(out: str | Path) -> None:
    """Raise `UserError` where no model can be written: something stands there, or its ending is of a file that is not written."""
    refuse_ending(out)
    path = Path(out)
    if writes(path):
        if path.is_dir() or (path.exists() and not store.is_special(path)):
            raise UserError(f"{path}: exists already; choose another name")
        return
    store.refuse_non_folder(path)
    if path.is_dir() and any(path.iterdir()):
        raise UserError(f"{path}: exists already; choose another name")


def write_file(path: Path, held: Opened, dtype: str | None = None) -> list[str]:
    """Write a model and its tokenizer to a `.gguf` or `.arpa` file; returns notes on what is not as asked."""
    ending = next(ending for ending in _WRITERS if path.name.lower().endswith(ending))
    return _WRITERS[ending](path, held, dtype)


def _read_gguf(path: Path) -> Opened:
    from bimo.models.interop.gguf import read_gguf
    from bimo.text.vocabularies.gguf import end_ids_of, tokenizer_of

    found = read_gguf(path)
    try:
        hub, settings = tokenizer_of(found.vocabulary, str(path))
        ends = end_ids_of(found.vocabulary)
    except ModelError as cause:
        raise ModelError(f"{path}: {cause}") from None
    told = next((value for key, value in found.vocabulary.items() if key.endswith(_POOLING_TYPE)), None)
    pooling = next((name for name, number in _POOLINGS.items() if number == told), f"pooling_type {told}" if told else None)
    model = model_of(found.config, found.tensors, str(path))
    return Opened(model, Tokenizer(hub, "loaded", settings), pooling, ends, read_sampling(found.vocabulary, str(path)))


def _write_gguf(path: Path, held: Opened, dtype: str | None) -> list[str]:
    from bimo.models.interop.gguf import write_gguf
    from bimo.text.vocabularies.gguf import fields_of

    model = held.model
    fields = {**fields_of(held.tokenizer, model.vocab_size), **write_sampling(held.generation)}
    if model.kind is Kind.PSEUDO and held.pooling in _POOLINGS:
        fields[f"{model.config_dict()['model_type']}{_POOLING_TYPE}"] = _POOLINGS[held.pooling]
    further = [i for i in held.ends if i != fields.get("tokenizer.ggml.eos_token_id", model.vocabulary.eos)]
    fields |= dict(zip(_ENDS, further, strict=False))
    notes = write_gguf(path, model.config_dict(), model.tensors(), fields, dtype or "f16")
    left = further[len(_ENDS) :]
    return [*notes, f"GGUF has places for three ends of a text; {left} end none there unless their names say so"] if left else notes


def _read_arpa(path: Path) -> Opened:
    from bimo.models.interop.arpa import read_arpa

    model, words = read_arpa(path)
    return Opened(model, Tokenizer.of_words(words))


def _write_arpa(path: Path, held: Opened, dtype: str | None) -> list[str]:
    from bimo.models.interop.arpa import write_arpa
    from bimo.models.ngram import NGram

    model, tokenizer = held.model, held.tokenizer
    if not isinstance(model, NGram):
        raise UserError(f"{path}: ARPA holds n-grams, and this model is none; write it to a folder or to a .gguf file")
    if dtype is not None:
        raise UserError(f"dtype: ARPA holds decimal numbers alone; leave {dtype} out")
    write_arpa(model, [tokenizer.written(i) for i in range(tokenizer.vocabulary.size)], path)
    return []


_READERS: dict[str, Callable[[Path], Opened]] = dict(zip(FILES, (_read_gguf, _read_arpa, _read_arpa), strict=True))
_WRITERS: dict[str, Callable[[Path, Opened, str | None], list[str]]] = {
    ".gguf": _write_gguf,
    ".arpa": _write_arpa,
    ".arpa.gz": _write_arpa,
}
