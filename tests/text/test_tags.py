"""A token's tag is that of its own text: for every kind of tokenizer, and whatever stands around it."""

from __future__ import annotations

import pytest

from bimo.text.tags import SPECIAL, UNKNOWN, Lexicon, tagged_vocabulary
from bimo.text.tokenizer import Tokenizer

TEXT = "the old ink runs over the paper\nold paper runs\n" * 20
WORDS = "the/DET ink/NOUN Paper/NOUN old/ADJ runs/VERB runs/NOUN runs/VERB"
LEXICON = Lexicon(tuple(token.split("/")) for token in WORDS.split())  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["byte", "char", "word", "bpe", "wordpiece", "unigram"])
def test_every_kind_of_tokenizer_has_a_tag_for_every_id(kind: str) -> None:
    tokenizer = Tokenizer.train(kind, [TEXT])
    found = tagged_vocabulary(tokenizer, LEXICON)
    v = tokenizer.vocabulary
    assert found == tagged_vocabulary(tokenizer, LEXICON)
    assert (found.size, found.bos, found.eos, found.suppressed) == (v.size, v.bos, v.eos, v.suppressed)
    assert len(found.tag_of) == v.size
    assert found.tags[:2] == (SPECIAL, UNKNOWN)
    named = [found.tags[tag] for tag in found.tag_of]
    assert {i for i, tag in enumerate(named) if tag == SPECIAL} == {v.bos, v.eos, v.pad}
    if kind in ("word", "bpe", "wordpiece"):
        assert [named[i] for i in tokenizer.encode(" the old paper")] == ["DET", "ADJ", "NOUN"]


def test_the_most_frequent_tag_wins_and_the_first_of_equals() -> None:
    assert LEXICON("runs") == "VERB"
    assert Lexicon([("a", "X"), ("a", "Y")])("a") == "X"
    assert LEXICON("PAPER") == LEXICON("paper") == "NOUN"
    assert LEXICON.tags == {"DET", "NOUN", "ADJ", "VERB"}


def test_words_that_the_lexicon_lacks_are_of_one_tag_of_their_own() -> None:
    tokenizer = Tokenizer.train("word", ["zinc the <unk>"])
    found = tagged_vocabulary(tokenizer, LEXICON)
    assert [found.tags[found.tag_of[i]] for i in tokenizer.encode("zinc the brass")] == [UNKNOWN, "DET", UNKNOWN]
    assert found.tags == (SPECIAL, UNKNOWN, "DET")  # those alone that a token has
