"""Records: delimiter, header and fields are found by evidence or asked for, and no record is lost."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bimo.core.errors import SourceError
from bimo.core.reading import ReadKeywords, ReadOptions
from bimo.data.documents import Document, FileReport, ReadReport
from bimo.data.encodings import Unreadable
from bimo.data.records import Records
from bimo.data.sources import read_documents

Texts = list[str] | list[tuple[str, str]]


def read(folder: Path, name: str, content: str, conversations: bool = False, **options: Any) -> tuple[list[Document], list[str]]:
    (folder / name).write_text(content, encoding="utf-8", newline="")
    report = ReadReport()
    documents = list(read_documents(folder / name, "file", report, True, conversations, ReadOptions(**options)))
    (entry,) = report.files
    assert entry.records == len(documents) + entry.skipped_records + report.dropped_documents
    return documents, entry.notes


def texts(documents: list[Document]) -> Texts:
    return [(d.given, d.text) if d.given is not None else d.text for d in documents]  # type: ignore[return-value]


# -- tables -----------------------------------------------------------------------------------------------------------

READ: list[tuple[str, str, Any, list[str]]] = [
    ("a.csv", "text,label\nsky,1\nyes, I do,0\nsea,1\nsun,1\n", ["sky", "sea", "sun"], ["line 3: has 3 cells where the table has 2"]),
    ("a.csv", "source,target\nHello,Hallo\nYes, please,Ja, bitte\n", [("Hello", "Hallo")], ["line 3: has 4 cells"]),
    ("a.csv", "text,label,\na,1,\nb,0,,,\n", ["a", "b"], []),
    ("a.csv", "id\ttext\n1\tsky\n2\tyes, I do\n3\tno, never, no\n", ["sky", "yes, I do", "no, never, no"], ["delimiter '\\t'"]),
    ("a.tsv", "id,text\n1,sky\n2,sea\n", ["sky", "sea"], ["delimiter ','"]),
    ("a.csv", "id|text\n1|sky, sea\n", ["sky, sea"], ["delimiter '|'"]),
    ("a.csv", "sep=;\ntext;label\nhello;1\nyes, fine;0\n", ["hello", "yes, fine"], []),
    ("a.csv", 'text,label\n"She said \\"come in\\", and left",1\nplain,0\n', ['She said "come in", and left', "plain"], ["backslashes"]),
    ("a.csv", 'text,label\n"C:\\dir\\",1\nplain,0\n', ["C:\\dir\\", "plain"], []),
    ("a.csv", 'text,label\none,1\n"open,0\nthree,1\nfour,0\n', ["one", "three", "four"], ["line 3: a quote is opened and never closed"]),
    ("a.csv", 'text,label\none,1\n"open,0\nthree,1\n"four, five",0\n', ["one", "three", "four, five"],
     ["line 3: text follows a closing quote"]),
    ("a.tsv", 'id\ttext\n1\t"He said ""hi"""\n2\t"two\nlines"\n', ['He said "hi"', "two\nlines"], []),
    ("a.tsv", 'id\ttext\n1\t"Go"\n2\tStay "here"\n', ['"Go"', 'Stay "here"'], ["quotes around cells are kept as text"]),
    ("a.csv", 'title, text\nA one, "the body, of one"\nB two, body\n', ["the body, of one", "body"], []),
    ("a.csv", "标题,正文\n一,今天天气很好\n二,我们去公园\n", ["今天天气很好", "我们去公园"], ["'正文' read as text"]),
    ("a.csv", "正文\n今天\n公园\n", ["今天", "公园"], []),
    ("a.csv", "remark\nfirst one\nsecond one\n", ["first one", "second one"], ["['remark'] is taken for a header; --no-header"]),
    ("a.csv", "text,note\n" + "0,x y\n" * 60 + "words,x y\n", ["0"] * 60 + ["words"], []),
    ("a.tsv", "".join(f"这是第{i}条评论\t{'好' if i % 2 else '坏'}\n" for i in range(12)), [f"这是第{i}条评论" for i in range(12)],
     ["'2' repeat and are taken for labels"]),
    ("a.tsv", "Hi.\t嗨。\tCC-BY 2.0 (France)\nRun.\t跑。\tCC-BY 2.0 (France)\n", [("Hi.", "嗨。"), ("Run.", "跑。")], []),
    ("a.csv", "text,text\na,b\nc,d\n", ["a", "c"], ["'text (column 2)'"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "expected", "notes"), READ)
