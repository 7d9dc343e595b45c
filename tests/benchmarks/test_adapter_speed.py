"""Both sides of the LoRA benchmark learn the same function from the same conversations."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch

from benchmarks import adapter_speed
from bimo.core.recipe import AdapterSection
from bimo.models.adapters import adapt
from bimo.models.bundle import Bundle
from tests.pretrained import pretrained

pytest.importorskip("peft")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    records = [{"instruction": f"say it {i} times", "input": "", "output": "it is blue. " * (1 + i % 5)} for i in range(240)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def test_it_measures(rows: Path, tmp_path: Path) -> None:
    pretrained(tmp_path / "model")
    words = ["--model", str(tmp_path / "model"), "--rows", str(rows), "--rounds", "2", "--batch", "2", "--context", "96"]
    found = adapter_speed.measure(adapter_speed.parser().parse_args(words))
    assert found["rounds"] == 2
    assert found["ratio"] > 0
    assert found["ours_tokens_per_second"] > 0 < found["theirs_tokens_per_second"]
    assert found["whole_tokens_per_second"] > 0 < found["whole_ratio"]


def test_both_sides_lose_the_same_on_a_conversation(rows: Path, tmp_path: Path) -> None:
    from bimo.data.corpus import prepare
    from bimo.data.speech import Speech
    from bimo.training.objectives.causal import causal_likelihood

    pretrained(tmp_path / "model")
    bundle = Bundle.load(tmp_path / "model")
    speech = Speech(bundle.tokenizer, 97)
    split = prepare(rows, tmp_path / "corpus", tokenizer=bundle.tokenizer, speech=speech).splits["train"]
    theirs = adapter_speed.Theirs(tmp_path / "model", split, 1.0)  # one conversation at a time
    adapt(bundle.model, AdapterSection(rank=2))  # type: ignore[arg-type]
    ours = adapter_speed.Ours(bundle.model.train(), split, 2, 96)  # type: ignore[union-attr]
    batch = ours.source.batch(0, 0)
    nats = causal_likelihood(ours.model, batch).nats
    assert batch.shared
    told, tokens = [], 0
    for row in (0, 1):
        edges = [0, *batch.boundaries[row].nonzero().flatten().tolist(), batch.tokens.shape[1]]
        for start, stop in itertools.pairwise(sorted(set(edges))):
            text, learned = batch.tokens[row, start:stop], batch.targets_scored[row, max(0, start - 1) : stop - 1]
            if start and learned.any():  # what all begin with is the first piece of a row
                text = torch.cat((batch.tokens[row, : batch.shared], text))
                labels = torch.where(torch.cat((torch.zeros(batch.shared, dtype=torch.bool), learned)), text, -100)[None]
                told.append(float(theirs.model(input_ids=text[None], labels=labels).loss) * int(learned.sum()))
                tokens += int((text != 0).sum())  # a single place of padding behind a row has no boundary
    assert float(nats) == pytest.approx(sum(told), rel=1e-4)
    assert ours.step(0) == tokens
    whole = adapter_speed.Ours(ours.model, split, 2, 96, share=False)
    first = whole.source.batch(0, 0)
    assert not first.shared
    assert whole.step(0) == int((first.tokens != 0).sum())
    assert theirs.step(0) > 0
