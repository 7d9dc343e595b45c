"""Shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets (BIMO_DATA); tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("BIMO_DATA", _DEFAULT_DATA))
    if not (folder / "lm-ptb").is_dir():
        pytest.skip(f"no real data at {folder}; set BIMO_DATA")
    return folder
