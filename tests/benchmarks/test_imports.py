"""What a module reaches by its imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.imports import reached


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_all_that_is_imported_counts_through_others_and_within_functions(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "a.py": "import os\nfrom house import low\nfrom house.deep.well import water\n",
            "house/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.typed\n",
            "house/low.py": "def f():\n    import house.late\n",
            "house/late.py": "import a\n",
            "house/deep/__init__.py": "",
            "house/deep/well.py": "water = 1\n",
            "house/typed.py": "",
            "house/apart.py": "",
        },
    )
    wanted = ("a.py", "house/__init__.py", "house/deep/__init__.py", "house/deep/well.py", "house/late.py", "house/low.py")
    assert reached("a", root=tmp_path) == wanted
    assert reached("house.deep", "house.apart", root=tmp_path) == ("house/__init__.py", "house/apart.py", "house/deep/__init__.py")


def test_a_module_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone: no such module"):
        reached("gone", root=tmp_path)
