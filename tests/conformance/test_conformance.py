"""Every registered family, in every variant, holds every property."""

from __future__ import annotations

import pytest

from bimo.core import store
from bimo.core.errors import ModelError
from bimo.core.registry import HYBRID, families
from bimo.models.base import load_model
from tests.conformance.properties import PROPERTIES
from tests.conformance.variants import VARIANTS, make, names


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", names())
def test_conformance(name, check):
    check(make(name))


@pytest.mark.parametrize("name", names())
def test_layers_are_counted_before_any_is_made(name, tmp_path):
    make(name).save(tmp_path)
    config = store.read_json(tmp_path / "config.json")
    for field in [field for field, value in config.items() if "layer" in field and type(value) is int]:
        store.write_json(tmp_path / "config.json", {**config, field: 10**7})
        with pytest.raises(ModelError, match=rf"config\.json: {field} is 10000000"):
            load_model(tmp_path)


def test_every_family_has_variants():
    assert set(VARIANTS) == {*families(), HYBRID}
    assert all(VARIANTS.values())
