"""The chunked divergence against torch's own kl_div and cross_entropy, in values and gradients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bimo.training.cross_entropy import chunked_cross_entropy
from bimo.training.divergence import chunked_divergence

N, D, V = 13, 5, 9
SUPPRESSED = (0, 4)


def parts(places: Tensor, told: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    return ((p, told[p].clone()) for p in places.split(size))


def plain(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, told: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """KL at the temperature and cross-entropy, whole, by torch; suppressed ids left out of both."""
    kept = [i for i in range(V) if i not in SUPPRESSED]
    logits = F.linear(hidden, weight, bias)[:, kept]
    soft = [(x / temperature).log_softmax(1) for x in (logits, told[:, kept])]
    kl = (soft[1].exp() * torch.where(soft[1].isinf(), 0.0, soft[1] - soft[0])).sum()
    return kl, F.cross_entropy(logits, torch.tensor([kept.index(t) for t in targets.tolist()]), reduction="sum")


@pytest.fixture
def given() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    told = 2 * torch.randn(N, V, generator=generator)
    told[2, 3] = told[5, 8] = float("-inf")  # what a teacher holds for impossible
    allowed = torch.tensor([i for i in range(V) if i not in SUPPRESSED])
    return {
        "hidden": torch.randn(N, D, generator=generator), "weight": torch.randn(V, D, generator=generator),
        "bias": torch.randn(V, generator=generator), "told": told,
        "targets": allowed[torch.randint(len(allowed), (N,), generator=generator)],
    }  # fmt: skip


@pytest.mark.parametrize("temperature", [1.0, 2.5, 0.5])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("biased", [True, False])
def test_it_is_the_plain_sum(given: dict[str, Tensor], temperature: float, share: float, biased: bool) -> None:
    found, expected = [], []
    for mine in (True, False):
        x, w = (given[name].clone().requires_grad_() for name in ("hidden", "weight"))
        b = given["bias"].clone().requires_grad_() if biased else None
        if mine:
            pieces = parts(torch.arange(N), given["told"], 4)
            loss, kl, entropy = chunked_divergence(x, w, b, given["targets"], pieces, temperature, share, SUPPRESSED)
        else:
            kl, entropy = plain(x, w, b, given["targets"], given["told"], temperature)
            loss = share * temperature**2 * kl + (1 - share) * entropy
        (3 * loss).backward()
        (found if mine else expected).extend([loss, kl, entropy, x.grad, w.grad, *([] if b is None else [b.grad])])
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one.detach().float(), other.detach().float(), atol=2e-5, rtol=1e-5)


def test_pieces_in_any_order_and_places_that_do_not_count(given: dict[str, Tensor]) -> None:
    some = torch.tensor([11, 0, 7, 3])
    x = given["hidden"].clone().requires_grad_()
    w, t = given["weight"], given["targets"]
    loss, _, _ = chunked_divergence(x, w, None, t, parts(some, given["told"], 3), 2.0, 0.6, SUPPRESSED)
    loss.backward()
    assert x.grad is not None
    alone = given["hidden"][some].requires_grad_()
    kl, entropy = plain(alone, w, None, t[some], given["told"][some], 2.0)
    (2.4 * kl + 0.4 * entropy).backward()
    assert alone.grad is not None
    assert torch.allclose(x.grad[some], alone.grad, atol=2e-5)
    rest = [i for i in range(N) if i not in some.tolist()]
    assert not x.grad[rest].any()


def test_without_a_share_it_is_the_cross_entropy_and_a_student_like_its_teacher_has_nothing_to_learn(given: dict[str, Tensor]) -> None:
    x, w, b, t = (given[name] for name in ("hidden", "weight", "bias", "targets"))
    none, _, entropy = chunked_divergence(x, w, b, t, parts(torch.arange(N), given["told"], 5), 1.0, 0.0, SUPPRESSED)
    assert none.item() == pytest.approx(chunked_cross_entropy(x, w, b, t, SUPPRESSED).item(), rel=1e-6)
    assert entropy.item() == pytest.approx(none.item())
    y = x.clone().requires_grad_()
    same = F.linear(x, w, b)
    loss, kl, _ = chunked_divergence(y, w, b, t, parts(torch.arange(N), same, 5), 3.0, 1.0, SUPPRESSED)
    loss.backward()
    assert abs(kl.item()) < 1e-5
    assert y.grad is not None
    assert y.grad.abs().max() < 1e-5


def test_the_size_of_the_gradient_does_not_fall_with_the_temperature(given: dict[str, Tensor]) -> None:
    """T² is there for this: at high temperatures the gradient of T² KL is that of half the squared distance of centred logits."""
    x, w, t = given["hidden"].requires_grad_(), given["weight"], given["targets"]
    told = torch.where(given["told"].isinf(), 0.0, given["told"])
    loss, _, _ = chunked_divergence(x, w, None, t, parts(torch.arange(N), told, 5), 1000.0, 1.0)
    loss.backward()
    apart = x.detach() @ w.t() - told
    apart = apart - apart.mean(1, keepdim=True)
    assert x.grad is not None
    assert torch.allclose(x.grad, apart @ w / V, atol=0.02)


def test_bf16_learns_as_fp32_does(given: dict[str, Tensor]) -> None:
    grads = []
    for enabled in (False, True):
        x = given["hidden"].clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss, _, _ = chunked_divergence(
                x, given["weight"], given["bias"], given["targets"], parts(torch.arange(N), given["told"], 5), 2.0, 0.5, SUPPRESSED
            )
        loss.backward()
        assert x.grad is not None
        grads.append(x.grad)
    assert torch.nn.functional.cosine_similarity(*(g.flatten() for g in grads), dim=0) > 0.999
