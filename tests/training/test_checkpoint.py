"""A checkpoint comes back as it was, or says that it is damaged; it is never half written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bimo.core import store
from bimo.core.errors import CheckpointError
from bimo.training import checkpoint
from bimo.training.checkpoint import FILE, Checkpoint, Progress, generator_states, load_weights, set_generator_states
from tests.training.toy import Toy


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and a == b


def _example() -> Checkpoint:
    model = Toy()
    optimizer = torch.optim.AdamW(model.parameters())
    model.hidden(torch.tensor([[1, 2]]))[0].sum().backward()
    optimizer.step()
    carry = (torch.zeros(2, 3, 4), [None, torch.arange(5)])
    progress = Progress(step=3, tokens=7, position=9, seconds=1.25, best_nats=2.5, metrics={"nats": 0.1})
    weights = dict(model.state_dict())
    return Checkpoint(progress, weights, [optimizer.state_dict()], carry, generator_states(), {"a": torch.ones(2)})


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = _example()
    saved.save(tmp_path)
    found = Checkpoint.load(tmp_path)
    for part in ("progress", "model", "optimizers", "carry", "generators", "best"):
        assert _same(getattr(saved, part), getattr(found, part)), part


def test_views_and_shared_tensors_are_kept_apart(tmp_path: Path) -> None:
    saved = _example()
    base = torch.arange(12.0).view(3, 4)
    saved.carry = (base[1:], base.t(), base)
    saved.save(tmp_path)
    assert _same(tuple(t.contiguous() for t in saved.carry), Checkpoint.load(tmp_path).carry)


def test_each_tensor_is_looked_at_a_few_times_however_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, true = 0, torch.Tensor.untyped_storage

    def counted(tensor: torch.Tensor) -> Any:
        nonlocal looks
        looks += 1
        return true(tensor)

    def looked(number: int) -> int:
        nonlocal looks
        saved, looks = _example(), 0
        saved.carry = [torch.zeros(2) for _ in range(number)]
        saved.save(tmp_path)
        return looks

    monkeypatch.setattr(torch.Tensor, "untyped_storage", counted)
    assert looked(400) < 5 * looked(100)


def test_the_generators_go_on_where_they_were() -> None:
    torch.manual_seed(3)
    states = generator_states()
    first = torch.rand(4)
    set_generator_states(states)
    assert torch.equal(torch.rand(4), first)


@pytest.mark.parametrize("harm", ["missing", "empty", "truncated", "text", "flipped head", "no head"])
def test_a_damaged_file_is_named(tmp_path: Path, harm: str) -> None:
    _example().save(tmp_path)
    path = tmp_path / FILE
    data = path.read_bytes()
    if harm == "missing":
        path.unlink()
    elif harm == "no head":
        store.write_tensors(path, {"a": torch.ones(1)})
    else:
        path.write_bytes(
            {"empty": b"", "truncated": data[: len(data) // 2], "text": b"no tensors" * 99, "flipped head": b"\xff" + data[1:]}[harm]
        )
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors"):
        Checkpoint.load(tmp_path)


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    saved = _example()
    saved.carry = object()
    with pytest.raises(TypeError, match="carry"):
        saved.save(tmp_path)
    assert not (tmp_path / FILE).exists()


def test_a_save_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    _example().save(tmp_path)
    before = (tmp_path / FILE).read_bytes()

    def fail(stage: str, path: Path) -> None:
        if stage == "rename":
            raise OSError("the power is gone")

    with store.observe_saves(fail), pytest.raises(OSError, match="power"):
        _example().save(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not fit"):
        load_weights(Toy(width=8), dict(Toy(width=6).state_dict()), tmp_path)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "muon"])
def test_the_size_told_ahead_is_enough(tmp_path: Path, optimizer: str) -> None:
    from bimo.training.optimizers import make_optimizers
    from tests.training.toy import training

    model = Toy(width=64)
    made = make_optimizers(model, training(optimizer=optimizer))
    model.hidden(torch.tensor([[1, 2]]))[0].sum().backward()
    for o in made:
        o.step()
    weights = dict(model.state_dict())
    for average in (0.0, 0.5):
        mean = weights if average else None
        Checkpoint(Progress(), weights, [o.state_dict() for o in made], None, generator_states(), weights, mean).save(tmp_path)
        assert (tmp_path / FILE).stat().st_size <= checkpoint.checkpoint_bytes(model, training(optimizer=optimizer, average=average))
