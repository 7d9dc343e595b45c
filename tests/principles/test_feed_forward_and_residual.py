"""Recomputes every number of docs/principles/feed-forward-and-residual.md by the code that the page names."""

from __future__ import annotations

import torch

from bimo.models.decoder import DecoderConfig
from bimo.models.layers import Block, FeedForward, Sight
from tests.principles.pages import missing, page, script

numbers = script("draw_feed_forward_and_residual")
vector = script("drawing").vector
PAGE = page("feed-forward-and-residual")


def test_the_worked_example() -> None:
    layer, x = numbers.example(), numbers.X
    inner, out = layer.inner(x), layer(x)
    said = [
        f"| xW₁ + b₁ | {vector(inner, 1)} |",
        f"| max(0, ·) | {vector(inner.clamp(min=0), 1)}:",
        f"| FFN(x) | {vector(out, 1)} |",
        f"| the block's x + FFN(x) | **{vector(x + out, 1)}** |",
        f"| the same with FFN(x) = … + x, as printed | {vector(x + (out + x), 1)} |",
        f"here {vector(numbers.example(bias=False)(x), 1)} instead of {vector(out, 1)}",
    ]
    assert missing(PAGE, said) == []


def test_bimos_block_adds_x_once() -> None:
    """With attention silent and no norms, the block is x + FFN(x)."""

    class Silent(torch.nn.Module):
        def forward(self, x: torch.Tensor, sight: Sight, layer: int = 0) -> torch.Tensor:
            return torch.zeros_like(x)

    block = Block(Silent(), numbers.example(), (torch.nn.Identity(), torch.nn.Identity()))  # type: ignore[arg-type]
    assert f"**{vector(block(numbers.X[None, None], Sight())[0, 0], 1)}**" in PAGE


def test_parameters() -> None:
    for activation, bias_free in (("relu", "(512 inner) 131,072"), ("swiglu", "(384 inner, in steps of 64) 147,456")):
        config = DecoderConfig.model_validate({"width": 128, "activation": activation})
        weights = sum(p.numel() for p in FeedForward(128, config.inner, config.activation).parameters())
        assert f"({config.inner} inner" in bias_free
        assert f"{weights:,}" in bias_free
        assert bias_free in PAGE


def test_the_stream_and_the_gradient() -> None:
    right, normalised, whole = (numbers.stream(form) for form in ("right", "normalised", "whole"))
    said = [
        f"its spread is {whole[0][-1]:.0f} where it should be {right[0][-1]:.2f}",
        f"the spread is {normalised[0][-1]:.1f}, and the result still points where the input did "
        f"(cosine {normalised[1]:.2f} instead of {right[1]:.2f})",
        f"has a norm of {numbers.first_gradient(True):.2f} with residuals and of {numbers.first_gradient(False):.1e} without",
    ]
    assert missing(PAGE, said) == []
    assert 2.5e7 < numbers.first_gradient(True) / numbers.first_gradient(False) < 3.5e7  # "thirty million times"


def test_tokens_are_not_mixed() -> None:
    torch.manual_seed(0)
    layer, x = FeedForward(4, 8, "swiglu"), torch.randn(3, 4)
    other = x.clone()
    other[0] = 5.0
    change = layer(other) - layer(x)
    assert (change[0] != 0).any()
    assert (change[1:] == 0).all()


def test_the_picture_is_what_the_script_draws() -> None:
    assert numbers.PICTURE.read_text(encoding="utf-8") == numbers.draw()
