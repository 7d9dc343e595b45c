"""Vocabularies of pieces with scores, as SentencePiece and GGUF have them: unigram, or BPE by scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bimo.core.errors import ModelError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # types of pieces, numbered alike in both forms
NEVER = -10_000.0  # the score of pieces that plain text must not become (Unigram)
_LONGEST = 256  # characters of a piece, each of which is cut everywhere to find its pairs
_SPACE = "▁"
GUARD = "(?#names of special tokens)"  # begins the pattern that parts what is written like one
TRIM, RUNS = r"\A +| +\z", " {2,}"  # spaces at the ends, and runs of them


@dataclass(frozen=True)
class Pieces:
    """Pieces, their scores and types, and how text is made ready for them.

    model: unigram or bpe; prefix: a space is put before the text; squeeze: spaces at the ends are removed, and runs of them are one;
    charsmap: SentencePiece's compiled table of normalisation, empty for none; compose: it is a table of NFKC, for which the library
    must see composed characters (it reads the table character by character where SentencePiece reads runs).
    """

    model: str
    pieces: Sequence[str]
    scores: Sequence[float]
    types: Sequence[int]
    byte_fallback: bool = False
    prefix: bool = True
    squeeze: bool = True
    escape: bool = True
    compose: bool = False
    charsmap: bytes = field(default=b"", repr=False)


def pieces_hub(p: Pieces, where: str) -> Any:
    """A `tokenizers.Tokenizer` that gives SentencePiece's ids. Control pieces are its special tokens and never match plain text.

    Sources: Kudo 2018 (unigram), Sennrich et al. 2016 (BPE); a pair's rank is its piece's place by score, as SentencePiece merges.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models

    seen = checked_ids(p, where)
    unknown = [i for i, kind in enumerate(p.types) if kind == UNKNOWN]
    if len(unknown) != 1:
        raise ModelError(f"{where}: {len(unknown)} pieces are marked as the unknown one, expected 1; the file is damaged")
    if p.model == "unigram":
        vocab = list(zip(p.pieces, _unigram_scores(p), strict=True))
        hub = Tokenizer(models.Unigram(vocab, unk_id=unknown[0], byte_fallback=p.byte_fallback))
    else:
        unk = p.pieces[unknown[0]]
        hub = Tokenizer(models.BPE(seen, _merges(p, seen, where), unk_token=unk, fuse_unk=True, byte_fallback=p.byte_fallback))
    own = [piece for piece, kind in zip(p.pieces, p.types, strict=True) if kind == USER_DEFINED and _SPACE not in piece]
    parted = p.model == "bpe" and bool(own)
    _make_ready(hub, p, where)
    _part(hub, p, own if parted and (p.prefix or p.squeeze) else [])
    steps: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    hub.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if p.prefix else steps)
    special = [p.pieces[i] for i, kind in enumerate(p.types) if kind in (CONTROL, UNKNOWN)]
    hub.add_special_tokens([AddedToken(piece, normalized=False, special=True) for piece in special])
    if parted and not (p.prefix or p.squeeze):
        hub.add_tokens([AddedToken(piece, normalized=False) for piece in own])
    return hub


def checked_ids(p: Pieces, where: str) -> dict[str, int]:
    """The id of each piece; an empty one, or one that stands twice, is a `ModelError`."""
    seen = {piece: i for i, piece in enumerate(p.pieces)}
    if "" in seen:
        raise ModelError(f"{where}: piece {seen['']} is empty; the file is damaged")
    if len(seen) < len(p.pieces):
        i = next(i for i, piece in enumerate(p.pieces) if seen[piece] != i)
        raise ModelError(f"{where}: pieces {i} and {seen[p.pieces[i]]} are both {p.pieces[i]!r}; the file is damaged")
    return seen


def merges_by_place(ids: dict[str, int], where: str) -> list[tuple[str, str]]:
    """The pairs that make each piece, in the order of the pieces: how transformers reads a SentencePiece file's BPE.

    >>> merges_by_place({"a": 0, "b": 1, "abb": 2, "bb": 3, "ab": 4}, "x")
    [('a', 'bb'), ('ab', 'b'), ('b', 'b'), ('a', 'b')]
    """
    longest = max(map(len, ids), default=0)
    if longest > _LONGEST:
        raise ModelError(f"{where}: a piece has {longest:,} characters, more than {_LONGEST}; the file is damaged")
    order = sorted(ids, key=ids.__getitem__)
    return [(piece[:cut], piece[cut:]) for piece in order for cut in range(1, len(piece)) if piece[:cut] in ids and piece[cut:] in ids]