def test_tables(tmp_path: Path, name: str, content: str, expected: Texts, notes: list[str]) -> None:
    documents, found = read(tmp_path, name, content)
    assert texts(documents) == expected
    assert [note for note in notes if not any(note in line for line in found)] == []


@pytest.mark.parametrize(("content", "said", "options", "expected"), [
    ("The sky is blue\nYes, I like it\nNo, never, no\n", "by ',' line 2 has 2, most have 1", {"delimiter": "none"},
     ["The sky is blue", "Yes, I like it", "No, never, no"]),
    ("text,label\nsky,1\nyes, I do,0\nsea,1\nno, no, no,0\n", "line 3 has 3, most have 2", {"delimiter": "comma"}, ["sky", "sea"]),
    ("文本，标签\n今天，1\n公园，0\n", "--delimiter ，", {"delimiter": "，"}, ["今天", "公园"]),
    ("sentence1,sentence2\nfoo bar,baz\nqux,quux\n", "--text-column sentence1", {"text_column": "sentence2"}, ["baz", "quux"]),
    ("a b,c d e\nf g,h i\n", "--source-column 1 --target-column 2", {"source_column": 1, "target_column": 2},
     [("a b", "c d e"), ("f g", "h i")]),
    ("question,answer\nWho?,I am\nWhat?,Tea\n", "questions and answers", {"text_column": "answer"}, ["I am", "Tea"]),
    ("评论,内容\n好的,甲乙丙\n坏的,丁戊\n", "'评论', '内容'", {"text_column": "内容"}, ["甲乙丙", "丁戊"]),
    ("x,y z\n1,a b\n", "no column 'text'; there are: 'x', 'y z'", {"text_column": "y z"}, ["a b"]),
])  # fmt: skip
def test_what_is_not_certain_is_asked_for(tmp_path: Path, content: str, said: str, options: ReadKeywords, expected: Texts) -> None:
    stated: dict[str, Any] = {"text_column": "text"} if said.startswith("no column") else {}
    with pytest.raises(SourceError) as caught:
        read(tmp_path, "a.csv", content, **stated)
    assert said in str(caught.value)
    assert texts(read(tmp_path, "a.csv", content, **options)[0]) == expected


def test_a_text_file_is_a_table_where_delimiter_and_column_are_stated(tmp_path: Path) -> None:
    content = "一\t今天\t1\n二\t明天\t0\n"
    assert texts(read(tmp_path, "a.txt", content, delimiter="tab", text_column=2)[0]) == ["今天", "明天"]
    (tmp_path / "b.txt").write_text(content, encoding="utf-8")
    report = ReadReport()
    (document,) = read_documents(tmp_path / "b.txt", "file", report, reading=ReadOptions(text_column=2))
    assert document.text == content
    assert report.files[0].notes == ["text_column: without effect, as it is read as text"]


def test_a_header_is_as_stated(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "a.csv", "text\nwords here\n", header=False)[0]) == ["text", "words here"]
    assert texts(read(tmp_path, "a.csv", "some words\nmore words\n", header=True)[0]) == ["more words"]


# -- JSON -------------------------------------------------------------------------------------------------------------

LATER = '{"title": "A"}\n{"text": "one", "title": "B"}\n{"text": "two", "title": "C"}\n'


