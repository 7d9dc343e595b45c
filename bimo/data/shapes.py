"""Records of known data sets whose text is nested: each shape as plain records, to be read as texts or as conversations.

| shape | as texts | as conversations |
|---|---|---|
| SQuAD, CMRC, DRCD: paragraphs of a context with questions | the contexts | each question with its context, and the first answer |
| C3: [[lines], [question, choices, answer], id] | the lines | each question with lines and choices, and the answer |
| KdConv: messages of `message` · LCCC: a list of utterances | all utterances | its speakers by turns: user, assistant |
| MMLU, CMMLU: question, choices, answer | | the question with lettered choices, and the answer |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bimo.data.fields import as_text
from bimo.data.tables import Skip

Expanded = Iterator[Mapping[str, Any] | Skip]


@dataclass(frozen=True)
class KnownShape:
    """A shape: whether a record has it, and what it becomes. texts is None where such records hold no text to read by itself."""

    name: str
    fits: Callable[[Any], bool]
    texts: Callable[[Any], Expanded] | None
    conversations: Callable[[Any], Expanded]


def shape_of(records: Sequence[Any]) -> KnownShape | None:
    """The shape of a file's first records, or None where they are plain."""
    return next((shape for shape in SHAPES if any(map(shape.fits, records))), None)


# -- questions on a context ----------------------------------------------------------------------------------------------


def _is_squad(record: Any) -> bool:
    return isinstance(record, Mapping) and any(True for _ in _contexts(record))


def _contexts(record: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    paragraphs = record.get("paragraphs")
    for part in paragraphs if isinstance(paragraphs, list) else [record]:
        if isinstance(part, Mapping) and isinstance(part.get("qas"), list):
            context = part.get("context", part.get("context_text"))
            if isinstance(context, str):
                yield context, part["qas"]


def _squad_texts(record: Mapping[str, Any]) -> Expanded:
    yield from ({"text": context} for context, _ in _contexts(record))


def _squad_questions(record: Mapping[str, Any]) -> Expanded:
    for context, questions in _contexts(record):
        for entry in questions:
            question = entry.get("question", entry.get("query_text")) if isinstance(entry, Mapping) else None
            answers = entry.get("answers") if isinstance(entry, Mapping) else None
            first = answers[0] if isinstance(answers, list) and answers else None
            answer = first.get("text") if isinstance(first, Mapping) else first
            if isinstance(question, str) and isinstance(answer, str):
                yield {"question": question, "context": context, "answer": answer}
            else:
                yield Skip("a question without an answer")


# -- several choices -------------------------------------------------------------------------------------------------------


def _is_c3(record: Any) -> bool:
    lists = isinstance(record, list) and len(record) >= 2 and isinstance(record[0], list) and isinstance(record[1], list)
    return lists and as_text(record[0]) is not None and all(isinstance(entry, Mapping) for entry in record[1])


def _c3_questions(record: list[Any]) -> Expanded:
    for entry in record[1]:
        question, choices, answer = entry.get("question"), entry.get("choice"), entry.get("answer")
        if isinstance(question, str) and isinstance(answer, str) and as_text(choices) is not None:
            yield {"question": _lettered(question, choices), "context": as_text(record[0]), "answer": answer}
        else:
            yield Skip("a question without choices or without an answer")


def _has_choices(record: Any) -> bool:
    return isinstance(record, Mapping) and "question" in record and "answer" in record and _choices(record) is not None


def _choices(record: Mapping[str, Any]) -> list[str] | None:
    choices = record.get("choices")
    return choices if isinstance(choices, list) and as_text(choices) is not None else None


def _chosen(record: Any) -> Expanded:
    choices = _choices(record) if isinstance(record, Mapping) else None
    question, answer = (record.get("question"), record.get("answer")) if isinstance(record, Mapping) else (None, None)
    if isinstance(answer, int) and choices and 0 <= answer < len(choices):
        answer = chr(ord("A") + answer)
    if choices is None or not isinstance(question, str) or not isinstance(answer, str):
        yield Skip("a question without choices or without an answer")
    else:
        yield {"question": _lettered(question, choices), "answer": answer}


def _lettered(question: str, choices: Sequence[str]) -> str:
    return "\n".join([question, *(f"{chr(ord('A') + number)}. {choice}" for number, choice in enumerate(choices))])


# -- utterances without speakers -------------------------------------------------------------------------------------------


def _utterances(record: Any) -> list[str] | None:
    turns = record.get("messages") if isinstance(record, Mapping) else record
    if not isinstance(turns, list) or len(turns) < 2:
        return None
    said = [turn.get("message") if isinstance(turn, Mapping) and "role" not in turn else turn for turn in turns]
    is_said = all(isinstance(text, str) for text in said) and (isinstance(record, list) or isinstance(turns[0], Mapping))
    return [str(text) for text in said] if is_said else None


def _dialogue_text(record: Any) -> Expanded:
    said = _utterances(record)
    yield Skip("not a list of utterances") if said is None else {"text": "\n".join(said)}


def _dialogue_turns(record: Any) -> Expanded:
    said = _utterances(record)
    if said is None:
        yield Skip("not a list of utterances")
    else:
        roles = ("user", "assistant")
        yield {"messages": [{"role": roles[number % 2], "content": text} for number, text in enumerate(said)]}


SHAPES = (
    KnownShape("paragraphs with questions", _is_squad, _squad_texts, _squad_questions),
    KnownShape("passages with questions", _is_c3, lambda record: iter([{"text": as_text(record[0])}]), _c3_questions),
    KnownShape("questions with choices", _has_choices, None, _chosen),
    KnownShape("utterances of two speakers by turns", lambda record: _utterances(record) is not None, _dialogue_text, _dialogue_turns),
)
