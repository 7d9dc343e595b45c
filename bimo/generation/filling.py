"""Gaps in a text: what a masked model puts there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

import torch

from bimo.core.errors import CapabilityError, UserError
from bimo.models.base import check_numbers
from bimo.models.bundle import Bundle
from bimo.models.masked import Fills
from bimo.text.special_ids import special_ids
from bimo.text.tokenizer import Tokenizer
from bimo.text.words import is_tight

_GAP = re.compile(r"<mask>|\[MASK\]")
_SPACE_IN_TOKEN = ("bpe", "unigram", "loaded")  # kinds whose words hold the space before them


@dataclass(frozen=True)
class Candidate:
    """What may stand in a gap. probability: under the model; text: the whole text with it in place, other gaps left open."""

    token: str
    id: int
    probability: float
    text: str


def fill_text(bundle: Bundle, text: str, top_k: int = 5) -> list[list[Candidate]]:
    """For each gap of `text`, in order, its `top_k` likeliest tokens, the likeliest first.

    A gap is written `<mask>` or `[MASK]` and holds one token: a character, a word or a piece of one, as the model's tokenizer has them.
    The text is read as a document; all gaps are open while each is told. Raises `UserError` where there is no gap, `CapabilityError`
    for a model that fills none, `ContextError` for a text that is too long.
    """
    if "fill" not in bundle.model.capabilities:
        raise CapabilityError(
            "this model fills no gaps: it reads from left to right, or has no head for hidden tokens; train a masked model"
        )
    if not _GAP.search(text):
        raise UserError("fill: the text has no gap; write <mask> or [MASK] where a token is to be found")
    if top_k < 1:
        raise UserError(f"top_k: must be 1 or more, found {top_k}")
    model, special = cast(Fills, bundle.model), special_ids(bundle.tokenizer)
    mask_id = special.get("mask") if model.mask_id is None else model.mask_id
    if mask_id is None:
        raise CapabilityError("config.json: no mask_token_id, and tokenizer_config.json names no mask_token; write one of them there")
    pieces, gaps = _GAP.split(text), _GAP.findall(text)
    ids, places = _ids(bundle, pieces, mask_id, special)
    logits = model.fill(torch.tensor([ids], device=bundle.model.device))[0, places].double()
    check_numbers(bundle.model, logits, "logits")
    probabilities = logits.softmax(-1)
    unseen = [i for name, i in special.items() if name != "unk"] + list(bundle.model.vocabulary.suppressed)
    probabilities[:, unseen] = -1.0  # they print nothing
    top_k = min(top_k, probabilities.shape[1] - len(set(unseen)))
    values, found = probabilities.topk(top_k, dim=-1)
    return [
        [_candidate(bundle.tokenizer, pieces, gaps, gap, int(i), float(p)) for p, i in zip(values[gap], found[gap], strict=True)]
        for gap in range(len(gaps))
    ]


def _ids(bundle: Bundle, pieces: list[str], mask_id: int, special: dict[str, int]) -> tuple[list[int], list[int]]:
    """The ids of a document whose pieces are parted by gaps, and the places of the gaps."""
    begin, end = special.get("bos", special.get("cls")), special.get("eos", special.get("sep"))
    ids = [] if begin is None else [begin]
    places = []
    for number, piece in enumerate(pieces):
        if number:
            places.append(len(ids))
            ids.append(mask_id)
        if number < len(pieces) - 1 and bundle.tokenizer.kind in _SPACE_IN_TOKEN:
            piece = piece.removesuffix(" ")
        for line, text in enumerate(piece.split("\n") if bundle.stream and end is not None else [piece]):
            ids += [end] if line and end is not None else []
            ids += bundle.tokenizer.encode(text)
    return ids if end is None else [*ids, end], places


def _candidate(tokenizer: Tokenizer, pieces: list[str], gaps: list[str], gap: int, token: int, probability: float) -> Candidate:
    look = tokenizer.stream_decoder(after=[token]).push(token) or tokenizer.decode([token])  # a part of a character: U+FFFD
    parts = [_put(tokenizer.kind, pieces[0], look) if gap == 0 else pieces[0] + gaps[0]]
    for number, piece in enumerate(pieces[1:], 1):
        parts.append(piece if number == len(gaps) else _put(tokenizer.kind, piece, look) if number == gap else piece + gaps[number])
    return Candidate(look.strip() or look, token, probability, "".join(parts))


def _put(kind: str, before: str, look: str) -> str:
    """The text before a gap and what was put into it, spaced as the tokenizer means it. look: the token's text after another token.

    >>> _put("bpe", "the ", " cat"), _put("bpe", "the cat ", "s"), _put("wordpiece", "我是", " 猫"), _put("char", "a ", "b")
    ('the cat', 'the cats', '我是猫', 'a b')
    """
    if kind in ("byte", "char"):
        return before + look
    closed = before.removesuffix(" ")
    if not look.startswith(" "):
        return (before if kind == "word" else closed) + look
    touching = before == closed and (not before or (is_tight(before[-1]) and is_tight(look[1:2])))
    if kind in ("word", "wordpiece") or touching:
        return before + look[1:]
    return closed + look
