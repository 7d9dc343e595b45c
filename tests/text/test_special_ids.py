"""Special ids by name, in vocabularies that Bimo makes and in those that are loaded."""

from __future__ import annotations

import tokenizers
from tokenizers import models, pre_tokenizers

from bimo.text.special_ids import special_ids
from bimo.text.tokenizer import Tokenizer


def berts(**settings: object) -> Tokenizer:
    """A tokenizer as BERT's folders hold it."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s"]
    hub = tokenizers.Tokenizer(models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    hub.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    hub.decoder = tokenizers.decoders.WordPiece()
    hub.add_special_tokens(names[:5])
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return Tokenizer(hub, "loaded", {**marks, **settings})


def test_a_loaded_vocabulary_names_what_begins_ends_and_hides():
    assert special_ids(berts()) == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}


def test_a_name_may_be_written_as_a_mapping_and_may_stand_for_nothing():
    found = special_ids(berts(mask_token={"content": "[MASK]", "lstrip": True}, cls_token="<nowhere>", sep_token=None))
    assert found == {"pad": 0, "unk": 1, "mask": 4}


def test_vocabularies_that_bimo_makes():
    assert special_ids(Tokenizer.train("byte", ["x"])) == {"bos": 0, "eos": 1, "pad": 2}
