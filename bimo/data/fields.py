"""Which fields of a file's records are read: those that the user states, known names, or the only one that holds text."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bimo.core.reading import ReadOptions
from bimo.data.conversations import FIELDS, READ, is_conversation
from bimo.data.encodings import Unreadable
from bimo.data.tables import is_number

TEXT_FIELDS = ("text", "content", "paragraphs", "body", "document")  # the first that is there
OTHER_TEXT_FIELDS = (  # the only one that is there
    "text_a", "sentence", "review", "comment", "article", "passage", "abstract", "abst", "dialogue", "story",
    "文本", "正文", "内容", "全文", "文章", "段落", "句子", "评论", "评价", "评论内容",
)  # fmt: skip
PAIRS = (("prompt", "completion"), ("source", "target"), ("src", "tgt"), ("given", "text"))  # what is given, and the text
CHINESE = {  # fields of conversations
    "指令": "instruction", "提示": "prompt", "问题": "question", "提问": "question", "输入": "input", "输出": "output",
    "答案": "answer", "回答": "answer", "回复": "response", "系统": "system", "历史": "history",
}  # fmt: skip
_KINDS = {  # of records that are no texts, by a field
    "messages": "conversations", "conversations": "conversations", "conversation": "conversations", "prompt": "prompts and answers",
    "instruction": "instructions and answers", "query": "questions and answers", "question": "questions and answers",
    "chosen": "",
}  # fmt: skip
_OTHERS = (  # names of columns that hold no text to learn
    "label", "id", "title", "category", "url", "date", "author", "score", "rating", "answer", "response", "output", "input",
    "sentence1", "sentence2", "sentence_a", "sentence_b", "text_b", "premise", "hypothesis",
    "标题", "标签", "类别", "分类", "编号", "序号", "作者", "日期", "时间", "来源", "评分", "星级", "链接", "情感",
)  # fmt: skip
KNOWN = frozenset({*TEXT_FIELDS, *OTHER_TEXT_FIELDS, *_KINDS, *CHINESE, *_OTHERS, *FIELDS} | {name for pair in PAIRS for name in pair})
_FEW = 10  # records: of fewer, values that repeat say nothing
_ATTRIBUTION = ("CC-BY", "CC BY")  # Tatoeba's third column


@dataclass(frozen=True)
class Shape:
    """How records are read: as turns, or the field of the text, and of pairs the field of what it is given."""

    text: str = ""
    given: str | None = None
    turns: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What is known of a file's records when its fields are chosen: the first records, and in a table all columns.

    what: how a field is called there; numbered: whether it has a number.
    """

    records: Sequence[Mapping[str, Any]]
    names: Sequence[str]
    what: str = "field"
    numbered: bool = False

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]]) -> Seen:
        """Of records that each name their fields."""
        return cls(records, list(dict.fromkeys(name for record in records for name in record)))

    def values(self, name: str) -> Iterator[Any]:
        """What the records have in a field."""
        return (record[name] for record in self.records if name in record)


def choose(seen: Seen, options: ReadOptions, conversations: bool) -> Shape:
    """How records are read; `Unreadable` where nothing decides. conversations: records of turns are read as such.

    >>> choose(Seen.of([{"title": "A"}, {"title": "B", "text": "b"}]), ReadOptions(), False).text
    'text'
    """
    if options.source_column is not None and options.target_column is not None:
        given, text = (_stated(str(column), seen) for column in (options.source_column, options.target_column))
        return Shape(text, given, conversations, (_pair_note(seen.what, text, given),))
    if options.text_column is not None:
        text = _stated(str(options.text_column), seen)
        return Shape(text, notes=(f"{seen.what} {text!r} read as text",))
    if conversations and any(is_conversation(list(english(record))) for record in seen.records or [dict.fromkeys(seen.names)]):
        return Shape(turns=True, notes=("records read as conversations",))
    return _known(seen) or _only(seen, conversations)


def _known(seen: Seen) -> Shape | None:
    """The fields by their names."""
    lowered = {name.lower(): name for name in reversed(seen.names)}
    first = [name for name in TEXT_FIELDS if name in lowered and _may_be_text(seen.values(lowered[name]))]
    pairs = [(g, t) for g, t in PAIRS if g in lowered and t in lowered and first in ([], [t])]  # a record with a text of its own is that
    if pairs:
        given, text = (lowered[name] for name in pairs[0])
        return Shape(text, given, notes=(_pair_note(seen.what, text, given),))
    others = [lowered[name] for name in OTHER_TEXT_FIELDS if name in lowered and _may_be_text(seen.values(lowered[name]))]
    if first:
        also = [lowered[name] for name in first[1:]]
        beside = f"; {', '.join(map(repr, also))} would be one, too: --text-column" if also else ""
        return Shape(lowered[first[0]], notes=(f"{seen.what} {lowered[first[0]]!r} read as text{beside}",))
    return Shape(others[0], notes=(f"{seen.what} {others[0]!r} read as text",)) if len(others) == 1 else None


