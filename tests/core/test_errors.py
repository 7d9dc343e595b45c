"""The tree of errors: exit codes, and hints."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from bimo.core import errors
from bimo.core.errors import BimoError, Interrupted, MachineError, UserError, did_you_mean, memory_errors


def test_every_error_says_whose_mistake_it_is() -> None:
    found = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, BimoError) and c is not BimoError]
    assert len(found) >= 10
    for error in found:
        if issubclass(error, UserError):
            assert error.exit_code == 2
        elif issubclass(error, MachineError):
            assert error.exit_code == 1
        else:
            assert (error, error.exit_code) == (Interrupted, 130)
        assert error.__doc__


def test_want_of_memory_is_the_machines() -> None:
    for wants in (lambda: torch.empty(1 << 50), lambda: np.empty(1 << 50), lambda: bytearray(1 << 60)):
        with pytest.raises(MachineError, match="not enough memory"), memory_errors():
            wants()
    with pytest.raises(MachineError), memory_errors():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    with pytest.raises(RuntimeError, match="shapes"), memory_errors():
        raise RuntimeError("shapes cannot be multiplied")


def test_hints_name_what_is_near_and_what_there_is() -> None:
    assert did_you_mean("decodr", ["lstm", "decoder"]) == "did you mean decoder? Known: decoder, lstm"
    assert did_you_mean("xyz", ["lstm", "decoder"]) == "Known: decoder, lstm"
