"""Training, validation and test text: dealt by fingerprint, or cut at the tail where documents are few."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from bimo.core.errors import CorpusError
from bimo.data.documents import Document, DocumentMode, utf8_length
from bimo.text.words import is_tight

FEW_DOCUMENTS = 200  # with fewer than this each document is cut at its tail
HELD_OUT = 0.05  # the share of validation, and of test
_SENTENCE_END = re.compile(r"[.!?。！？…][\"'”’」』)）]*\s*")


def fingerprint(text: str, seed: int = 0) -> int:
    """A 64-bit number of a text: equal texts have equal numbers, on every machine.

    >>> fingerprint("a") == fingerprint("a"), fingerprint("a") == fingerprint("a", seed=1)
    (True, False)
    """
    key = seed.to_bytes(8, "little", signed=True)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest(), "little")


def deal(text: str, seed: int, names: Sequence[str]) -> str:
    """The split that a document falls into: 5 % to each of `names` ("valid", "test"), the rest to "train".

    >>> deal("some text", 0, ()), deal("some text", 0, ("valid", "test")) in ("train", "valid", "test")
    ('train', True)
    """
    place = fingerprint(text, seed) / 2**64
    for i, name in enumerate(names):
        if place < HELD_OUT * (i + 1):
            return name
    return "train"


def cut_tail(document: Document, names: Sequence[str], lines_only: bool = False) -> dict[str, Document]:
    """A document cut into "train" and, at its tail, 5 % of its characters for each of `names`.

    The cut is moved to the nearest end of a line, else of a sentence, else to a space, never into a character or a
    combining sequence. Raises `CorpusError` where the text is too short to be cut. With `lines_only` (streams) only
    line ends will do, if there are enough.
    """
    if not names:
        return {"train": document}
    pieces = _pieces(document.text, len(names), lines_only)
    if pieces is None and lines_only:
        pieces = _pieces(document.text, len(names), False)
    if pieces is None:
        raise CorpusError(
            f"{document.source}: its text is too short (length {len(document.text)}) to be cut into train, {' and '.join(names)}; "
            "give more text, or --valid and --test files"
        )
    sizes = _shares(document, pieces)
    return {n: Document(p, document.source, s) for n, p, s in zip(["train", *names], pieces, sizes, strict=True)}


def _pieces(text: str, parts: int, lines_only: bool) -> list[str] | None:
    """The text cut into `parts` + 1 pieces, or None where one of them would be blank."""
    cuts = [_near(text, round(len(text) * (1 - HELD_OUT * (parts - i))), lines_only) for i in range(parts)]
    edges = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    return pieces if all(piece.strip() for piece in pieces) and edges == sorted(edges) else None


def _shares(document: Document, pieces: list[str]) -> list[int]:
    """Bytes of the pieces; what cleaning changed (the difference to the document's bytes) goes by size."""
    sizes = [utf8_length(p) for p in pieces]
    total = sum(sizes)
    if total != document.bytes and total:
        ends = [round(document.bytes * sum(sizes[: i + 1]) / total) for i in range(len(sizes))]
        sizes = [b - a for a, b in itertools.pairwise([0, *ends])]
    return sizes


def _near(text: str, place: int, lines_only: bool) -> int:
    """The best place to cut near `place`: after a newline, a sentence, a space, or between two characters."""
    reach = max(1, len(text) // 40)  # half a held-out share
    low, high = max(1, place - reach), min(len(text) - 1, place + reach)
    newlines = [m for m in (text.rfind("\n", low - 1, place) + 1, text.find("\n", place, high) + 1) if m]
    if newlines:
        return min(newlines, key=lambda p: abs(p - place))
    if lines_only and "\n" in text:
        after = text.find("\n", place) + 1
        return after if 0 < after < len(text) else text.rfind("\n", 0, place) + 1
    ends = [low + m.end() for m in _SENTENCE_END.finditer(text[low:high])]
    if ends:
        return min(ends, key=lambda p: abs(p - place))
    spaces = [p for p in (text.rfind(" ", low, place) + 1, text.find(" ", place, high) + 1) if p]
    if spaces:
        return min(spaces, key=lambda p: abs(p - place))
    place = min(max(place, 1), max(1, len(text) - 1))
    while place > 1 and not _may_part(text[place - 1], text[place : place + 1]):
        place -= 1
    return place


def _may_part(before: str, after: str) -> bool:
    import unicodedata

    if is_tight(before) and is_tight(after or "a"):
        return True
    joiner = "\u200d" in (before, after) or "\U0001f3fb" <= after <= "\U0001f3ff" or "\ufe00" <= after <= "\ufe0f"
    return not joiner and not (after and unicodedata.combining(after))


class Dealer:
    """Says which split each document, or piece of a document, belongs to.

    `names` are the splits to deal beside "train". Where documents are few, those of `file` and `stream` are each cut at their
    tail; of `line` and `paragraph` the last ones are held out whole (a line's last 5 % would be no text).
    """

    def __init__(self, mode: DocumentMode, names: Sequence[str], seed: int) -> None:
        self.mode, self.names, self.seed = mode, names, seed
        self.notes: list[str] = []
        self.few = False
        self._last: list[int] = []  # index of the first document of each name, where whole documents are held out

    def plan(self, count: int, held: Sequence[Document] | None) -> None:
        """Decide how to deal `count` documents (`held`: these, where they are few)."""
        self.few = count < FEW_DOCUMENTS
        if not self.few or not self.names or held is None:
            return
        if self.mode in ("line", "paragraph") and count > len(self.names):
            ends, total = [], 0
            for document in held:
                total += len(document.text)
                ends.append(total)
            last = count - len(self.names)  # leave one document at least for each name
            for i in range(len(self.names)):
                share = total * (1 - HELD_OUT * (len(self.names) - i))
                first = next((k for k, end in enumerate(ends) if end > share), count - 1)
                self._last.append(max(i + 1, min(first, last + i)))
            for i in range(1, len(self._last)):
                self._last[i] = max(self._last[i], self._last[i - 1] + 1)
            return
        self._check_pieces(held)

    def _check_pieces(self, held: Sequence[Document]) -> None:
        error: CorpusError | None = None
        whole = 0
        for document in held:
            try:
                cut_tail(document, self.names, self.mode == "stream")
            except CorpusError as cause:
                error, whole = cause, whole + 1
        if error and whole == len(held):
            raise error
        if whole:
            self.notes.append(f"{whole} of {len(held)} documents are too short to be cut and stay whole in train")

    def deal_all(self, documents: Iterable[Document]) -> Iterator[tuple[str, Document]]:
        """Each document, or its pieces, with the split it belongs to; an empty split is a `CorpusError`."""
        if not self.names:
            yield from (("train", document) for document in documents)
            return
        met: set[str] = set()
        for i, document in enumerate(documents):
            for name, piece in self._deal(i, document):
                met.add(name)
                yield name, piece
        for name in ("train", *self.names):
            if name not in met:
                raise CorpusError(f"dealing left no {name} text: most documents are the same; give --valid and --test files")

    def _deal(self, index: int, document: Document) -> Iterable[tuple[str, Document]]:
        if not self.few:
            return [(deal(document.text, self.seed, self.names), document)]
        if self._last:
            name = "train"
            for candidate, first in zip(self.names, self._last, strict=True):
                name = candidate if index >= first else name
            return [(name, document)]
        try:
            return cut_tail(document, self.names, self.mode == "stream").items()
        except CorpusError:
            return [("train", document)]
