"""What the verbs of the command line share: options, and how words are read and told."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from bimo.core import fetch, registry, store
from bimo.core.errors import UserError
from bimo.core.reading import READ_OPTIONS, ReadOptions

app = typer.Typer(
    name="bimo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Every family of language model, prepared, trained, compared and served in the same way. 每一种语言模型，同一种用法。",
)

Sources = Annotated[
    list[str] | None, typer.Argument(metavar="SOURCE…", help="files, folders, globs or - (standard input); section.key=value")
]
Out = Annotated[Path | None, typer.Option("--out", help="folder to write")]
Valid = Annotated[str | None, typer.Option("--valid", help="validation text; used as it is")]
Test = Annotated[str | None, typer.Option("--test", help="test text; used as it is")]
TokenizerOption = Annotated[str | None, typer.Option("--tokenizer", help="byte, char, word, bpe, wordpiece or unigram")]
VocabSize = Annotated[int | None, typer.Option("--vocab-size", help="most tokens in the vocabulary")]
Documents = Annotated[str | None, typer.Option("--documents", help="what a document is: file, line, paragraph or stream")]
_FAMILIES = f"{', '.join(registry.families())}; or several as a hybrid: a+b; by text, budget and machine if not given"
FamilyOption = Annotated[str | None, typer.Option("--family", help=_FAMILIES)]
BudgetOption = Annotated[str | None, typer.Option("--budget", help="30s, 10m, 300steps, 2epochs or 5Mtokens")]
Seed = Annotated[int | None, typer.Option("--seed", help="of weights, batches and dropout")]
AdapterOption = Annotated[Path | None, typer.Option("--adapter", help="a folder of LoRA adapters to add into the weights")]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


def with_reading(command: Callable[..., None]) -> Callable[..., None]:
    """A command with an option for each reading option; it gets those that were given together, as `reading`."""
    own = inspect.signature(command, eval_str=True)
    kinds = get_type_hints(ReadOptions)

    def option(name: str) -> inspect.Parameter:
        flag = name.replace("_", "-")
        kind = bool | None if kinds[name] == bool | None else str | None
        words = typer.Option(f"--{flag}/--no-{flag}" if kind == bool | None else f"--{flag}", help=READ_OPTIONS[name].metadata["help"])
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, words])

    def run(**given: Any) -> None:
        reading = {name: value for name in READ_OPTIONS if (value := given.pop(name)) is not None}
        command(**given, reading=reading)

    kept = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own.parameters.values() if p.name != "reading"]
    place = next(i for i, p in enumerate(kept) if p.name == "documents") + 1
    shown = [*kept[:place], *map(option, READ_OPTIONS), *kept[place:]]
    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    run.__annotations__ = {p.name: p.annotation for p in shown}
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # typer reads the options off it
    return run


def parted(words: list[str] | None) -> tuple[list[str], list[str]]:
    """Sources and overrides: a word with = is an override unless a file has that name."""
    sources, overrides = [], []
    for word in words or []:
        (overrides if "=" in word and not os.path.exists(word) else sources).append(word)
    return sources, overrides


def print_json(value: Any) -> None:
    """Print the one JSON value that --json promises, on standard output."""
    print(store.json_text(value))


def tell(notices: list[str]) -> None:
    """Print notices on standard error, a line each."""
    for notice in notices:
        print(f"bimo: {notice}", file=sys.stderr, flush=True)


def standard_input(what: str = "prompt") -> str:
    """All of standard input; `UserError` where it is not UTF-8. what: how the error calls it."""
    from bimo.data import formats

    try:
        return formats.standard_input().read().decode("utf-8")
    except UnicodeDecodeError as cause:
        raise UserError(f"standard input: the {what} is not UTF-8 (byte {cause.start})") from None


def is_model(word: str) -> bool:
    """Whether a word that holds = is a model's name and no option: a path that exists, or the form that names a package."""
    return os.path.exists(word) or fetch.is_remote(word)
