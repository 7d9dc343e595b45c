"""Which form a tokenizer's folder or file has, and reading it: `tokenizer.json` first, then the forms of other programs."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bimo.core import store
from bimo.core.errors import ModelError
from bimo.text.runners import told_panics
from bimo.text.template import find_template, put_template
from bimo.text.vocabularies.added import NAMES, add_told, begin_and_end, without_ends, written
from bimo.text.vocabularies.bert import bert
from bimo.text.vocabularies.gpt2 import gpt2
from bimo.text.vocabularies.sentencepiece import sentencepiece
from bimo.text.vocabularies.tiktoken import is_tiktoken, tiktoken

Opened = tuple[Any, dict[str, Any], str | None]  # a tokenizer of the tokenizers library, settings, the text of its tokenizer.json
_MOST = 1 << 28  # bytes of a vocabulary file
_FORMS = (
    "tokenizer.json, a .model of SentencePiece, a .tiktoken, vocab.json with merges.txt (or encoder.json with vocab.bpe), "
    "or vocab.txt of BERT"
)
_BEGIN = ("Llama", "CodeLlama", "Gemma")  # classes of transformers that put <s> before a text unless the settings say otherwise
_END = ("T5", "MT5", "UMT5", "Pegasus")  # and those that put </s> behind it


def open_tokenizer(path: Path, pattern: str | None = None) -> Opened:
    """What a folder or a file holds; pattern: how texts are parted, for tiktoken's files, which do not say it."""
    path = Path(path)
    found = _main_file(path)
    where, folder = str(found), found.parent
    settings = _settings(folder)
    if found.name == "tokenizer.json" or (found.suffix == ".json" and not _merges_beside(found)):
        return _from_json(found, settings)
    data = _read(found)
    if found.name.startswith("vocab.txt"):
        hub, given = bert(_text(data, found), settings, where)
    elif merges := _merges_beside(found):
        hub, given = gpt2(_text(data, found), _text(_read(merges), merges), settings, where)
    elif is_tiktoken(data):
        hub, given = tiktoken(data, pattern, settings, where)
    else:
        hub, given = sentencepiece(data, where)
    settings = {name: value for name, value in (given | settings).items() if name != "bimo_kind"}  # that is of a tokenizer.json beside it
    add_told(hub, settings, str(folder / "tokenizer_config.json"))
    if hub.post_processor is None:
        ends = [_asks(settings, name, classes) for name, classes in (("bos", _BEGIN), ("eos", _END))]
        bos, eos = (token if asked and hub.token_to_id(token or "") is not None else None for token, asked in ends)
        begin_and_end(hub, bos, eos)
    return hub, settings, None


def _asks(settings: dict[str, Any], name: str, classes: tuple[str, ...]) -> tuple[str | None, bool]:
    """The special token called `name`, and whether every text gets it."""
    asked = settings.get(f"add_{name}_token")
    kind = str(settings.get("tokenizer_class", "")).removesuffix("Fast").removesuffix("Tokenizer")
    return written(settings.get(f"{name}_token")), asked if isinstance(asked, bool) else kind in classes


def _from_json(path: Path, settings: dict[str, Any]) -> Opened:
    import tokenizers

    told = store.read_json(path)  # missing or not JSON: an error that says so
    text = path.read_text(encoding="utf-8")
    text = without_ends(text, told) if "bimo_kind" in settings else text
    try:
        with told_panics():
            hub = tokenizers.Tokenizer.from_str(text)
    except Exception as cause:  # the library raises plain Exception
        raise ModelError(f"{path}: not a tokenizer ({cause})") from None
    changed = "bimo_kind" not in settings and add_told(hub, settings, str(path.with_name("tokenizer_config.json")))
    return hub, settings, None if changed else text


def _settings(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, with what special_tokens_map.json and chat_template.jinja add to it."""
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        told = store.read_json(path) if path.is_file() else {}
        if not isinstance(told, dict):
            raise ModelError(f"{path}: expected a mapping of settings, found a {type(told).__name__}; save the model again")
        settings |= {key: value for key, value in told.items() if value is not None or key not in NAMES}
    template = folder / "chat_template.jinja"
    if template.is_file():
        put_template(settings, _text(_read(template), template))
    find_template(settings, str(folder / "tokenizer_config.json"))
    return settings


def _main_file(path: Path) -> Path:
    """The file that holds the vocabulary: `path` itself, or the first in a folder that does."""
    if path.is_file():
        pairs = {"merges.txt": "vocab.json", "vocab.bpe": "encoder.json", "vocab.bpe.gz": "encoder.json.gz"}
        beside = path.with_name(pairs.get(path.name, path.name))
        if not beside.is_file():
            raise ModelError(f"{path}: these are merges; {beside.name}, which belongs to them, is not beside it")
        return beside
    if not path.is_dir():
        raise ModelError(f"{path}: no such file or folder; a tokenizer is {_FORMS}")
    tests: list[Callable[[Path], bool]] = [
        lambda file: file.name == "tokenizer.json",
        lambda file: file.name == "tokenizer.model",
        lambda file: file.suffix == ".model",
        lambda file: file.suffix == ".tiktoken",
        lambda file: _merges_beside(file) is not None,
        lambda file: file.name == "vocab.txt",
    ]
    files = sorted(file for file in path.iterdir() if file.is_file())
    for test in tests:
        found = [file for file in files if test(file)]
        if len(found) > 1:
            raise ModelError(f"{path}: several vocabularies ({', '.join(file.name for file in found)}); name the file itself")
        if found:
            return found[0]
    raise ModelError(f"{path}: no such file as holds a tokenizer: it would be {_FORMS}")


def _merges_beside(vocab: Path) -> Path | None:
    """The merges that belong to a vocabulary of GPT-2's form, or None."""
    names = {"vocab.json": "merges.txt", "encoder.json": "vocab.bpe"}
    wanted = names.get(vocab.name.removesuffix(".gz"))
    if wanted is None:
        return None
    return next((file for name in (wanted, f"{wanted}.gz") if (file := vocab.with_name(name)).is_file()), None)


def _read(path: Path) -> bytes:
    """A file's bytes, unpacked where it is a `.gz`, within bounds."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as cause:
        raise ModelError(f"{path}: cannot be read ({cause})") from None
    if len(data) > _MOST:
        raise ModelError(f"{path}: more than {_MOST >> 20} MiB, which no vocabulary has")
    return data


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise ModelError(f"{path}: not UTF-8 at byte {cause.start}; the file is damaged or another kind of file") from None
