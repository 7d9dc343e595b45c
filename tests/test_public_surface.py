"""What people rely on: names, commands, options. Growing this list is a decision; shrinking it breaks someone."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import typer

import bimo
from bimo import cli

NAMES = ["BimoError", "Model", "UserError", "chat", "compare", "convert", "env", "evaluate", "explain", "families", "fill", "finetune",
         "generate", "info", "interpolate", "load", "plan", "prepare", "resume", "train"]  # fmt: skip

_READING = ["--encoding", "--delimiter", "--text-column", "--source-column", "--target-column", "--header"]
_TEXT = ["--valid", "--test", "--tokenizer", "--vocab-size", "--documents", *_READING]
COMMANDS = {
    "quickstart": ["sources", "--budget", "--out", "--lang"],
    "prepare": ["sources", "--out", *_TEXT, "--json"],
    "train": ["sources", "--family", "--out", *_TEXT, "--budget", "--seed", "--resume", "--json"],
    "finetune": ["model", "sources", "--full", "--out", "--valid", "--test", "--documents", *_READING, "--too-long", "--budget",
                 "--seed", "--json"],
    "chat": ["model", "options", "--adapter", "--system", "--max-new-tokens", "--temperature", "--top-p", "--seed"],
    "convert": ["model", "out", "--dtype", "--adapter", "--max-shard-size"],
    "generate": ["model", "prompt", "options", "--given", "--max-new-tokens", "--temperature", "--top-k", "--top-p", "--num-beams",
                 "--num-return-sequences", "--seed", "--json"],
    "interpolate": ["model", "first", "last", "options", "--steps", "--spherical", "--json"],
    "fill": ["model", "text", "--top-k", "--json"],
    "evaluate": ["model", "sources", "--documents", *_READING, "--stride", "--samples", "--latent", "--translate", "--json"],
    "explain": ["model", "text", "--given", "--top-k", "--out", "--lang", "--json"],
    "compare": ["sources", *_TEXT, "--families", "--budget", "--seed", "--out", "--hybrids", "--lang", "--json"],
    "plan": ["sources", "--family", *_TEXT, "--budget", "--seed", "--json"],
    "info": ["model", "--json"],
    "env": ["--json"],
}  # fmt: skip

_PYTHON = ["valid", "test", "tokenizer", "vocab_size", "documents", "reading"]
FUNCTIONS = {
    "prepare": ["sources", "out", *_PYTHON, "overrides"],
    "train": ["sources", "family", "out", *_PYTHON, "budget", "seed", "overrides"],
    "resume": ["folder"],
    "plan": ["sources", "family", *_PYTHON, "budget", "seed", "overrides"],
    "compare": ["sources", *_PYTHON, "families", "budget", "seed", "out", "hybrids", "lang", "overrides"],
    "evaluate": ["model", "sources", "documents", "reading", "stride", "samples", "latent", "translate"],
    "explain": ["model", "text", "given", "top_k", "out", "lang"],
    "generate": ["model", "prompt", "given", "options"],
    "interpolate": ["model", "first", "last", "steps", "spherical", "options"],
    "fill": ["model", "text", "top_k"],
    "load": ["model", "adapter"],
    "chat": ["model", "adapter", "system"],
    "convert": ["model", "out", "dtype", "adapter", "max_shard_size"],
    "finetune": ["model", "sources", "full", "out", "valid", "test", "documents", "reading", "too_long", "budget", "seed", "overrides"],
    "info": ["folder"],
    "env": [],
    "families": [],
}
MODEL = ["chat", "embed", "evaluate", "explain", "export", "fill", "generate", "generation_defaults", "info", "interpolate",
         "load_adapter", "merge_adapter",
         "notices", "reconstruct", "save", "score", "similarity", "stream", "unload_adapter", "unmerge_adapter", "write"]  # fmt: skip


def test_the_names_of_the_package() -> None:
    assert bimo.__all__ == NAMES
    assert dir(bimo) == sorted([*NAMES, "__version__"])
    for name in NAMES:
        assert getattr(bimo, name).__doc__
    with pytest.raises(AttributeError, match="it has BimoError"):
        bimo.lode  # noqa: B018


def _commands() -> dict[str, Any]:
    return dict(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]


def test_commands_and_options() -> None:
    found = {name: sorted(max(p.opts, key=len) for p in command.params if p.name != "help") for name, command in _commands().items()}
    assert found == {name: sorted(options) for name, options in COMMANDS.items()}
    for command in _commands().values():
        assert command.help


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_of_the_functions(name: str) -> None:
    assert sorted(inspect.signature(getattr(bimo, name)).parameters) == sorted(FUNCTIONS[name])


def test_methods_of_a_model() -> None:
    assert sorted(n for n in vars(bimo.Model) if not n.startswith("_")) == MODEL


def test_each_verb_has_a_function_of_its_name() -> None:
    for name in COMMANDS:
        assert name == "quickstart" or hasattr(bimo, name)
