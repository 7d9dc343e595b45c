"""Models that are single files: GGUF and ARPA, opened as a model and its tokenizer, and written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bimo.core.errors import ModelError, UserError
from bimo.models.base import LanguageModel, model_of
from bimo.text.tokenizer import Tokenizer


def open_file(path: Path) -> tuple[LanguageModel, Tokenizer]:
    """The model and the tokenizer that a `.gguf`, `.arpa` or `.arpa.gz` file holds."""
    for ending, read in _READERS.items():
        if path.name.lower().endswith(ending):
            return read(path)
    raise ModelError(f"{path}: not a model; give a model's folder, or a file that ends with {', '.join(_READERS)}")


def writes(path: Path) -> bool:
    """Whether a path names a single file that a model can be written to."""
    return any(path.name.lower().endswith(ending) for ending in _WRITERS)


def write_file(path: Path, model: LanguageModel, tokenizer: Tokenizer, dtype: str | None = None) -> list[str]:
    """Write a model and its tokenizer to a `.gguf` or `.arpa` file; returns notes on what is not as asked."""
    ending = next(ending for ending in _WRITERS if path.name.lower().endswith(ending))
    return _WRITERS[ending](path, model, tokenizer, dtype)


def _read_gguf(path: Path) -> tuple[LanguageModel, Tokenizer]:
    from bimo.models.interop.gguf import read_gguf
    from bimo.text.vocabularies.gguf import tokenizer_of

    found = read_gguf(path)
    try:
        hub, settings = tokenizer_of(found.vocabulary)
    except ModelError as cause:
        raise ModelError(f"{path}: {cause}") from None
    return model_of(found.config, found.tensors, str(path)), Tokenizer(hub, "loaded", settings)


def _write_gguf(path: Path, model: LanguageModel, tokenizer: Tokenizer, dtype: str | None) -> list[str]:
    from bimo.models.interop.gguf import write_gguf
    from bimo.text.vocabularies.gguf import fields_of

    fields = fields_of(tokenizer, model.vocab_size)
    return write_gguf(path, model.config_dict(), model.tensors(), fields, dtype or "f16")


def _read_arpa(path: Path) -> tuple[LanguageModel, Tokenizer]:
    from bimo.models.interop.arpa import read_arpa

    model, words = read_arpa(path)
    return model, Tokenizer.of_words(words)


def _write_arpa(path: Path, model: LanguageModel, tokenizer: Tokenizer, dtype: str | None) -> list[str]:
    from bimo.models.interop.arpa import write_arpa
    from bimo.models.ngram import NGram

    if not isinstance(model, NGram):
        raise UserError(f"{path}: ARPA holds n-grams, and this model is none; write it to a folder or to a .gguf file")
    if dtype is not None:
        raise UserError(f"dtype: ARPA holds decimal numbers alone; leave {dtype} out")
    write_arpa(model, [tokenizer.written(i) for i in range(tokenizer.vocabulary.size)], path)
    return []


_READERS: dict[str, Callable[[Path], tuple[LanguageModel, Tokenizer]]] = {
    ".gguf": _read_gguf,
    ".arpa": _read_arpa,
    ".arpa.gz": _read_arpa,
}
_WRITERS: dict[str, Callable[[Path, LanguageModel, Tokenizer, str | None], list[str]]] = {".gguf": _write_gguf, ".arpa": _write_arpa}
