"""Conversations: the forms that people keep them in, what is learned of them, and rows that hold them whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from bimo.core import progress
from bimo.core.errors import CorpusError, SourceError
from bimo.data.conversations import NoConversation, turns_of
from bimo.data.corpus import Corpus, prepare
from bimo.data.documents import Document, ReadReport
from bimo.data.packing import PackedBatches, pack, shared_beginning
from bimo.data.sources import read_documents
from bimo.data.speech import Speech
from bimo.data.split import Split
from bimo.models.decoder import Decoder, DecoderConfig
from bimo.text.tokenizer import Tokenizer
from bimo.text.vocabulary import Vocabulary
from bimo.training.objectives.causal import causal_likelihood

ASKED = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "That."}]
FORMS: dict[str, dict[str, Any]] = {
    "messages": {"messages": ASKED},
    "sharegpt": {"id": 3, "conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]},
    "prompt": {"prompt": "What?", "completion": "That."},
    "turns of both": {"prompt": ASKED[:1], "completion": ASKED[1:]},
    "alpaca": {"instruction": "What?", "input": "", "output": "That."},
    "question": {"id": 1, "question": "What?", "answer": "That."},
    "response": {"Prompt": "What?", "response": "That.", "context": None},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_turns(form: str) -> None:
    assert list(turns_of(FORMS[form])) == ASKED


@pytest.mark.parametrize("record", [
    {"system": "Be short.", "messages": ASKED},
    {"system_prompt": "Be short.", "question": "What?", "response": "That."},
    {"System": "Be short.", "prompt": ASKED[:1], "completion": ASKED[1:]},
    {"system": "Be short.", "messages": [{"role": "system", "content": "Be short."}, *ASKED]},
    {"messages": [{"role": "developer", "content": "Be short."}, *ASKED]},
])  # fmt: skip
def test_the_system_text_comes_first(record: dict[str, Any]) -> None:
    assert list(turns_of(record)) == [{"role": "system", "content": "Be short."}, *ASKED]


@pytest.mark.parametrize("history", [
    [["Who?", "You."]],
    json.dumps([["Who?", "You."]]),
    [{"role": "user", "content": "Who?"}, {"from": "gpt", "value": "You."}],
])  # fmt: skip
@pytest.mark.parametrize(("asked", "answer"), [("instruction", "output"), ("query", "response")])
def test_a_history_comes_before(history: Any, asked: str, answer: str) -> None:
    earlier = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "You."}]
    system = {"role": "system", "content": "Be short."}
    assert list(turns_of({asked: "What?", answer: "That.", "history": history, "system": "Be short."})) == [system, *earlier, *ASKED]
    assert list(turns_of({asked: "What?", answer: "That.", "history": []})) == ASKED


@pytest.mark.parametrize("key", ["weight", "loss", "train", "training", "trainable"])
@pytest.mark.parametrize(("no", "yes"), [(0, 1), (False, True), (0.0, None)])
def test_an_answer_may_be_left_out_of_what_is_learned(key: str, no: Any, yes: Any, tmp_path: Path) -> None:
    record = {"messages": [*ASKED[:1], {**ASKED[1], key: no}, *ASKED[:1], {"role": "assistant", "content": "Those two.", key: yes}]}
    turns = turns_of(record)
    assert [turn.get("learn", True) for turn in turns] == [True, False, True, True]
    (found,) = read_documents(written(tmp_path, [record]), conversations=True)
    assert found.bytes == len("Those two.")


@pytest.mark.parametrize("marked", [False, True])
def test_what_is_not_learned_is_read_and_not_scored(marked: bool) -> None:
    tokenizer = Tokenizer.train("char", ["ask say this that <>"]).talking()
    if marked:
        tokenizer.chat_template = (
            "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}"
            "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
        )
    turns = [{"role": "user", "content": "ask"}, {"role": "assistant", "content": "this"}, {"role": "assistant", "content": "that"}]
    said = Speech(tokenizer, 99).said(Document("", "a", 0, turns=tuple(turns)))
    less = Speech(tokenizer, 99).said(Document("", "a", 0, turns=({**turns[0]}, {**turns[1], "learn": False}, turns[2])))
    assert said is not None
    assert less is not None
    assert (less.ids == said.ids).all()
    assert tokenizer.decode(said.ids[said.answers]) == "thisthat"
    assert tokenizer.decode(less.ids[less.answers]) == "that"


def test_one_block_for_two_answers_cannot_be_told_apart() -> None:
    tokenizer = Tokenizer.train("char", ["ask say"])
    tokenizer.chat_template = "{% generation %}{% for m in messages %}{{ m.content }}{% endfor %}{% endgeneration %}"
    turns = ({"role": "assistant", "content": "ask", "learn": False}, {"role": "assistant", "content": "say"})
    with pytest.raises(CorpusError, match=r"1 of 2 answers are not to be learned, but the chat template has 1 \{% generation %\} blocks"):
        Speech(tokenizer, 99).said(Document("", "a", 0, turns=turns))


@pytest.mark.parametrize("record", [
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Wh"}, {"type": "text", "text": "at?"}]}, ASKED[1]]},
    {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "What?", "image_url": None}]}, ASKED[1]]},
    {"prompt": "What?", "prompt_id": "a1", "messages": ASKED},
    {"messages": ASKED, "answer": "That", "conversations": None, "tools": [], "function_call": {"name": None, "arguments": None}},
    {"messages": [{**turn, "tool_calls": None, "prefix": False, "weight": 1, "name": None} for turn in ASKED], "seed": 1},
    {"messages": None, "instruction": "What?", "output": "That.", "text": "### What? That."},
    {"conversation": [{"human": "What?", "assistant": "That."}]},
    {"conversations": [{"from": "User", "value": "What?"}, {"from": "Assistant", "value": "That."}]},
    {"messages": json.dumps(ASKED)},
    {"messages": ASKED, "label": True, "loss_weight": 1.0, "weight": 1},
])  # fmt: skip
def test_forms_that_other_programs_write_are_the_same_turns(record: dict[str, Any]) -> None:
    assert list(turns_of(record)) == ASKED


def test_fields_that_are_not_read_are_named(tmp_path: Path) -> None:
    records = [{**FORMS["messages"], "id": 1, "tools": []}, {"messages": [{**ASKED[0], "time": 3}, ASKED[1]], "Topic": "x", "score": None}]
    report = ReadReport()
    assert len(list(read_documents(written(tmp_path, records), report=report, conversations=True))) == 2
    assert "fields beside the conversations that are not read: Topic, id, time of a turn" in report.files[0].notes


def test_a_table_of_many_forms_is_read_by_what_each_row_has(tmp_path: Path) -> None:
    """As a Parquet file of several sources: every row has all columns, most of them empty."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"messages": ASKED, "history": None, "instruction": None, "output": None},
            {"messages": None, "history": [["Who?", "You."]], "instruction": "What?", "output": "That."}]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    found = list(read_documents(tmp_path / "t.parquet", conversations=True))
    assert [len(document.turns or ()) for document in found] == [2, 4]