@pytest.mark.parametrize(("name", "content", "expected", "notes"), [
    ("a.jsonl", LATER, ["one", "two"], ["line 1: no text in field 'text' (1 skipped so)"]),
    ("a.jsonl", LATER.replace('{"title"', '{"text": null, "title"'), ["one", "two"], ["line 1: no text in field 'text'"]),
    ("a.jsonl", '{"version": "1.0"}\n{"text": "one"}\n', ["one"], ["line 1: no text"]),
    ("a.jsonl", '{"text": null}\n{"text": "one"}\n', ["one"], ["line 1: no text"]),
    ("a.json", '[{"text": null, "title": "A"}, {"text": "one", "title": "B"}]', ["one"], ["record 1: no text"]),
    ("a.jsonl", '{"text": "one"}\n\ufeff{"text": "two"}\n', ["one", "two"], []),
    ("a.jsonl", '{\n "text": "one"\n}\n{\n "text": "two"\n}\n', ["one", "two"], []),
    ("a.jsonl", '[\n {"text": "one"},\n {"text": "two"}\n]\n', ["one", "two"], []),
    ("a.jsonl", '{"text": "cut\n{"text": "two"}\n{"text": "three"}\n', ["two", "three"], ["line 1: not JSON"]),
    ("a.json", '{"text": {"0": "one", "1": "two"}, "n": {"0": 1, "1": 2}}', ["one", "two"], []),
    ("a.json", '{"a": {"text": "one"}, "b": {"text": "two"}}', ["one", "two"], []),
    ("a.jsonl", '{"sentence": "one", "label": "x"}\n', ["one"], []),
    ("a.json", '{"data": [{"title": "t", "paragraphs": [{"context": "c", "qas": [{"question": "q", "answers": []}]}]}]}', ["c"], []),
    ("a.json", '[[["line one", "line two"], [{"question": "q", "choice": ["a"], "answer": "a"}], "id"]]', ["line one\nline two"], []),
    ("a.json", '[["hello", "hi there"], ["bye", "see you"]]', ["hello\nhi there", "bye\nsee you"], []),
])  # fmt: skip
def test_fields_are_found_in_any_record(tmp_path: Path, name: str, content: str, expected: Texts, notes: list[str]) -> None:
    documents, found = read(tmp_path, name, content)
    assert texts(documents) == expected
    assert [note for note in notes if not any(note in line for line in found)] == []


SQUAD = {"data": [{"paragraphs": [{"context": "The sky.", "qas": [
    {"question": "What?", "answers": [{"text": "sky"}]}, {"question": "Who?", "answers": []}]}]}]}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "expected"), [
    ("a.csv", "question,answer\nWhat?,That\n", [["What?", "That"]]),
    ("a.tsv", "question\tanswer\nWhat?\tThat\n", [["What?", "That"]]),
    ("a.csv", "question,response\nHello,Hallo\nYes,Ja\n", [["Hello", "Hallo"], ["Yes", "Ja"]]),
    ("a.csv", "问题,回答\n什么？,那个\n", [["什么？", "那个"]]),
    ("a.jsonl", '{"id": 1}\n{"question": "What?", "answer": "That"}\n', [["What?", "That"]]),
    ("a.json", json.dumps(SQUAD), [["What?\n\nThe sky.", "sky"]]),
    ("a.jsonl", '{"question": "What?", "choices": ["this", "that"], "answer": "B"}', [["What?\nA. this\nB. that", "B"]]),
    ("a.json", '[{"messages": [{"message": "hello"}, {"message": "hi"}], "name": "x"}]', [["hello", "hi"]]),
    ("a.json", '[["hello", "hi", "bye", "bye!"]]', [["hello", "hi", "bye", "bye!"]]),
])  # fmt: skip
def test_known_shapes_are_conversations(tmp_path: Path, name: str, content: str, expected: list[list[str]]) -> None:
    documents, _ = read(tmp_path, name, content, conversations=True)
    assert [[turn["content"] for turn in d.turns or ()] for d in documents] == expected


def test_stated_columns_are_prompt_and_answer_of_conversations(tmp_path: Path) -> None:
    content = "first one here,second\nthird one here,fourth\n"
    documents, _ = read(tmp_path, "a.csv", content, True, source_column=1, target_column=2)
    assert [[(t["role"], t["content"]) for t in d.turns or ()] for d in documents] == [
        [("user", "first one here"), ("assistant", "second")], [("user", "third one here"), ("assistant", "fourth")],
    ]  # fmt: skip


