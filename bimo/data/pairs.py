"""Two files side by side: line i of the one is what line i of the other is given (`source.en::target.de`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from bimo.core.errors import SourceError
from bimo.core.store import printable
from bimo.data.documents import FileReport, ReadReport, lines_of, utf8_length
from bimo.data.encodings import Found, Unreadable, decode_blocks
from bimo.data.formats import Leaf, byte_chunks, reading

MARK = "::"


def split_pair(name: str) -> tuple[str, str] | None:
    """The two names of `given::text`, or None where the name is no pair.

    >>> split_pair("train.en.gz::train.de.gz"), split_pair("train.txt")
    (('train.en.gz', 'train.de.gz'), None)
    """
    given, mark, text = name.partition(MARK)
    return (given, text) if mark and given and text else None


def read_pairs(
    name: str, find: Callable[[str], Iterator[Leaf]], report: ReadReport, encoding: str | None = None
) -> Iterator[tuple[str, tuple[str, int, str]]]:
    """The name of the text's file and (text, its bytes with the newline, what it is given), line by line.

    Raises `SourceError` where a side is not one text file that can be read, or where the sides have different numbers of lines.
    """
    sides = split_pair(name)
    assert sides is not None
    found = Found(), Found()
    given, text = (_lines(side, _the_leaf(side, find), into, encoding) for side, into in zip(sides, found, strict=True))
    shown = printable(sides[0]), printable(sides[1])
    entry = FileReport(shown[1], "text", "utf-8", notes=[f"line by line what it is given: {shown[0]}"])
    for number, (source, target) in enumerate(itertools.zip_longest(given, text), 1):
        if source is None or target is None:
            short, long = (sides[0], sides[1]) if source is None else (sides[1], sides[0])
            raise SourceError(f"{name}: {short} ends after {number - 1} lines, {long} goes on; they must have a line for each line")
        size = utf8_length(target) + 1
        yield shown[1], (target, size, source)
        entry.documents += 1
        entry.bytes += size
    for side, into in zip(shown, found, strict=True):
        entry.notes += [f"{side}: {remark}" for remark in into.remarks()]
    entry.encoding = found[1].encoding
    report.files.append(entry)


def _the_leaf(name: str, find: Callable[[str], Iterator[Leaf]]) -> Leaf:
    leaves = list(find(name))
    if len(leaves) != 1 or leaves[0].format not in ("text", "markdown"):
        what = f"{len(leaves)} files" if len(leaves) != 1 else f"a {leaves[0].format} file"
        raise SourceError(f"{name}: a side of a pair is one text file, found {what}; records with prompt and completion need no '{MARK}'")
    return leaves[0]


def _lines(side: str, leaf: Leaf, found: Found, encoding: str | None) -> Iterator[str]:
    try:
        with reading():
            stream = leaf.open()
        with stream:
            yield from lines_of(decode_blocks(byte_chunks(stream), found, encoding=encoding))
    except Unreadable as cause:
        raise SourceError(f"{side}: {cause}; a side of a pair is one text file") from None
