"""Records that are conversations, or a prompt and its answer: the forms that people keep them in, read as turns.

| fields | read as |
|---|---|
| `messages`: [{role, content}, …] | the turns as they stand (OpenAI) |
| `conversations`: [{from, value}, …] | the same, by ShareGPT's names: human, gpt, observation |
| `conversation`: [{human, assistant}, …] | a user's turn and the answer, each (ms-swift) |
| `prompt`, `completion` | a user's turn and the answer, or the turns of both where they are lists of messages |
| `instruction`, `output` | a user's turn and the answer (Alpaca) |
| `question`, `answer` · `query`, `response` | the same |

An answer may be called `completion`, `output`, `response` or `answer` beside each of the last three; an `input` or a `context` goes below
what is asked, a `system` text before all, and a `history` of earlier turns between them. `weight`, `loss` or `train` of a turn says
whether an answer is learned. What would change a conversation and is not read is refused by name; other fields are noted as not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Turn = dict[str, Any]  # role and content; a name where it has one; learn=False of an answer that is not to be learned
ROLES = ("system", "user", "assistant", "tool")
_ROLES = {
    "human": "user", "prompter": "user", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant",
    "ai": "assistant", "observation": "tool", "developer": "system",
}  # fmt: skip
FIELDS = ("messages", "conversations", "conversation")
_ASKED, _ANSWERS = ("prompt", "instruction", "question", "query"), ("completion", "output", "response", "answer")
_BELOW = ("input", "context")  # what is asked about
_SYSTEM = ("system", "system_prompt", "system_message")
READ = "messages, conversations, prompt and completion, instruction and output, question and answer, query and response"  # in words
_LEARNED = ("weight", "loss", "train", "training", "trainable")  # 1 or true, or of an answer that is not learned 0 or false
# What would change a conversation or what is learned of it, and is not read …
_UNREAD = (
    "tools", "functions", "tool_calls", "tool_call_id", "function_call", "reasoning_content", "reasoning", "thinking", "refusal", "prefix",
    "channel", "recipient", "documents", "chat_template", "chat_template_kwargs",
    "image", "images", "image_url", "video", "videos", "audio", "audios", "objects", "files", "attachments",
    "chosen", "rejected", "rejected_response", "rejected_messages",
)  # fmt: skip
_MASKS = ("mask", "masked", "loss_mask", "labels")  # … even where it is 0 or false, by which programs mean opposite things
_SCALES = ("loss_scale", "loss_weight")  # … unless it is 1
_WISHED = ("label", "kto_tag")  # false: an answer that is not wished for
_REFUSED = (*_UNREAD, *_MASKS, *_SCALES)
_OF_TURN = {"role", "from", "content", "value", "name", *_LEARNED, *_REFUSED}
_OF_RECORD = {*FIELDS, *_ASKED, *_ANSWERS, *_BELOW, *_SYSTEM, "history", *_LEARNED, *_REFUSED}


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


def learned_answers(turns: Iterable[Turn]) -> list[str]:
    """The texts of the answers that are learned.

    >>> learned_answers([{"role": "assistant", "content": "a", "learn": False}, {"role": "assistant", "content": "b"}])
    ['b']
    """
    return [turn["content"] for turn in turns if turn["role"] == "assistant" and turn.get("learn", True)]


def turns_of(record: Mapping[str, Any]) -> tuple[Turn, ...]:
    """The turns of a record; one of them at least is an answer that is learned.

    Raises `NoConversation`, which says what is wrong with the record.

    >>> [turn["role"] for turn in turns_of({"instruction": "Add.", "input": "2 + 2", "output": "4"})]
    ['user', 'assistant']
    """
    named = [name.lower() for name in record]
    fields = {name.lower(): value for name, value in record.items() if not _is_empty(value)}
    _refuse_unread(fields, "the record")
    if unwished := next((name for name in _WISHED if fields.get(name) is False), None):
        raise NoConversation(f"the record has {unwished} false, which marks an answer that is not to be learned")
    for name in _LEARNED:
        if not _is_learned(fields, name, "the record"):
            raise NoConversation(f"the record has {name} {fields[name]!r}: it is not to be learned")
    field = next((name for name in FIELDS if name in fields), None)
    if field is None and fields.keys().isdisjoint((*_ASKED, *_ANSWERS)):
        field = next((name for name in FIELDS if name in named), None)  # which is empty
    turns, read = _prompt_and_answer(fields, named) if field is None else (_messages(fields.get(field, []), field), {field})
    turns = _with_system(turns, fields)
    _refuse_beside(fields, read, turns)
    if not learned_answers(turns):
        raise NoConversation("no answer to learn from (no turn of role assistant)")
    return tuple(turns)


def fields_not_read(record: Mapping[str, Any]) -> set[str]:
    """Names of what a record holds beside its conversation, as far as is known without any effect on it.

    >>> sorted(fields_not_read({"id": 3, "messages": [{"role": "user", "content": "a", "time": 9}], "topic": None}))
    ['id', 'time of a turn']
    """
    found = {name for name, value in record.items() if name.lower() not in _OF_RECORD and not _is_empty(value)}
    for name, value in record.items():
        for turn in value if name.lower() in FIELDS and isinstance(value, list) else ():
            if isinstance(turn, Mapping) and not turn.keys() <= _OF_TURN and _pair_of_roles(turn) is None:
                found |= {f"{key} of a turn" for key in turn if key not in _OF_TURN and not _is_empty(turn[key])}
    return found


# -- forms ------------------------------------------------------------------------------------------------------------


def _prompt_and_answer(fields: Mapping[str, Any], named: Sequence[str]) -> tuple[list[Turn], set[str]]:
    """Turns of a prompt and an answer, with what stands beside them; and the names of the fields that were read.

    named: the names of all fields, of those that are empty too.
    """
    asked, answer = (next((name for held in (fields, named) for name in known if name in held), known[0]) for known in (_ASKED, _ANSWERS))
    turns = [*_side(fields.get(asked), asked, "user"), *_side(fields.get(answer), answer, "assistant")]
    below = [name for name in _BELOW if name in fields]
    beside = [*below, *(["history"] if "history" in fields else [])]
    if beside and (isinstance(fields[asked], list) or isinstance(fields[answer], list)):
        raise NoConversation(f"{beside[0]} stands beside a list of turns; put it into one of them")
    for name in below:
        turns[0]["content"] += f"\n\n{_text(fields[name], name)}"
    return [*_earlier(fields.get("history", [])), *turns], {asked, answer, *beside}


def _earlier(history: Any) -> list[Turn]:
    """The turns of a history: pairs of a question and its answer (LLaMA-Factory, ms-swift), or messages."""
    history = _listed(history)
    if isinstance(history, list) and history and all(isinstance(pair, list | tuple) for pair in history):
        if wrong := next((n for n, pair in enumerate(history, 1) if len(pair) != 2), None):
            raise NoConversation(f"entry {wrong} of history is not a pair of a question and its answer")
        roles = ("user", "assistant")
        return [
            {"role": role, "content": _text(text, f"entry {number} of history")}
            for number, pair in enumerate(history, 1)
            for role, text in zip(roles, pair, strict=True)
        ]
    return _messages(history, "history")


def _with_system(turns: list[Turn], fields: Mapping[str, Any]) -> list[Turn]:
    """The turns, with the record's system text before them."""
    for name in _SYSTEM:
        if name not in fields:
            continue
        text = _text(fields[name], name)
        said = [turn["content"] for turn in turns if turn["role"] == "system"]
        if said and said != [text]:
            raise NoConversation(f"the record has {name} beside a system turn that says something else; leave one of them out")
        turns = turns if said else [{"role": "system", "content": text}, *turns]
    return turns


