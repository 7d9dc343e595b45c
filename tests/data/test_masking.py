"""Hidden tokens: the 80/10/10 rule, whole words, what is never touched, and that two integers are the whole position."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bimo.core.errors import CorpusError, UserError
from bimo.data.batches import WindowBatches
from bimo.data.masking import MaskedBatches, choose_words, masking_generator
from bimo.data.rows import DocumentBatches
from bimo.data.split import Split

MASK, SPECIAL = 2, (0, 2)  # of an alphabet of 20: 0 <s>, 1 </s>, 2 padding and mask symbol, 3 <unk>, words from 4 on


def text(documents: int = 60, seed: int = 0) -> Split:
    generator = np.random.default_rng(seed)
    parts = [np.array([0, *generator.integers(3, 20, int(n)), 1]) for n in generator.integers(1, 30, documents)]
    starts = np.cumsum([0, *map(len, parts[:-1])])
    return Split("train", [np.concatenate(parts).astype(np.uint16)], starts, np.full(documents, 10))


def masked(split: Split | None = None, seed: int = 0, **fields: object) -> MaskedBatches:
    return MaskedBatches(WindowBatches(split or text(), 8, 31, seed), 20, MASK, SPECIAL, (0, 1, 2, 3), **fields)


def whole(batches: MaskedBatches, epochs: int = 30) -> tuple[torch.Tensor, ...]:
    """What stood at the chosen places, what is read there, the untouched tokens' change, the targets that could be chosen."""
    stood, read, changed, candidates = [], [], 0, 0
    for epoch in range(epochs):
        for index in range(batches.steps_per_epoch):
            batch, plain = batches.batch(epoch, index), batches.inner.batch(epoch, index)
            flat = batch.tokens.reshape(-1)
            stood.append(batch.targets)
            read.append(flat[batch.places])
            rest = torch.ones(len(flat), dtype=torch.bool)
            rest[batch.places] = False
            changed += int((flat != plain.tokens.reshape(-1))[rest].sum())
            candidates += int((plain.targets_scored & (plain.tokens[:, 1:] != MASK)).sum())
            assert torch.equal(batch.targets, plain.tokens.reshape(-1)[batch.places])
            assert bool((batch.places.diff() > 0).all())
    return torch.cat(stood), torch.cat(read), torch.tensor(changed), torch.tensor(candidates)


