"""Records that are conversations, or a prompt and its answer: the forms that people keep them in, read as turns.

| fields | read as |
|---|---|
| `messages`: [{role, content}, …] | the turns as they stand |
| `conversations`: [{from, value}, …] | the same, by ShareGPT's names: human, gpt |
| `prompt`, `completion` | a user's turn and the answer, or the turns of both where they are lists of messages |
| `instruction`, `output` | a user's turn and the answer (Alpaca's form) |
| `question`, `answer` | the same |

An answer may be called `completion`, `output`, `response` or `answer` beside each of the three; an `input` or a `context` goes below
what is asked, and a `system` text before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Turn = dict[str, str]  # role and content, and a name where it has one
ROLES = ("system", "user", "assistant", "tool")
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant", "observation": "tool"}
FIELDS = ("messages", "conversations", "conversation")
_ASKED, _ANSWERS = ("prompt", "instruction", "question"), ("completion", "output", "response", "answer")
_BELOW = ("input", "context")  # what is asked about
READ = "messages, conversations, prompt and completion, instruction and output, question and answer"  # in words
# What would change how a conversation is told, and is not read.
_UNREAD = (
    "tools", "functions", "tool_calls", "tool_call_id", "function_call", "reasoning_content", "reasoning", "thinking", "refusal",
)  # fmt: skip


class NoConversation(ValueError):
    """What a record lacks to be a conversation."""


def is_conversation(names: Sequence[str]) -> bool:
    """Whether records with these fields are conversations, or prompts with answers.

    >>> is_conversation(["id", "messages"]), is_conversation(["instruction", "output"]), is_conversation(["text", "label"])
    (True, True, False)
    """
    known = {name.lower() for name in names}
    return any(name in known for name in FIELDS) or not (known.isdisjoint(_ASKED) or known.isdisjoint(_ANSWERS))


def joined(turns: Sequence[Turn]) -> str:
    """All that is said, as one text."""
    return "\n\n".join(turn["content"] for turn in turns)


def turns_of(record: Mapping[str, Any]) -> tuple[Turn, ...]:
    """The turns of a record; the last is an answer, or there is none to learn from.

    Raises `NoConversation`, which says what is wrong with the record.

    >>> [turn["role"] for turn in turns_of({"instruction": "Add.", "input": "2 + 2", "output": "4"})]
    ['user', 'assistant']
    """
    fields = {name.lower(): value for name, value in record.items()}
    _refuse_unread(fields, "the record")
    for name in FIELDS:
        if name in fields:
            return _checked(_messages(fields[name], name))
    asked = next((name for name in _ASKED if name in fields), _ASKED[0])
    answer = next((name for name in _ANSWERS if name in fields), _ANSWERS[0])
    turns = [*_side(fields.get(asked), asked, "user"), *_side(fields.get(answer), answer, "assistant")]
    for name in _BELOW:
        if fields.get(name) in (None, "", [], {}):
            continue
        if isinstance(fields[asked], list):
            raise NoConversation(f"{name} stands beside a list of turns; put it into one of them")
        turns[0]["content"] += f"\n\n{_text(fields[name], name)}"
    system = fields.get("system")
    return _checked([{"role": "system", "content": system}, *turns] if isinstance(system, str) and system.strip() else turns)


def _side(value: Any, name: str, role: str) -> list[Turn]:
    return _messages(value, name) if isinstance(value, list) else [{"role": role, "content": _text(value, name)}]


def _messages(value: Any, name: str) -> list[Turn]:
    if not isinstance(value, list):
        raise NoConversation(f"{name} is no list of turns")
    turns = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, Mapping):
            raise NoConversation(f"turn {number} of {name} has no role and content")
        _refuse_unread(turn, f"turn {number} of {name}")
        if turn.get("weight", 1) not in (1, None):
            raise NoConversation(f"turn {number} of {name} has the weight {turn['weight']!r}, which is not read; leave it out")
        role = turn.get("role", turn.get("from"))
        role = _ROLES.get(role, role) if isinstance(role, str) else role
        if role not in ROLES:
            raise NoConversation(f"turn {number} of {name} is of role {role!r}; known: {', '.join(ROLES)}")
        if turn.get("name") is not None and not isinstance(turn["name"], str):
            raise NoConversation(f"turn {number} of {name} has a name that is no text: {turn['name']!r}")
        called = {"name": turn["name"]} if isinstance(turn.get("name"), str) else {}
        turns.append({"role": role, "content": _text(turn.get("content", turn.get("value")), f"turn {number}"), **called})
    return turns


def _refuse_unread(fields: Mapping[str, Any], where: str) -> None:
    for name in _UNREAD:
        if fields.get(name) not in (None, "", "[]", [], {}):
            raise NoConversation(f"{where} has {name}, which is not read; leave it out, or put it into the content")


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise NoConversation(f"no text in {name}")
    return value


def _checked(turns: list[Turn]) -> tuple[Turn, ...]:
    if not any(turn["role"] == "assistant" for turn in turns):
        raise NoConversation("no answer to learn from (no turn of role assistant)")
    return tuple(turns)
