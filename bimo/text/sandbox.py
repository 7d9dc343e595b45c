"""Where chat templates run: jinja2's sandbox as transformers sets it up, with bounds on steps, text and time.

A template comes with a model, from anyone. It sees no attribute of Python's own, can change nothing that it is given, and stops with an
error where it loops without end or makes more text than a conversation could need.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MOST_STEPS = 500_000  # turns of loops, calls and filters of one rendering
MOST_TEXT = 1 << 26  # characters of all texts that one rendering makes on its way
MOST_ITEMS = 1 << 17  # values inside one list or mapping, however deep
MOST_OUTPUT = 1 << 24  # characters of what it gives
MOST_SECONDS = 10.0
BEGIN, END = "\U000ffff0", "\U000ffff1"  # put around {% generation %} blocks where they are asked for: characters of no meaning

# Filters and methods that make much of little (a width, a count, a table of replacements), which no chat template needs.
_NO_FILTERS = ("center", "format", "slice", "batch", "wordwrap", "random", "pprint", "xmlattr", "urlize", "filesizeformat", "striptags")
_NO_METHODS = frozenset(["center", "ljust", "rjust", "zfill", "expandtabs", "translate", "maketrans", "encode", "to_bytes"])
_SIZED = (str, bytes, list, tuple, dict, range, set)
_BUILT = (nodes.List, nodes.Tuple, nodes.Dict)


class Limit(SecurityError):
    """A bound was met."""


class Raised(TemplateError):
    """The template itself refused what it was given."""


class Sandbox(ImmutableSandboxedEnvironment):
    """One rendering's surroundings: it counts what the template does."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, marked: bool = False, literal: int = 0) -> None:
        """marked: {% generation %} blocks are put between marks; literal: characters that one call can write without making them."""
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation], finalize=self._finalize, cache_size=0
        )
        self.marked = marked
        self.steps, self.text, self.literal = 0, 0, literal
        self.deadline = time.monotonic() + MOST_SECONDS
        for name in _NO_FILTERS:
            self.filters.pop(name)
        self.filters["tojson"] = _tojson
        bounded = {"replace": _replaced, "join": _joined, "indent": _indented, "sum": _summed}
        self.filters |= {name: self._counted_filter(do, bounded.get(name)) for name, do in self.filters.items()}
        hidden = {"counted": self._counted, "joined": self._together, "built": self._built}  # after a space: no template can write them
        self.filters |= {f" {name}": do for name, do in hidden.items()}
        for name in ("lipsum", "cycler", "joiner"):
            self.globals.pop(name)
        self.globals |= {"namespace": _Space, "raise_exception": _raise, "strftime_now": _now}

    # -- counting -----------------------------------------------------------------------------------------------------

    def step(self, made: int = 0) -> None:
        """Count one step, and the characters that it makes."""
        self.steps += 1
        self.text += made
        if self.steps > MOST_STEPS:
            raise Limit(f"more than {MOST_STEPS:,} steps")
        if self.text > MOST_TEXT:
            raise Limit(f"more than {MOST_TEXT:,} characters made")
        if not self.steps % 64 and time.monotonic() > self.deadline:
            raise Limit(f"more than {MOST_SECONDS:g} seconds")

    def _made(self, value: Any) -> Any:
        self.step(len(value) if isinstance(value, _SIZED) else 0)
        return value

    def _finalize(self, value: Any) -> Any:
        return self._made(value if isinstance(value, str) else str(value))

    def _counted(self, values: Any, literal: int) -> Iterator[Any]:
        for value in values:
            self.step(literal)
            yield value

    def _together(self, values: list[Any]) -> str:
        texts = list(map(str, values))
        self.step(sum(map(len, texts)))
        return "".join(texts)

    def _built(self, value: Any) -> Any:
        """A list or mapping as it is, if what it holds is within bounds: lists of lists could double at each step."""
        self.step()
        rest, items, size = [value], 0, 0
        while rest:
            item = rest.pop()
            items += 1
            size += len(item) if isinstance(item, str | bytes) else 0
            if items > MOST_ITEMS or size > MOST_TEXT:
                raise Limit(f"a list of more than {MOST_ITEMS:,} values or {MOST_TEXT:,} characters")
            if isinstance(item, list | tuple | set):
                rest.extend(item)
            elif isinstance(item, dict):
                rest.extend(item.values())
        return value

    def _counted_filter(self, do: Callable[..., Any], size: Callable[..., int] | None) -> Callable[..., Any]:
        @functools.wraps(do)
        def run(*args: Any, **options: Any) -> Any:
            self.step(sum(len(arg) for arg in args if isinstance(arg, _SIZED)) + (size(*args, **options) if size else 0))
            return self._made(do(*args, **options))

        return run

    # -- what jinja2 asks ---------------------------------------------------------------------------------------------

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            self.step(
                max((len(a) * max(b, 0) for a, b in ((left, right), (right, left)) if isinstance(a, _SIZED) and type(b) is int), default=0)
            )
        elif operator == "+":
            self.step(sum(len(side) for side in (left, right) if isinstance(side, _SIZED)))
        elif operator == "**" or isinstance(left, str | bytes):
            raise Limit(f"{operator} is not allowed here")
        value = super().call_binop(context, operator, left, right)
        if type(value) is int and value.bit_length() > 1024:
            raise Limit("a number of more than 1,024 bits")
        return self._built(value) if isinstance(value, list | tuple) else value

    def getitem(self, obj: Any, argument: Any) -> Any:
        return self._made(super().getitem(obj, argument))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str | bytes | int) and attr in _NO_METHODS:
            return False
        return not attr.startswith("_") and super().is_safe_attribute(obj, attr, value)

    def call(self, context: Any, obj: Any, /, *args: Any, **options: Any) -> Any:
        self.step(self.literal)
        if isinstance(obj, LoopContext):  # a recursive loop
            args = (self._counted(args[0], self.literal), *args[1:]) if args else args
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str):
            more = _replaced(None, owner, *args) if name == "replace" else _joined(None, args[0], owner) if name == "join" and args else 0
            self.step(len(owner) + more)
        value = self._made(super().call(context, obj, *args, **options))
        return self._built(value) if isinstance(value, list | tuple | dict) else value

    def wrap_str_format(self, value: Any) -> Any:
        if super().wrap_str_format(value) is not None:
            raise Limit("format is not allowed here; put texts together by +")
        return None

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in list(tree.find_all(nodes.For)):
            size = sum(len(data.data) for data in loop.find_all(nodes.TemplateData))
            loop.iter = nodes.Filter(loop.iter, " counted", [nodes.Const(size)], [], None, None, lineno=loop.lineno)
        return _hooked(tree)


