"""A mean of weights is of models that use them alike."""

from __future__ import annotations

import pytest
import torch

from bimo.core.errors import RecipeError
from bimo.core.registry import family
from bimo.text.vocabulary import Vocabulary
from bimo.training.averaging import averaged, refuse_unlike

SHAPE = {"layers": 1, "width": 16, "context": 8, "qk_norm": False}


def decoder(**config: object):  # type: ignore[no-untyped-def]
    kind = family("decoder").load()
    return kind.build(kind.Config(**SHAPE, **config), Vocabulary(7))


def test_models_of_one_shape_that_read_it_otherwise_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"models that differ in head_dim \(8 and 4\), num_attention_heads \(2 and 4\).* cannot"):
        averaged([decoder(heads=2), decoder(heads=4)], [1, 1])


def test_dropout_is_no_difference_and_weights_need_not_be_there() -> None:
    averaged([decoder(heads=2), decoder(heads=2, dropout=0.5, attention_dropout=0.1)], [1, 1])
    with torch.device("meta"):
        refuse_unlike([decoder(heads=2), decoder(heads=2)])