def test_eighty_ten_ten():
    stood, read, changed, candidates = whole(masked())
    n = len(stood)
    assert n > 4000
    assert n / int(candidates) == pytest.approx(0.15, abs=0.005)
    hidden, kept = read == MASK, read == stood
    replaced = ~hidden & ~kept
    lucky = 0.1 / 16  # a random id may be the one that stood there, of 16 words
    assert float(hidden.float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float(kept.float().mean()) == pytest.approx(0.1 + lucky, abs=0.015)
    assert float(replaced.float().mean()) == pytest.approx(0.1 - lucky, abs=0.015)
    assert set(read[replaced].tolist()) == set(range(4, 20))  # every word, nothing special
    assert int(changed) == 0


def test_shares_are_what_is_asked():
    stood, read, _, candidates = whole(masked(share=0.4, masked=0.5, random=0.5), epochs=10)
    assert len(stood) / int(candidates) == pytest.approx(0.4, abs=0.01)
    assert float((read == MASK).float().mean()) == pytest.approx(0.5, abs=0.03)
    with pytest.raises(UserError, match="more than 1"):
        masked(masked=0.8, random=0.3)


def test_what_begins_a_document_and_padding_are_never_told_but_what_ends_one_is():
    stood, _, _, _ = whole(masked())
    assert set(stood.tolist()) == {1, *range(3, 20)}
    batches = MaskedBatches(DocumentBatches(text(), 4, None), 20, MASK, SPECIAL, (0, 1, 2, 3))
    for index in range(batches.steps_per_epoch):
        batch, lengths = batches.batch(0, index), batches.inner.batch(0, index).lengths
        rows, columns = batch.places // batch.tokens.shape[1], batch.places % batch.tokens.shape[1]
        assert bool((columns > 0).all())
        assert bool((columns < lengths[rows]).all())
        for row, length in enumerate(lengths.tolist()):  # padding is apart from the text: every place a document of its own
            assert batch.boundaries[row].tolist() == [t == 0 or t >= length for t in range(batch.tokens.shape[1])]


def test_boundaries_are_where_documents_begin():
    batches = masked()
    for index in range(batches.steps_per_epoch):
        batch, plain = batches.batch(0, index), batches.inner.batch(0, index)
        assert torch.equal(batch.boundaries, plain.tokens == 0)
        assert batch.tokens.shape == plain.tokens.shape


def test_whole_words_are_hidden_together():
    """Words here: runs of equal parity."""

    def starts(row: np.ndarray) -> np.ndarray:
        return np.diff(row % 2, prepend=-1) != 0

    batches = masked(starts=starts, share=0.3)
    chosen = candidates = 0
    for index in range(batches.steps_per_epoch):
        batch, plain = batches.batch(0, index), batches.inner.batch(0, index)
        may = np.concatenate([np.zeros((8, 1), bool), plain.targets_scored.numpy()], 1) & ~np.isin(plain.tokens, SPECIAL)
        begins = np.stack([starts(row) for row in plain.tokens.numpy()]) | batch.boundaries.numpy()
        begins[:, 0] = True
        words = np.cumsum(begins.reshape(-1))
        told = np.zeros(words.shape, bool)
        told[batch.places.numpy()] = True
        for word in set(words[told].tolist()):
            assert told[(words == word) & may.reshape(-1)].all()
        chosen, candidates = chosen + int(told.sum()), candidates + int(may.sum())
    assert 0.25 < chosen / candidates <= 0.3


def test_a_batch_is_a_function_of_seed_epoch_and_index():
    first, again = masked(), masked()
    wanted = [first.batch(epoch, index) for epoch in (0, 1) for index in range(first.steps_per_epoch)]
    backwards = [again.batch(epoch, index) for epoch in (1, 0) for index in reversed(range(again.steps_per_epoch))]
    for a, b in zip(wanted, reversed(backwards), strict=True):
        assert torch.equal(a.tokens, b.tokens)
        assert torch.equal(a.places, b.places)
    other = masked(seed=1).batch(0, 0)
    assert not torch.equal(other.tokens, wanted[0].tokens)
    draws = {masking_generator(*key).random() for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]}
    assert len(draws) == 4


def test_places_differ_from_epoch_to_epoch_over_the_same_rows():
    split = text(1)
    batches = MaskedBatches(DocumentBatches(split, 1, None), 20, MASK, SPECIAL)
    assert len({tuple(batches.batch(epoch, 0).places.tolist()) for epoch in range(20)}) > 5


def test_one_word_at_least_and_none_where_there_is_none():
    generator = np.random.default_rng(0)
    may = np.array([False, True, True, True])
    assert choose_words(may, np.array([True, True, False, False]), 0.01, generator).tolist() == [1, 2, 3]
    assert choose_words(may & False, may, 0.5, generator).tolist() == []
    only_special = Split("train", [np.array([0, 0, 0, 0], np.uint16)], np.array([0, 1]), np.array([1, 1]))
    assert MaskedBatches(WindowBatches(only_special, 1, 2), 20, MASK, SPECIAL).batch(0, 0).count == 0


def test_a_vocabulary_of_special_tokens_alone_is_refused():
    with pytest.raises(CorpusError, match="ordinary"):
        MaskedBatches(WindowBatches(text(), 8, 31), 4, MASK, SPECIAL, (0, 1, 2, 3))


def test_what_the_loop_asks_of_batches():
    batches = masked()
    inner = batches.inner
    assert (batches.context, batches.steps_per_epoch, batches.tokens_per_epoch) == (31, inner.steps_per_epoch, inner.tokens_per_epoch)
    batch = batches.batch(0, 0).to(torch.device("cpu"))
    assert batch.fresh
    assert batch.count == len(batch.targets) == len(batch.places)
