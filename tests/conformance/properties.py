"""What every language model must hold to, whatever its family: each function raises AssertionError where a model does not."""

from __future__ import annotations

from tests.conformance import promises, reading, states
from tests.conformance.yardstick import PROPERTIES, Property

__all__ = ["PROPERTIES", "Property", "promises", "reading", "states"]
