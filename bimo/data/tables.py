"""CSV and TSV: the delimiter, the quoting and the header are found from the first rows; each row is a record, or a reason why not."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Literal

from bimo.core.reading import ReadOptions
from bimo.data.encodings import Unreadable

SAMPLE_LINES = 1000  # that are looked at
_FIT = 2 / 3  # the share of rows with the same number of cells below which a table is refused
_MOST_OPEN_QUOTES = 20  # each is read over to the end of the file
_DELIMITERS = (",", ";", "\t", "|")
_FOREIGN = ("，", "；", "、", "｜")  # named where a table is refused, never chosen
_SEP = re.compile(r"sep=(.)\n")  # a spreadsheet's own first line
_ESCAPED = re.compile(r'\\([\\"])')
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}")
_NUMBER = re.compile(r"[-+]?[\d.,:/ %-]+(?:[eE][-+]?\d+)?")

Quoting = Literal["standard", "backslash", "none"]


class Skip(str):
    """Why a record cannot be read."""

    __slots__ = ()


@dataclass(frozen=True)
class Dialect:
    """How lines become cells. quoting: quotes are doubled within quotes, or escaped by a backslash, or are characters like any other."""

    delimiter: str  # "": a line is one cell
    quoting: Quoting
    spaced: bool = False  # a space follows each delimiter


@dataclass
class Table:
    """A table: the names of its columns (their numbers where it has no header), its rows by line number, and notes."""

    names: list[str]
    header: bool
    head: list[tuple[int, list[str]]]  # the first rows of data
    rows: Iterator[tuple[int, dict[str, str] | Skip]]
    notes: list[str] = field(default_factory=list)


def open_table(lines: Iterable[str], tabs: bool, options: ReadOptions, known: frozenset[str]) -> Table:
    """The table of lines without their ends. tabs: its name ends with .tsv; known: names of columns, in lower case.

    Raises `Unreadable` where no delimiter gives most rows the same number of cells.
    """
    csv.field_size_limit(2**31 - 1)
    source = (line + "\n" for line in lines)
    sample = list(islice(source, SAMPLE_LINES + 1))
    stated, skipped, notes = options.delimiter, 0, []
    if sample and (sep := _SEP.fullmatch(sample[0])):
        stated, skipped = stated if stated is not None else sep[1], 1
        del sample[0]
    cut = len(sample) > SAMPLE_LINES
    dialect, width = _find_dialect(sample, cut, tabs, stated, known, notes)
    first = [(number + skipped, row) for number, row in islice(_parse(iter(sample), dialect, not cut), SAMPLE_LINES)]
    whole = [(number, row) for number, row in first if not isinstance(row, Skip) and row]
    names = _header([row for _, row in whole], options.header, known, notes)
    header = names is not None
    names = [str(i + 1) for i in range(width)] if names is None else distinct(names)
    rows = _rows(_parse(chain(sample, source), dialect), names, skipped, header)
    if renamed := [name for name in names if name.endswith(")") and "(column " in name]:
        notes.append(f"columns without a name of their own: {', '.join(map(repr, renamed))}")
    return Table(names, header, whole[header:], rows, notes)


def _rows(
    parsed: Iterator[tuple[int, list[str] | Skip]], names: list[str], skipped: int, header: bool
) -> Iterator[tuple[int, dict[str, str] | Skip]]:
    width = len(names)
    for number, row in parsed:
        if header and row and not isinstance(row, Skip):
            header = False
        elif type(row) is list and len(row) == width:
            yield number + skipped, dict(zip(names, row, strict=True))
        elif isinstance(row, Skip):
            yield number + skipped, row
        elif len(row) > width and not any(row[width:]):  # a spreadsheet's empty cells
            yield number + skipped, dict(zip(names, row, strict=False))
        elif row:
            hint = "; --delimiter none reads each line as a text" if width == 1 else ""
            yield number + skipped, Skip(f"has {len(row)} cells where the table has {width}{hint}")


# -- cells ------------------------------------------------------------------------------------------------------------


def _parse(lines: Iterator[str], dialect: Dialect, whole: bool = True) -> Iterator[tuple[int, list[str] | Skip]]:
    """Each row with the number of its first line. After one whose quotes do not pair, reading goes on at the next line.

    whole: the lines end where the file does; otherwise a row that is open at their end is left out.
    """
    if not dialect.delimiter:
        yield from ((number, [line.removesuffix("\n")]) for number, line in enumerate(lines, 1))
        return
    if dialect.quoting == "backslash":
        lines = (_ESCAPED.sub(lambda found: '""' if found[1] == '"' else "\\", line) for line in lines)
    quoting = csv.QUOTE_NONE if dialect.quoting == "none" else csv.QUOTE_MINIMAL
    number, open_quotes = 0, 0
    pending: list[str] = []  # lines of the row that is being read
    again: list[str] = []  # lines to be read once more, the next one last

    def feed() -> Iterator[str]:
        while again:
            pending.append(line := again.pop())
            yield line
        for line in lines:
            pending.append(line)
            yield line

    while True:
        rows = csv.reader(feed(), delimiter=dialect.delimiter, quoting=quoting, strict=True, skipinitialspace=dialect.spaced)
        try:
            for row in rows:
                yield number + 1, row
                number += len(pending)
                pending.clear()
            return
        except csv.Error as cause:
            unclosed = "unexpected end of data" in str(cause)
        if unclosed and not whole:
            return
        open_quotes += unclosed
        if open_quotes > _MOST_OPEN_QUOTES:
            raise Unreadable(f"line {number + 1}: a quote is opened and never closed, as in {open_quotes - 1} lines before")
        reason = "a quote is opened and never closed" if unclosed else "text follows a closing quote (a quote within quotes is doubled)"
        yield number + 1, Skip(reason)
        number += 1
        again += reversed(pending[1:])
        pending.clear()


# -- delimiter and quoting ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fit:
    dialect: Dialect
    width: int  # cells of most rows
    share: float  # of the rows, that have so many
    odd: tuple[int, int]  # the first row of another number of cells: its line, and that number
    broken: bool  # whether quotes do not pair in some row
    first: list[str]


def _fit(sample: Sequence[str], cut: bool, dialect: Dialect) -> _Fit | None:
    try:
        rows = [(number, row) for number, row in _parse(iter(sample), dialect, not cut) if row]
    except Unreadable:
        return None
    cells = [row for _, row in rows if not isinstance(row, Skip)]
    if not cells:
        return None
    widths = Counter(len(row) for row in cells)
    width = max(widths, key=lambda n: (widths[n], n == len(cells[0])))
    first = cells[0]
    if len(first) != width and not any(first[width:]):
        first = first[:width]
    others = [(number, len(row)) for number, row in rows if isinstance(row, Skip) or (len(row) != width and any(row[width:] or [1]))]
    return _Fit(dialect, width, 1 - len(others) / len(rows), others[0] if others else (0, 0), len(cells) < len(rows), first)


def _find_dialect(
    sample: Sequence[str], cut: bool, tabs: bool, stated: str | None, known: frozenset[str], notes: list[str]
) -> tuple[Dialect, int]:
    """The dialect that gives the most rows the same number of cells, the usual one first, and that number."""
    first = "\t" if tabs else ","
    quotings = _quotings("".join(sample), tabs)

    def best(delimiter: str) -> _Fit | None:
        spaced = all(cell.startswith(" ") for cell in sample[0].split(delimiter)[1:]) if sample and delimiter in sample[0] else False
        fits = [fit for q in quotings if (fit := _fit(sample, cut, Dialect(delimiter, q, spaced)))]
        usual = next((fit for fit in fits if fit.dialect.quoting == "standard" and not tabs), None)
        if usual is not None and not usual.broken:
            return usual
        if usual is not None and usual.share >= _FIT:  # a row or two are wrong, not all quotes
            fits = [fit for fit in fits if fit.dialect.quoting != "none"]
        return max(fits, key=lambda fit: (fit.share, fit.width > 1), default=None)  # the first of equals

    if stated is not None:
        fit = best(stated) if stated else None
        return (Dialect(stated, quotings[0]), 1) if fit is None else (fit.dialect, fit.width)
    fits = [fit for delimiter in (first, *(d for d in _DELIMITERS if d != first)) if (fit := best(delimiter))]
    if not fits:
        return Dialect(first, quotings[0]), 1
    tables = [fit for fit in fits if fit.width > 1 and fit.share >= _FIT and len(fit.first) == fit.width]
    if not tables:
        return _single_column(fits[0], sample, cut, known), 1
    chosen = max(tables, key=lambda fit: fit.share)
    others = [fit.dialect.delimiter for fit in tables if fit is not chosen and fit.share >= 0.9]
    if chosen.dialect.delimiter != first or others:
        also = f"; {', '.join(map(repr, others))} would part it, too" if others else ""
        notes.append(f"delimiter {chosen.dialect.delimiter!r}{also}; --delimiter states another")
    if chosen.dialect.quoting != quotings[0]:
        notes.append(_QUOTING_NOTES[chosen.dialect.quoting])
    elif tabs and chosen.dialect.quoting == "none" and any(_is_quoted(line, "\t") for line in sample):
        notes.append("quotes around cells are kept as text; a file whose name ends with .csv is read without them")
    return chosen.dialect, chosen.width


_QUOTING_NOTES: dict[Quoting, str] = {
    "standard": "cells are in quotes, which are taken off",
    "backslash": "quotes within cells are escaped by backslashes",
    "none": "quotes are kept as text, as they do not pair around cells",
}


def _quotings(text: str, tabs: bool) -> list[Quoting]:
    """The quotings that may be meant, the usual one first: evidence for another one is that it gives more rows their cells."""
    if '"' not in text:
        return ["none"] if tabs else ["standard"]
    escaped: list[Quoting] = ["backslash"] if '\\"' in text else []
    if not tabs:
        return ["standard", *escaped, "none"]
    doubled = re.search(r'(?:^|\t)"[^"\t\n]*""[^\t\n]*"(?:\t|$)', text, re.MULTILINE)
    return ["standard", *escaped, "none"] if doubled else ["none", "standard", *escaped]


def _is_quoted(line: str, delimiter: str) -> bool:
    cells = line.rstrip("\n").split(delimiter)
    return any(len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1] for cell in cells)


def _single_column(fit: _Fit, sample: Sequence[str], cut: bool, known: frozenset[str]) -> Dialect:
    """The dialect of a file without delimiters; `Unreadable` where there are some, and they do not part its rows alike."""
    for mark in _FOREIGN:
        other = _fit(sample, cut, Dialect(mark, "standard")) if mark in sample[0] else None
        if other and other.width > 1 and other.share >= _FIT and any(_key(cell) in known for cell in other.first):
            raise Unreadable(f"its rows seem to be parted by {mark!r}; if they are: --delimiter {mark}")
    if fit.width == 1 and fit.share >= _FIT and len(fit.first) == 1:
        return fit.dialect
    line, cells = fit.odd
    raise Unreadable(
        f"no delimiter gives most rows the same number of cells: by {fit.dialect.delimiter!r} line {line} has {cells}, most have "
        f"{fit.width}; a delimiter that is stated (--delimiter) is obeyed, and such rows are skipped; --delimiter none reads lines as texts"
    )


# -- header ------------------------------------------------------------------------------------------------------------


def is_number(cell: str) -> bool:
    """Whether a cell is empty, or holds a number, a date or a time."""
    return not (stripped := cell.strip()) or _NUMBER.fullmatch(stripped) is not None


def _key(cell: str) -> str:
    return cell.strip().lower()


def _header(rows: list[list[str]], stated: bool | None, known: frozenset[str], notes: list[str]) -> list[str] | None:
    """The names of the columns, or None where the first row is data.

    Evidence for names: known ones, words over columns of numbers, or single words over rows that are none.
    """
    if not rows or stated is False:
        return None
    first, rest = rows[0], rows[1:]
    if stated or any(_key(cell) in known for cell in first):
        return first
    for i, cell in enumerate(first):
        below = [row[i] for row in rest if i < len(row)]
        if below and not is_number(cell) and all(map(is_number, below)):
            return first
    if (
        rest
        and all(_NAME.fullmatch(cell.strip()) for cell in first)
        and not any(all(_NAME.fullmatch(cell.strip()) for cell in row) for row in rest)
    ):
        notes.append(f"the first row {first!r} is taken for a header; --no-header reads it as text")
        return first
    return None


def distinct(names: list[str]) -> list[str]:
    """Names without blanks around them; one that is there already, or is empty, has its number."""
    found: list[str] = []
    for number, name in enumerate(map(str.strip, names), 1):
        found.append(name if name and name not in found else f"{name} (column {number})".strip())
    return found
