"""Reading: files, folders, globs and standard input become documents, and a report tells what became of each file."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from bimo.core import progress
from bimo.core.errors import RecipeError, SourceError, did_you_mean
from bimo.core.progress import Task
from bimo.core.reading import ReadOptions
from bimo.core.store import printable
from bimo.data.conversations import learned_answers
from bimo.data.documents import (
    MODES,
    Document,
    DocumentMode,
    FileReport,
    Part,
    ReadReport,
    clean_documents,
    part_text,
    utf8_length,
)
from bimo.data.encodings import Found, Unreadable, decode_blocks, refuse_unknown_encoding
from bimo.data.formats import Leaf, byte_chunks, is_hidden, leaves, standard_input
from bimo.data.pairs import read_pairs, split_pair
from bimo.data.records import Records, html_text
from bimo.text.clean import Cleaner, is_markup

__all__ = ["Document", "DocumentMode", "ReadReport", "Sources", "read_documents"]

_TIME_CODE = re.compile(r"^(?:\d+:)?\d\d:\d\d[.,]\d{3} --> (?:\d+:)?\d\d:\d\d[.,]\d{3}", re.M)  # of SubRip and WebVTT
Sources = str | Path | Iterable[str | Path | Leaf]


def listed(sources: Sources) -> list[str | Leaf]:
    """Sources as a list of names, and of what is to be read as it is; a single path is a list of one."""
    return [str(sources)] if isinstance(sources, str | Path) else [s if isinstance(s, Leaf) else str(s) for s in sources]


def read_documents(
    sources: Sources,
    documents: DocumentMode = "file",
    report: ReadReport | None = None,
    clean: bool | Cleaner = True,
    conversations: bool = False,
    reading: ReadOptions | None = None,
) -> Iterator[Document]:
    """The documents of `sources`: paths, folders, globs, "-" for standard input, or two files side by side, `given::text`.

    Text files are parted by `documents`; records of JSON, JSON Lines, CSV, TSV and Parquet are documents in every mode.
    `report` is filled as the documents are read: what cannot be read is listed there with the reason. Raises
    `SourceError` where a source is missing or nothing in all of them can be read. conversations: records of turns, or of a prompt and an
    answer, have their turns (`bimo.data.conversations`); otherwise they are refused, or pairs. reading: what the user states of the
    files; the rest is found out from each. Memory holds one document and about two
    megabytes of its file (with `file` and `stream` a document is a file).
    """
    if documents not in MODES:
        raise RecipeError(f"documents: unknown mode {documents!r}; {did_you_mean(documents, MODES)}")
    reading = reading or ReadOptions()
    refuse_unknown_encoding(reading.encoding)
    report = ReadReport() if report is None else report
    cleaner = clean if isinstance(clean, Cleaner) else Cleaner() if clean else None
    before = cleaner.counts.copy() if cleaner else None
    names = listed(sources)
    for name in names:
        if isinstance(name, str) and split_pair(name) is not None and not Path(name).exists():
            yield from _read_pair(name, documents, cleaner, report, reading)
        else:
            for leaf in [name] if isinstance(name, Leaf) else _find_leaves(name, report):
                yield from _read_leaf(leaf, documents, cleaner, report, conversations, reading)
    if cleaner and before is not None:
        report.cleaned.update(cleaner.counts - before)
    if not report.documents:
        why = "; ".join(f"{name}: {why}" for name, why in report.skipped[:5]) or "no files"
        more = f"; and {len(report.skipped) - 5} more" if len(report.skipped) > 5 else ""
        told = ", ".join(name.name if isinstance(name, Leaf) else name for name in names)
        raise SourceError(f"nothing readable in {told or 'no sources'} ({why}{more})")


def refuse_missing(sources: Iterable[str | Leaf]) -> None:
    """Raise `SourceError` where a source names no file or folder that is there; nothing is read.

    >>> refuse_missing(["no-such-file.txt"])
    Traceback (most recent call last):
    bimo.core.errors.SourceError: no-such-file.txt: no such file or folder
    """
    for name in sources:
        if isinstance(name, Leaf) or name == "-":
            continue
        sides = (split_pair(name) if not Path(name).exists() else None) or (name,)
        for side in sides:
            path = Path(side).expanduser()
            if side != "-" and not path.exists() and next(glob.iglob(str(path), recursive=True), None) is None:
                raise SourceError(f"{side}: no such file or folder")


def _read_pair(name: str, mode: DocumentMode, cleaner: Cleaner | None, report: ReadReport, reading: ReadOptions) -> Iterator[Document]:
    if mode == "stream":
        raise RecipeError(f"documents: {name} is read line by line, each given the other side's; stream joins the lines of a text")
    for source, found in read_pairs(name, lambda side: _find_leaves(side, report), report, reading.encoding):
        yield from clean_documents([found], source, cleaner, report)


def _read_leaf(
    leaf: Leaf, mode: DocumentMode, cleaner: Cleaner | None, report: ReadReport, conversations: bool, reading: ReadOptions
) -> Iterator[Document]:
    entry = FileReport(leaf.name, leaf.format, "utf-8")
    dropped = report.dropped_documents
    task = progress.begin(Task(f"reading {Path(leaf.name).name}", in_bytes=True))
    try:
        tags_stay = cleaner is None or not cleaner.options.markup
        for found in _texts(leaf, entry, mode, report, conversations, reading, tags_stay):
            for document in clean_documents(found, leaf.name, cleaner, report):
                entry.documents += 1
                entry.bytes += document.bytes
                task.done = max(task.done, entry.bytes)
                yield document
    except Unreadable as cause:
        why = f"after {entry.documents} document(s): {cause}" if entry.documents else str(cause)
        report.skipped.append((leaf.name, why))
    else:
        if not entry.documents:
            why = "; ".join(entry.notes) or ("only blank text" if report.dropped_documents > dropped else "empty")
            report.skipped.append((leaf.name, why))
    finally:
        progress.end(task)
    entry.notes += leaf.notes
    if entry.documents:
        report.files.append(entry)


def _texts(
    leaf: Leaf,
    entry: FileReport,
    mode: DocumentMode,
    report: ReadReport,
    conversations: bool,
    reading: ReadOptions,
    tags_stay: bool,
) -> Iterator[Sequence[Part]]:
    """The parts of a file that are documents, in lists. tags_stay: cleaning does not take tags out, which is noted where there are any."""
    if leaf.format == "text" and reading.delimiter and (reading.text_column or reading.source_column):
        entry.format = "tsv" if reading.delimiter == "\t" else "csv"  # a table by another name
    if unused := [name for name in reading.to_dict() if name in _NOT_OF.get(entry.format, ())]:
        entry.notes.append(f"{', '.join(unused)}: without effect, as it is read as {entry.format}")
    try:
        stream = leaf.open()
    except OSError as cause:
        raise Unreadable(f"cannot be read ({cause.strerror or cause})") from None
    with stream:
        if entry.format in ("text", "markdown"):
            found = Found()
            blocks = decode_blocks(byte_chunks(stream), found, encoding=reading.encoding)
            first = next(blocks, "")
            if tags_stay and leaf.format == "text" and is_markup(first):
                entry.notes.append("its tags are read as text; text.clean.markup=true leaves them out")
            if leaf.format == "text" and _TIME_CODE.search(first[: 1 << 12]):
                entry.notes.append("numbers and time codes of subtitles are read as text; save what is said without them first")
            yield from part_text(itertools.chain([first], blocks), mode)
            entry.encoding = found.encoding
            entry.notes += found.remarks()
        elif entry.format == "html":
            yield from part_text([html_text(stream, entry, reading.encoding)], mode)
        else:
            for text, given, *turns in Records(entry, report, conversations, reading).read(stream):
                if turns:
                    answers = sum(map(utf8_length, learned_answers(turns[0])))
                    yield [(text, answers, None, turns[0])]
                else:
                    yield [(text, utf8_length(text), given)]


_COLUMNS = ("text_column", "source_column", "target_column")
_NOT_OF = {  # reading options that say nothing of a format
    "text": ("delimiter", *_COLUMNS, "header"), "markdown": ("delimiter", *_COLUMNS, "header"), "html": ("delimiter", *_COLUMNS, "header"),
    "json": ("delimiter", "header"), "jsonl": ("delimiter", "header"), "parquet": ("encoding", "delimiter", "header"),
}  # fmt: skip


def _find_leaves(name: str, report: ReadReport) -> Iterator[Leaf]:
    if name == "-":
        yield Leaf("standard input", "text", lambda: cast(BinaryIO, os.fdopen(os.dup(standard_input().fileno()), "rb")))
        return
    for path in _find_files(name, report):
        try:
            yield from leaves(path, report.skipped)
        except Unreadable as cause:
            report.skipped.append((printable(path), str(cause)))


def _find_files(name: str, report: ReadReport) -> Iterator[Path]:
    path = Path(name).expanduser()
    if path.is_dir():
        yield from _walk(path, report)
    elif path.exists():
        yield path
    else:
        found = sorted(glob.glob(str(path), recursive=True))
        if not found:
            raise SourceError(f"{name}: no such file or folder")
        for match in map(Path, found):
            if match.is_dir() and "**" not in name:
                yield from _walk(match, report)
            elif not match.is_dir():
                yield match


def _walk(folder: Path, report: ReadReport) -> Iterator[Path]:
    """The files below a folder, sorted; hidden ones are listed as skipped."""

    def refused(error: OSError) -> None:
        report.skipped.append((printable(error.filename), f"cannot be read ({error.strerror})"))

    for root, folders, files in os.walk(folder, onerror=refused):
        for hidden in sorted(n for n in [*folders, *files] if is_hidden(n)):
            report.skipped.append((printable(Path(root) / hidden), "hidden"))
        folders[:] = sorted(n for n in folders if not is_hidden(n))
        for file in sorted(n for n in files if not is_hidden(n)):
            path = Path(root) / file
            if path.is_file():
                yield path
            else:
                report.skipped.append((printable(path), "not a file, or a link to nothing"))
