"""The command line: one verb, one public function; nothing is computed here.

Results go to standard output, progress to standard error. Exit codes: 0; 2 the user's mistake; 1 ours or the machine's;
130 Ctrl-C. `section.key=value` is an override unless a file has that name.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from typing import Annotated, Any, NoReturn

import typer

from bimo.cli import learning, using
from bimo.cli.words import app
from bimo.core import store, terminal
from bimo.core.errors import BimoError, BimoWarning, memory_errors

__all__ = ["app", "learning", "main", "using"]


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False,
) -> None:
    if version:
        import bimo

        print(f"bimo {bimo.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; every error is one line on standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":  # letters that cannot be printed are spelled out
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with memory_errors(), terminal.showing(None if _only_help() else "starting"):
            _show_warnings()
            sys.exit(app(standalone_mode=False))
    except typer.Abort:
        _fail("interrupted", 130)
    except BimoError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename or 'the machine'}: {error.strerror or error}", 1)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own, which some releases of typer carry inside
            _fail_usage(error)
        if os.environ.get("BIMO_DEBUG"):
            raise
        _fail(f"unexpected {type(error).__name__}: {error} (this is a bug; BIMO_DEBUG=1 shows where)", 1)


def _only_help() -> bool:
    """Whether the words ask for help or for the version, which come at once."""
    return len(sys.argv) < 2 or not {"--help", "--version"}.isdisjoint(sys.argv)


def _fail_usage(error: Any) -> NoReturn:
    """What is wrong with the words of the command line, in one line."""
    context = getattr(error, "ctx", None)
    if not error.format_message():  # no command was given: the help has been printed
        sys.exit(2)
    _fail(f"{error.format_message()} ({context.command_path if context else 'bimo'} --help lists what there is)", error.exit_code)


def _show_warnings() -> None:
    """Print our own warnings as one line each; those of other libraries stay as they are."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if issubclass(category, BimoWarning):
            print("bimo: warning: " + " ".join(store.printable(str(message)).split()), file=sys.stderr)
        else:
            usual(message, category, *where)

    warnings.showwarning = show


def _fail(message: str, code: int) -> NoReturn:
    print("bimo: " + " ".join(store.printable(message).split()), file=sys.stderr)
    sys.exit(code)