def test_input_and_system_are_told_too() -> None:
    turns = turns_of({"instruction": "Add.", "input": "2 + 2", "output": "4", "system": "Be short."})
    assert [turn["content"] for turn in turns] == ["Be short.", "Add.\n\n2 + 2", "4"]
    assert turns_of({"question": "Who?", "context": "He is.", "answer": "You."})[0]["content"] == "Who?\n\nHe is."


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"messages": []}, "no answer"),
        ({"messages": "hello"}, "no list"),
        ({"messages": ["hello"]}, "turn 1 .* has no role"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no answer"),
        ({"messages": [{"role": "poet", "content": "x"}]}, "role 'poet'"),
        ({"messages": [{"role": "user", "content": ""}, *ASKED]}, "no text in turn 1"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}, *ASKED]}, "turn 1 has a part of type 'image', which is not read"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}, *ASKED]}, "turn 1 has a part of type None"),
        ({"prompt": "x", "completion": None}, "no text in completion"),
        ({"prompt": " ", "completion": "y"}, "no text in prompt"),
        ({"instruction": "x", "output": 3}, "no text in output"),
        ({"instruction": "x", "output": ""}, "no text in output"),
        ({"question": "x", "answer": 42}, "no text in answer"),
        ({"question": "x", "context": ["y"], "answer": "z"}, "no text in context"),
        ({"prompt": ASKED[:1], "input": "x", "completion": "y"}, "input stands beside a list of turns"),
        ({"messages": ASKED, "tools": [{"name": "f"}]}, "the record has tools, which is not read; leave it out"),
        ({"messages": [*ASKED, {"role": "assistant", "content": "x", "tool_calls": [{"id": "a"}]}]}, "turn 3 of messages has tool_calls"),
        ({"messages": [*ASKED, {"role": "assistant", "content": "x", "weight": 0.5}]}, "turn 3 of messages has weight 0.5; only 1 or true"),
        ({"messages": [*ASKED, {"role": "assistant", "content": "x", "loss": "no"}]}, "turn 3 of messages has loss 'no'; only 1 or true"),
        ({"messages": [{**ASKED[0], "train": True}, ASKED[1]]}, "turn 1 of messages has train, but is not an answer"),
        ({"messages": [ASKED[0], {**ASKED[1], "loss": False}]}, "no answer to learn from"),
        ({"messages": [ASKED[0], {**ASKED[1], "prefix": True}]}, "turn 2 of messages has prefix, which is not read"),
        ({"messages": [ASKED[0], {**ASKED[1], "loss_mask": 0}]}, "turn 2 of messages has loss_mask, which is not read"),
        ({"messages": [ASKED[0], {**ASKED[1], "mask": False}]}, "turn 2 of messages has mask, which is not read"),
        ({"messages": [ASKED[0], {**ASKED[1], "channel": "analysis"}]}, "turn 2 of messages has channel, which is not read"),
        ({"messages": ASKED, "functions": [{"name": "f"}]}, "the record has functions, which is not read"),
        ({"messages": ASKED, "loss_scale": 0.3}, "the record has loss_scale, which is not read"),
        ({"messages": ASKED, "images": ["a.png"]}, "the record has images, which is not read"),
        ({"messages": ASKED, "rejected_response": "no"}, "the record has rejected_response, which is not read"),
        ({"conversations": ASKED, "chosen": ASKED[1], "rejected": ASKED[1]}, "the record has chosen, which is not read"),
        ({"messages": ASKED, "label": False}, "the record has label false, which marks an answer that is not to be learned"),
        ({"messages": ASKED, "weight": 0}, "the record has weight 0: it is not to be learned"),
        ({"messages": ASKED, "system": "x", "system_prompt": "y"}, "system_prompt beside a system turn that says something else"),
        ({"messages": ASKED, "system": 3}, "no text in system"),
        ({"messages": ASKED, "history": [["a", "b"]]}, "the record has history beside messages; leave it out, or put it into a turn"),
        ({"messages": ASKED, "response": "Another."}, "the record has response beside messages"),
        ({"messages": ASKED, "conversations": ASKED[:1]}, "the record has conversations beside messages"),
        ({"instruction": "x", "output": "y", "answer": "z"}, "the record has answer beside instruction and output"),
        ({"prompt": ASKED[:1], "completion": "y", "history": [["a", "b"]]}, "history stands beside a list of turns"),
        ({"instruction": "x", "output": "y", "history": [["a"]]}, "entry 1 of history is not a pair"),
        ({"instruction": "x", "output": "y", "history": [["a", ""]]}, "no text in entry 1 of history"),
        ({"instruction": "x", "output": "y", "history": "earlier"}, "history is no list of turns"),
        ({"messages": [{"role": "function_call", "content": "f()"}, *ASKED]}, "role 'function_call'"),
    ],
)
def test_what_is_no_conversation_says_why(record: dict[str, Any], says: str) -> None:
    with pytest.raises(NoConversation, match=says):
        turns_of(record)


