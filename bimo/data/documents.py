"""What a document is, and how a file's text is parted into documents."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from bimo.core.recipe import DocumentMode
from bimo.data.conversations import Turn, joined
from bimo.text.clean import Cleaner, mend_surrogates

# Text before cleaning and its bytes; where documents are pairs what it is given, or the turns where they are conversations.
Part = tuple[str, int] | tuple[str, int, str | None] | tuple[str, int, None, tuple[Turn, ...]]
MODES: tuple[DocumentMode, ...] = get_args(DocumentMode)
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Document:
    """A text that stands for itself.

    bytes: the UTF-8 bytes of the user's text before cleaning; with `line` its newline, with `paragraph` the blank
    lines that end it are counted, so that the documents of a file sum to the file (blank lines of `line` are
    dropped and count nowhere but in the report). given: the text that this one is an answer to, a translation of …, where
    documents are pairs; it counts in no bytes. turns: of a conversation, whose `text` is theirs together and whose bytes are its answers'.
    """

    text: str
    source: str
    bytes: int
    given: str | None = None
    turns: tuple[Turn, ...] | None = None


@dataclass
class FileReport:
    """One file that was read."""

    name: str
    format: str
    encoding: str
    documents: int = 0
    bytes: int = 0
    notes: list[str] = field(default_factory=list)
    records: int = 0  # of a file of records: read, blank and skipped ones
    skipped_records: int = 0


@dataclass
class ReadReport:
    """What was read, what was not and why, and what cleaning did."""

    files: list[FileReport] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    dropped_documents: int = 0  # blank before or after cleaning
    dropped_bytes: int = 0
    skipped_records: int = 0  # records of readable files that cannot be read
    cleaned: Counter[str] = field(default_factory=Counter)

    @property
    def documents(self) -> int:
        """Documents that were read."""
        return sum(f.documents for f in self.files)

    @property
    def bytes(self) -> int:
        """Their UTF-8 bytes before cleaning."""
        return sum(f.bytes for f in self.files)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data; of more than a thousand files only the first thousand are listed."""
        return {
            "files": [vars(f) for f in self.files[:1000]],
            "files_read": len(self.files),
            "skipped": [{"name": name, "why": why} for name, why in self.skipped[:1000]],
            "files_skipped": len(self.skipped),
            "documents": self.documents,
            "bytes": self.bytes,
            "dropped_documents": self.dropped_documents,
            "dropped_bytes": self.dropped_bytes,
            "skipped_records": self.skipped_records,
            "cleaned": dict(self.cleaned),
        }

    def summary(self) -> list[str]:
        """The report in a few lines for people."""
        encodings = Counter(f.encoding for f in self.files)
        told = ", ".join(f"{name} {n}" if len(encodings) > 1 else name for name, n in encodings.most_common())
        lines = [f"read {len(self.files)} file(s) ({told}): {self.documents:,} documents, {self.bytes:,} bytes"]
        if self.dropped_documents:
            lines.append(f"dropped {self.dropped_documents:,} blank document(s), {self.dropped_bytes:,} bytes")
        if self.skipped_records:
            lines.append(f"skipped {self.skipped_records:,} record(s)")
        if self.cleaned:
            done = ", ".join(f"{what} {n:,}" for what, n in sorted(self.cleaned.items()))
            lines.append(f"cleaned: {done}")
        lines += [f"{f.name}: {note}" for f in self.files for note in f.notes]
        lines += [f"skipped {name}: {why}" for name, why in self.skipped[:20]]
        if len(self.skipped) > 20:
            lines.append(f"… and {len(self.skipped) - 20:,} more skipped")
        return lines


