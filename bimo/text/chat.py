"""Conversations as ids: to be answered, or to be learned from.

What people write never becomes a special token: in messages, the name of one is text like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bimo.core.errors import BimoError, UserError
from bimo.text.runners import Ids
from bimo.text.template import STANDS, ChatTemplate, Message, check_messages
from bimo.text.tokenizer import Tokenizer

__all__ = ["ChatTemplate", "Message", "encode_chat", "encode_example", "end_ids"]
_STAND_INS = range(0xF0000, 0xFFF00)  # characters of private use, of which one stands for the name of a special token


def encode_chat(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    messages: Sequence[Message],
    add_generation_prompt: bool = True,
    tools: Sequence[Mapping[str, Any]] | None = None,
    **extra: Any,
) -> list[int]:
    """Ids of a conversation; the special tokens are those that the template writes.

    Raises `UserError` where the template leaves the system's text out.

    >>> t = Tokenizer.train("byte", ["x"])
    >>> encode_chat(t, ChatTemplate("<s>{{ messages[0].content }}</s>"), [{"role": "user", "content": "</s>"}])
    [0, 63, 50, 118, 65, 1]
    """
    names = _Names(tokenizer, [messages, tools])
    check_messages(messages)
    hidden, extra = names.hidden(messages), {"tools": names.hidden(tools), **extra}
    text = _prompt(template, hidden, extra) if add_generation_prompt else template.render(hidden, **extra)
    _refuse_left_out(template, hidden, text, extra)
    ids: list[int] = []
    for start, end, token in names.stretches(text):
        ids += tokenizer.spans(names.shown(text[start:end]), start == 0)[0].tolist() if token is None else [token]
    return ids


def encode_example(
    tokenizer: Tokenizer,
    template: ChatTemplate,
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] | None = None,
    **extra: Any,
) -> tuple[Ids, NDArray[np.bool_]]:
    """(ids int64 [n], learned bool [n]) of a conversation: learned are the assistant's answers with the token that ends each.

    The template says where they are by {% generation %} blocks; where it has none, an answer begins where the conversation before it,
    with the prompt for an answer, ends. An answer with learn=False is not learned. Raises `UserError` where a template rewrites what
    came before.

    >>> t = Tokenizer.train("char", ["ab"]).talking()
    >>> ids, learned = encode_example(t, t.template, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    >>> ids.tolist(), learned.tolist()
    ([0, 4, 1, 5, 1], [False, False, False, True, True])
    """
    check_messages(messages)
    if not any(message["role"] == "assistant" for message in messages):
        raise UserError("messages: none is the assistant's; there is nothing to learn from")
    kept = [message.get("learn", True) for message in messages if message["role"] == "assistant"]
    messages = [{key: value for key, value in message.items() if key != "learn"} for message in messages]
    names = _Names(tokenizer, [messages, tools])
    extra = {"tools": names.hidden(tools), **extra}
    hidden = names.hidden(messages)
    text, answers = _answers(template, hidden, extra)
    _refuse_left_out(template, hidden, text, extra)
    if not all(kept):
        if len(answers) != len(kept):
            raise UserError(
                f"messages: {kept.count(False)} of {len(kept)} answers are not to be learned, but the chat template has "
                f"{len(answers)} {{% generation %}} blocks, so that they cannot be told apart"
            )
        answers = [place for place, learn in zip(answers, kept, strict=True) if learn]
    ids, learned = [np.empty(0, np.int64)], [np.empty(0, bool)]
    for start, end, token in names.stretches(text):
        if token is not None:
            ids.append(np.array([token]))
            learned.append(np.array([any(a <= start < b for a, b in answers)]))
            continue
        found, spans = tokenizer.spans(names.shown(text[start:end]), start == 0)
        inside = np.zeros(len(found), bool)
        for a, b in answers:
            a, b = (len(names.shown(text[start : min(max(place, start), end)])) for place in (a, b))
            inside |= (spans[:, 0] < b) & (np.maximum(spans[:, 1], spans[:, 0] + 1) > a)
        ids.append(found)
        learned.append(inside)
    return np.concatenate(ids), np.concatenate(learned)


def end_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The special tokens by which the chat template ends an answer; none where there is no template, or it ends them with text."""
    template, trial = tokenizer.template, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    if template is None:
        return ()
    try:
        ids, learned = encode_example(tokenizer, template, trial)
    except BimoError:  # it asks for more than this, tools say
        return ()
    special = {token.id for token in tokenizer.special_tokens.values()}
    return tuple(dict.fromkeys(i for i in ids[learned].tolist() if i in special))[-1:]


def _answers(template: ChatTemplate, messages: Any, extra: Mapping[str, Any]) -> tuple[str, list[tuple[int, int]]]:
    """A conversation's text, and where in it the assistant's answers begin and end, white space behind them left out."""
    if template.marks_answers:
        text, places = template.render_marked(messages, **extra)
    else:
        text, places = template.render(messages, **extra), []
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                until = template.render(messages[: i + 1], **extra)
                before = _prompt(template, messages[:i], extra) if i else _before(template, message, extra)
                if not (text.startswith(until) and until.startswith(before)):
                    raise UserError(
                        f"messages: message {i + 1}: the chat template writes what stands before it otherwise once more follows (it may "
                        "drop earlier thinking), so what is to be learned cannot be told; give the conversation up to this answer as an "
                        "example of its own, or a template with {% generation %} blocks"
                    )
                places.append((len(before), len(until)))
    return text, [(a, a + len(text[a:b].rstrip())) for a, b in places]


def _before(template: ChatTemplate, first: Message, extra: Mapping[str, Any]) -> str:
    """What a template writes before the text of a first message."""
    text = template.render([{**first, "content": STANDS}], **extra)
    return text.partition(STANDS)[0] if text.count(STANDS) == 1 else text  # the whole text begins none, and is refused


def _prompt(template: ChatTemplate, messages: Sequence[Message], extra: Mapping[str, Any]) -> str:
    """A conversation's text up to where the assistant's answer begins.

    A template that knows no add_generation_prompt, and yet writes a header before answers, has the header put there.
    """
    text = template.render(messages, True, **extra)
    if "add_generation_prompt" in template.source:
        return text
    try:
        answered = template.render([*messages, {"role": "assistant", "content": STANDS}], **extra)
    except BimoError:  # no answer can follow here
        return text
    before = answered.partition(STANDS)[0]
    return before if answered.count(STANDS) == 1 and before.startswith(text) and before[len(text) :].strip() else text


def _refuse_left_out(template: ChatTemplate, messages: Sequence[Message], text: str, extra: Mapping[str, Any]) -> None:
    """Raise `UserError` where a template has no place for a system text: nothing would come of it."""
    for number, message in enumerate(messages):
        content = message["content"]
        if message["role"] != "system" or not isinstance(content, str) or not content.strip() or content.strip() in text:
            continue
        if template.leaves_out(messages, number, **extra):
            raise UserError(
                f"messages: message {number + 1}: the chat template leaves the system's text out, as this model was taught none; "
                "put it into the first turn of the user"
            )


class _Names:
    """The names of special tokens: hidden in what people wrote while the template runs, so that the rest are the template's own."""

    def __init__(self, tokenizer: Tokenizer, written: Any) -> None:
        self._tokens = tokenizer.special_tokens
        names = sorted(self._tokens, key=len, reverse=True)  # a longer name goes before one that it begins with
        self._name = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        taken = set("".join(_texts(written)))
        found = sorted({name for text in _texts(written) for name in self._name.findall(text)})
        free = (chr(point) for point in _STAND_INS if chr(point) not in taken)
        self._hidden = dict(zip(found, free, strict=False))
        self._shown = str.maketrans({stand_in: name for name, stand_in in self._hidden.items()})
        self._special = re.compile("|".join(map(self._pattern, names)) or r"(?!)")

    def _pattern(self, name: str) -> str:
        token = self._tokens[name]
        before, behind = (r"\s*" if taken else "" for taken in (token.lstrip, token.rstrip))
        return f"{before}{re.escape(name)}{behind}"

    def hidden(self, value: Any) -> Any:
        """Messages, or anything made of texts, with a character in place of each name."""
        if isinstance(value, str):
            return self._name.sub(lambda found: self._hidden[found[0]], value) if self._hidden else value
        if isinstance(value, Mapping):
            return {key: self.hidden(item) for key, item in value.items()}
        return [self.hidden(item) for item in value] if isinstance(value, list | tuple) else value

    def shown(self, text: str) -> str:
        """The text as people wrote it."""
        return text.translate(self._shown) if self._hidden else text

    def stretches(self, text: str) -> Iterator[tuple[int, int, int | None]]:
        """(start, end, id) of each stretch of a rendered text: a special token, or plain text, whose id is None."""
        at = 0
        for found in self._special.finditer(text):
            if found.start() > at:
                yield at, found.start(), None
            name = self._name.search(found[0])
            yield found.start(), found.end(), self._tokens[name[0]].id if name else None
            at = found.end()
        if at < len(text):
            yield at, len(text), None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
