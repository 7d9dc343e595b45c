"""Imports run only downward, nothing heavy comes before it is needed, and nothing ever opens a socket."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "numpy", "numba", "tokenizers", "tiktoken", "transformers", "pandas", "pyarrow", "rich.console", "pydantic", "sympy")


def _floors_hold(root: Path) -> tuple[bool, str]:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code, str(root)], cwd=root, capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def test_imports_run_downward() -> None:
    holds, said = _floors_hold(ROOT)
    assert holds, said


def test_an_import_that_runs_upward_is_seen(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bimo", tmp_path / "bimo", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with open(tmp_path / "bimo" / "text" / "words.py", "a") as file:
        file.write("\n\ndef upward() -> None:\n    from bimo.training import loop  # noqa: F401\n")
    holds, said = _floors_hold(tmp_path)
    assert not holds
    assert "bimo.text.words -> bimo.training.loop" in said


@pytest.mark.parametrize(
    "words", ["import bimo; bimo.__version__, dir(bimo)", "import sys; sys.argv = ['bimo', '--help']; from bimo.cli import main; main()"]
)
def test_nothing_heavy_comes_before_it_is_needed(words: str) -> None:
    code = f"import sys\ntry:\n    exec({words!r})\nexcept SystemExit:\n    pass\nprint('\\n', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    allowed = {"rich.console"} if "--help" in words else set()  # the help is drawn with it
    assert not loaded & (set(HEAVY) - allowed)


def test_no_family_is_named_outside_its_file_the_registry_and_the_recipes() -> None:
    """As a value in code: comparisons with a family's name are branches that the interface should have made needless."""
    import ast

    from bimo.core import registry

    names = set(registry.families())
    own = {registry.family(n).target.partition(":")[0].split(".")[2] for n in names} | {"registry", "kernels", "interop", "layers", "cache"}
    found = []
    for path in (ROOT / "bimo").rglob("*.py"):
        parts = path.relative_to(ROOT / "bimo").with_suffix("").parts
        if own & set(parts):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        found += [
            f"{path.name}:{n.lineno} {n.value!r}"
            for n in ast.walk(tree)
            if isinstance(n, ast.Constant) and n.value in names and id(n) not in documented
        ]
    assert not found