def utf8_length(text: str) -> int:
    """UTF-8 bytes of a text (half surrogates count as U+FFFD, which they become).

    >>> utf8_length("中a")
    4
    """
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def part_text(blocks: Iterable[str], mode: DocumentMode) -> Iterator[list[tuple[str, int]]]:
    """The documents of a file given in blocks of text, as lists of (text before cleaning, its bytes).

    >>> list(part_text(["a\\nb", "\\n\\nc"], "line"))
    [[('a', 2)], [('b', 2), ('', 1)], [('c', 1)]]
    >>> list(part_text(["a\\nb\\n\\nc"], "paragraph"))
    [[('a\\nb', 5)], [('c', 1)]]
    """
    if mode in ("file", "stream"):
        text = "".join(blocks)
        yield [(text, utf8_length(text))] if text else []
    elif mode == "line":
        yield from _lines(blocks)
    else:
        yield from _paragraphs(line for lines in _lines(blocks) for line in lines)


def _lines(blocks: Iterable[str]) -> Iterator[list[tuple[str, int]]]:
    """The lines of a text without their ends, each with its UTF-8 bytes, in a list for each block.

    A line ends at LF, which CR may precede. CR alone ends a line only where the text has CR before it has any LF; elsewhere
    it is a stray character and becomes a space, so that the lines of two files side by side stay aligned.
    """
    rest: list[str] = []
    decided = cr_ends = False
    for block in blocks:
        if not decided and ("\n" in block or "\r" in block[:-1]):
            decided, cr_ends = True, "\n" not in block
        cut = block.rfind("\n") + 1
        if cr_ends:  # a CR at a block's end waits for its LF
            cut = max(cut, block.rfind("\r", 0, len(block) - 1) + 1)
        if cut:
            yield _split("".join([*rest, block[:cut]]), cr_ends)
            rest = []
        if cut < len(block):
            rest.append(block[cut:])
    if rest:
        yield _split("".join(rest), cr_ends)


def _split(block: str, cr_ends: bool) -> list[tuple[str, int]]:
    if cr_ends:
        found, start = [], 0
        for end in _LINE_END.finditer(block):
            line = block[start : end.start()]
            found.append((line, utf8_length(line) + end.end() - end.start()))
            start = end.end()
        return [*found, (block[start:], utf8_length(block[start:]))] if start < len(block) else found
    lines = block.split("\n")
    last = lines.pop()
    measure = len if block.isascii() else utf8_length
    found = [(line, measure(line) + 1) for line in lines]
    if last:
        found.append((last, utf8_length(last)))
    return [(line.rstrip("\r").replace("\r", " "), size) for line, size in found] if "\r" in block else found


def lines_of(blocks: Iterable[str]) -> Iterator[str]:
    """The lines of a text given in blocks, without their ends.

    >>> list(lines_of(["a\\r\\nb", "c\\n\\nd\\re"])), list(lines_of(["a\\rb"]))
    (['a', 'bc', '', 'd e'], ['a', 'b'])
    """
    return (line for lines in _lines(blocks) for line, _ in lines)


def _paragraphs(lines: Iterable[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    held: list[str] = []
    size, parted = 0, False
    for line, count in lines:
        blank = not line.strip()
        if not blank and parted and held:
            yield [("\n".join(held), size)]
            held, size = [], 0
        parted = blank
        if not blank:
            held.append(line)
        size += count
    if held:
        yield [("\n".join(held), size)]


def clean_documents(found: Sequence[Part], source: str, cleaner: Cleaner | None, report: ReadReport) -> Iterator[Document]:
    """Cleaned documents of parts of a file; blank ones are dropped and counted."""

    def tidy(text: str) -> str:
        return cleaner(text) if cleaner else mend_surrogates(text, report.cleaned)

    for part in found:
        raw: tuple[Any, ...] = (*part, None, None)
        text, size, given, turns = raw[:4]
        given = None if given is None else tidy(given)
        turns = None if turns is None else tuple({**turn, "content": tidy(turn["content"])} for turn in turns)
        text = tidy(text) if turns is None else joined(turns)
        if text.strip() and (given is None or given.strip()):
            yield Document(text, source, size, given, turns)
        else:
            report.dropped_documents += 1
            report.dropped_bytes += size
