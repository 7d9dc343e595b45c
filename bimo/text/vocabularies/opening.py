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
from bimo.text.vocabularies.added import add_tokens, tokens_around, without_ends
from bimo.text.vocabularies.bert import bert, read_bert
from bimo.text.vocabularies.building import build, rebuild
from bimo.text.vocabularies.classes import FORCED, TokenizerClass, find_class, flag_ends
from bimo.text.vocabularies.gpt2 import gpt2, read_gpt2
from bimo.text.vocabularies.pieces import CONTROL, USER_DEFINED, checked_ids, merges_by_place
from bimo.text.vocabularies.sentencepiece import read_pieces, sentencepiece
from bimo.text.vocabularies.settings import TokenizerSettings, named_tokens, read_settings, with_defaults
from bimo.text.vocabularies.tiktoken import is_tiktoken, tiktoken

Opened = tuple[Any, dict[str, Any], str | None]  # a tokenizer of the tokenizers library, settings, the text of its tokenizer.json
_MOST = 1 << 28  # bytes of a vocabulary file
_FORMS = (
    "tokenizer.json, a .model of SentencePiece, a .tiktoken, vocab.json with merges.txt (or encoder.json with vocab.bpe), "
    "or vocab.txt of BERT"
)


def open_tokenizer(path: Path, pattern: str | None = None) -> Opened:
    """What a folder or a file holds; pattern: how texts are parted, for tiktoken's files, which do not say it."""
    path = Path(path)
    found = _main_file(path)
    where, s = str(found), read_settings(found.parent)
    if found.name == "tokenizer.json" or (found.suffix == ".json" and not _merges_beside(found)):
        return _from_json(found, s)
    data = _read(found)
    merges = None if found.name.startswith("vocab.txt") else _merges_beside(found)
    if merges is None and is_tiktoken(data) and not found.name.startswith("vocab.txt"):
        return *_by_form(lambda: tiktoken(data, pattern, s.values, where), s), None
    kind = find_class(s.declared, s.model_type, None, s.where)
    if kind is not None:
        return *_of_class(kind, found, data, merges, s), None
    if found.name.startswith("vocab.txt"):
        hub, values = _by_form(lambda: bert(_text(data, found), s.values, where), s)
    elif merges:
        hub, values = _by_form(lambda: gpt2(_text(data, found), _text(_read(merges), merges), where), s)
    else:
        hub, values = _by_form(lambda: sentencepiece(data, where), s)
    return hub, values, None


def opens_otherwise(folder: Path, model_type: str) -> bool:
    """Whether transformers builds another tokenizer of a folder that Bimo wrote than its tokenizer.json holds."""
    if model_type not in FORCED:
        return False
    s = read_settings(folder)
    s.values, s.model_type = {key: value for key, value in s.values.items() if key != "bimo_kind"}, model_type
    try:
        return _from_json(folder / "tokenizer.json", s)[2] is None
    except ModelError:
        return True


def _by_form(read: Callable[[], tuple[Any, dict[str, Any]]], s: TokenizerSettings) -> tuple[Any, dict[str, Any]]:
    """A vocabulary whose class nobody names: as its form says, with the special tokens that the settings name or add."""
    hub, given = read()
    values = {name: value for name, value in (given | s.values).items() if name != "bimo_kind"}  # that is of a tokenizer.json beside it
    add_tokens(hub, s.added, named_tokens(values), s.extra, s.added_where)
    if hub.post_processor is None and (ends := flag_ends(values, hub.token_to_id)) is not None:
        hub.post_processor = ends
    return hub, values


def _of_class(kind: TokenizerClass, found: Path, data: bytes, merges: Path | None, s: TokenizerSettings) -> tuple[Any, dict[str, Any]]:
    """What a class makes of its own files; a file that is not of its kind is a `ModelError`."""
    where = str(found)
    if found.name.startswith("vocab.txt") and kind.model == "WordPiece":
        words = read_bert(_text(data, found))
        ids = {word: i for i, word in enumerate(words)}
        if (unk := with_defaults(kind, s.values, s.where)["unk_token"]) not in ids:
            raise ModelError(f"{where}: no token {unk}, which stands for unknown words; this is not a vocabulary of BERT")
        return build(kind, ids, (), b"", s, where)
    if merges is not None and kind.model == "BPE":
        return build(kind, *read_gpt2(_text(data, found), _text(_read(merges), merges), where), b"", s, where)
    if found.name.startswith("vocab.txt") or merges is not None or kind.model == "WordPiece":
        raise ModelError(f"{where}: not a vocabulary of {kind.name}, the class of this folder; the files are not of one model")
    pieces, _ = read_pieces(data, where)
    ids = checked_ids(pieces, where)
    control = [
        {"content": piece, "special": type_ == CONTROL, "normalized": False}
        for piece, type_ in zip(pieces.pieces, pieces.types, strict=True)
        if type_ in (CONTROL, USER_DEFINED)
    ]
    if "extra_special_tokens" not in s.values:
        s.extra = control
    if kind.model == "Unigram":
        return build(kind, list(zip(pieces.pieces, pieces.scores, strict=True)), (), pieces.charsmap, s, where)
    return build(kind, ids, merges_by_place(ids, where), pieces.charsmap, s, where)


def _from_json(path: Path, s: TokenizerSettings) -> Opened:
    import tokenizers

    told = store.read_json(path)  # missing or not JSON: an error that says so
    text = path.read_text(encoding="utf-8")
    ours = "bimo_kind" in s.values
    text = without_ends(text, told) if ours else text
    try:
        with told_panics():
            hub = tokenizers.Tokenizer.from_str(text)
    except ModelError as cause:
        raise ModelError(f"{path}: not a tokenizer ({cause})") from None
    if ours:
        return hub, s.values, text
    kind = find_class(s.declared, s.model_type, text, s.where)
    values = {key: value for key, value in s.values.items() if key not in ("add_bos_token", "add_eos_token")}
    s.values = values  # the post-processor of the file says what is put around a text, as in transformers
    if kind is None:
        changed = add_tokens(hub, s.added, named_tokens(values), s.extra, s.added_where)
    else:
        hub, values, changed = rebuild(kind, hub, told, s, str(path))
    if many := next((ids for ids in tokens_around(hub) if len(ids) > 1), None):
        names = ", ".join(map(str, (hub.id_to_token(i) for i in many)))
        raise ModelError(f"{path}: its post-processor puts {names} at one end of a text, of which Bimo puts one; leave one in it")
    return hub, values, None if changed else text


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
    store.refuse_pointer(path)
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
