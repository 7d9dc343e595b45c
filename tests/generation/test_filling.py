"""Gaps in texts: where they stand, what is put there, how it is spaced, what is refused."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from bimo.core.errors import CapabilityError, ContextError, UserError
from bimo.generation.filling import fill_text
from bimo.models.bundle import Bundle
from bimo.models.encoder import Encoder, EncoderConfig
from bimo.text.tokenizer import Tokenizer
from tests.fakes import FakeModel
from tests.text.test_special_ids import berts

TEXT = "the cat sat on the mat, the cats ran.\n今天天气很好，我是猫。\n"


class Wants(Encoder):
    """Puts one token wherever it is asked: `wanted` first, `second` after it. What it was fed is kept."""

    wanted, second = 5, 6
    fed: torch.Tensor

    def fill(self, tokens: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        self.checked(tokens, lengths)
        self.check_places(tokens.shape[1])
        self.fed = tokens
        logits = torch.zeros(*tokens.shape, self.vocab_size)
        logits[..., self.wanted], logits[..., self.second] = 9.0, 5.0
        logits[..., list(self.vocabulary.suppressed)] = -torch.inf
        return logits


@cache
def trained(kind: str) -> Tokenizer:
    return Tokenizer.train(kind, [TEXT] * 5, {"bpe": 300, "wordpiece": 120, "unigram": 400}.get(kind))


def bundle(tokenizer: Tokenizer, documents: str = "file", **fields: int) -> Bundle:
    config = EncoderConfig(layers=1, heads=1, width=2, **{"context": 40, **fields})
    return Bundle(Wants.build(config, tokenizer.vocabulary), tokenizer, documents)


def wants(held: Bundle, *looks: str) -> Bundle:
    """The model wants the tokens that look like this after another token."""
    ids = {_look(held, i): i for i in range(held.tokenizer.vocabulary.size)}
    held.model.wanted, held.model.second = (*(ids[look] for look in looks), held.tokenizer.vocabulary.eos)[:2]
    return held


def _look(held: Bundle, i: int) -> str:
    return held.tokenizer.stream_decoder(after=[i]).push(i)


@pytest.mark.parametrize(
    ("kind", "look", "text", "filled"),
    [
        ("bpe", " cat", "the <mask> sat", "the cat sat"),
        ("bpe", " cat", "the<mask> sat", "the cat sat"),
        ("bpe", "s", "the <mask> sat", "thes sat"),
        ("bpe", "s", "cat[MASK] sat", "cats sat"),
        ("unigram", "a", "the c <mask>t sat", "the cat sat"),
        ("word", " sat", "the cat <mask> on", "the cat sat on"),
        ("wordpiece", " the", "on <mask> mat", "on the mat"),
        ("wordpiece", "s", "the cat <mask> ran", "the cats ran"),
        ("wordpiece", " 猫", "我是<mask>。", "我是猫。"),
        ("char", "猫", "我是<mask>。", "我是猫。"),
        ("char", "a", "c<mask>t", "cat"),
        ("byte", "a", "c<mask>t", "cat"),
    ],
)
def test_a_gap_is_filled_and_spaced(kind, look, text, filled):
    held = wants(bundle(trained(kind)), look)
    ((best,),) = fill_text(held, text, top_k=1)
    assert (best.text, best.token, best.id) == (filled, look.strip(), held.model.wanted)


@pytest.mark.parametrize("kind", ["byte", "char", "word", "bpe", "wordpiece"])
def test_the_model_reads_the_document_with_one_token_hidden(kind):
    """What is fed is what the filled text is encoded as, but for the gap."""
    tokenizer = trained(kind)
    gap, look = ("c<mask>t", "a") if kind in ("byte", "char") else ("the <mask> sat", " cat")
    held = wants(bundle(tokenizer), look)
    ((best,),) = fill_text(held, gap, top_k=1)
    whole, fed = tokenizer.encode_document(best.text).tolist(), held.model.fed[0].tolist()
    assert len(whole) == len(fed)
    assert [pair for pair in zip(fed, whole, strict=True) if pair[0] != pair[1]] == [(held.model.mask_id, held.model.wanted)]


def test_probabilities_are_those_of_the_model_and_fall():
    held = wants(bundle(trained("word")), " cat", " the")
    (found,) = fill_text(held, "the <mask> sat", top_k=3)
    logits = held.model.fill(torch.tensor([[0]]))[0, 0].double().softmax(-1)
    assert [c.id for c in found[:2]] == [held.model.wanted, held.model.second]
    assert [c.probability for c in found[:2]] == pytest.approx([float(logits[held.model.wanted]), float(logits[held.model.second])])
    assert found[1].probability >= found[2].probability


def test_several_gaps_are_told_each_with_the_others_open():
    held = wants(bundle(trained("word")), " cat", " the")
    first, second = fill_text(held, "<mask> cat [MASK] on", top_k=1)
    assert (first[0].text, second[0].text) == ("cat cat [MASK] on", "<mask> cat cat on")
    assert held.model.fed[0].tolist().count(held.model.mask_id) == 2
    assert held.model.fed[0, 0] == held.tokenizer.vocabulary.bos
    assert held.model.fed[0, -1] == held.tokenizer.vocabulary.eos


def test_special_tokens_are_no_answer_and_all_words_can_be_had():
    tokenizer = trained("word")
    held = bundle(tokenizer)
    held.model.wanted, held.model.second = tokenizer.vocabulary.eos, tokenizer.vocabulary.unk
    (found,) = fill_text(held, "the <mask> sat", top_k=10_000)
    assert found[0].token == "<unk>"
    assert {c.id for c in found} == set(range(3, tokenizer.vocabulary.size))
    assert all(0 < c.probability <= 1 for c in found)


def test_in_a_stream_newlines_end_documents():
    held = bundle(trained("word"), "stream")
    fill_text(held, "the cat\n<mask> sat")
    v = held.tokenizer.vocabulary
    assert held.model.fed[0].tolist() == [v.bos, *held.tokenizer.encode("the cat"), v.eos, v.pad, *held.tokenizer.encode("sat"), v.eos]


def test_a_loaded_vocabulary_has_a_mask_a_beginning_and_an_end_of_its_own():
    held = Bundle(Wants(EncoderConfig(layers=1, heads=1, width=2), berts().vocabulary), berts())
    held.model.second = 1
    ((best, _),) = fill_text(held, "cat [MASK]", top_k=2)
    assert held.model.fed[0].tolist() == [2, 5, 4, 3]
    assert best.token == "cat"
    held.model.mask_id = 1
    fill_text(held, "cat [MASK]")
    assert held.model.fed[0].tolist() == [2, 5, 1, 3]


def test_what_is_refused_says_why():
    held = bundle(trained("word"))
    with pytest.raises(UserError, match="no gap"):
        fill_text(held, "the cat sat")
    with pytest.raises(UserError, match="top_k"):
        fill_text(held, "the <mask> sat", top_k=0)
    with pytest.raises(ContextError, match="context of 4"):
        fill_text(bundle(trained("word"), context=4), "the cat <mask> on the mat")
    with pytest.raises(CapabilityError, match="fills no gaps"):
        fill_text(Bundle(FakeModel.of(12), trained("word")), "the <mask> sat")
    headless = Bundle(Encoder.build(EncoderConfig(layers=1, heads=1, width=2, fills=False), trained("word").vocabulary), trained("word"))
    with pytest.raises(CapabilityError, match="fills no gaps"):
        fill_text(headless, "the <mask> sat")
    unmarked = Bundle(Wants(EncoderConfig(layers=1, heads=1, width=2), trained("word").vocabulary), trained("word"))
    with pytest.raises(CapabilityError, match="mask_token"):
        fill_text(unmarked, "the <mask> sat")
