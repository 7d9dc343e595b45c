"""Imports run only downward, nothing heavy comes before it is needed, and nothing ever opens a socket."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bimo.core import registry

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


WRONG = (
    "prepare nosuch.txt --out x", "prepare nosuch/*.txt --out x", "prepare {text} --valid nosuch.txt --out x",
    "prepare nosuch.en::nosuch.de --out x", "train nosuch.txt", "train nosuch.yaml", "train {text} --family lsmt",
    "train {text} training.lr=1", "train {text} text.tokeniser=char", "train {text} preset=lstm-tiny", "train --resume nosuch",
    "plan nosuch.txt", "plan {text} --budget soon", "compare nosuch.txt", "compare {text} --families ngram,lsmt", "quickstart nosuch.txt",
    "finetune nosuch {text}", "finetune {empty} {text}", "generate nosuch ink", "generate {empty} ink", "generate {text} ink",
    "generate {compared} ink", "generate {empty} ink temprature=1", "chat nosuch", "chat {empty} temprature=1", "convert nosuch x.gguf",
    "fill nosuch ink", "interpolate nosuch a b", "evaluate nosuch {text}", "explain nosuch ink", "info nosuch",
)  # fmt: skip


def test_a_wrong_name_is_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("ink and paper\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "compared" / "gru").mkdir(parents=True)
    (tmp_path / "compared" / "comparison.json").write_text("{}")
    (tmp_path / "compared" / "gru" / "model.safetensors").touch()
    names = {name: str(tmp_path / name) for name in ("empty", "compared")} | {"text": str(tmp_path / "t.txt")}
    code = """import json, sys
from bimo.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["bimo", *words]
    try:
        main()
    except SystemExit as end:
        print(end.code, *({"torch", "numba", "tokenizers", "pyarrow"} & set(sys.modules)))
"""
    asked = [[word.format_map(names) for word in words.split()] for words in WRONG]
    done = subprocess.run([sys.executable, "-c", code, json.dumps(asked)], cwd=tmp_path, capture_output=True, text=True, check=True)
    said = done.stderr.splitlines()
    assert [f"{words}: {end}" for words, end in zip(WRONG, done.stdout.splitlines(), strict=True)] == [f"{words}: 2" for words in WRONG]
    assert all("nosuch" in line for words, line in zip(WRONG, said, strict=True) if "nosuch" in words)
    assert f"its model is {tmp_path / 'compared' / 'gru'}" in said[WRONG.index("generate {compared} ink")]


FOR_DEVELOPMENT = {"transformers", "peft", "kenlm", "llama_cpp", "sentencepiece", "hypothesis", "pytest"}  # references and tools


def imported(path: Path) -> set[str]:
    """The packages that a module imports, at its top or within a function."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    return {name.partition(".")[0] for name in plain | {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}}


def test_what_only_development_needs_is_imported_nowhere() -> None:
    assert {path.name for path in (ROOT / "bimo").rglob("*.py") if imported(path) & FOR_DEVELOPMENT} == set()
    assert imported(ROOT / "tests" / "test_imports.py") >= {"pytest", "bimo"}


# Where what several families share has the name of one: an n-gram that judges drawn texts, and cells of recurrent layers.
CELLS = {"rnn", "lstm", "gru"}
OF_CELLS = ("models/recurrent.py", "models/kernels/recurrent.py", "models/gan.py", "models/vae/")
JUDGES = {"evaluation/diversity.py": "bimo.models.ngram"}


def named(root: Path) -> list[str]:
    """Where a family's name stands as a value in code, or its module is imported from above, though it need not."""
    own: dict[str, set[str]] = {}
    for name in registry.families():
        own.setdefault(registry.family(name).target.partition(":")[0], set()).add(name)
    found = []
    for path in sorted((root / "bimo").rglob("*.py")):
        place = path.relative_to(root / "bimo").as_posix()
        module = f"bimo.{place.removesuffix('.py').replace('/', '.')}"
        allowed = {name for home, names in own.items() if f"{module}.".startswith(f"{home}.") for name in names}
        allowed |= CELLS if place.startswith(OF_CELLS) else set()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for n in ast.walk(tree):
            if isinstance(n, ast.Constant) and n.value in set(registry.families()) - allowed and id(n) not in documented:
                found.append(f"{place}: {n.value!r}")
            elif isinstance(n, ast.ImportFrom) and not place.startswith("models/"):
                modules = [f"{n.module}.", *(f"{n.module}.{alias.name}." for alias in n.names)]
                homes = [home for home in own if any(m.startswith(f"{home}.") for m in modules) and JUDGES.get(place) != home]
                found += [f"{place}: {home}" for home in homes]
    return [line for line in found if not line.startswith("core/registry.py")]


def test_no_family_is_named_outside_its_file_the_registry_and_the_recipes() -> None:
    """Comparisons with a family's name are branches that the interface should have made needless."""
    assert named(ROOT) == []


def test_a_family_that_is_named_elsewhere_is_seen(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bimo", tmp_path / "bimo", ignore=shutil.ignore_patterns("__pycache__"))
    for place, line in {
        "training/fit.py": "NAMED = 'vae'",
        "models/decoder.py": "NAMED = 'gan'",
        "models/cache.py": "NAMED = 'lstm'",
        "api.py": "from bimo.models.decoder import Decoder",
        "text/words.py": "from bimo.models import gan",
    }.items():
        with open(tmp_path / "bimo" / place, "a") as file:
            file.write(f"\n\n{line}\n")
    assert named(tmp_path) == [
        "api.py: bimo.models.decoder", "models/cache.py: 'lstm'", "models/decoder.py: 'gan'", "text/words.py: bimo.models.gan",
        "training/fit.py: 'vae'",
    ]  # fmt: skip
