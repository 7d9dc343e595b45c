"""Records: JSON, JSON Lines, CSV, TSV and Parquet files as texts, one a record; HTML pages as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from html.parser import HTMLParser
from itertools import chain
from typing import Any, BinaryIO

from bimo.core.reading import ReadOptions
from bimo.data.conversations import NoConversation, Turn, fields_not_read, is_conversation, joined, turns_of
from bimo.data.documents import FileReport, ReadReport, lines_of
from bimo.data.encodings import Found, Unreadable, decode_blocks
from bimo.data.fields import KNOWN, Seen, Shape, as_text, at, choose, english
from bimo.data.formats import byte_chunks, reading
from bimo.data.json_values import read_json, read_json_lines
from bimo.data.parquet import ParquetFile
from bimo.data.shapes import KnownShape, shape_of
from bimo.data.tables import Skip, open_table

_MOST_REASONS = 10  # that are noted of one file
_HEAD_RECORDS, _HEAD_CHARACTERS = 1000, 1 << 20  # that are looked at before the fields are chosen
_UNITS = {"jsonl": "line", "csv": "line", "tsv": "line", "json": "record", "parquet": "row"}  # what a record is called

Record = tuple[str, str | None] | tuple[str, None, tuple[Turn, ...]]  # a text, and what it is given or the turns that it is
Numbered = Iterator[tuple[int, Any]]  # values, or a `Skip`, by line, record or row


class Records:
    """Reads the records of one file: each is read, or skipped and counted by its reason, of which the first place is noted.

    conversations: records with turns, or with a prompt and an answer, are read as conversations.
    """

    def __init__(self, entry: FileReport, report: ReadReport, conversations: bool, options: ReadOptions) -> None:
        self.entry, self.report, self.conversations, self.options = entry, report, conversations, options
        self.unit = _UNITS.get(entry.format, "line")
        self.skipped: dict[str, tuple[str, int]] = {}  # by reason without its numbers: the first as it is noted, and how many
        self.not_read: set[str] = set()  # fields beside conversations

    def read(self, stream: BinaryIO) -> Iterator[Record]:
        """The texts of all records, each with what it is given."""
        found = Found()
        try:
            if self.entry.format == "parquet":
                yield from self._parquet(stream, found)
            else:
                blocks = decode_blocks(byte_chunks(stream), found, encoding=self.options.encoding)
                if self.entry.format == "json":
                    yield from self._values(read_json("".join(blocks)))
                elif self.entry.format == "jsonl":
                    yield from self._values(read_json_lines(lines_of(blocks)))
                else:
                    yield from self._table(blocks)
        finally:
            self.entry.encoding = found.encoding
            self._note(found)

    def _note(self, found: Found) -> None:
        count = sum(count for _, count in self.skipped.values())
        self.report.skipped_records += count
        self.entry.skipped_records = count
        self.entry.notes += found.remarks()
        if self.not_read:
            names = ", ".join(sorted(self.not_read)[:_MOST_REASONS]) + (", …" if len(self.not_read) > _MOST_REASONS else "")
            self.entry.notes.append(f"fields beside the conversations that are not read: {names}")
        reasons = sorted(self.skipped.values(), key=lambda reason: -reason[1])
        self.entry.notes += [f"{first} ({count:,} skipped so)" for first, count in reasons[:_MOST_REASONS]]
        if len(reasons) > _MOST_REASONS:
            self.entry.notes.append(f"{sum(count for _, count in reasons[_MOST_REASONS:]):,} records skipped for other reasons")

    def _skip(self, number: int, why: str) -> None:
        reason = re.sub(r"\d+", "n", why)
        first, count = self.skipped.get(reason, (f"{self.unit} {number}: {why}", 0))
        self.skipped[reason] = (first, count + 1)

    # -- formats ----------------------------------------------------------------------------------------------------------

    def _values(self, values: Numbered) -> Iterator[Record]:
        head = _first(values)
        known = shape_of([value for _, value in head])
        stated = self.options.text_column is not None or self.options.source_column is not None
        if known is not None and not stated and (self.conversations or known.texts is not None):
            self.entry.notes.append(f"records are {known.name}")
            values = self._expanded(chain(head, values), known)
            head = _first(values)
        records = [value for _, value in head if isinstance(value, Mapping)]
        shape = choose(Seen.of(records), self.options, self.conversations) if records else Shape()
        self.entry.notes += shape.notes
        yield from self._read(chain(head, values), shape, strings=True)

    def _expanded(self, values: Numbered, known: KnownShape) -> Numbered:
        expand = known.conversations if self.conversations or known.texts is None else known.texts
        for number, value in values:
            if isinstance(value, Skip):
                yield number, value
            elif known.fits(value):
                yield from ((number, part) for part in expand(value))
            else:
                yield number, Skip(f"not of the shape of the others: {known.name}")

    def _table(self, blocks: Iterable[str]) -> Iterator[Record]:
        table = open_table(lines_of(blocks), self.entry.format == "tsv", self.options, KNOWN)
        self.entry.notes += table.notes
        head = [dict(zip(table.names, row, strict=False)) for _, row in table.head if len(row) >= len(table.names)]
        shape = choose(Seen(head, table.names, "column", numbered=True), self.options, self.conversations)
        self.entry.notes += [note if table.header else f"{note} (no header)" for note in shape.notes]
        yield from self._read(table.rows, shape)

    def _parquet(self, stream: BinaryIO, found: Found) -> Iterator[Record]:
        found.encoding = "utf-8"
        file = ParquetFile(stream, found)
        if not file.file.metadata.num_rows:
            raise Unreadable("a Parquet file without rows")
        whole = self.options.text_column is not None or self.options.source_column is not None
        head = [row for _, row in file.rows(None if whole or self.conversations else file.texts, _HEAD_RECORDS)]
        binary = {name for name in file.bytes if any("\ufffd" in (row.get(name) or "") for row in head[:10])}
        head = [{name: value for name, value in row.items() if name not in binary} for row in head]
        found.replaced = 0  # they are read again
        shape = choose(Seen(head, file.names, "column", numbered=True), self.options, self.conversations)
        if file.names != file.schema.names:
            renamed = [name for name in file.names if name not in file.schema.names]
            self.entry.notes.append(f"columns without a name of their own: {', '.join(map(repr, renamed))}")
        self.entry.notes += [f"{note}; its bytes are read as UTF-8" if shape.text in file.bytes else note for note in shape.notes]
        paths = [path for path in (shape.text, shape.given) if path]
        columns = None if shape.turns and not paths else [path if path in file.names else path.split(".")[0] for path in paths]
        yield from self._read(file.rows(columns), shape)

    # -- records ----------------------------------------------------------------------------------------------------------

    def _read(self, values: Numbered, shape: Shape, strings: bool = False) -> Iterator[Record]:
        """The records as their shape says. strings: a value that is a string is a text."""
        text_field, given_field = shape.text, shape.given
        count = 0
        try:
            for number, value in values:
                count += 1
                if type(value) is dict and not shape.turns:  # the common case, without a call
                    text, given = value.get(text_field), None if given_field is None else value.get(given_field)
                    if type(text) is str and (given_field is None or type(given) is str):
                        yield text, given
                        continue
                yield from self._one(number, value, shape, strings)
        finally:
            self.entry.records += count

    def _one(self, number: int, value: Any, shape: Shape, strings: bool) -> Iterator[Record]:
        if isinstance(value, Skip):
            self._skip(number, value)
        elif not isinstance(value, Mapping):
            if strings and isinstance(value, str):
                yield value, None
            else:
                self._skip(number, f"holds {type(value).__name__}, not a record")
        elif shape.turns:
            yield from self._converse(value, number, shape)
        else:
            text = as_text(at(value, shape.text))
            given = None if shape.given is None else as_text(at(value, shape.given))
            if text is None or (shape.given is not None and given is None):
                self._skip(number, f"no text in field {(shape.text if text is None else shape.given)!r}")
            else:
                yield text, given

    def _converse(self, record: Mapping[str, Any], number: int, shape: Shape) -> Iterator[Record]:
        record = {"prompt": at(record, shape.given), "completion": at(record, shape.text)} if shape.given else english(record)
        if not is_conversation(list(record)):
            self._skip(number, "has no fields of a conversation")
            return
        try:
            turns = turns_of(record)
        except NoConversation as cause:
            self._skip(number, str(cause))
        else:
            self.not_read |= fields_not_read(record)
            yield joined(turns), None, turns


def _first(values: Numbered) -> list[tuple[int, Any]]:
    """The first values, up to a thousand or a million characters in all."""
    head: list[tuple[int, Any]] = []
    size = 0
    for number, value in values:
        head.append((number, value))
        size += sum(len(cell) for cell in value.values() if isinstance(cell, str)) if isinstance(value, Mapping) else len(str(value))
        if len(head) >= _HEAD_RECORDS or size >= _HEAD_CHARACTERS:
            break
    return head


def html_text(stream: BinaryIO, entry: FileReport, encoding: str | None = None) -> str:
    """The text of an HTML page: its main content by trafilatura, all of its visible text where that finds none."""
    try:
        import trafilatura
    except ImportError as cause:  # not installed, or without a part of its own
        raise Unreadable(f"needs the library trafilatura; pip install 'bimo[text]' ({cause})") from None
    with reading():
        data = stream.read()
    found = Found()
    page = "".join(decode_blocks([data], found, encoding=encoding))
    entry.encoding = found.encoding
    entry.notes += found.remarks()
    text = trafilatura.extract(page, include_comments=False, include_tables=True) if page.strip() else None
    if text:
        return text + "\n"
    parser = _VisibleText()
    parser.feed(page)
    entry.notes.append("no main content found; all visible text was read")
    return re.sub(r"[ \t]*\n\s*", "\n", "".join(parser.parts)).strip() + "\n"


class _VisibleText(HTMLParser):
    """All text outside scripts and styles; blocks begin on a line of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in ("script", "style", "noscript", "template")
        if tag in ("p", "br", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "section", "title"):
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style", "noscript", "template"):
            self.hidden = max(0, self.hidden - 1)

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)
