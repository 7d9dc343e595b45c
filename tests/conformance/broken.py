"""Where mutants are listed, each beside the property that must see it."""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance.yardstick import Property
from tests.fakes import FakeModel

MUTANTS: list[tuple[type[FakeModel], Property]] = []


def seen_by(check: Property) -> Callable[[type[FakeModel]], type[FakeModel]]:
    """Say which property is meant for a mutant."""

    def note(mutant: type[FakeModel]) -> type[FakeModel]:
        MUTANTS.append((mutant, check))
        return mutant

    return note