@pytest.mark.parametrize(("record", "path", "text"), [
    ({"meta": {"body": "inside"}, "x": "y z", "w": "u v"}, "meta.body", "inside"),
    ({"choices": [{"turns": ["a", "b"]}, {"turns": ["c"]}]}, "choices.turns", "a\nb\nc"),
    ({"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, "chosen.content", "q\na"),
])  # fmt: skip
def test_a_path_goes_into_nested_records(tmp_path: Path, record: dict[str, Any], path: str, text: str) -> None:
    with pytest.raises(SourceError, match=path.replace(".", r"\.")):
        read(tmp_path, "a.jsonl", json.dumps(record), text_column="nowhere")
    assert texts(read(tmp_path, "a.jsonl", json.dumps(record), text_column=path)[0]) == [text]


# -- Parquet ----------------------------------------------------------------------------------------------------------


def written(folder: Path, columns: list[tuple[str, Any]]) -> Path:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_arrays([array for _, array in columns], names=[name for name, _ in columns])
    parquet.write_table(table, folder / "a.parquet")
    return folder / "a.parquet"


def from_parquet(path: Path, conversations: bool = False, **options: Any) -> tuple[list[Document], list[str]]:
    report = ReadReport()
    documents = list(read_documents(path, "file", report, True, conversations, ReadOptions(**options)))
    (entry,) = report.files
    assert entry.records == len(documents) + entry.skipped_records + report.dropped_documents
    return documents, entry.notes


def test_parquet_types(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    invalid = pa.array([b"good", b"caf\xe9", "\ufffd!".encode()]).cast(pa.binary()).view(pa.string())
    documents, notes = from_parquet(written(tmp_path, [("text", invalid)]))
    assert texts(documents) == ["good", "caf\ufffd", "\ufffd!"]
    assert "1 byte sequences are not utf-8 and became U+FFFD" in notes
    for array, expected in (
        (pa.array([b"eins", "zwölf".encode(), None]), ["eins", "zwölf"]),
        (pa.array([["a", "b"], ["c"], None], pa.large_list(pa.string())), ["a\nb", "c"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array(["a", None, "c"], pa.large_string()), ["a", "c"]),
    ):
        assert texts(from_parquet(written(tmp_path, [("n", pa.array([1, 2, 3])), ("text", array)]))[0]) == expected
    picture = pa.array([b"\x89PNG\xff\xfe", b"\xff\xd8\xff\x00"])
    assert texts(from_parquet(written(tmp_path, [("image", picture), ("caption", pa.array(["a b", "c d"]))]))[0]) == ["a b", "c d"]


def test_parquet_columns(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    time = pa.array([1_700_000_000_123_456_789], pa.timestamp("ns"))
    turns = pa.array([[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]])
    (document,), _ = from_parquet(written(tmp_path, [("messages", turns), ("created", time)]), conversations=True)
    assert [turn["content"] for turn in document.turns or ()] == ["hi", "hello"]
    twice = written(tmp_path, [("text", pa.array(["a b"])), ("text", pa.array(["c d"]))])
    documents, notes = from_parquet(twice)
    assert texts(documents) == ["a b"]
    assert any("'text (column 2)'" in note for note in notes)
    assert texts(from_parquet(twice, text_column=2)[0]) == ["c d"]
    with pytest.raises(SourceError, match="without rows"):
        from_parquet(written(tmp_path, [("text", pa.array([], pa.string()))]))
    nested = written(tmp_path, [("meta", pa.array([{"body": "inside"}])), ("n", pa.array([1]))])
    assert texts(from_parquet(nested, text_column="meta.body")[0]) == ["inside"]


# -- no record is lost -------------------------------------------------------------------------------------------------

CELL = st.text(alphabet="ab 中,;\t|\"\\\n'{}[]\ufeff", max_size=6)
VALUE = st.one_of(CELL, st.none(), st.integers(0, 9), st.lists(CELL, max_size=2))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["csv", "tsv", "jsonl", "json"]), st.data())
def test_every_record_is_read_or_skipped(kind: str, data: st.DataObject) -> None:
    rows: list[list[str]] = []
    records: list[dict[str, Any]] = []
    if kind in ("csv", "tsv"):
        rows = data.draw(st.lists(st.lists(CELL, min_size=1, max_size=3), min_size=1, max_size=8))
        held = io.StringIO()
        csv.writer(held, delimiter="\t" if kind == "tsv" else ",").writerows(
            [["id", "text"], *([str(i), *row] for i, row in enumerate(rows))]
        )
        content = held.getvalue()
    else:
        records = data.draw(st.lists(st.dictionaries(st.sampled_from(["id", "text", "x"]), VALUE), min_size=1, max_size=8))
        broken = data.draw(st.lists(st.sampled_from(["{", "oops", '{"text": "cut', "[1]", "7"]), max_size=2))
        lines = data.draw(st.permutations([*map(json.dumps, records), *broken]))
        content = "\n".join(lines) if kind == "jsonl" else json.dumps(records)
    entry, report = FileReport(f"a.{kind}", kind, ""), ReadReport()
    try:
        options = ReadOptions(text_column="text", delimiter=None if "json" in kind else "tab" if kind == "tsv" else "comma")
        found = list(Records(entry, report, False, options).read(io.BytesIO(content.encode())))
    except Unreadable:  # the whole file is refused, with the reason
        return
    assert len(found) + report.skipped_records == entry.records
    counted = sum(int(note.rsplit("(", 1)[1].split()[0]) for note in entry.notes if note.endswith("skipped so)"))
    assert counted == report.skipped_records
    if kind == "csv":
        assert entry.records == len(rows)
        good = [row for row in rows if len(row) == 1 or not any(row[1:])]
        assert [text for text, *_ in found] == [row[0] for row in good]
    if kind == "json":
        assert entry.records == len(records)


@pytest.mark.parametrize(
    "told",
    [
        {"columns": ["text", "label"], "index": [0, 1, 2], "data": [["one", 1], ["two", 0], ["three"]]},
        {"columns": ["label", "text"], "data": [[1, "one"], [0, "two"], "three"]},
        {"schema": {"fields": [{"name": "text"}]}, "data": [{"index": 0, "text": "one"}, {"index": 1, "text": "two"}, 3]},
    ],
)
def test_tables_as_pandas_writes_them(told: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(told))
    report = ReadReport()
    assert [document.text for document in read_documents(tmp_path / "a.json", report=report)] == ["one", "two"]
    assert report.skipped_records == 1


@pytest.mark.parametrize(("name", "option"), [
    ("mt-tatoeba-en-zh/valid.tsv", None), ("qa-cmrc2018/trial.json.gz", None), ("cls-chnsenticorp/dev.tsv", None),
    ("cls-chnsenticorp/test.tsv", None), ("fewclue/eprstmt.train_few_all.jsonl", None), ("dial-kdconv-film-zh/dev.json.gz", None),
    ("fewclue/bustm.train_few_all.jsonl", "sentence1"), ("dial-lccc-toy-zh/toy_valid.tsv", "1"), ("sts-stsb-en-zh/stsb-en-dev.csv", "1"),
    ("eval-mt-bench/reference_gpt-4.jsonl", "choices.turns"), ("pref-dpo-demo/dpo_en_demo.json.gz", "chosen.value"),
])  # fmt: skip
def test_real_files_are_read_or_name_the_option_that_reads_them(data_folder: Path, name: str, option: str | None) -> None:
    stated = ReadOptions()
    if option is not None:
        with pytest.raises(SourceError, match="--text-column "):
            next(iter(read_documents(data_folder / name)))
        stated = ReadOptions(text_column=option)
    first = next(iter(read_documents(data_folder / name, reading=stated)))
    assert first.text.strip()
