"""Recomputes every number of docs/principles/attention.md by the code that the page names."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch

from bimo.models.layers import Attention, Sight, attend
from tests.principles.pages import script

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "principles"
vector = script("drawing").vector
PAGE = (FOLDER / "attention.md").read_text(encoding="utf-8")
TOKENS = torch.tensor([[1.0, 0, 0, 1], [0, 2, 1, 0], [1, 1, 0, 2]], dtype=torch.float64)


def weights(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """Weights [H, 3, 3]: what attention gives when the values are the three unit vectors."""
    q = tokens.view(1, 3, heads, -1).transpose(1, 2)
    return attend(q, q, torch.eye(3, dtype=torch.float64).expand(1, heads, 3, 3), Sight())[0]


def outputs(heads: int) -> torch.Tensor:
    """Outputs [3, 4] of the layer whose matrices are all the identity."""
    layer = Attention(4, heads, heads, 4 // heads).double()
    with torch.no_grad():
        layer.qkv.weight.copy_(torch.eye(4).repeat(3, 1))
        layer.out.weight.copy_(torch.eye(4))
        return layer(TOKENS[None], Sight())[0]


def numbers(line: str) -> list[float]:
    return [float(n) for n in re.findall(r"\d+\.\d{4}", line)]


def rows(after: str) -> list[list[float]]:
    """The numbers of the three rows of the table that follows a heading."""
    lines = PAGE.split(after, 1)[1].splitlines()
    return [numbers(line) for line in lines if line.startswith(("| 墨", "| 落", "| 纸"))][:3]


def test_one_head():
    scores = TOKENS @ TOKENS.T / 2
    found = torch.cat([scores, weights(TOKENS, 1)[0], outputs(1)], dim=1)
    assert torch.allclose(found, torch.tensor(rows("three tokens, one head"), dtype=torch.float64), atol=5.1e-5)


def test_two_heads():
    first, second = weights(TOKENS, 2)
    assert f"twice as many scores: {weights(TOKENS, 2).numel()} here, instead of {weights(TOKENS, 1).numel()}." in PAGE
    for head, half in enumerate((TOKENS[:, :2], TOKENS[:, 2:]), 1):
        scores = half @ half.T / 2**0.5
        told = PAGE.split(f"of head {head}: 落", 1)[1]
        assert told[told.index("[") :].startswith(vector(scores[1, :2]))
        assert told.split("纸", 1)[1].split("[", 1)[1].startswith(vector(scores[2]).removeprefix("["))
    found = torch.cat([first, second, outputs(2)], dim=1)
    assert torch.allclose(found, torch.tensor(rows("The same with two heads"), dtype=torch.float64), atol=5.1e-5)
    for heads in (1, 2):
        assert torch.allclose(weights(TOKENS, heads).sum(-1), torch.ones(heads, 3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("softmax of one number is 1.0000", [1.0]),
        ("(divided by 4)", [weights(TOKENS / math.sqrt(2), 1)[0, 2, 2]]),
        ("(undivided) instead of", [weights(TOKENS * math.sqrt(2), 1)[0, 2, 2]]),
        ("墨 would keep", [(TOKENS @ TOKENS.T / 2)[0].softmax(0)[0]]),
        ("纸 would get [", (TOKENS @ TOKENS.T / 2).exp()[2] @ TOKENS),
    ],
)
def test_what_goes_wrong_in_numbers(said, found):
    line = next(line for line in PAGE.splitlines() if said in line)
    assert all(any(abs(float(f) - n) < 5.1e-5 for n in numbers(line)) for f in found)


def test_the_picture_shows_the_weights():
    picture = ET.parse(FOLDER / "attention.svg").getroot()
    squares = [e for e in picture.iter("{http://www.w3.org/2000/svg}rect") if e.get("class") == "weight"]
    found = torch.tensor([float(e.get("data-weight")) for e in squares], dtype=torch.float64).view(3, 3, 3)
    wanted = torch.cat([weights(TOKENS, 1), weights(TOKENS, 2)])
    assert torch.allclose(found, wanted, atol=5.1e-5)


def test_the_page_names_files_that_exist():
    for target in re.findall(r"\]\((\.\./[^)]+)\)", PAGE):
        assert (FOLDER / target).resolve().is_file(), target
