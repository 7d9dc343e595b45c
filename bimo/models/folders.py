"""What a folder or a file is, as far as names say: so that a wrong one is refused before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from bimo.core.errors import CheckpointError, ModelError
from bimo.core.store import printable

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
COMPARISON, CORPUS, RECIPE = "comparison.json", "corpus.json", "recipe.yaml"
REPORT = "report.html"
ADAPTER = "adapter_config.json"
FILES = (".gguf", ".arpa", ".arpa.gz")  # endings of models that are single files


def holds_weights(folder: Path) -> bool:
    """Whether a folder holds the weights of a model, in one file or in several."""
    return (Path(folder) / WEIGHTS).exists() or (Path(folder) / INDEX).exists()


def refuse_no_model(path: Path) -> None:
    """Raise `ModelError` where a path cannot be a model's: nothing is there, or it is a folder or a file of another kind."""
    path = Path(path)
    if path.is_file():
        if not path.name.lower().endswith(FILES):
            raise ModelError(f"{path}: not a model; give a model's folder, or a file that ends with {', '.join(FILES)}")
        return
    if not path.is_dir():
        raise ModelError(f"{path}: no such model folder")
    if holds_weights(path):
        return
    if (path / RECIPE).is_file():
        raise ModelError(f"{path}: this run has not finished; go on with: bimo train --resume {path}")
    if (path / "config.json").is_file():
        return
    if (path / ADAPTER).is_file():
        raise ModelError(f"{path}: not a model but LoRA adapters; name the model that they belong to, and these with --adapter {path}")
    if (path / COMPARISON).is_file():
        raise ModelError(f"{path}: not a model folder but a comparison; {_models_in(path)}")
    if (path / CORPUS).is_file():
        raise ModelError(f"{path}: not a model folder but prepared text; train a model on it with bimo train {path}")
    raise ModelError(f"{path}: not a model folder (no config.json); {_models_in(path)}")


def refuse_no_run(folder: Path) -> None:
    """Raise `CheckpointError` where a folder is no run's."""
    if not (Path(folder) / RECIPE).is_file():
        raise CheckpointError(f"{folder}: no run to resume (no {RECIPE}); start one with bimo train SOURCE --out {folder}")


def _models_in(folder: Path) -> str:
    """What to give instead: the models that the folder's own folders are, or how to make one."""
    found = sorted(printable(inner) for inner in folder.iterdir() if inner.is_dir() and holds_weights(inner))
    if not found:
        return "train one with bimo train"
    return f"its models are {', '.join(found)}" if len(found) > 1 else f"its model is {found[0]}"