def _only(seen: Seen, conversations: bool) -> Shape:
    """The only field that holds text, beside labels that repeat; `Unreadable` names all fields and the option that chooses."""
    lowered = {CHINESE.get(name, name.lower()): name for name in reversed(seen.names)}
    kind = "chosen" if "chosen" in lowered else next((name for name in _KINDS if name in lowered), None)
    texts = [name for name in seen.names if _holds_text(seen.values(name))]
    if kind is None and not any(is_nested(value) for record in seen.records for value in record.values()):
        labels = [name for name in texts if _repeats(list(seen.values(name)))]
        left = [name for name in texts if name not in labels] if len(texts) > 1 else texts
        if len(left) == 1:
            beside = f"; {', '.join(map(repr, labels))} repeat and are taken for labels" if labels and len(texts) > 1 else ""
            return Shape(left[0], notes=(f"{seen.what} {left[0]!r} read as text{beside}",))
        pair = [name for name in left if not all(str(v).startswith(_ATTRIBUTION) for v in seen.values(name))]
        if len(left) == 3 and len(pair) == 2:
            return Shape(pair[1], pair[0], notes=(_pair_note(seen.what, pair[1], pair[0]),))
    fields = ", ".join(map(repr, seen.names)) or "none"
    options = _options(seen, texts)
    if kind == "chosen":
        raise Unreadable(f"its records are preferences (field {lowered[kind]!r}), which are no texts{options}")
    if kind is not None and not conversations:
        raise Unreadable(f"its records are {_KINDS[kind]} (field {lowered[kind]!r}), not texts; bimo finetune learns from them{options}")
    if conversations:
        raise Unreadable(f"no conversations, nor texts (fields: {fields}); name the fields as one of these: {READ}; or text{options}")
    raise Unreadable(f"no field 'text' or 'content', and not just one that holds text (fields: {fields}){options}")


def _options(seen: Seen, texts: Sequence[str]) -> str:
    """The options that read such records, in words."""
    paths = [path for record in seen.records[:1] for path in _paths(record)]
    likely = list(dict.fromkeys([*texts, *paths]))
    lengths = {name: sum(len(as_text(at(record, name)) or "") for record in seen.records[:_FEW]) for name in likely}
    longest = sorted(likely, key=lambda name: -lengths[name])
    if not longest:
        return ""
    sides = [shlex.quote(name) for name in texts if name in longest[:2]]
    pair = f", or pairs by --source-column {sides[0]} --target-column {sides[1]}" if len(sides) == 2 else ""
    return f"; choose the text by --text-column {shlex.quote(longest[0])}{pair}"


# -- values ------------------------------------------------------------------------------------------------------------


def as_text(value: Any) -> str | None:
    """A text, or one in lines; None of anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return "\n".join(value)
    return None


def at(record: Mapping[str, Any], path: str) -> Any:
    """What stands in a field, or at a path of fields joined by dots; of lists on the way what each element has, in a list.

    >>> at({"turns": [{"says": "a"}, {"says": "b"}]}, "turns.says"), at({"a.b": 1}, "a.b"), at({}, "a")
    (['a', 'b'], 1, None)
    """
    if path in record:
        return record[path]
    found: list[Any] = [record]
    several = False
    for name in path.split("."):
        inner: list[Any] = []
        for value in found:
            several = several or isinstance(value, list)
            elements = value if isinstance(value, list) else [value]
            inner += [element[name] for element in elements if isinstance(element, Mapping) and name in element]
        found = inner
    if several:
        return [part for value in found for part in (value if isinstance(value, list) else [value])]
    return found[0] if found else None


def is_nested(value: Any) -> bool:
    """Whether a value holds others, and is no text in lines."""
    return isinstance(value, list | Mapping) and bool(value) and as_text(value) is None


def english(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record whose Chinese fields of conversations have their English names."""
    return record if CHINESE.keys().isdisjoint(record) else {CHINESE.get(name, name): value for name, value in record.items()}


def _may_be_text(values: Iterable[Any]) -> bool:
    """Whether there is a text, or nothing but nulls: a known name says enough."""
    found = [value for value in values if value not in (None, [])]
    return not found or any(as_text(value) is not None for value in found)


def _holds_text(values: Iterable[Any]) -> bool:
    return any((text := as_text(value)) is not None and not is_number(text) for value in values)


def _repeats(values: Sequence[Any]) -> bool:
    """Whether values are labels: short, and few of many records."""
    texts = [text for value in values if (text := as_text(value))]
    return len(texts) >= _FEW and max(map(len, texts)) <= 40 and len(Counter(texts)) * 5 <= len(texts)


def _stated(column: str, seen: Seen) -> str:
    """The field that the user states by its name, a path or a number from 1."""
    if column in seen.names or any(at(record, column) not in (None, []) for record in seen.records):
        return column
    if seen.numbered and column.isdecimal() and 0 < int(column) <= len(seen.names):
        return seen.names[int(column) - 1]
    inner = [path for record in seen.records[:1] for path in _paths(record) if path not in seen.names]
    there = ", ".join(map(repr, [*seen.names, *inner]))
    raise Unreadable(f"no {seen.what} {column!r}; there are: {there or 'none'}")


def _paths(record: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The paths to texts in a record."""
    for name, value in record.items():
        if as_text(value):
            yield before + name
        elif isinstance(value, Mapping):
            yield from _paths(value, f"{before}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield from _paths(value[0], f"{before}{name}.")


def _pair_note(what: str, text: str, given: str) -> str:
    return f"{what} {text!r} read as text, {what} {given!r} as what it is given"
