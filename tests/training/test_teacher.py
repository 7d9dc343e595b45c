"""Teachers: what they say at every place of every batch is what they would say of each document read from its beginning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bimo.core.errors import RecipeError
from bimo.data.batches import Batch, CarriedBatches, WindowBatches
from bimo.data.rows import DocumentBatches
from bimo.data.split import Split
from bimo.models.base import LanguageModel
from bimo.models.bundle import Bundle
from bimo.models.decoder import Decoder, DecoderConfig
from bimo.models.ngram import NGram, NGramConfig
from bimo.models.recurrent import Recurrent, RecurrentConfig
from bimo.text.tokenizer import Tokenizer
from bimo.training import teacher as teaching
from bimo.training.checkpoint import _flatten, _restore
from bimo.training.teacher import Teacher, fingerprint_of
from tests.training.toy import VOCABULARY, Toy, text

CPU = torch.device("cpu")
FOLDER = Path("teacher")


def counted(order: int = 3) -> NGram:
    model, split = NGram.build(NGramConfig(order=order), VOCABULARY), text(60, seed=5)
    model.count(split.chunks())
    model.estimate()
    return model


def recurrent() -> Recurrent:
    torch.manual_seed(1)
    return Recurrent.build(RecurrentConfig(layers=1, width=8, output_dropout=0.5), VOCABULARY)


def decoder(context: int) -> Decoder:
    torch.manual_seed(1)
    return Decoder.build(DecoderConfig(layers=1, heads=2, width=8, context=context, dropout=0.5), VOCABULARY)


class Plain(LanguageModel):
    """Another model through the interface alone, so that nothing but `start`, `advance`, `select` and `join` is used."""

    def __init__(self, model: Any) -> None:
        self.vocabulary, self.kind, self.context, self.model = model.vocabulary, model.kind, model.context, model

    build = config_dict = tensors = from_tensors = parameter_count = state_bytes = None  # type: ignore[assignment]

    def start(self, batch: int, given: Any = None) -> Any:
        return self.model.start(batch, given)

    def advance(self, state: Any, tokens: Tensor, lengths: Any = None, keep: Any = "all") -> Any:
        return self.model.advance(state, tokens, lengths, keep)

    def select(self, state: Any, rows: Tensor) -> Any:
        return self.model.select(state, rows)

    def join(self, states: Any) -> Any:
        return self.model.join(states)


Plain.__abstractmethods__ = frozenset()


def taught_by(model: Any) -> Teacher:
    return Teacher(Bundle(model, Tokenizer.train("char", ["ab"])), FOLDER, "", CPU)


def said(teacher: Teacher, batch: Batch, carry: Any = None, carries: bool = False) -> tuple[Tensor, Any]:
    """Probabilities [B, T, V] that the teacher tells, -1 where nothing is told; and its carry, as a checkpoint keeps it."""
    found = torch.full((*batch.targets_scored.shape, 12), -1.0)
    reading = teacher.read(batch, carry, carries)
    for places, logits in reading.pieces:
        assert not logits.requires_grad
        found.view(-1, 12)[places] = logits.softmax(1)
    assert torch.equal(found[..., 0] >= 0, batch.targets_scored)
    tensors: dict[str, Tensor] = {}
    return found, _restore(_flatten("carry", reading.carry, tensors), tensors)


def told_of(model: Any, split: Split) -> dict[tuple[int, int], Tensor]:
    """P(next) after every token of every document read from its beginning, by document and place."""
    model = model.eval() if isinstance(model, torch.nn.Module) else model
    found = {}
    for i in range(split.documents):
        logits, _ = model.advance(model.start(1), torch.from_numpy(split.document(i))[None, :-1])
        found |= {(i, t): row for t, row in enumerate(logits[0].softmax(1))}
    return found


def places(batch: Batch, split: Split) -> list[tuple[int, int, tuple[int, int]]]:
    """Row and step of each scored target, with its document and place; documents of the split are all different."""
    known = {tuple(split.document(i).tolist()): i for i in range(split.documents)}
    found = []
    for b, row in enumerate(batch.tokens.tolist()):
        for t in range(len(row) - 1):
            if batch.targets_scored[b, t]:
                first = max((s for s in range(t + 1) if row[s] == 0), default=-1)
                if first >= 0:
                    whole = next(d for d in known if list(d[: t + 2 - first]) == row[first : t + 2])
                    found.append((b, t, (known[whole], t - first)))
    return found


@pytest.fixture
def split() -> Split:
    chosen = text(30, length=6, seed=2)
    rows = {tuple(chosen.document(i).tolist()) for i in range(chosen.documents)}
    starts = np.arange(len(rows)) * 8
    return Split("train", [np.concatenate(sorted(rows)).astype(np.uint16)], starts, np.full(len(rows), 6))


TEACHERS = {"ngram": counted, "recurrent": recurrent, "plain": lambda: Plain(recurrent().eval()), "decoder": lambda: decoder(16)}


@pytest.mark.parametrize("name", TEACHERS)
def test_windows_and_documents(split: Split, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching, "_CHUNK", 60)  # 5 places a piece
    teacher = taught_by(TEACHERS[name]())
    expected = told_of(teacher.model, split)
    for source in (WindowBatches(split, 4, 12), DocumentBatches(split, 4, None)):
        batch = source.batch(0, 1)
        found, carry = said(teacher, batch)
        assert carry is None
        known = places(batch, split)
        assert len(known) > 10
        for b, t, place in known:
            assert torch.allclose(found[b, t], expected[place], atol=1e-5), (b, t)


@pytest.mark.parametrize("name", ["ngram", "recurrent", "plain"])
def test_a_state_is_carried_over_batches_and_checkpoints(split: Split, name: str) -> None:
    teacher = taught_by(TEACHERS[name]())
    rows = 2
    source, expected = CarriedBatches(split, rows, 5), told_of(teacher.model, split)
    texts: list[list[int]] = [[] for _ in range(rows)]
    heard: list[list[Tensor]] = [[] for _ in range(rows)]
    scored: list[list[bool]] = [[] for _ in range(rows)]
    carry = None
    for index in range(6):
        batch = source.batch(0, index)
        found, carry = said(teacher, batch, carry, carries=True)
        for b in range(rows):
            texts[b] += batch.tokens[b, :-1].tolist()
            heard[b] += list(found[b])
            scored[b] += batch.targets_scored[b].tolist()
    assert carry is not None
    last = batch.tokens[:, -1:]
    whole = Batch(torch.cat([torch.tensor(texts), last], 1), torch.tensor(texts) == 0, torch.tensor(scored))
    known = places(whole, split)
    beyond = [(b, t, p) for b, t, p in known if p[1] > t % 5]  # a document that began in an earlier batch
    assert len(beyond) > 10
    for b, t, place in known:
        assert torch.allclose(heard[b][t], expected[place], atol=1e-5), (b, t)


@pytest.mark.parametrize("make", [lambda: decoder(8), lambda: Plain(decoder(8).eval())], ids=["decoder", "plain"])
def test_a_teacher_with_a_context_reads_the_tokens_before_again(make: Any) -> None:
    torch.manual_seed(3)
    teacher, row = taught_by(make()), torch.randint(3, 12, (1, 21))
    row[0, 13] = 0
    carry = None
    for index in range(4):
        tokens = row[:, 5 * index : 5 * index + 6]
        batch = Batch(tokens, tokens[:, :-1] == 0, tokens[:, 1:] != 0)
        found, carry = said(teacher, batch, carry, carries=True)
        first = max(5 * index - 3, 0)  # 8 fit: 3 tokens before those of the row
        first = 13 if index == 3 else first
        for t in range(5):
            start = 13 if 5 * index + t >= 13 else first
            if not batch.targets_scored[0, t]:
                continue
            read = row[:, start : 5 * index + t + 1]
            logits, _ = teacher.model.advance(teacher.model.start(1), read, keep="last")
            assert torch.allclose(found[0, t], logits[0, 0].softmax(0), atol=1e-5), (index, t)


def test_few_logits_are_held_at_once(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching, "_CHUNK", 120)
    batch = WindowBatches(split, 3, 16).batch(0, 0)
    for make in TEACHERS.values():
        sizes = [logits.numel() for _, logits in taught_by(make()).read(batch).pieces]
        assert max(sizes) <= 120
        assert sum(sizes) == 12 * batch.count


def test_nothing_of_a_teacher_learns_or_drops_out(split: Split) -> None:
    teacher = taught_by(recurrent())
    batch = DocumentBatches(split, 4, None).batch(0, 0)
    assert torch.equal(said(teacher, batch)[0], said(teacher, batch)[0])
    assert isinstance(teacher.model, torch.nn.Module)
    assert not any(p.requires_grad for p in teacher.model.parameters())


def test_folders(tmp_path: Path) -> None:
    tokenizer, other = Tokenizer.train("char", ["abc"]), Tokenizer.train("char", ["abcd"])
    torch.manual_seed(0)
    model = Recurrent.build(RecurrentConfig(layers=1, width=4), tokenizer.vocabulary)
    Bundle(model, tokenizer).save(tmp_path / "one")
    teacher = Teacher.open(str(tmp_path / "one"), tokenizer, CPU)
    assert teacher.folder == (tmp_path / "one").resolve()
    assert teacher.fingerprint == fingerprint_of(tmp_path / "one")
    Teacher.open(str(tmp_path / "one"), tokenizer, CPU, teacher.fingerprint)
    sizes = f"a char tokenizer of {tokenizer.vocabulary.size} ids.*a char tokenizer of {other.vocabulary.size} ids"
    with pytest.raises(RecipeError, match=sizes):
        Teacher.open(str(tmp_path / "one"), other, CPU)
    with pytest.raises(RecipeError, match=r"objective\.teacher: .*no such model folder"):
        Teacher.open(str(tmp_path / "two"), tokenizer, CPU)
    with torch.no_grad():
        model.output_bias[3] += 1e-3
    Bundle(model, tokenizer).save(tmp_path / "one")
    with pytest.raises(RecipeError, match="is not the model that this run learns from"):
        Teacher.open(str(tmp_path / "one"), tokenizer, CPU, teacher.fingerprint)


def test_who_can_teach_whom() -> None:
    teacher = taught_by(Toy())
    teacher.check(Toy(), pairs=False)
    gaps = Toy()
    gaps.continues_text = False  # type: ignore[misc]
    with pytest.raises(RecipeError, match="tells the next one, and the model that is to learn tells hidden tokens"):
        teacher.check(gaps, pairs=False)
    held = Plain(Toy(context=None))
    held.start = lambda batch, given=None: object()  # type: ignore[method-assign]
    with pytest.raises(RecipeError, match="cannot be kept in a checkpoint"):
        taught_by(held).check_carried()
