"""Reading: files, folders, globs and standard input become documents, and a report tells what became of each file."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from bimo.core.errors import RecipeError, SourceError, did_you_mean
from bimo.data.documents import MODES, Document, DocumentMode, FileReport, ReadReport, clean_documents, part_text
from bimo.data.formats import text_blocks
from bimo.text.clean import Cleaner

__all__ = ["Document", "DocumentMode", "ReadReport", "read_documents"]

Sources = str | Path | Iterable[str | Path]


def read_documents(
    sources: Sources, documents: DocumentMode = "file", report: ReadReport | None = None, clean: bool | Cleaner = True
) -> Iterator[Document]:
    """The documents of `sources`: paths, folders, globs, or "-" for standard input.

    `report` is filled as the documents are read. Raises `SourceError` where a source is missing or nothing in all of
    them can be read.
    """
    if documents not in MODES:
        raise RecipeError(f"documents: unknown mode {documents!r}; {did_you_mean(documents, MODES)}")
    report = ReadReport() if report is None else report
    cleaner = clean if isinstance(clean, Cleaner) else Cleaner() if clean else None
    names = [sources] if isinstance(sources, str | Path) else list(sources)
    for path in _find_files(names):
        entry = FileReport(str(path), "text", "utf-8")
        report.files.append(entry)
        for found in part_text(text_blocks(path), documents):
            for document in clean_documents(found, entry.name, cleaner, report):
                entry.documents += 1
                entry.bytes += document.bytes
                yield document
    if cleaner:
        report.cleaned.update(cleaner.counts)
    if not report.documents:
        raise SourceError(f"nothing readable in {', '.join(map(str, names))}")


def _find_files(names: Iterable[str | Path]) -> Iterator[Path]:
    for name in names:
        path = Path(name)
        if path.is_dir():
            for root, folders, files in os.walk(path):
                folders.sort()
                yield from (Path(root) / f for f in sorted(files))
        elif path.exists():
            yield path
        else:
            found = sorted(glob.glob(str(name), recursive=True))
            if not found:
                raise SourceError(f"{name}: no such file or folder")
            yield from map(Path, found)
