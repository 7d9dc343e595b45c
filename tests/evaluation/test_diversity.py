"""Quality and diversity of drawn texts: overlap counted by hand and again plainly, likelihood under n-grams, curves compared."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from bimo.core.errors import UserError
from bimo.data.corpus import prepare
from bimo.evaluation.diversity import Measures, Reference, bleu, draw, measure, ngram_nats, picture, quality_gap, real, self_bleu, sweep
from bimo.models.bundle import Bundle
from bimo.models.ngram import NGram, NGramConfig
from bimo.text.tokenizer import Tokenizer
from bimo.text.vocabulary import Vocabulary
from tests.fakes import FakeModel

VOCABULARY = Vocabulary(8, bos=0, eos=1, suppressed=(0,))


def plain_bleu(text: Sequence[Any], references: Sequence[Sequence[Any]], n: int) -> float:
    """BLEU as its paper tells it, every reference counted anew."""
    logs = []
    for k in range(1, min(n, len(text)) + 1):
        counts, *others = (Counter(zip(*(t[i:] for i in range(k)), strict=False)) for t in (text, *references))
        clipped = sum(min(count, max(other[gram] for other in others)) for gram, count in counts.items())
        if k == 1 and not clipped:
            return 0.0
        logs.append(math.log((clipped or 0.1) / (len(text) - k + 1)))
    closest = min((len(r) for r in references), key=lambda length: (abs(length - len(text)), length))
    return min(1.0, math.exp(1 - closest / len(text))) * math.exp(sum(logs) / len(logs))


def test_bleu_by_hand():
    """Of five words "the" and "cat" count once each, as in the reference; of four pairs "the cat" counts once; it is long enough."""
    text, reference = ["the", "cat", "the", "cat", "the"], ["the", "cat", "sat"]
    assert bleu([text], [reference], 1) == pytest.approx(2 / 5)
    assert bleu([text], [reference], 2) == pytest.approx(math.sqrt(2 / 5 * 1 / 4))
    assert bleu([text], [reference], 3) == pytest.approx((2 / 5 * 1 / 4 * 0.1 / 3) ** (1 / 3)), "no three words in common count 0.1"
    assert bleu([["the", "cat"]], [reference], 2) == pytest.approx(math.exp(1 - 3 / 2)), "two words where three are wanted"
    assert bleu(["dog"], [["cat"]], 4) == 0
    assert bleu([["cat"]], [["cat"]], 4) == 1, "a text of one word has one order"
    assert bleu([[]], [["cat"]], 4) == 0


def test_self_bleu_by_hand():
    """abcd and abce against each other and xyz: 3/4 letters, 2/3 pairs; xyz has nothing in common."""
    one = math.sqrt(3 / 4 * 2 / 3)
    assert self_bleu(["abcd", "abce", "xyz"], 2) == pytest.approx((one + one + 0) / 3)
    assert self_bleu(["abcd", "abcd"], 4) == 1, "a text is not compared with itself, but with its double"


@pytest.mark.parametrize("seed", range(5))
def test_counted_once_is_counted_anew(seed):
    generator = np.random.default_rng(seed)
    texts = [generator.integers(4, size=length).tolist() for length in generator.integers(1, 9, size=14)]
    references = [generator.integers(4, size=length).tolist() for length in generator.integers(1, 9, size=9)]
    assert bleu(texts, references, 3) == pytest.approx(np.mean([plain_bleu(t, references, 3) for t in texts]))
    others = [texts[:i] + texts[i + 1 :] for i in range(len(texts))]
    assert self_bleu(texts, 3) == pytest.approx(np.mean([plain_bleu(t, o, 3) for t, o in zip(texts, others, strict=True)]))


def test_likelihood_under_ngrams_is_the_models_own_score():
    learned, read = [[3, 4, 1], [3, 5, 1], [6, 7]], [[3, 4, 5, 1], [2]]
    model = NGram.build(NGramConfig(order=2, smoothing="witten-bell"), VOCABULARY)
    model.count([np.array([0, *text]) for text in learned])
    model.estimate()
    scored = [model.score_documents(np.array([0, *text]), np.array([0, len(text) + 1])).sum() for text in read]
    found = ngram_nats(learned, read, VOCABULARY, 2)
    assert found == pytest.approx(sum(scored) / 5)
    assert math.isfinite(found), "a word that was never met is not impossible"
    with pytest.raises(UserError, match="<s>"):
        ngram_nats(learned, read, Vocabulary(8), 2)


def test_all_measures_of_a_few_texts():
    reference = Reference([[3, 4, 5, 1], [3, 5, 1]], [[3, 4, 1], [6, 7, 1]])
    found = measure([[3, 5, 1], [3, 4, 1], [4, 4, 4]], reference, VOCABULARY, temperature=0.5, n=2)
    assert (found.texts, found.temperature, found.mean_length) == (3, 0.5, pytest.approx(7 / 3))
    assert found.novelty == pytest.approx(2 / 3), "the first stands in the training text"
    assert found.validity == pytest.approx(1 / 3), "the second stands in the held-out text"
    assert found.ended == pytest.approx(2 / 3)
    assert found.distinct_1 == pytest.approx(3 / 7)
    assert found.distinct_2 == pytest.approx(3 / 4)
    assert found.bleu == pytest.approx(bleu([[3, 5], [3, 4], [4, 4, 4]], [[3, 4], [6, 7]], 2))
    assert found.self_bleu == pytest.approx(self_bleu([[3, 5], [3, 4], [4, 4, 4]], 2))
    assert found.forward == pytest.approx(ngram_nats(reference.held_out, [[3, 5, 1], [3, 4, 1], [4, 4, 4]], VOCABULARY, 2))
    assert found.reverse == pytest.approx(ngram_nats([[3, 5, 1], [3, 4, 1], [4, 4, 4]], reference.held_out, VOCABULARY, 2))
    assert set(found.to_dict()) == set(Measures.__dataclass_fields__)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Reference]:
    """A model whose next letter depends on the last two, and a text of syllables."""
    folder = tmp_path_factory.mktemp("syllables")
    lines = ["".join(p) for p in itertools.product(("ba", "ke", "li", "mo", "nu"), repeat=3)] + [
        "".join(p) for p in itertools.product("abeiou", repeat=3)
    ]
    (folder / "text.txt").write_text("\n".join(lines) + "\n")
    corpus = prepare(folder / "text.txt", folder / "corpus", tokenizer="char", documents="line")
    tokenizer = Tokenizer.load(folder / "corpus")
    model = FakeModel.of(tokenizer.vocabulary.size, order=2, suppressed=tokenizer.vocabulary.suppressed)
    model.vocabulary = tokenizer.vocabulary
    return Bundle(model, tokenizer, "line"), Reference.of(corpus)


def test_hotter_is_more_diverse_and_worse(bundle):
    model, reference = bundle
    cool, mild, hot = sweep(model, reference, [0.3, 0.8, 3.0], count=60, n=3)
    assert [m.temperature for m in (cool, mild, hot)] == [0.3, 0.8, 3.0]
    assert cool.self_bleu > mild.self_bleu > hot.self_bleu
    assert cool.distinct_2 < mild.distinct_2 < hot.distinct_2
    assert cool.reverse > hot.reverse
    assert all(m.texts == 60 and 0 <= m.ended <= 1 for m in (cool, mild, hot))
    assert sweep(model, reference, [0.8], count=60, n=3) == [mild], "the same seed draws the same texts"
    assert sweep(model, reference, [0.8], count=60, n=3, seed=1) != [mild]
    for wrong in ([], [0.0]):
        with pytest.raises(UserError, match="temperatures"):
            sweep(model, reference, wrong, count=9)


def test_drawn_texts_are_texts(bundle):
    model, reference = bundle
    limit = max(map(len, reference.train))
    texts = draw(model, 40, 2.0, limit)
    assert len(texts) == 40
    assert all(1 <= len(text) <= limit and model.eos not in text[:-1] for text in texts)
    assert any(text[-1] == model.eos for text in texts)


def test_real_texts_are_what_a_perfect_generator_would_draw(bundle):
    model, reference = bundle
    found = real(reference, model.tokenizer.vocabulary, count=100, n=3)
    drawn = sweep(model, reference, [1.0], count=100, n=3)[0]
    assert (found.novelty, found.ended, found.temperature, found.texts) == (0, 1, None, 100)
    assert found.forward < drawn.forward
    assert found.reverse < drawn.reverse
    assert len(reference.train) > 200
    with pytest.raises(UserError, match="no split 'tset'"):
        Reference.of(_Splits(), "tset")  # type: ignore[arg-type]


class _Splits:
    splits = {"train": None, "test": None}  # noqa: RUF012


def curve(*points: tuple[float, float]) -> list[Measures]:
    return [Measures(1.0, 9, forward, reverse, *[0.0] * 8) for reverse, forward in points]


def test_the_gap_is_the_distance_at_equal_diversity():
    line = [(2.0, 3.0), (3.0, 2.0), (4.0, 1.5)]
    theirs = curve(*line)
    assert quality_gap(theirs, theirs) == 0
    assert quality_gap(curve(*[(x, y - 0.25) for x, y in line]), theirs) == pytest.approx(0.25)
    assert quality_gap(theirs, curve(*[(x, y - 0.25) for x, y in line])) == pytest.approx(-0.25)
    assert quality_gap(curve((3.0, 1.0)), theirs) == pytest.approx(1.0), "a single point is compared where it stands"
    beaten = curve(*line, (3.5, 9.0))
    assert quality_gap(beaten, theirs) == 0, "a point that others beat on both counts is no part of the front"
    assert quality_gap(curve((0.5, 1.0), (1.0, 0.9)), theirs) is None
    half = curve((2.0, 3.0), (3.0, 1.0))
    assert quality_gap(half, theirs) == pytest.approx(0.5, abs=0.01), "from no distance to one"


def test_the_picture_is_a_file_of_its_own():
    drawn = picture({"a <b>": curve((2.0, 3.0), (3.0, 2.0)), "other": curve((2.5, 3.0))}, "two curves")
    root = ElementTree.fromstring(drawn)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "a <b>" in [element.text for element in root.iter()]
    assert drawn.count('class="line') == 1
    assert "var(" not in drawn
