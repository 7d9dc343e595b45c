"""Recomputes every number of docs/principles/similarity-softmax.md by the code that the page names."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from tests.principles.pages import missing, page, script

numbers = script("draw_similarity_softmax")
PAGE = page("similarity-softmax")
E, NAMES = numbers.E, numbers.NAMES


def joined(values: torch.Tensor, mark: str = " | ") -> str:
    return mark.join(f"{v:.4f}" for v in values.tolist())


def test_the_worked_example() -> None:
    cosine = F.cosine_similarity(E[:, None], E[None], dim=2)
    rows = torch.cat([numbers.scores(E), cosine, numbers.weights(E, E)], dim=1)
    assert missing(PAGE, [f"| {name} | {joined(row)} |" for name, row in zip(NAMES, rows, strict=True)]) == []
    assert torch.allclose(numbers.weights(E, E).sum(1), torch.ones(3, dtype=torch.float64))


def test_weights_are_shares() -> None:
    weights, more = numbers.weights(E, E), numbers.weights(E[:1], torch.cat([E, E[1:2]]))[0]
    said = [
        f"cat gives dog {weights[0, 1]:.4f}, dog gives cat {weights[1, 0]:.4f}.",
        f"cat's weight on the first falls from {weights[0, 1]:.4f} to {more[1]:.4f}, while",
        f"takes cat's weight on the first from {weights[0, 1]:.4f} to {more[1]:.4f} |",
        f"cat's weights go from {joined(weights[0], ', ')} to {joined(numbers.weights(2 * E, 2 * E)[0], ', ')} |",
    ]
    assert missing(PAGE, said) == []


def test_one_pair() -> None:
    assert (numbers.of_one_pair(E) == 1).all()
    assert f"its gradient {numbers.pair_gradient():.4f} in every embedding (over the row: up to {numbers.row_gradient():.4f})" in PAGE
    sigmoids = numbers.scores(E)[0].sigmoid()
    first, second, third = sigmoids.tolist()
    assert f"cat's sigmoids are {first:.4f}, {second:.4f} and {third:.4f}: they sum to {float(sigmoids.sum()):.4f}" in PAGE


def test_contrast() -> None:
    for tau in (1, 0.05):
        weights, nats = numbers.contrast(tau)
        assert f"| {tau} | {joined(weights.diagonal())} | {nats:.4f} |" in PAGE
    assert numbers.OTHER.tolist() == [[2, 1, 1, 0], [1, 2, 2, 0], [0, 1, 0, 1]]
    assert f"ln 3 = {math.log(3):.4f}" in PAGE


def test_the_picture_is_what_the_script_draws() -> None:
    assert numbers.PICTURE.read_text(encoding="utf-8") == numbers.draw()
