"""SentencePiece's `.model` files (Kudo & Richardson 2018): a protocol buffer of pieces, and how text is made ready for them."""

from __future__ import annotations

from typing import Any, cast

from bimo.core.errors import ModelError
from bimo.text.vocabularies.pieces import BYTE, CONTROL, NORMAL, Pieces, pieces_hub
from bimo.text.vocabularies.protobuf import BYTES, FIXED32, VARINT, Value, message

# Field numbers of sentencepiece_model.proto.
_MODEL = {1: ("pieces", BYTES), 2: ("trainer_spec", BYTES), 3: ("normalizer_spec", BYTES)}
_PIECE = {1: ("piece", BYTES), 2: ("score", FIXED32), 3: ("type", VARINT)}
_TRAINER = {
    3: ("model_type", VARINT), 24: ("treat_whitespace_as_suffix", VARINT), 35: ("byte_fallback", VARINT),
    45: ("unk_piece", BYTES), 46: ("bos_piece", BYTES), 47: ("eos_piece", BYTES), 48: ("pad_piece", BYTES),
}  # fmt: skip
_NORMALIZER = {
    1: ("name", BYTES), 2: ("precompiled_charsmap", BYTES), 3: ("add_dummy_prefix", VARINT), 4: ("remove_extra_whitespaces", VARINT),
    5: ("escape_whitespaces", VARINT),
}  # fmt: skip
_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_NAMES = {"unk": "<unk>", "bos": "<s>", "eos": "</s>", "pad": "<pad>"}


def sentencepiece(data: bytes, where: str) -> tuple[Any, dict[str, Any]]:
    """(tokenizer, settings) of a `.model` file's bytes; ids are those of the package sentencepiece.

    >>> piece = lambda text, kind: b"\\x0a" + bytes([len(text) + 4, 0x0a, len(text)]) + text + bytes([0x18, kind])
    >>> hub, settings = sentencepiece(piece(b"<unk>", 2) + piece(b"<s>", 3) + piece("▁a".encode(), 1) + piece(b"b", 1), "x.model")
    >>> hub.encode("a b").tokens, settings
    (['▁a', '▁', 'b'], {'unk_token': '<unk>', 'bos_token': '<s>'})
    """
    vocabulary, names = read_pieces(data, where)
    return pieces_hub(vocabulary, where), names


def read_pieces(data: bytes, where: str) -> tuple[Pieces, dict[str, Any]]:
    """The pieces that a `.model` file holds, and the special tokens that it names."""
    model = message(data, _MODEL, where)
    if "pieces" not in model:
        raise ModelError(f"{where}: no pieces; this is not a model of SentencePiece")
    pieces, scores, types = [], [], []
    for i, part in enumerate(cast("list[bytes]", model["pieces"])):
        found = message(part, _PIECE, f"{where}: piece {i}")
        pieces.append(_text(found.get("piece", [b""])[-1], f"{where}: piece {i}"))
        scores.append(cast(float, found.get("score", [0.0])[-1]))
        types.append(cast(int, found.get("type", [NORMAL])[-1]))
    bad = next((i for i, kind in enumerate(types) if not NORMAL <= kind <= BYTE), None)
    if bad is not None or not all(map(_is_finite, scores)):
        raise ModelError(f"{where}: a piece of an unknown type, or whose score is no number; the file is damaged")
    trainer = message(_part(model, "trainer_spec"), _TRAINER, f"{where}: trainer_spec")
    normal = message(_part(model, "normalizer_spec"), _NORMALIZER, f"{where}: normalizer_spec")
    kind = _KINDS.get(_number(trainer, "model_type", 1), "unknown")
    if kind not in ("unigram", "bpe"):
        raise ModelError(f"{where}: a SentencePiece model of kind {kind}; unigram and bpe can be read")
    if _number(trainer, "treat_whitespace_as_suffix", 0):
        raise ModelError(f"{where}: treat_whitespace_as_suffix is on, which is not supported")
    vocabulary = Pieces(
        kind, pieces, scores, types, bool(_number(trainer, "byte_fallback", 0)), bool(_number(normal, "add_dummy_prefix", 1)),
        bool(_number(normal, "remove_extra_whitespaces", 1)), bool(_number(normal, "escape_whitespaces", 1)),
        "nfkc" in _text(_part(normal, "name"), f"{where}: normalizer_spec: name"), _part(normal, "precompiled_charsmap"),
    )  # fmt: skip
    return vocabulary, _names(trainer, pieces, types, where)


def _names(trainer: dict[str, list[Value]], pieces: list[str], types: list[int], where: str) -> dict[str, Any]:
    """The special tokens that there are, by name."""
    ids = {piece: i for i, piece in enumerate(pieces)}
    settings = {}
    for name, usual in _NAMES.items():
        piece = _text(trainer.get(f"{name}_piece", [usual.encode()])[-1], f"{where}: trainer_spec: {name}_piece")
        if piece in ids and (types[ids[piece]] == CONTROL or name == "unk"):
            settings[f"{name}_token"] = piece
    return settings


def _part(found: dict[str, list[Value]], name: str) -> bytes:
    return cast(bytes, found.get(name, [b""])[-1])


def _number(found: dict[str, list[Value]], name: str, usual: int) -> int:
    return cast(int, found.get(name, [usual])[-1])


def _text(value: Value, where: str) -> str:
    try:
        return cast(bytes, value).decode("utf-8")
    except UnicodeDecodeError:
        raise ModelError(f"{where}: {value!r} is no UTF-8; the file is damaged") from None


def _is_finite(score: float) -> bool:
    return abs(score) < float("inf")