def _refuse_beside(fields: Mapping[str, Any], read: set[str], turns: Sequence[Turn]) -> None:
    """Refuse what may belong to a conversation and was not read, unless a turn says it too (as `prompt` beside `messages` does)."""
    said = joined(turns)
    for name in (*FIELDS, *_ASKED, *_ANSWERS, *_BELOW, "history"):
        if name not in fields or name in read:
            continue
        value = fields[name]
        if not isinstance(value, str | int | float) or str(value).strip() not in said:
            raise NoConversation(f"the record has {name} beside {' and '.join(sorted(read))}; leave it out, or put it into a turn")


def _side(value: Any, name: str, role: str) -> list[Turn]:
    return _messages(value, name) if isinstance(value, list) else [{"role": role, "content": _text(value, name)}]


# -- turns ------------------------------------------------------------------------------------------------------------


def _messages(value: Any, name: str) -> list[Turn]:
    value = _listed(value)
    if not isinstance(value, list):
        raise NoConversation(f"{name} is no list of turns")
    turns: list[Turn] = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, Mapping):
            raise NoConversation(f"turn {number} of {name} has no role and content")
        if (pair := _pair_of_roles(turn)) is not None:
            turns += [{"role": role, "content": _text(text, f"turn {number}")} for role, text in pair]
        else:
            turns.append(_turn(turn, number, name))
    return turns


