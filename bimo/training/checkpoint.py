"""Checkpoints: one safetensors file that holds all a run needs to go on to the bit, replaced whole or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bimo.core import store
from bimo.core.errors import CheckpointError
from bimo.core.recipe import TrainingSection
from bimo.models.quantized import four_bit_numbers

FILE = "checkpoint.safetensors"
RECIPE, RUN = "recipe.yaml", "run.json"  # beside it: what the run is made from, and how it goes


def read_run(folder: Path) -> dict[str, Any]:
    """What run.json tells; nothing where there is none yet."""
    return store.read_json(Path(folder) / RUN) if (Path(folder) / RUN).exists() else {}


@dataclass
class Progress:
    """Where a run stands. `position` counts batches read since the start: epoch and index follow from it."""

    step: int = 0
    tokens: int = 0
    position: int = 0
    seconds: float = 0.0
    best_nats: float | None = None  # per token, on validation
    best_step: int = 0
    stale: int = 0  # looks at the validation text without improvement
    ended: Literal["", "capped", "stopped"] = ""  # why it is over before its last step
    steps: int = 0  # as many as are planned now; 0: as many as the recipe says
    plans: list[float] = field(default_factory=list)  # seconds at which they are planned again
    planned_at: list[float] = field(default_factory=lambda: [0, 0.0])  # step and seconds of the last plan
    first_loss: float | None = None  # nats a target: of the first step, before anything was learned …
    last_loss: float | None = None  # … and in the last line of metrics.jsonl
    averaged: int = 0  # steps that the mean of the weights is of
    metrics_bytes: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)  # running sums that the next line of metrics.jsonl needs


@dataclass
class Checkpoint:
    """All that a gradient run is made of at one step."""

    progress: Progress
    model: dict[str, Tensor]
    optimizers: list[dict[str, Any]]
    carry: Any
    generators: dict[str, Tensor]
    best: dict[str, Tensor] | None
    mean: dict[str, Tensor] | None = None

    def save(self, folder: Path) -> None:
        """Write the checkpoint into a run folder; the old one goes only after the new one stands."""
        tensors = _Apart()
        head = {
            "progress": asdict(self.progress),
            "model": _flatten("model", self.model, tensors),
            "optimizers": _flatten("optimizer", self.optimizers, tensors),
            "carry": _flatten("carry", self.carry, tensors),
            "generators": _flatten("generator", self.generators, tensors),
            "best": _flatten("best", self.best, tensors),
            "mean": _flatten("mean", self.mean, tensors),
        }
        store.write_tensors(Path(folder) / FILE, tensors, {"bimo": json.dumps(head)})

    @classmethod
    def load(cls, folder: Path) -> Checkpoint:
        """Read a run folder's checkpoint; a missing or damaged one is a `CheckpointError` that names the file."""
        path = Path(folder) / FILE
        tensors = store.read_tensors(path, CheckpointError)
        try:
            head = json.loads(store.read_tensor_metadata(path)["bimo"])
            parts = ("model", "optimizers", "carry", "generators", "best", *(("mean",) if "mean" in head else ()))
            return cls(Progress(**head["progress"]), **{part: _restore(head[part], tensors) for part in parts})
        except (KeyError, ValueError, TypeError, IndexError, RecursionError) as cause:
            raise CheckpointError(f"{path}: damaged checkpoint ({cause!r}); start again from the run's recipe.yaml") from None


class _Apart(dict[str, Tensor]):
    """Tensors by name, each with storage of its own: safetensors refuses what is shared, and a carry may be a view of something larger."""

    def __init__(self) -> None:
        self._storages = set[int]()

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        tensor, storage = tensor.detach(), tensor.untyped_storage()
        apart = storage.nbytes() == tensor.nbytes and storage.data_ptr() not in self._storages
        if apart:
            self._storages.add(storage.data_ptr())
        super().__setitem__(name, tensor if apart else tensor.clone())


def _flatten(name: str, value: Any, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, its tensors moved into `tensors` and replaced by their names."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[k, _flatten(f"{name}.{k}", v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_flatten(f"{name}.{i}", v, tensors) for i, v in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"{name}: {type(value).__name__} cannot be kept in a checkpoint")


def _restore(value: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, inside),) = value.items()
    if kind == "tensor":
        return tensors[inside]
    if kind == "dict":
        return {k: _restore(v, tensors) for k, v in inside}
    if kind in ("list", "tuple"):
        items = [_restore(v, tensors) for v in inside]
        return items if kind == "list" else tuple(items)
    return inside


def generator_states() -> dict[str, Tensor]:
    """States of torch's generators, of the CPU and of every CUDA device in use."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states |= {f"cuda:{i}": torch.cuda.get_rng_state(i) for i in range(torch.cuda.device_count())}
    return states


def set_generator_states(states: dict[str, Tensor]) -> None:
    """Put torch's generators where `generator_states` found them."""
    for device, state in states.items():
        if device == "cpu":
            torch.set_rng_state(state)
        elif torch.cuda.is_available():
            torch.cuda.set_rng_state(state, device)


def learned_state(model: nn.Module) -> dict[str, Tensor]:
    """What of a model a checkpoint holds: all of it but the weights that are frozen, which stand where they came from."""
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def load_weights(model: nn.Module, weights: dict[str, Tensor], where: Path) -> None:
    """Put a `learned_state` into `model`, or a `CheckpointError` that names what does not fit."""
    try:
        if missing := [name for name in learned_state(model) if name not in weights]:
            raise RuntimeError(f"{missing[0]} is missing")
        if unknown := model.load_state_dict(weights, strict=False).unexpected_keys:
            raise RuntimeError(f"{unknown[0]} is not of this model")
    except RuntimeError as cause:
        raise CheckpointError(f"{where}: does not fit the run's recipe ({str(cause).splitlines()[-1].strip()})") from None


def checkpoint_bytes(model: nn.Module, training: TrainingSection) -> int:
    """Bytes of a checkpoint: what is learned, the best and the mean of it, and optimizer state (at most two moments a weight)."""
    weights = sum(p.numel() * p.element_size() for p in learned_state(model).values())
    return weights * ({"sgd": 3}.get(training.optimizer, 4) + (training.average > 0)) + (1 << 16)


def run_bytes(model: nn.Module, training: TrainingSection) -> int:
    """Bytes of a finished run: its checkpoint and the model."""
    whole = sum(t.nbytes for t in model.state_dict().values()) + 4 * four_bit_numbers(model)
    return checkpoint_bytes(model, training) + whole


def room_bytes(model: nn.Module, training: TrainingSection, standing: bool = False) -> int:
    """Bytes that must be free on the disk: the old checkpoint goes only after the new one stands; one may stand already."""
    return run_bytes(model, training) + (not standing) * checkpoint_bytes(model, training) + (16 << 20)
