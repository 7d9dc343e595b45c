"""The table of families."""

from __future__ import annotations

import pytest

from bimo.core import registry
from bimo.core.errors import ModelError, RecipeError
from bimo.models.base import LanguageModel


@pytest.mark.parametrize("name", registry.families())
def test_each_row_leads_to_a_family_that_knows_its_way_of_learning(name: str) -> None:
    row = registry.family(name)
    family = row.load()
    assert issubclass(family, LanguageModel)
    assert family.learning == row.learning
    family.Config(**row.preset)
    assert row.summary
    for model_type in row.model_types:
        assert registry.family_of_model_type(model_type) is row


def test_names_are_unique_and_the_first_ones_exist() -> None:
    types = [t for name in registry.families() for t in registry.family(name).model_types]
    assert len(types) == len(set(types))
    assert set(registry.FIRST) <= set(registry.families())


def test_unknown_names_are_told_with_what_is_near() -> None:
    with pytest.raises(RecipeError, match="did you mean lstm"):
        registry.family("lsmt")
    with pytest.raises(ModelError, match="did you mean gpt2"):
        registry.family_of_model_type("gpt-2")
