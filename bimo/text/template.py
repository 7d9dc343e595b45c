"""Chat templates: the text that a model was taught to read a conversation as, written in jinja2 by the model's maker."""

from __future__ import annotations

import bisect
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from types import CodeType
from typing import Any, Self

from bimo.core.errors import ModelError, UserError
from bimo.text.vocabularies.added import written

Message = Mapping[str, Any]  # role and content; what else it holds the template may read
_MOST_SOURCE = 1 << 18  # characters of a template
DEFAULT = "default"
STANDS = chr(0xFFFF2)  # a character of private use, which stands for a text
# What a model without a template is taught to read: the texts as they are, an end behind each (as DialoGPT does, Zhang et al. 2019).
PLAIN = (
    "{% for message in messages %}{% if message['content'] is not string or message['tool_calls'] %}"
    "{{ raise_exception('its content is no text') }}{% endif %}"
    "{{ message['content'] }}{{ eos_token }}{% endfor %}"
)


class ChatTemplate:
    """A template, and the special tokens that it may write by name (`bos_token`, `eos_token`, …).

    >>> t = ChatTemplate("{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}", {"eos_token": "</s>"})
    >>> t.render([{"role": "user", "content": "hi"}])
    'user: hi</s>'
    """

    def __init__(self, source: str, specials: Mapping[str, str] | None = None) -> None:
        if len(source) > _MOST_SOURCE:
            raise ModelError(f"chat template: {len(source):,} characters; {_MOST_SOURCE:,} are the most")
        self.source = source
        self.specials = dict(specials or {})
        self._code: dict[bool, CodeType] = {}  # compiled, with {% generation %} blocks marked or not

    @classmethod
    def find(cls, settings: Mapping[str, Any], where: str = "tokenizer_config.json") -> Self | None:
        """The template that a tokenizer's settings hold, with the special tokens that they name; None where there is none."""
        source = find_template(settings, where)
        if source is None:
            return None
        named = {name: written(token) for name, token in settings.items() if name.endswith("_token")}
        return cls(source, {name: token for name, token in named.items() if token is not None})

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **extra: Any,
    ) -> str:
        """The conversation as text; add_generation_prompt: it ends where the assistant's answer begins.

        Raises `UserError` for messages of the wrong form, or that the template refuses, by their number; `ModelError` for a template
        that is wrong, does what it may not, or does not end.
        """
        check_messages(messages)
        return self._render(messages, False, {"add_generation_prompt": add_generation_prompt, "tools": tools, **extra})

    @property
    def marks_answers(self) -> bool:
        """Whether the template says by {% generation %} blocks what the assistant says."""
        return re.search(r"\{%[-+]?\s*generation\b", self.source) is not None

    def render_marked(self, messages: Sequence[Message], **extra: Any) -> tuple[str, list[tuple[int, int]]]:
        """The conversation as text, and where in it each {% generation %} block begins and ends."""
        from bimo.text.sandbox import BEGIN, END

        check_messages(messages)
        text = self._render(messages, True, {"add_generation_prompt": False, "tools": None, **extra})
        parts = text.replace(END, BEGIN).split(BEGIN)
        if text.count(BEGIN) != text.count(END) or any(text.find(m) >= 0 for m in (BEGIN + BEGIN, END + END)) or len(parts) % 2 == 0:
            raise UserError("chat: the messages hold the characters U+FFFF0 or U+FFFF1, which mark the assistant's answers; remove them")
        ends = list(itertools.accumulate(map(len, parts)))
        return "".join(parts), [(ends[i], ends[i + 1]) for i in range(0, len(parts) - 1, 2)]

    def _render(self, messages: Sequence[Message], marked: bool, given: Mapping[str, Any]) -> str:
        from bimo.text.sandbox import Raised

        messages = [_plainer(message) for message in messages]
        if any(isinstance(message["content"], list) for message in messages) and not self._reads_parts:
            messages = [{**message, "content": _joined_parts(message["content"])} for message in messages]
        try:
            return self._run(messages, marked, given)
        except Raised as refused:
            number = self._first_refused(messages, given)
            raise UserError(f"messages: message {number}: the chat template refuses it: {refused}") from None

    @property
    def _reads_parts(self) -> bool:
        """Whether the template writes a content in parts; one for texts alone writes Python's form of the list, or nothing."""
        from bimo.text.sandbox import Raised

        content = [{"type": "text", "text": STANDS}]
        try:
            text = self._run([{"role": "user", "content": content}], False, {"add_generation_prompt": False, "tools": None})
        except (Raised, ModelError):
            return False
        return STANDS in text  # Python's form of a list spells it as an escape

    def leaves_out(self, messages: Sequence[Message], number: int, **extra: Any) -> bool:
        """Whether the text of this message, from 0, stands nowhere in the conversation's; templates may trim it, or write it elsewhere."""
        trial = [*messages]
        trial[number] = {**messages[number], "content": STANDS}
        try:
            return STANDS not in self.render(trial, **extra)
        except (UserError, ModelError):  # it looks into the text
            return False

    def _run(self, messages: Sequence[Message], marked: bool, given: Mapping[str, Any]) -> str:
        """The template's text. Raises `Raised` where the template itself says that it cannot go on."""
        from jinja2 import Template, TemplateError, TemplateSyntaxError

        from bimo.text.sandbox import MOST_OUTPUT, Limit, Raised, Sandbox

        sandbox = Sandbox(marked, literal=len(self.source))
        parts: list[str] = []
        size = 0
        try:
            if marked not in self._code:
                self._code[marked] = sandbox.compile(self.source, filename="<template>")
            template = Template.from_code(sandbox, self._code[marked], sandbox.make_globals(None))
            for part in template.generate({**self.specials, "messages": _plain(messages), **_plain(given)}):
                parts.append(part)
                size += len(part)
                if size > MOST_OUTPUT:
                    raise Limit(f"more than {MOST_OUTPUT:,} characters given")
        except Raised:
            raise
        except TemplateSyntaxError as wrong:
            raise ModelError(f"chat template, line {wrong.lineno}: {wrong.message}") from None
        except RecursionError:
            raise ModelError("chat template: it calls itself without end, or is nested too deep") from None
        except SyntaxError as wrong:  # Python's own parser, whose depth is bounded
            raise ModelError(f"chat template: it cannot be run, or is nested too deep ({wrong.msg})") from None
        except (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, MemoryError) as wrong:
            raise ModelError(f"chat template{_line(wrong)}: {str(wrong) or type(wrong).__name__}") from None
        return "".join(parts)

    def _first_refused(self, messages: Sequence[Message], given: Mapping[str, Any]) -> int:
        """The number, from 1, of the first message with which the template refuses the conversation."""
        from bimo.text.sandbox import Raised

        def refuses(count: int) -> bool:
            try:
                self._run(messages[:count], False, given)
            except Raised:
                return True
            except ModelError:
                return False
            return False

        return 1 + bisect.bisect_left(range(1, len(messages)), True, key=refuses)


