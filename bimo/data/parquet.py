"""Parquet: the first rows decide which columns are read, and no other column is opened."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from bimo.data.encodings import Found, Unreadable
from bimo.data.formats import reading
from bimo.data.tables import distinct

_BATCH = 1024


class ParquetFile:
    """An open Parquet file.

    names: of its columns, one that is there already with its number; texts: those that may hold text; bytes: those of bytes.
    """

    def __init__(self, stream: BinaryIO, found: Found) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise Unreadable("needs the library pyarrow; pip install 'bimo[text]'") from None
        self.found = found
        with reading():
            source = stream if stream.seekable() else io.BytesIO(stream.read())
            try:
                self.file = pyarrow.parquet.ParquetFile(source)
            except (pyarrow.ArrowException, ValueError) as cause:
                raise Unreadable(f"damaged Parquet file ({cause})") from None
        self.schema = self.file.schema_arrow
        self.names = distinct(self.schema.names)
        held = list(zip(self.names, self.schema, strict=True))
        self.texts = [name for name, field in held if _holds_text(field.type)]
        self.bytes = [name for name, field in held if _is_bytes(field.type)]

    def rows(self, columns: Sequence[str] | None = None, limit: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows with their numbers from 1, of these columns (None: of all)."""
        wanted = [i for i, name in enumerate(self.names) if columns is None or name in columns]
        if columns is not None and not wanted:
            return
        read = list(dict.fromkeys(self.schema.names[i] for i in wanted))
        there = [i for i, name in enumerate(self.schema.names) if name in read]  # columns of one name are read together
        names = [self.names[i] for i in wanted]
        number = 0
        with reading():
            for batch in self.file.iter_batches(columns=read, batch_size=min(limit or _BATCH, _BATCH)):
                cells = [self._cells(batch.column(there.index(i))) for i in wanted]
                for row in zip(*cells, strict=True):
                    number += 1
                    yield number, dict(zip(names, row, strict=True))
                    if number == limit:
                        return

    def _cells(self, column: Any) -> list[Any]:
        if not _is_bytes(column.type):
            try:
                return column.to_pylist()
            except ValueError:  # bytes that are not UTF-8; nanoseconds, which Python's times do not have
                pass
        return [self._plain(cell) for cell in column]

    def _plain(self, scalar: Any) -> Any:
        """A cell as Python has it; bytes are text in UTF-8, and what is no text there becomes U+FFFD and is counted."""
        from pyarrow import types

        kind = scalar.type
        if not scalar.is_valid:
            return None
        if types.is_struct(kind):
            return {name: self._plain(scalar[i]) for i, name in enumerate(kind.names)}
        if types.is_dictionary(kind):
            return self._plain(scalar.dictionary[scalar.index.as_py()])
        if _is_list(kind):
            return [self._plain(value) for value in scalar.values]
        if _is_string(kind) or _is_bytes(kind):
            data = scalar.as_buffer().to_pybytes()
            text = data.decode("utf-8", "replace")
            if "\ufffd" in text:
                self.found.replaced += max(0, text.count("\ufffd") - data.count("\ufffd".encode()))
            return text
        try:
            return scalar.as_py()
        except ValueError:
            return str(scalar.value)


def _is_string(kind: Any) -> bool:
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return any(is_kind(kind) for is_kind in (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view))


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    return any(is_kind(kind) for is_kind in lists)


def _holds_text(kind: Any) -> bool:
    from pyarrow import types

    inner = kind.value_type if _is_list(kind) or types.is_dictionary(kind) else kind
    return _is_string(inner) or _is_bytes(kind)
