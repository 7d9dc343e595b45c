"""Reading options: what the user states of the files that are read, declared once for recipe, Python and command line."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypedDict

from bimo.core.errors import RecipeError

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|", "none": ""}


class ReadKeywords(TypedDict, total=False):
    """The reading options as keyword arguments of the public functions; each is described in `ReadOptions`."""

    encoding: str | None
    delimiter: str | None
    text_column: str | int | None
    source_column: str | int | None
    target_column: str | int | None
    header: bool | None


@dataclass(frozen=True)
class ReadOptions:
    """What the user states of the files; what is None is found out from each file.

    >>> ReadOptions(delimiter="tab", text_column=2)
    ReadOptions(encoding=None, delimiter='\\t', text_column='2', source_column=None, target_column=None, header=None)
    """

    encoding: str | None = field(default=None, metadata={"help": "encoding of the text files, such as gb18030; found out if not given"})
    delimiter: str | None = field(
        default=None, metadata={"help": "delimiter of tables: a character, comma, semicolon, tab, pipe, or none (a line is one cell)"}
    )
    text_column: str | int | None = field(
        default=None, metadata={"help": "field that holds the text: its name, a path such as data.text, or a column's number from 1"}
    )
    source_column: str | int | None = field(default=None, metadata={"help": "of pairs: the field of the source, or of the prompt"})
    target_column: str | int | None = field(default=None, metadata={"help": "of pairs: the field of the target, or of the answer"})
    header: bool | None = field(
        default=None, metadata={"help": "whether tables begin with the names of their columns; found out if not given"}
    )

    def __post_init__(self) -> None:
        for name in ("text_column", "source_column", "target_column"):
            value = getattr(self, name)
            if isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, name, str(value))
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", _character(self.delimiter))
        if (self.source_column is None) != (self.target_column is None):
            missing, there = ("target", "source") if self.target_column is None else ("source", "target")
            raise RecipeError(f"{there}_column: names one side of pairs; name the other in {missing}_column")
        if self.text_column is not None and self.source_column is not None:
            raise RecipeError("text_column: records are texts by it, and pairs by source_column and target_column; leave one of them out")

    @property
    def columns(self) -> ReadOptions:
        """What a model remembers: which columns its text came from. Encoding and delimiter are a file's own."""
        return replace(self, encoding=None, delimiter=None)

    def over(self, remembered: ReadOptions) -> ReadOptions:
        """These options, and for those that are not given the remembered ones; columns that are given replace all columns."""
        stated = self.to_dict()
        columns = {"text_column", "source_column", "target_column"}
        kept = {k: v for k, v in remembered.to_dict().items() if k not in columns or columns.isdisjoint(stated)}
        return ReadOptions(**{**kept, **stated})

    def to_dict(self) -> dict[str, Any]:
        """The options that are stated, as plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


READ_OPTIONS = {option.name: option for option in fields(ReadOptions)}


def _character(delimiter: str) -> str:
    character = DELIMITERS.get(delimiter, delimiter)
    if len(character) > 1 or (character and character in '\r\n"'):
        names = ", ".join(name for name in DELIMITERS if name.isalpha())
        raise RecipeError(f"delimiter: {delimiter!r} is not one character; a single one is, or one of {names}")
    return character
