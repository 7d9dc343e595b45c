"""JSON and JSON Lines as records, by the line or the number where each begins; what is no JSON is skipped with the reason."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bimo.data.conversations import FIELDS
from bimo.data.encodings import Unreadable
from bimo.data.fields import TEXT_FIELDS, as_text
from bimo.data.tables import Skip

_FEWEST_ROWS = 10  # of lists side by side, which below may be parts of one record
_BLANK = " \t\r\n\ufeff,"  # between values; a byte-order mark stands where files were joined


def read_json_lines(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    """The value of each line; where the first one goes over several lines, the values as they follow each other.

    >>> list(read_json_lines(['{"a": 1}', "oops", '{"a": 2}']))
    [(1, {'a': 1}), (2, 'not JSON (Expecting value: line 1 column 1 (char 0))'), (3, {'a': 2})]
    """
    rest = enumerate(lines, 1)
    begun = False
    for number, line in rest:
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
            begun = True
        except (ValueError, RecursionError) as cause:
            bare = line.strip(_BLANK)
            if not begun and bare[:1] in ("{", "["):
                text = "\n".join([line, *(line for _, line in rest)])
                yield from read_values(text, number)
                return
            try:
                yield number, json.loads(bare)
                begun = True
            except (ValueError, RecursionError):
                if bare:
                    yield number, Skip(f"not JSON ({cause})")


def read_values(text: str, number: int = 1) -> Iterator[tuple[int, Any]]:
    """The JSON values that follow each other in a text, each with its line's number; arrays are parted into their elements."""
    decoder = json.JSONDecoder()
    place, counted = 0, 0
    while True:
        while place < len(text) and text[place] in _BLANK:
            place += 1
        if place >= len(text):
            return
        number += text.count("\n", counted, place)
        counted = place
        line_end = text.find("\n", place)
        line_end = len(text) if line_end < 0 else line_end
        try:
            value, place = decoder.raw_decode(text, place)
            behind = text[place : max(line_end, place)].strip(_BLANK)
            if behind and behind[0] not in "{[":  # as a name before its colon, within a value that is broken
                raise ValueError(f"{behind[:20]!r} follows a value")
        except (ValueError, RecursionError) as cause:
            yield number, Skip(f"not JSON ({cause})")
            place = line_end
            continue
        yield from ((number, element) for element in (value if isinstance(value, list) else [value]))


def read_json(text: str) -> Iterator[tuple[int, Any]]:
    """The records of a JSON text with their numbers: those of an array, of an object's one array, or of a column-wise table."""
    try:
        value = json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError) as cause:
        values = list(read_values(text))
        if sum(isinstance(value, Skip) for _, value in values) * 2 > len(values) or not text.lstrip(_BLANK).startswith("{"):
            raise Unreadable(f"not JSON ({cause})") from None
        yield from values
        return
    yield from enumerate(_records(value), 1)


def _records(value: Any) -> Iterable[Any]:
    if isinstance(value, list):
        return value
    if not isinstance(value, Mapping):
        return [value]
    values = list(value.values())
    names, data = value.get("columns"), value.get("data")
    if isinstance(data, list) and isinstance(names, list) and value.keys() <= {"columns", "index", "data"}:  # pandas' split
        return [
            dict(zip(names, row, strict=True)) if isinstance(row, list) and len(row) == len(names) else Skip("not a cell for each column")
            for row in data
        ]
    if isinstance(data, list) and isinstance(value.get("schema"), Mapping) and value.keys() <= {"schema", "data"}:  # pandas' table
        return data
    if len(values) > 1 and all(isinstance(v, Mapping) and v for v in values):
        if all(key.isdecimal() for v in values for key in v):  # pandas: {column: {row: cell}}
            return [{name: cells.get(row) for name, cells in value.items()} for row in values[0]]
        return values  # {name: record}
    columns = len(values) > 1 and all(isinstance(v, list) and len(v) == len(values[0]) for v in values)
    if columns and len(values[0]) >= _FEWEST_ROWS:  # {column: [cell, …]}
        return [dict(zip(value, cells, strict=True)) for cells in zip(*values, strict=True)]
    nested = [v for v in values if isinstance(v, list) and v and not all(isinstance(element, str) for element in v)]
    others = [v for v in values if isinstance(v, Mapping) and v]
    texts = any(as_text(value.get(name)) is not None for name in TEXT_FIELDS)
    return nested[0] if len(nested) == 1 and not others and not texts and not is_one_conversation(value) else [value]


def is_one_conversation(record: Mapping[str, Any]) -> bool:
    """Whether a list in the record holds the turns of one conversation, not records.

    >>> is_one_conversation({"messages": [{"role": "user", "content": "a"}]}), is_one_conversation({"conversations": [{"messages": []}]})
    (True, False)
    """
    lists = [value for name, value in record.items() if name.lower() in FIELDS and isinstance(value, list) and value]
    return any(isinstance(turns[0], Mapping) and not {"role", "from", "message"}.isdisjoint(turns[0]) for turns in lists)
