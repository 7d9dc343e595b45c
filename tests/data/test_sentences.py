"""Records of sentences that belong together, and batches of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bimo.core.errors import SourceError
from bimo.data.sentences import Related, SentenceBatches, encode_related, read_related, read_rows
from bimo.text.tokenizer import Tokenizer

TRIPLES = [Related(f"a cat number {i}", f"cat {i}", f"a dog number {i}") for i in range(7)]


def written(path: Path, fields: tuple[str, ...], rows: list[tuple[str, ...]]) -> Path:
    if ".json" in path.name:
        text = "\n".join(json.dumps(dict(zip(fields, row, strict=True)), ensure_ascii=False) for row in rows) + "\n"
    else:
        mark = "\t" if ".tsv" in path.name else ","
        quoted = [[f'"{cell}"' for cell in row] for row in [fields, *rows]]
        text = "\n".join(mark.join(row) for row in quoted)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


ROWS = [("one, two", "1, 2", "three"), ("über\nlines", "两行", "x")]


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv", "r.tsv", "r.csv.gz", "r.jsonl.gz"])
@pytest.mark.parametrize("fields", [("anchor", "positive", "negative"), ("sent0", "sent1", "hard_neg"), ("Prompt", "chosen", "rejected")])
def test_triples_are_read(name, fields, tmp_path):
    assert read_related(written(tmp_path / name, fields, ROWS)) == [Related(*row) for row in ROWS]


def test_pairs_have_no_negative_and_other_fields_do_not_matter(tmp_path):
    path = written(tmp_path / "r.jsonl", ("id", "positive", "anchor"), [("1", "b", "a"), ("2", "d", "c")])
    assert read_related(path) == [Related("a", "b"), Related("c", "d")]


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("r.jsonl", "", "no records"),
        ("r.csv", "anchor,positive\n", "no records"),
        ("r.jsonl", '{"text": "a"}', "fields text; expected anchor"),
        ("r.jsonl", '{"anchor": "a", "positive": "b"}\n{"anchor": "a"}', "line 2: no text in field 'positive'"),
        ("r.csv", "anchor,positive,negative\na,b,c\na,b\n", "row 3: no text in field 'negative'"),
        ("r.jsonl", '{"anchor": "a", "positive": 3}', "no text"),
        ("r.jsonl", "{", "line 1 is not JSON"),
        ("r.jsonl", "[1]", "holds a list"),
        ("r.jsonl.gz", "not packed", "cannot be read"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(name, content, word, tmp_path):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=word):
        read_related(path)
    with pytest.raises(SourceError, match="no such file"):
        read_related(tmp_path / "nowhere.csv")


def test_rows_of_a_table_without_a_head(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('"a\nb",c,1.5\n\nd,e,2\n', encoding="utf-8")
    assert list(read_rows(path)) == [["a\nb", "c", "1.5"], ["d", "e", "2"]]


def batches(seed: int = 0, context: int | None = None, triples: list[Related] = TRIPLES) -> tuple[SentenceBatches, Tokenizer]:
    tokenizer = Tokenizer.train("word", [f"{t.anchor} {t.positive} {t.negative}" for t in TRIPLES])
    anchors, positives, negatives = encode_related(triples, tokenizer)
    return SentenceBatches(anchors, 3, context, seed, positives, negatives), tokenizer


def test_each_text_keeps_its_positive_and_its_negative():
    source, tokenizer = batches()
    assert source.steps_per_epoch == 3
    met = []
    for epoch in (0, 1):
        for index in range(3):
            batch = source.batch(epoch, index)
            assert batch.count == 3
            assert batch.fresh
            for row in range(3):
                sides = [(batch.tokens, batch.lengths), *((g.tokens, g.lengths) for g in (batch.positives, batch.negatives))]
                texts = [tokenizer.decode(tokens[row, : lengths[row]].tolist()) for tokens, lengths in sides]
                met.append(Related(*texts))
    assert set(met[:9]) == set(met[9:]) == set(TRIPLES)
    assert met[:9] != met[9:]


def test_a_batch_is_a_function_of_seed_epoch_and_index():
    first, again, other = batches()[0], batches()[0], batches(seed=1)[0]
    backwards = [again.batch(e, i) for e in (1, 0) for i in (2, 1, 0)]
    for a, b in zip([first.batch(e, i) for e in (0, 1) for i in (0, 1, 2)], reversed(backwards), strict=True):
        assert torch.equal(a.tokens, b.tokens)
        assert torch.equal(a.negatives.tokens, b.negatives.tokens)
    assert any(not torch.equal(first.batch(0, i).tokens, other.batch(0, i).tokens) for i in range(3))


def test_texts_are_cut_to_the_context_and_may_stand_alone():
    source, tokenizer = batches(context=3)
    batch = source.batch(0, 0)
    assert batch.tokens.shape[1] == 4
    assert batch.positives.tokens.shape[1] <= 4
    anchors, _, negatives = encode_related([Related("cat", "cat")], tokenizer)
    assert negatives is None
    alone = SentenceBatches(anchors, 2, None).batch(0, 0).to(torch.device("cpu"))
    assert alone.positives is alone.negatives is None
    assert alone.lengths.tolist() == [3, 3]
    assert np.array_equal(alone.tokens[0], alone.tokens[1])