def _pair_of_roles(turn: Mapping[str, Any]) -> list[tuple[str, Any]] | None:
    """Roles and texts of an entry such as {human: …, assistant: …}; None of one that is written otherwise."""
    roles = [(_ROLES.get(key, key), text) for key, text in turn.items() if not _is_empty(text)]
    return roles if roles and all(role in ROLES for role, _ in roles) else None


def _turn(turn: Mapping[str, Any], number: int, name: str) -> Turn:
    where = f"turn {number} of {name}"
    _refuse_unread(turn, where)
    role = turn.get("role", turn.get("from"))
    role = _ROLES.get(role.lower(), role.lower()) if isinstance(role, str) else role
    if role not in ROLES:
        raise NoConversation(f"{where} is of role {role!r}; known: {', '.join(ROLES)}")
    called = turn.get("name")
    if called is not None and not isinstance(called, str):
        raise NoConversation(f"{where} has a name that is no text: {called!r}")
    learned = [_is_learned(turn, key, where) for key in _LEARNED]  # each is looked at, as a wrong one is refused
    if role != "assistant" and (key := next((key for key in _LEARNED[1:] if turn.get(key)), None)):
        raise NoConversation(f"{where} has {key}, but is not an answer; only answers are learned")
    found: Turn = {"role": role, "content": _text(turn.get("content", turn.get("value")), f"turn {number}")}
    found |= {"name": called} if called is not None else {}
    return found | ({} if all(learned) or role != "assistant" else {"learn": False})


def _is_learned(fields: Mapping[str, Any], name: str, where: str) -> bool:
    value = fields.get(name)
    if value is not None and (not isinstance(value, bool | int | float) or value not in (0, 1)):
        raise NoConversation(f"{where} has {name} {value!r}; only 1 or true is known, and 0 or false of an answer that is not learned")
    return value is None or bool(value)


def _refuse_unread(fields: Mapping[str, Any], where: str) -> None:
    for name in _REFUSED:
        value = fields.get(name)
        if not _is_empty(value) and (name in _MASKS or value is not False) and not (name in _SCALES and value == 1):
            raise NoConversation(f"{where} has {name}, which is not read; leave it out, or put it into the content")


def _text(value: Any, name: str) -> str:
    """A text, or one in parts: [{"type": "text", "text": …}, …]."""
    if isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        for part in value:
            kind = part.get("type")
            if kind not in ("text", "input_text", "output_text") or not isinstance(part.get("text"), str):
                raise NoConversation(f"{name} has a part of type {kind!r}, which is not read; only texts are")
        value = "".join(part["text"] for part in value)
    if not isinstance(value, str) or not value.strip():
        raise NoConversation(f"no text in {name}")
    return value


def _listed(value: Any) -> Any:
    """A list of turns, also where a table's cell holds it as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _is_empty(value: Any) -> bool:
    """Whether nothing is said by a value, as where a table has a column that other rows need.

    >>> [_is_empty(value) for value in (None, "", [], {"a": None}, 0, False)]
    [True, True, True, True, False, False]
    """
    if isinstance(value, Mapping):
        return all(map(_is_empty, value.values()))
    if isinstance(value, list):
        return all(map(_is_empty, value))
    return value is None or value in ("", "[]", "{}", "null")
