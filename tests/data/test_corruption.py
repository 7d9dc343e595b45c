"""Spoiled texts: what is left is in order, what is missing is the share that was asked for, and the same again."""

from __future__ import annotations

import numpy as np
import pytest

from bimo.data.corruption import Spoiling, spoil, spoiled, text_generator

MASK = 9999
KEEP = frozenset({0, 1})


def document(words: int) -> np.ndarray:
    """<s>, the words 2, 3, 4 …, </s>."""
    return np.concatenate([[0], 2 + np.arange(words), [1]])


def draws(words: int, how: Spoiling, times: int) -> list[np.ndarray]:
    return [spoil(document(words), how, text_generator(0, 0, i)) for i in range(times)]


def test_what_is_left_is_in_order_and_ends_stay():
    for words in (1, 2, 3, 10, 40):
        for found in draws(words, Spoiling(MASK, share=0.4, keep=KEEP), 50):
            assert (found[0], found[-1]) == (0, 1)
            left = found[(found != MASK)]
            assert (np.diff(left[:-1]) > 0).all()
            assert set(left) <= set(document(words))
            assert not ((found[1:] == MASK) & (found[:-1] == MASK)).any()  # no two masks side by side
            assert len(found) <= words + 2


@pytest.mark.parametrize("words", [1, 7, 100])
def test_the_share_is_what_was_asked_for(words):
    found = draws(words, Spoiling(MASK, share=0.3, keep=KEEP), 600)
    missing = [words + 2 - (text != MASK).sum() for text in found]
    assert np.mean(missing) == pytest.approx(0.3 * words, rel=0.1, abs=0.05)


def test_spans_are_poissons():
    lengths: list[int] = []
    for text in draws(400, Spoiling(MASK, share=0.3, span=3.0, keep=KEEP), 30):
        for place in np.flatnonzero(text == MASK):
            before, after = text[place - 1], text[place + 1]
            before, after = 1 if before == 0 else before, 402 if after == 1 else after
            lengths.append(int(after - before - 1))
    shares = np.bincount(lengths, minlength=4)[:4] / len(lengths)
    expected = np.exp(-3.0) * np.array([1, 3, 4.5, 4.5])
    assert shares == pytest.approx(expected, abs=0.03)


def test_whole_texts_go_missing():
    found = draws(5, Spoiling(MASK, whole=0.25, keep=KEEP), 500)
    wholly = [text.tolist() == [0, MASK, 1] for text in found]
    assert np.mean(wholly) == pytest.approx(0.25, abs=0.06)
    assert draws(5, Spoiling(MASK, whole=1.0, keep=KEEP), 1)[0].tolist() == [0, MASK, 1]
    assert draws(0, Spoiling(MASK, keep=KEEP), 1)[0].tolist() == [0, 1]
    assert spoil(np.array([5, 6]), Spoiling(MASK, share=0.9, span=9), text_generator(0, 0, 0)).tolist() == [MASK]


def test_same_place_same_text_other_place_another():
    texts = [document(n) for n in (3, 12, 30)]
    how = Spoiling(MASK, keep=KEEP)
    one = spoiled(texts, how, text_generator(7, 2, 5))
    again = spoiled(texts, how, text_generator(7, 2, 5))
    assert one.tokens.equal(again.tokens)
    assert one.lengths.equal(again.lengths)
    assert one.lengths.tolist() == [int((row != 0).sum()) + 1 for row in one.tokens]  # padded on the right
    others = [text_generator(8, 2, 5), text_generator(7, 3, 5), text_generator(7, 2, 6)]
    assert not any(one.tokens.equal(spoiled(texts, how, generator).tokens) for generator in others)