def _hooked(node: Any) -> Any:
    """The tree with every `a ~ b`, list and mapping passed through a filter that counts."""
    for field, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, field, _hooked(value))
        elif isinstance(value, list):
            setattr(node, field, [_hooked(item) if isinstance(item, nodes.Node) else item for item in value])
    if isinstance(node, nodes.Concat):
        return nodes.Filter(nodes.List(node.nodes), " joined", [], [], None, None, lineno=node.lineno)
    if isinstance(node, _BUILT) and getattr(node, "ctx", "load") == "load":
        return nodes.Filter(node, " built", [], [], None, None, lineno=node.lineno)
    return node


class _Space(Namespace):
    """What `namespace()` makes: it prints as nothing of what it holds."""

    def __repr__(self) -> str:
        return "<namespace>"


class _Generation(Extension):
    """The block {% generation %}, which stands around what the assistant says."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        if not getattr(self.environment, "marked", False):
            return body
        begin, end = (nodes.Output([nodes.TemplateData(mark)], lineno=line) for mark in (BEGIN, END))
        return [begin, *body, end]


def _raise(message: object) -> None:
    raise Raised(str(message))


def _now(form: object) -> str:
    text = str(form)
    if len(text) > 128:  # each letter of it can become a whole date
        raise Limit("strftime_now: a form of more than 128 characters")
    return datetime.now().strftime(text)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
    if isinstance(indent, int | str) and (len(indent) if isinstance(indent, str) else indent) > 64:
        raise Limit(f"tojson: an indent of {indent!r}"[:80])
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _replaced(_: Any, text: Any = "", old: Any = "", new: Any = "", *__: Any, **___: Any) -> int:
    """How much text `replace(text, old, new)` can add."""
    return str(text).count(str(old)) * len(str(new))


def _joined(_: Any, values: Any = (), d: Any = "", *__: Any, **___: Any) -> int:
    """How long the separators of `join(values, d)` are together, and the values."""
    own = sum(len(value) for value in values if isinstance(value, str)) if isinstance(values, list | tuple) else 0
    return own + (len(values) * len(str(d)) if isinstance(values, _SIZED) else 0)


def _summed(_: Any, values: Any = (), attribute: Any = None, start: Any = 0) -> int:
    """`sum` makes a number; of lists, which it copies at each step, it makes none here."""
    if not isinstance(start, int | float):
        raise Limit("sum: of numbers alone")
    return 0


def _indented(text: Any, width: Any = 4, *_: Any, **__: Any) -> int:
    """How long the white space is that `indent(text, width)` adds."""
    return (str(text).count("\n") + 1) * (len(width) if isinstance(width, str) else int(width))
