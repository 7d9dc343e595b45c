"""Recorded figures of KenLM (lmplz, `<unk>` renamed to an ordinary word) on Penn Treebank, line by line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from bimo.models.ngram import NGram, NGramConfig
from bimo.text.kernels import WordIndex
from bimo.text.vocabulary import Vocabulary

KENLM = {5: 141.19, 3: 148.28}


@pytest.mark.parametrize("order", [5, 3])
def test_perplexity_is_that_of_kenlm(order: int, data_folder: Path) -> None:
    train = gzip.decompress((data_folder / "lm-ptb/ptb.train.txt.gz").read_bytes()).decode().splitlines()
    test = (data_folder / "lm-ptb/ptb.test.txt").read_text().splitlines()
    words = sorted({word for line in train for word in line.split()})
    index = WordIndex(["<s>", "</s>", "(unknown)", *words])
    model = NGram.build(NGramConfig(order=order), Vocabulary(len(words) + 3, bos=0, eos=1, unk=2, suppressed=(0,)))
    model.count([index.ids(train, bos=0, eos=1, unknown=2)[0]])
    model.estimate()
    assert model.notices == []
    ids, offsets = index.ids(test, bos=0, eos=1, unknown=2)
    tokens = len(ids) - len(test)
    assert tokens == 82_430
    assert float(np.exp(model.score_documents(ids, offsets).sum() / tokens)) == pytest.approx(KENLM[order], abs=0.01)
