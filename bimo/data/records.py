"""Records: JSON, JSON Lines, CSV, TSV and Parquet files as texts, one a record; HTML pages as text."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html.parser import HTMLParser
from typing import Any, BinaryIO

from bimo.core.reading import ReadOptions
from bimo.data.conversations import FIELDS, READ, NoConversation, Turn, fields_not_read, is_conversation, joined, turns_of
from bimo.data.documents import FileReport, ReadReport, lines_of
from bimo.data.encodings import Found, Unreadable, decode_blocks
from bimo.data.formats import byte_chunks, reading

TEXT_FIELDS = ("text", "content", "paragraphs", "body", "document")  # the first that is there
_MOST_REASONS = 10  # that are noted of one file
_LATER = {
    "messages": "conversations", "conversations": "conversations", "prompt": "prompts and answers",
    "instruction": "instructions and answers", "chosen": "preferences",
}  # fmt: skip


PAIRS = (("prompt", "completion"), ("source", "target"), ("src", "tgt"), ("given", "text"))  # what is given, and the text


def pair_fields(names: Sequence[str]) -> tuple[str, str] | None:
    """The fields of what is given and of the text, where records are pairs.

    >>> pair_fields(["id", "Prompt", "completion"]), pair_fields(["text"])
    (('Prompt', 'completion'), None)
    """
    lowered = {name.lower(): name for name in reversed(names)}
    known = [name for name in TEXT_FIELDS if name in lowered]  # a record that has a text of its own is that text
    there = [(given, text) for given, text in PAIRS if given in lowered and text in lowered and known in ([], [text])]
    return (lowered[there[0][0]], lowered[there[0][1]]) if there else None


def text_field(names: Sequence[str], with_text: Sequence[str], conversations: bool = False) -> str:
    """The field that holds a record's text: a known name, else the only one that holds text. conversations: they would be read, too.

    >>> text_field(["id", "text"], ["text"]), text_field(["label", "review"], ["review"])
    ('text', 'review')
    """
    lowered = {name.lower(): name for name in reversed(with_text)}
    for known in TEXT_FIELDS:
        if known in lowered:
            return lowered[known]
    for name in names:
        if name.lower() in _LATER:
            if conversations:
                break
            raise Unreadable(
                f"its records are {_LATER[name.lower()]} (field {name!r}), not texts; bimo finetune learns from them, "
                "or write what to learn into a field 'text'"
            )
    else:
        if len(with_text) == 1:
            return with_text[0]
    found = ", ".join(map(repr, names)) or "none"
    if conversations:
        raise Unreadable(f"no conversations, nor texts (fields: {found}); name the fields as one of these: {READ}; or text")
    raise Unreadable(f"no field 'text' or 'content', and not just one that holds text (fields: {found}); rename the one to read to 'text'")


Record = tuple[str, str | None] | tuple[str, None, tuple[Turn, ...]]  # a text, and what it is given or the turns that it is


class Records:
    """Reads the records of one file; counts those that are skipped, and notes the first of each reason and how many there are.

    conversations: records with turns, or with a prompt and an answer, are read as conversations.
    """

    def __init__(self, entry: FileReport, report: ReadReport, conversations: bool, options: ReadOptions) -> None:
        self.entry, self.report, self.conversations, self.options = entry, report, conversations, options
        self.turns = False  # whether this file's records are read as conversations
        self.field: str | None = None
        self.given: str | None = None  # the field of what is given, where records are pairs
        self.not_read: set[str] = set()  # fields beside conversations
        self.bad: dict[str, tuple[str, int]] = {}  # the first record that was skipped for a reason, and how many were

    def read(self, stream: BinaryIO) -> Iterator[Record]:
        """The texts of all records, each with what it is given."""
        kind = self.entry.format
        if kind == "parquet":
            yield from self._parquet(stream)
        else:
            found = Found()
            blocks = decode_blocks(byte_chunks(stream), found, encoding=self.options.encoding)
            try:
                if kind == "json":
                    yield from self._json("".join(blocks))
                elif kind == "jsonl":
                    yield from self._json_lines(lines_of(blocks))
                else:
                    yield from self._table(blocks, "\t" if kind == "tsv" else ",")
            finally:
                self.entry.encoding = found.encoding
                self.entry.notes += found.remarks()
        if self.not_read:
            names = ", ".join(sorted(self.not_read)[:_MOST_REASONS]) + (", …" if len(self.not_read) > _MOST_REASONS else "")
            self.entry.notes.append(f"fields beside the conversations that are not read: {names}")
        self.report.skipped_records += sum(count for _, count in self.bad.values())
        self.entry.notes += [f"{first} ({count:,} skipped so)" for first, count in list(self.bad.values())[:_MOST_REASONS]]

    def _skip(self, where: str, why: str) -> None:
        reason = re.sub(r"\d+", "n", why)
        first, count = self.bad.get(reason, (f"{where}: {why}", 0))
        self.bad[reason] = (first, count + 1)

    def _choose(self, names: Sequence[str], with_text: Sequence[str], what: str = "field") -> None:
        """Decide which fields are read, and note it."""
        stated = (self.options.text_column or self.options.target_column, self.options.source_column)
        if stated[0] is not None:
            self.field, self.given = (None if column is None else _column(str(column), names) for column in stated)
            beside = "" if self.given is None else f", {what} {self.given!r} as what it is given"
            self.entry.notes.append(f"{what} {self.field!r} read as text{beside}")
            return
        if self.conversations and is_conversation(names):
            self.turns, self.field = True, ""
            self.entry.notes.append("records read as conversations")
            return
        pair = pair_fields(names)
        if pair is not None:
            self.given, self.field = pair
            self.entry.notes.append(f"{what} {self.field!r} read as text, {what} {self.given!r} as what it is given")
        else:
            self.field = text_field(names, with_text, self.conversations)
            self.entry.notes.append(f"{what} {self.field!r} read as text")

    def _text(self, record: Any, where: str) -> Iterator[Record]:
        """The text of one record; the field is chosen at the first record."""
        if isinstance(record, str):
            yield record, None
            return
        if not isinstance(record, Mapping):
            self._skip(where, f"holds {type(record).__name__}, not a record")
            return
        if self.field is None:
            with_text = [name for name, value in record.items() if _as_text(value) is not None]
            if any(_is_nested(value) for value in record.values()):  # "the only one" is not certain to be the text
                with_text = [name for name in with_text if name.lower() in TEXT_FIELDS]
            self._choose(list(record), with_text)
        if self.turns:
            yield from self._converse(record, where)
            return
        given = _as_text(record.get(self.given)) if self.given else None
        yield from self._pick(_as_text(record.get(self.field)), given, where)

    def _converse(self, record: Mapping[str, Any], where: str) -> Iterator[Record]:
        self.not_read |= fields_not_read(record)
        try:
            turns = turns_of(record)
        except NoConversation as cause:
            self._skip(where, str(cause))
        else:
            yield joined(turns), None, turns

    def _pick(self, text: str | None, given: str | None, where: str) -> Iterator[Record]:
        if text is None or (self.given is not None and given is None):
            self._skip(where, f"no text in field {(self.field if text is None else self.given)!r}")
        else:
            yield text, given

    def _json_lines(self, lines: Iterable[str]) -> Iterator[Record]:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as cause:
                self._skip(f"line {number}", f"not JSON ({cause})")
                continue
            yield from self._text(record, f"line {number}")

    def _json(self, text: str) -> Iterator[Record]:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as cause:
            if text.lstrip().startswith("{") and "Extra data" in str(cause):
                yield from self._json_lines(text.split("\n"))
                return
            raise Unreadable(f"not JSON ({cause})") from None
        if isinstance(value, Mapping):
            nested = [v for v in value.values() if _is_nested(v)]
            single = len(nested) == 1 and isinstance(nested[0], list) and not any(k in value for k in TEXT_FIELDS)
            value = nested[0] if single and not _is_one_conversation(value) else [value]
        for number, record in enumerate(value if isinstance(value, list) else [value], 1):
            yield from self._text(record, f"record {number}")

    def _table(self, blocks: Iterable[str], delimiter: str) -> Iterator[Record]:
        csv.field_size_limit(2**31 - 1)
        lines = iter(_kept_lines(blocks))
        first = next(lines, "")
        if self.options.delimiter is not None:
            delimiter = self.options.delimiter or "\0"
        elif delimiter == "," and first.count(";") > first.count(","):
            delimiter = ";"
        quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
        rows = csv.reader(_chained(first, lines), delimiter=delimiter, quoting=quoting)
        try:
            head = [row for _, row in zip(range(50), rows, strict=False) if row]
            names = _header(head) if self.options.header is None else head[0] if self.options.header and head else None
            width = len(names) if names else len(head[0]) if head else 0
            names_or_numbers = names or [str(i + 1) for i in range(width)]
            data = head[1:] if names else head
            with_text = [n for i, n in enumerate(names_or_numbers) if any(i < len(r) and not _is_number(r[i]) for r in data)]
            self._choose(names_or_numbers, with_text, "column")
            if not names:
                self.entry.notes[-1] += " (no header)"
            if self.turns:
                for number, row in enumerate(_chained_rows(data, rows), 2):
                    yield from self._converse(dict(zip(names_or_numbers, row, strict=False)), f"row {number}")
                return
            column = names_or_numbers.index(self.field or "")
            given = None if self.given is None else names_or_numbers.index(self.given)
            last = max(column, given or 0)
            for number, row in enumerate(_chained_rows(data, rows), 2 if names else 1):
                if last < len(row):
                    yield row[column], None if given is None else row[given]
                elif row:
                    self._skip(f"row {number}", f"has {len(row)} columns, the text would be column {column + 1}")
        except csv.Error as cause:
            raise Unreadable(f"not a table ({cause})") from None

    def _parquet(self, stream: BinaryIO) -> Iterator[Record]:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise Unreadable("needs the library pyarrow; pip install 'bimo[text]'") from None
        with reading():
            source = stream if stream.seekable() else io.BytesIO(stream.read())
            try:
                file = pyarrow.parquet.ParquetFile(source)
            except (pyarrow.ArrowException, ValueError) as cause:
                raise Unreadable(f"damaged Parquet file ({cause})") from None
            strings = [f.name for f in file.schema_arrow if _arrow_text(f.type)]
            self._choose(file.schema_arrow.names, strings, "column")
            self.entry.encoding = "utf-8"
            number = 0
            columns = None if self.turns else [name for name in (self.field, self.given) if name is not None]
            for batch in file.iter_batches(columns=columns, batch_size=1024):
                for record in batch.to_pylist():
                    number += 1
                    if self.turns:
                        yield from self._converse(record, f"row {number}")
                        continue
                    given = _as_text(record[self.given]) if self.given else None
                    yield from self._pick(_as_text(record[self.field]), given, f"row {number}")


def _column(stated: str, names: Sequence[str]) -> str:
    """The name that is stated, or the one at the number from 1 that is stated."""
    if stated in names:
        return stated
    if stated.isdecimal() and 0 < int(stated) <= len(names):
        return names[int(stated) - 1]
    raise Unreadable(f"no column or field {stated!r}; there are: {', '.join(map(repr, names))}")


def _arrow_text(kind: Any) -> bool:
    from pyarrow import types

    def text(k: Any) -> bool:
        return types.is_string(k) or types.is_large_string(k) or types.is_string_view(k)

    return text(kind) or (types.is_list(kind) and text(kind.value_type)) or (types.is_dictionary(kind) and text(kind.value_type))


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return "\n".join(value)
    return None


def _is_one_conversation(record: Mapping[str, Any]) -> bool:
    """Whether a list in the record holds the turns of one conversation, not records.

    >>> _is_one_conversation({"messages": [{"role": "user", "content": "a"}]}), _is_one_conversation({"conversations": [{"messages": []}]})
    (True, False)
    """
    lists = [value for name, value in record.items() if name.lower() in FIELDS and isinstance(value, list) and value]
    return any(isinstance(turns[0], Mapping) and ("role" in turns[0] or "from" in turns[0]) for turns in lists)


def _is_nested(value: Any) -> bool:
    return isinstance(value, list | Mapping) and bool(value) and _as_text(value) is None


def _is_number(cell: str) -> bool:
    return not cell.strip() or re.fullmatch(r"[-+]?[\d.,:/ %-]+(?:[eE][-+]?\d+)?", cell.strip()) is not None


def _header(rows: list[list[str]]) -> list[str] | None:
    """The column names, or None where the first row is data: known names, or words over a column of numbers."""
    if not rows:
        return None
    first, rest = rows[0], rows[1:]
    known = {*TEXT_FIELDS, *_LATER, "label", "id", "title", "sentence", "review", "category", "source", "url", "date"}
    if any(cell.strip().lower() in known for cell in first):
        return first
    for i, cell in enumerate(first):
        below = [row[i] for row in rest if i < len(row)]
        if below and not _is_number(cell) and all(map(_is_number, below)):
            return first
    return None


def _kept_lines(blocks: Iterable[str]) -> Iterator[str]:
    return (line + "\n" for line in lines_of(blocks))


def _chained(first: str, rest: Iterable[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def _chained_rows(first: list[list[str]], rest: Iterable[list[str]]) -> Iterator[list[str]]:
    yield from first
    yield from rest


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