def written(folder: Path, records: list[Any], name: str = "talks.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def test_records_are_read_with_their_turns_and_bad_ones_counted(tmp_path: Path) -> None:
    path = written(tmp_path, [FORMS["messages"], {"messages": []}, {"messages": [*ASKED, *ASKED]}])
    report = ReadReport()
    found = list(read_documents(path, report=report, conversations=True))
    assert [len(document.turns or ()) for document in found] == [2, 4]
    assert [document.bytes for document in found] == [5, 10]  # of the answers
    assert found[0].text == "What?\n\nThat."
    assert report.skipped_records == 1
    assert "line 2: no answer to learn from" in " ".join(report.files[0].notes)


@pytest.mark.parametrize(("name", "content"), [
    ("t.csv", "instruction,input,output\nWhat?,,That.\nWho?,x,You.\n"),
    ("t.tsv", "prompt\tcompletion\nWhat?\tThat.\nWho?\tYou.\n"),
    ("t.json", json.dumps([FORMS["alpaca"], {"instruction": "Who?", "output": "You."}])),
    ("wrapped.json", json.dumps({"conversations": [FORMS["messages"], {"messages": [{"role": "assistant", "content": "You."}]}]})),
])  # fmt: skip
def test_tables_and_lists_hold_conversations_too(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    found = list(read_documents(tmp_path / name, conversations=True))
    assert [document.turns[-1]["content"] for document in found if document.turns] == ["That.", "You."]


def test_parquet_with_turns(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_pylist([FORMS["messages"]] * 2), tmp_path / "t.parquet")
    found = list(read_documents(tmp_path / "t.parquet", conversations=True))
    assert [list(document.turns or ()) for document in found] == [ASKED, ASKED]


@pytest.mark.parametrize("form", ["messages", "sharegpt"])
def test_a_json_file_may_hold_one_conversation(form: str, tmp_path: Path) -> None:
    (tmp_path / "talk.json").write_text(json.dumps(FORMS[form]))
    (found,) = read_documents(tmp_path / "talk.json", conversations=True)
    assert list(found.turns or ()) == ASKED
    with pytest.raises(SourceError, match="bimo finetune learns from them"):
        list(read_documents(tmp_path / "talk.json"))


@pytest.mark.parametrize("record", [{"prompt": "What?", "reply": "That."}, {"id": "a", "frage": "Was?", "antwort": "Das."}])
def test_records_of_other_names_are_told_those_that_are_read(record: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"name the fields as one of these: messages, .* query and response; or text"):
        list(read_documents(written(tmp_path, [record]), conversations=True))


def test_without_asking_for_conversations_they_are_refused_and_the_way_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="bimo finetune learns from them"):
        list(read_documents(written(tmp_path, [FORMS["messages"]])))


# -- as tokens --------------------------------------------------------------------------------------------------------


def talks(number: int) -> list[dict[str, Any]]:
    return [{"prompt": f"ask {i}", "completion": "say " * (1 + i % 5)} for i in range(number)]


def prepared(folder: Path, records: list[Any], most: int = 100, held: list[Any] | None = None, **options: Any) -> Corpus:
    tokenizer = Tokenizer.train("char", ["ask say 0123456789"])
    speech = Speech(tokenizer, most, **options)
    beside = {} if held is None else dict.fromkeys(("valid", "test"), written(folder, held, "held.jsonl"))
    return prepare(written(folder, records), folder / "corpus", tokenizer=tokenizer, speech=speech, **beside)


def test_answers_are_marked_and_alone_scored(tmp_path: Path) -> None:
    corpus = prepared(tmp_path, talks(300))
    train = corpus.splits["train"]
    assert train.answers is not None
    assert train.scored_tokens == int(train.answers.sum()) < train.tokens - train.documents
    for i in (0, train.documents - 1):
        ids, start = train.document(i), int(train.starts[i])
        learned = ids[train.answers[start : start + len(ids)]]
        assert corpus.tokenizer.decode(learned).strip("say ") == ""  # the answer alone …
        assert learned[-1] == corpus.tokenizer.vocabulary.eos  # … and its end
    again = Corpus.open(corpus.folder).splits["train"]
    assert again.answers is not None
    assert np.array_equal(again.answers, train.answers)
    few = train.only(np.array([2, 0]))
    assert few.answers is not None
    assert few.scored_tokens == int(few.answers.sum()) > 0


def test_too_long_is_refused_cut_or_left_out_and_counted(tmp_path: Path) -> None:
    records = [*talks(220), {"prompt": "ask " * 3, "completion": "say " * 40}, {"prompt": "ask " * 40, "completion": "say"}]
    with pytest.raises(CorpusError, match=r"text\.too_long: 2 of 222 conversations have more than 60 tokens \(the longest 17\d\)"):
        prepared(tmp_path, records, 60)
    cut = prepared(tmp_path, records, 60, held=records[-2:], too_long="cut")
    lengths = {name: np.diff(s.starts, append=s.tokens) for name, s in cut.splits.items()}
    assert (len(lengths["train"]), lengths["train"].max()) == (221, 60)  # of one nothing of the answer was left
    assert len(lengths["test"]) == 2
    assert lengths["test"].min() > 60, "what is held out is never cut"
    said = " ".join(cut.manifest["summary"])
    assert "2 of 226 conversations have more than 60 tokens and were cut there" in said
    assert "1 conversations have no answer within 60 tokens" in said
    dropped = prepared(tmp_path / "x", records, 60, too_long="drop") if (tmp_path / "x").mkdir() is None else None
    assert dropped is not None
    assert sum(s.documents for s in dropped.splits.values()) == 220
    assert "were left out" in " ".join(dropped.manifest["summary"])


@pytest.mark.parametrize(("too_long", "what"), [("drop", "left out"), ("cut", "cut there")])
def test_where_most_conversations_are_too_long_the_run_is_refused(tmp_path: Path, too_long: str, what: str) -> None:
    records = [{"prompt": f"ask {i}", "completion": "say " * (2 if i % 3 else 40)} for i in range(60)]
    most = [*records[:40], *({"prompt": f"ask {i}", "completion": "say " * 40} for i in range(60))]
    with pytest.raises(CorpusError, match=rf"\d\d of 100 conversations, more than half, .* would be {what}; raise training\.context"):
        prepared(tmp_path, most, 60, too_long=too_long)
    assert prepared(tmp_path, records, 60, too_long=too_long).splits["train"].documents > 30


def test_what_is_left_out_is_said_before_it_is_learned(tmp_path: Path) -> None:
    class Shown:
        lines: ClassVar[list[str]] = []

        def changed(self) -> None: ...

        def say(self, text: str) -> None:
            self.lines.append(text)

    records = [*talks(30), {"prompt": "ask", "completion": "say " * 40}, {"messages": []}]
    with progress.shown_by(Shown()):
        prepared(tmp_path, records, 60, too_long="drop")
    said = " ".join(Shown.lines)
    assert "1 of 31 conversations have more than 60 tokens and were left out" in said
    assert "skipped 1 record(s)" in said


def test_texts_ask_for_no_template(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train("char", ["ask say"])
    tokenizer.vocabulary = replace(tokenizer.vocabulary, eos=None)
    speech = Speech(tokenizer, 10)  # fine-tuning on a text makes one, too
    with pytest.raises(CorpusError, match="no special token that ends a text"):
        speech.said(Document("ask say", "a.jsonl", 3, turns=({"role": "user", "content": "ask"}, {"role": "assistant", "content": "say"})))
    assert speech.taken == 0


def test_what_is_unknown_or_lost_in_answers_is_counted(tmp_path: Path) -> None:
    records = [{"prompt": f"ask é {i}", "completion": "say é é"} for i in range(300)]
    corpus = prepared(tmp_path, records)
    for name, split in corpus.splits.items():
        assert split.unknown_tokens == 2 * split.documents, name
        assert split.lost_bytes == (0 if name == "train" else 4 * split.documents), "é has two bytes"


def test_a_conversation_that_cannot_be_told_is_named_within_its_file(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train("char", ["ask say 0123456789"])
    refusing = "{% if 'no' in m.content %}{{ raise_exception('no') }}{% endif %}{{ m.content }}"
    tokenizer.chat_template = f"{{% for m in messages %}}{refusing}{{% endfor %}}"
    first = written(tmp_path, talks(30), "a.jsonl")
    second = written(tmp_path, [*talks(2), {"prompt": "no", "completion": "say"}], "b.jsonl")
    with pytest.raises(CorpusError, match=r"b\.jsonl: conversation 3: "):
        prepare([first, second], tmp_path / "c", tokenizer=tokenizer, speech=Speech(tokenizer, 100))


def test_conversations_and_texts_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ask say\n" * 40)
    tokenizer = Tokenizer.train("char", ["ask say 0123456789"])
    with pytest.raises(CorpusError, match="some documents are conversations and some are not"):
        prepare([written(tmp_path, talks(30)), tmp_path / "a.txt"], tmp_path / "c", tokenizer=tokenizer, speech=Speech(tokenizer, 99))


# -- rows -------------------------------------------------------------------------------------------------------------


def split_of(lengths: list[int]) -> Split:
    starts = np.cumsum([0, *lengths])[:-1]
    ids = np.concatenate([np.full(n, i + 1) for i, n in enumerate(lengths)]).astype(np.uint16)
    answers = np.concatenate([np.arange(n) >= n // 2 for n in lengths])
    answers[starts] = False
    return Split("train", [ids], starts, np.ones(len(lengths), np.int64), answers=answers)


def test_packing_holds_everything_once_and_fills_rows() -> None:
    lengths = np.random.default_rng(0).integers(2, 60, 500)
    rows = pack(lengths, 64)
    assert sorted(i for row in rows for i in row) == list(range(500))
    assert max(lengths[row].sum() for row in rows) <= 64
    assert len(rows) <= 1.06 * lengths.sum() / 64


def test_every_text_is_met_whole_once_an_epoch_in_a_new_order() -> None:
    lengths = np.random.default_rng(1).integers(2, 30, 101).tolist()
    split = split_of(lengths)
    source = PackedBatches(split, 3, 32, seed=4)
    orders = []
    for epoch in range(2):
        seen: dict[int, int] = {}
        order = []
        for index in range(source.steps_per_epoch):
            batch = source.batch(epoch, index)
            assert batch.tokens.shape[1] <= 33
            for row in range(3):
                begins = [0, *(batch.boundaries[row].nonzero().flatten().tolist())]
                texts = batch.tokens[row].tolist()
                for text in dict.fromkeys(texts):
                    places = [i for i, t in enumerate(texts) if t == text]
                    assert places == list(range(places[0], places[-1] + 1))
                    assert places[0] in begins or places[0] == len(texts) - 1
                    if text:
                        order.append(text)
                        seen[text] = seen.get(text, 0) + 1
                        assert len(places) == lengths[text - 1]
                        scored = batch.targets_scored[row, max(0, places[0] - 1) : places[-1]].sum()
                        assert int(scored) == int(split.answers[split.starts[text - 1] :][: lengths[text - 1]].sum())  # type: ignore[index]
                    else:
                        assert not batch.targets_scored[row, places[0] - 1 :].any()
        assert set(seen) == set(range(1, 102))
        again = sum(n - 1 for n in seen.values())
        assert again <= 3 * 12  # rows of the beginning that fill the last batch
        orders.append(order)
    assert orders[0] != orders[1]
    assert (source.batch(1, 2).tokens == source.batch(1, 2).tokens).all()
    assert "packed into" in source.notes[0]


def beginning_alike(lengths: list[int], shared: int, learned: int) -> Split:
    """Texts whose first `shared` tokens are 900, 901 …, and of which the tokens from `learned` on are learned."""
    split = split_of(lengths)
    ids, answers = np.array(split.shards[0]), np.zeros(sum(lengths), np.bool_)
    for start, length in zip(split.starts, lengths, strict=True):
        ids[start : start + shared] = 900 + np.arange(shared)
        answers[start + learned : start + length] = True
    return Split("train", [ids], split.starts, split.document_bytes, answers=answers)


def test_what_all_texts_begin_with_stands_once_a_row() -> None:
    lengths = np.random.default_rng(1).integers(14, 30, 60).tolist()
    split = beginning_alike(lengths, 10, 12)
    plain, shared = PackedBatches(split, 2, 64), PackedBatches(split, 2, 64, share=True)
    assert (plain.shared, shared.shared) == (0, 10)
    assert len(shared.rows) < len(plain.rows)
    assert shared.tokens_per_epoch == sum(10 + sum(lengths[d] - 11 for d in row) for row in shared.rows)
    assert "; the 10 tokens that all begin with are read once a row" in shared.notes[0]
    seen = []
    for index in range(shared.steps_per_epoch):
        batch = shared.batch(0, index)
        assert batch.shared == 10
        for row in range(2):
            begins = batch.boundaries[row].nonzero().flatten().tolist()
            assert begins[:2] == [0, 10]
            assert batch.tokens[row, :10].tolist() == list(range(900, 910))
            for start, stop in zip(begins[1:], [*begins[2:], batch.tokens.shape[1]], strict=True):
                text = int(batch.tokens[row, start])
                if text:
                    seen.append(text)
                    own = batch.tokens[row, start:]
                    assert int((own == text).sum()) == lengths[text - 1] - 10
                    assert int(batch.targets_scored[row, start : stop - 1].sum()) == lengths[text - 1] - 12
                    assert not batch.targets_scored[row, start - 1]
    assert set(seen) == set(range(1, 61))


def test_an_epoch_costs_the_same_with_what_is_shared_read_once() -> None:
    """The loss and its gradients, of rows each met once."""
    lengths = np.random.default_rng(2).integers(14, 30, 40).tolist()
    split = beginning_alike(lengths, 10, 12)
    torch.manual_seed(0)
    model = Decoder.build(DecoderConfig(layers=2, width=16, heads=2, context=64), Vocabulary(1000)).double()
    told = []
    for share in (False, True):
        source = PackedBatches(split, 1, 64, share=share)
        model.zero_grad()
        nats = sum(causal_likelihood(model, source.batch(0, i)).nats.sum() for i in range(source.steps_per_epoch))
        nats.backward()  # type: ignore[union-attr]
        told.append((source.steps_per_epoch, nats.detach(), [p.grad.clone() for p in model.parameters()]))  # type: ignore[union-attr]
    (plain, ours, grads), (fewer, theirs, others) = told
    assert fewer < plain
    assert float(ours) == pytest.approx(float(theirs), rel=1e-9)
    for ours, theirs in zip(grads, others, strict=True):  # norms are taken in float32
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5 * float(ours.abs().max()))


def test_what_is_shared_ends_before_anything_is_learned() -> None:
    lengths = [20, 25, 30]
    assert shared_beginning(beginning_alike(lengths, 12, 18)) == 12
    assert shared_beginning(beginning_alike(lengths, 12, 12)) == 11, "the target behind it must be no answer"
    assert shared_beginning(beginning_alike(lengths, 7, 12)) == 0, "too few to matter"
    assert shared_beginning(beginning_alike([20], 12, 18)) == 0, "nothing to share it with"
    assert shared_beginning(beginning_alike([14, 14], 14, 12)) == 11
    assert shared_beginning(split_of([20, 25])) == 0


def test_a_text_that_fits_no_row_is_told() -> None:
    with pytest.raises(CorpusError, match="a document has 40 tokens, a row 33"):
        PackedBatches(split_of([5, 40]), 2, 32)