def _unigram_scores(p: Pieces) -> list[float]:
    """Scores as the lattice weighs them: a piece that the user defined always wins, names of special tokens and bytes never do."""
    best = max((score for score, kind in zip(p.scores, p.types, strict=True) if kind == NORMAL), default=0.0)
    scores = []
    for piece, score, kind in zip(p.pieces, p.scores, p.types, strict=True):
        if kind == USER_DEFINED:
            score = len(piece) * best - 0.1
        elif kind != NORMAL:
            score = NEVER
        scores.append(score)
    return scores


def _merges(p: Pieces, ids: dict[str, int], where: str) -> list[tuple[str, str]]:
    """The pairs that make each piece, best score first."""
    usable = {piece for piece, kind in zip(p.pieces, p.types, strict=True) if kind in (NORMAL, USER_DEFINED)}
    longest = max(map(len, usable), default=0)
    if longest > _LONGEST:
        raise ModelError(f"{where}: a piece has {longest:,} characters, more than {_LONGEST}; the file is damaged")
    order = sorted(usable, key=lambda piece: (-p.scores[ids[piece]], ids[piece]))
    return [
        (piece[:cut], piece[cut:]) for piece in order for cut in range(1, len(piece)) if piece[:cut] in usable and piece[cut:] in usable
    ]


def _make_ready(hub: Any, p: Pieces, where: str) -> None:
    """Set what happens to a text before the model sees it."""
    from tokenizers import Regex, normalizers

    steps: list[Any] = [normalizers.NFC()] if p.charsmap and p.compose else []
    steps += [_charsmap(p.charsmap, where)] if p.charsmap else []
    if p.squeeze:
        steps += [normalizers.Replace(Regex(TRIM), ""), normalizers.Replace(Regex(RUNS), " ")]
    if p.prefix:
        steps.append(normalizers.Prepend(_SPACE if p.escape else " "))
    if p.escape:
        steps.append(normalizers.Replace(" ", _SPACE))
    if steps:
        hub.normalizer = normalizers.Sequence(steps)


def _part(hub: Any, p: Pieces, own: list[str]) -> None:
    """Part texts at the user's own pieces, and inside what is written like a special piece where the model would take it for one."""
    from tokenizers import Regex, pre_tokenizers

    steps: list[Any] = []
    if own:
        hub.model.ignore_merges = True
        steps.append(pre_tokenizers.Split(Regex("|".join(map(re.escape, sorted(own, key=len, reverse=True)))), "isolated"))
    names = [piece for piece, kind in zip(p.pieces, p.types, strict=True) if kind in (UNKNOWN, CONTROL, BYTE, UNUSED) and len(piece) > 1]
    single = {piece for piece, kind in zip(p.pieces, p.types, strict=True) if kind == NORMAL and len(piece) == 1}
    if own or (p.model == "unigram" and not single.issuperset("".join(names))):  # what is unknown is worth even less than a name
        rests: dict[str, list[str]] = {}
        for name in names:  # cut beside a character that is known: unknown ones in a row are one token
            cut = next((i for i in range(1, len(name)) if {name[i - 1], name[i]} & single), 1)
            rests.setdefault(name[:cut], []).append(re.escape(name[cut:]))
        cuts = "|".join(f"{re.escape(begin)}(?={'|'.join(found)})" for begin, found in rests.items())
        steps.append(pre_tokenizers.Split(Regex(GUARD + cuts), "isolated"))
    if steps:
        hub.pre_tokenizer = pre_tokenizers.Sequence(steps)


def _charsmap(table: bytes, where: str) -> Any:
    from tokenizers import normalizers

    try:
        return normalizers.Precompiled(table)
    except Exception as cause:  # the library raises plain Exception
        raise ModelError(f"{where}: its table of normalisation cannot be read ({cause}); the file is damaged") from None
