"""Every registered family, in every variant, holds every property."""

from __future__ import annotations

import pytest

from bimo.core.registry import families
from tests.conformance.properties import PROPERTIES
from tests.conformance.variants import VARIANTS, make, names


@pytest.mark.parametrize("check", PROPERTIES, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", names())
def test_conformance(name, check):
    check(make(name))


def test_every_family_has_variants():
    assert set(VARIANTS) == set(families())
    assert all(VARIANTS.values())