def _plainer(message: Message) -> dict[str, Any]:
    """A message as templates expect it: a content of None is empty, the arguments of calls are a mapping, not its JSON (OpenAI's form)."""
    found = {**message, "content": "" if message.get("content") is None else message["content"]}
    if calls := message.get("tool_calls"):
        found["tool_calls"] = [_with_arguments(call) for call in calls] if isinstance(calls, list | tuple) else calls
    return found


def _with_arguments(call: Any) -> Any:
    if not isinstance(call, Mapping):
        return call
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _with_arguments(call["function"])}
    arguments = call.get("arguments")
    if not isinstance(arguments, str):
        return call
    try:
        read = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return call
    return {**call, "arguments": read} if isinstance(read, dict) else call


def _joined_parts(content: Any) -> Any:
    return "".join(part["text"] for part in content) if isinstance(content, list) else content


def _line(error: BaseException) -> str:
    """In which of the template's lines an error arose, as jinja2 tells it in the traceback; "" where it does not."""
    at, line = error.__traceback__, ""
    while at is not None:
        if at.tb_frame.f_code.co_filename == "<template>":
            line = f", line {at.tb_lineno}"
        at = at.tb_next
    return line


def _plain(value: Any) -> Any:
    """Text, numbers, lists and mappings alone: what a template cannot do harm with."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | float):
        return value
    return int(value) if isinstance(value, int) else str(value)


def check_messages(messages: Sequence[Message]) -> None:
    """Raise `UserError`, by the number of the message (from 1), unless each has a role and content: text, parts of text, or tool calls.

    >>> check_messages([{"role": "user"}])
    Traceback (most recent call last):
    bimo.core.errors.UserError: messages: message 1 has no content; write {"role": "user", "content": "..."}
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise UserError(f"messages: found a {type(messages).__name__}; expected a list of messages, each with role and content")
    if not messages:
        raise UserError("messages: there are none; give one at least")
    for number, message in enumerate(messages, 1):
        where = f"messages: message {number}"
        if not isinstance(message, Mapping):
            raise UserError(f'{where} is a {type(message).__name__}; write {{"role": "user", "content": "..."}}')
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not role:
            raise UserError(f'{where} has no role; write {{"role": "user", "content": "..."}}')
        if content is None and not message.get("tool_calls"):
            raise UserError(f'{where} has no content; write {{"role": "{role}", "content": "..."}}')
        if isinstance(content, str) or content is None:
            continue
        if not isinstance(content, list):
            raise UserError(f"{where}: its content is a {type(content).__name__}; expected text")
        for part in content:
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            if kind != "text" or not isinstance(part.get("text"), str):
                raise UserError(f'{where}: a part of the type {kind!r}; expected {{"type": "text", "text": "..."}}')


# -- where templates are kept -----------------------------------------------------------------------------------------


def find_template(settings: Mapping[str, Any], where: str = "tokenizer_config.json") -> str | None:
    """The `chat_template` of settings: a text, or a list of named ones, of which `default` counts.

    >>> find_template({"chat_template": [{"name": "default", "template": "a"}, {"name": "rag", "template": "b"}]})
    'a'
    """
    told = settings.get("chat_template")
    if told is None or isinstance(told, str):
        return told
    named = _named(told, where)
    if DEFAULT not in named and named:
        raise ModelError(f"{where}: chat_template holds {', '.join(named)}, and none is called default")
    return named.get(DEFAULT)


def put_template(settings: dict[str, Any], source: str | None) -> None:
    """Make `source` the template of settings; where there are several, it takes the place of the default."""
    told = settings.get("chat_template")
    if isinstance(told, list) and source is not None:
        others = [(name, text) for name, text in _named(told, "chat_template").items() if name != DEFAULT]
        settings["chat_template"] = [{"name": name, "template": text} for name, text in [(DEFAULT, source), *others]]
    elif source is None:
        settings.pop("chat_template", None)
    else:
        settings["chat_template"] = source


def _named(told: Any, where: str) -> dict[str, str]:
    entries: Iterable[Any] = told if isinstance(told, list) else [told]
    named = {}
    for entry in entries:
        name, text = (entry.get("name"), entry.get("template")) if isinstance(entry, Mapping) else (None, None)
        if not isinstance(name, str) or not isinstance(text, str):
            raise ModelError(f"{where}: chat_template must be a text, or a list of mappings with name and template")
        named[name] = text
    return named
