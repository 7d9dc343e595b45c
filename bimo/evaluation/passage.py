"""One held-out passage, the same for every model of a comparison, and how much each piece of it surprises a model.

A piece is a token; tokens that only together make a character (bytes of a Chinese one, say) are one piece, so that none is shown broken.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bimo.data.corpus import Corpus
from bimo.data.split import Split
from bimo.evaluation import display
from bimo.evaluation.results import Passage
from bimo.models.base import Kind
from bimo.models.bundle import Bundle
from bimo.models.scoring import token_nats
from bimo.text.runners import UNK
from bimo.text.words import is_tight

_COLUMNS, _PIECES = 200, 120  # of a passage, at most: a few dozen words
_BEFORE = 90  # columns of what stands before it, as it is shown
_DOCUMENTS, _TOKENS = 64, 4000  # that are looked through for prose, at most
_PROSE = 0.85  # of the visible characters are letters: good enough to look no further
_SENTENCE_ENDS = tuple(".!?。！？…”」』")


@dataclass(frozen=True)
class Piece:
    """Whole characters, and the tokens start … stop-1 of the split that make them; "" at a document's end."""

    text: str
    start: int
    stop: int
    document: int


@dataclass(frozen=True)
class Place:
    """Where the passage stands: pieces of a split, end to end but for each document's first token, which is never scored."""

    split: str
    pieces: tuple[Piece, ...]


def choose(corpus: Corpus) -> Place | None:
    """The first prose of the test text (validation text, if there is no test), the same for every model; None where none is held out.

    It begins with a line or a document, ends with a sentence or a word, and goes on over short documents; of pairs it is one text.
    """
    for name in ("test", "valid"):
        split = corpus.splits.get(name)
        if split is None or not split.scored_tokens or split.answers is not None:  # of conversations answers alone are scored
            continue
        best: tuple[float, list[Piece]] = (-math.inf, [])
        for document in np.flatnonzero(split.starts[:_DOCUMENTS] < _TOKENS).tolist():
            for found in _beginnings(list(_pieces(corpus, split, document))):
                if (score := _prose(found, corpus.documents)) > best[0]:
                    best = score, found
                if best[0] >= _PROSE:
                    return Place(name, _ended(best[1]))
        if best[1]:
            return Place(name, _ended(best[1]))
    return None


def _pieces(corpus: Corpus, split: Split, document: int) -> Iterator[Piece]:
    """Pieces from the beginning of a document on, into those that follow it where it is short."""
    columns = 0
    ends = np.append(split.starts[1:], split.tokens).tolist()
    for number in range(document, split.documents if split.given is None else document + 1):
        begin, stop = int(split.starts[number]), min(ends[number], int(split.starts[number]) + _TOKENS)
        ids = split.read(begin, stop).tolist()
        decoder = corpus.tokenizer.stream_decoder(corpus.documents == "stream", after=ids[:1])
        text, first = "", begin + 1
        for at, token in enumerate(ids[1:], begin + 1):
            text += decoder.push(token)
            if not decoder.is_whole:
                continue  # a character has begun and is not whole
            yield Piece(text, first, at + 1, number)
            columns += display.width(text)
            text, first = "", at + 1
        if stop < ends[number] or columns > _COLUMNS:
            return


def _beginnings(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """The passage that begins with the first document, and with each of its lines."""
    for at, piece in enumerate(pieces):
        if piece.document != pieces[0].document:
            return
        if not piece.text.strip() or (at and not pieces[at - 1].text.endswith("\n")):
            continue
        columns = itertools.accumulate(display.width(p.text) for p in pieces[at:])
        yield [p for p, width in zip(pieces[at : at + _PIECES], columns, strict=False) if width <= _COLUMNS]


def _prose(pieces: Sequence[Piece], documents: str) -> float:
    """How much it looks like prose, at most 1: letters, no tables, no unknown words, long enough, begun where a sentence may begin."""
    text = "".join(piece.text for piece in pieces)
    counted = sum(not c.isspace() for c in text) + len(re.findall(r"(?<=\s)\s", text))  # white space in rows is of a table
    if not text.strip():
        return -math.inf
    letters = sum(c.isalpha() for c in text) / counted
    inside = text[0].islower() if documents in ("file", "stream") else False  # a split may cut a long file anywhere
    whole = min(1.0, max(2 * display.width(text) / _COLUMNS, 2 * len(pieces) / _PIECES))
    return letters * whole - 0.3 * (UNK in text) - 0.2 * (inside or not text[0].isalnum())


def _ended(pieces: list[Piece]) -> tuple[Piece, ...]:
    """Cut back to a sentence's end, or else a word's; a passage keeps half its pieces at least."""
    while pieces[-1].text.isspace():
        pieces = pieces[:-1]
    for at in range(len(pieces), len(pieces) // 2, -1):
        text = pieces[at - 1].text
        if not text or text.rstrip().endswith(_SENTENCE_ENDS):
            return tuple(pieces[:at])
    for at in range(len(pieces) - 1, len(pieces) // 2, -1):
        if pieces[at].text[:1].isspace() or is_tight(pieces[at].text[:1] or "。"):
            return tuple(pieces[:at])
    return tuple(pieces)


def shown(corpus: Corpus, place: Place) -> Passage:
    """What a report shows of it beside the scores."""
    split, first = corpus.splits[place.split], place.pieces[0]
    before = split.read(int(split.starts[first.document]), first.start).tolist()
    text = corpus.tokenizer.decode(before, stream=corpus.documents == "stream").rstrip()
    kept = text
    while display.width(kept) > _BEFORE:
        kept = kept[1:]
    given = "" if split.given is None else corpus.tokenizer.decode(split.given.document(first.document).tolist())
    return Passage(
        split=place.split,
        before=kept if kept == text else "…" + kept.lstrip(),
        given=given,
        pieces=[piece.text for piece in place.pieces],
    )


def surprise(bundle: Bundle, corpus: Corpus, place: Place) -> list[float | None] | None:
    """Bits of each piece of the passage, float [pieces]; infinite at probability zero, None where scores are no probabilities.

    The model has read what stands before it in its document; one with a context, as much as fits, half of it at least.
    """
    if bundle.model.kind is Kind.UNNORMALISED:
        return None
    part, begin, stride = _reading(bundle, corpus.splits[place.split], place)
    nats = token_nats(bundle.model, part, bundle.context, stride)
    return [float(nats[piece.start - begin : piece.stop - begin].sum()) / math.log(2) for piece in place.pieces]


def _reading(bundle: Bundle, split: Split, place: Place) -> tuple[Split, int, int | None]:
    """The text around the passage that a model reads, where in the split it begins, and the new tokens of each of its windows."""
    first, last = place.pieces[0], place.pieces[-1]
    if bundle.model.whole_documents:
        documents = np.arange(first.document, last.document + 1)
        return split.only(documents), int(split.starts[first.document]), None
    begin, stop, stride = int(split.starts[first.document]), last.stop, None
    if bundle.context is not None and not bundle.model.outlives_context:
        stride = max(1, bundle.context // 2)
        begin = max(begin, first.start - bundle.context)
        end = split.tokens if last.document + 1 == split.documents else int(split.starts[last.document + 1])
        stop = min(end, stop + stride)  # what follows is seen by a model that reads both ways
    starts = np.concatenate([[begin], split.starts[first.document + 1 : last.document + 1]]) - begin
    return Split(split.name, [split.read(begin, stop)], starts, np.zeros(len(starts), np.int64)), begin, stride
