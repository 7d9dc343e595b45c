"""Which parameter is learned by what, how Muon moves a matrix, how the learning rate goes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bimo.training.optimizers import Muon, make_optimizers, orthogonalised, schedule_factor, set_learning_rate
from tests.training.toy import Toy, training


def _muon_twin(shape: tuple[int, int], steps: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    a = Muon([ours], lr=0.02, momentum=0.95, weight_decay=0.1)
    b = torch.optim.Muon([theirs], lr=0.02, momentum=0.95, weight_decay=0.1, nesterov=True)
    for _ in range(steps):
        gradient = torch.randn(shape)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        a.step()
        b.step()
    return ours.detach() - start, theirs.detach() - start


@pytest.mark.parametrize("shape", [(16, 16), (24, 8), (8, 24)])
def test_muon_moves_as_torchs_muon_does(shape: tuple[int, int]) -> None:
    ours, theirs = _muon_twin(shape)  # torch's works in bf16, so the two agree to its precision only
    assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.99
    assert ours.norm() / theirs.norm() == pytest.approx(1, abs=0.05)


def test_matrices_of_one_shape_move_as_each_would_alone() -> None:
    torch.manual_seed(1)
    starts, gradients = torch.randn(3, 6, 4), torch.randn(3, 6, 4)
    together = [nn.Parameter(s.clone()) for s in starts]
    alone = [nn.Parameter(s.clone()) for s in starts]
    for group in ([together], [[p] for p in alone]):
        for params in group:
            for p in params:
                p.grad = gradients[next(i for i, s in enumerate(starts) if torch.equal(s, p))].clone()
            Muon(params, lr=0.1).step()
    for p, q in zip(together, alone, strict=True):
        torch.testing.assert_close(p, q)


def test_the_update_of_muon_is_nearly_orthogonal() -> None:
    torch.manual_seed(2)
    singular = torch.linalg.svdvals(orthogonalised(torch.randn(4, 12, 20), 5))
    assert singular.min() > 0.5
    assert singular.max() < 1.4


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "muon"])
def test_every_parameter_is_learned_once(optimizer: str) -> None:
    model = Toy()
    made = make_optimizers(model, training(optimizer=optimizer))
    held = [id(p) for o in made for g in o.param_groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_muon_takes_hidden_matrices_only_and_decay_spares_vectors() -> None:
    model = Toy()
    made = make_optimizers(model, training(optimizer="muon", weight_decay=0.1))
    by_muon = [p for o in made if isinstance(o, Muon) for g in o.param_groups for p in g["params"]]
    assert [id(p) for p in by_muon] == [id(model.inner.weight)]
    for o in made:
        for group in o.param_groups:
            for p in group["params"]:
                assert (group["weight_decay"] > 0) == (p.dim() >= 2)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"schedule": "constant", "warmup": 0.25}, [0.5, 1, 1, 1, 1, 1, 1, 1]),
        ({"schedule": "linear", "warmup": 0.0, "final": 0.0}, [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ({"schedule": "cosine", "warmup": 0.0, "final": 0.2}, [1, None, None, None, 0.6, None, None, None]),
        ({"schedule": "wsd", "warmup": 0.25, "cooldown": 0.5, "final": 0.0}, [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
    ],
)
def test_schedules(given: dict[str, object], expected: list[float | None]) -> None:
    found = [schedule_factor(training(**given), step, 8) for step in range(8)]
    for share, wanted in zip(found, expected, strict=True):
        assert wanted is None or share == pytest.approx(wanted)
    assert all(0 < share <= 1 for share in found)


def test_the_rate_is_set_from_each_groups_own_peak() -> None:
    made = make_optimizers(Toy(), training(optimizer="muon", learning_rate=0.01, matrix_learning_rate=0.02))
    set_learning_rate(made, 0.5)
    set_learning_rate(made, 0.5)  # of the peak, not of what was set before
    assert sorted({g["lr"] for o in made for g in o.param_groups}) == pytest.approx([0.005, 0.01])
