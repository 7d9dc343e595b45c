"""Recomputes every number of docs/principles/transformer-blocks.md by the code that the page names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.principles.pages import missing, page, script

numbers = script("draw_transformer_blocks")
vector = script("drawing").vector
PAGE = page("transformer-blocks")
NAMES = ("墨", "落", "纸")
TEXT, SOURCE = numbers.TEXT, numbers.SOURCE


def test_one_encoder_block() -> None:
    post, pre = (numbers.encode(TEXT, norm_first) for norm_first in (False, True))
    assert missing(PAGE, [f"| {name} | {vector(a)} | {vector(b)} |" for name, a, b in zip(NAMES, post, pre, strict=True)]) == []
    assert torch.allclose(post.mean(1), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(post.var(1, unbiased=False), torch.ones(3, dtype=torch.float64), atol=1e-4)
    assert f"落 becomes {vector(pre[1])} instead of {vector(post[1])}" in PAGE


def test_looking_at_a_source() -> None:
    scores, weights, taken = numbers.looking(SOURCE)
    said = [
        f"| {name} | {a[0]:.4f} | {a[1]:.4f} | {b[0]:.4f} | {b[1]:.4f} | {vector(c)} |"
        for name, a, b, c in zip(NAMES, scores, weights, taken, strict=True)
    ]
    turned = SOURCE.flip(1)
    assert (SOURCE.tolist(), turned.tolist()) == ([[2, 0, 0, 0], [0, 0, 2, 2]], [[0, 0, 0, 2], [2, 2, 0, 0]])
    said.append(f"墨 becomes {vector(numbers.decode(TEXT, SOURCE)[0])}; with the source turned")
    said.append(f"it becomes {vector(numbers.decode(TEXT, turned)[0])}.")
    said.append(f"In the pre-norm block 墨 becomes {vector(numbers.decode(TEXT, SOURCE, norm_first=True)[0])}, and with the source turned")
    said.append(f"{vector(numbers.decode(TEXT, turned, norm_first=True)[0])}: nothing norms")
    assert missing(PAGE, said) == []
    assert torch.allclose(weights.sum(1), torch.ones(3, dtype=torch.float64))


def test_before_or_after() -> None:
    for depth in (6, 12, 24):
        (pre, pre_gradient), (post, post_gradient) = (numbers.spread(first, depth) for first in (True, False))
        assert f"| {depth} | {pre:.2f} | {post:.2f} | {pre_gradient:.3f} | {post_gradient:.3f} |" in PAGE
        if depth != 12:
            assert f"{pre:.2f} after {depth}" in PAGE


def test_the_printed_encoder() -> None:
    """What the feed-forward layer gives for 纸 when 墨 becomes another token."""
    block, other = numbers.encoder_block(False), numbers.changed(0)
    alone = (block.feed_forward(other) - block.feed_forward(TEXT))[2]

    def after_attention(x: torch.Tensor) -> torch.Tensor:
        return block.feed_forward(block.attention_norm(x + block.attention(x[None], numbers.OPEN)[0]))

    in_sequence = (after_attention(other) - after_attention(TEXT))[2]
    variance = float(numbers.printed_encode(TEXT)[2].var(unbiased=False))
    assert f"changes by {alone.norm():.4f}; in sequence by {in_sequence.norm():.4f}." in PAGE
    assert f"纸 comes out with variance {variance:.4f}" in PAGE


def test_the_printed_decoder() -> None:
    other = numbers.changed(2)
    leak = (numbers.printed_decode(other) - numbers.printed_decode(TEXT))[0].norm()
    sound = (numbers.decode(other, SOURCE) - numbers.decode(TEXT, SOURCE))[0].norm()
    assert f"墨, the first, changes by {leak:.4f}; in a decoder block by {sound:.4f} |" in PAGE
    with pytest.raises(RuntimeError, match="size of tensor"):
        _ = TEXT + numbers.printed_encode(SOURCE)


def test_dropout_on_the_sum() -> None:
    assert f"after 12 layers at 0.1 only {0.9**12:.2f} of them" in PAGE


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_blocks_are_torchs(norm_first: bool) -> None:
    """The same weights in torch's layers give the same numbers."""

    def same(layer: nn.Module) -> nn.Module:
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                if parameter.dim() == 2:
                    parameter.copy_(torch.eye(4).repeat(len(parameter) // 4, 1))
                elif "norm" not in name:
                    parameter.zero_()
        return layer.double().eval()

    encoder = same(nn.TransformerEncoderLayer(4, 1, 4, 0.0, "relu", batch_first=True, norm_first=norm_first))
    decoder = same(nn.TransformerDecoderLayer(4, 1, 4, 0.0, "relu", batch_first=True, norm_first=norm_first))
    causal = nn.Transformer.generate_square_subsequent_mask(3, dtype=torch.float64)
    found = decoder(TEXT[None], SOURCE[None], tgt_mask=causal)[0]
    assert torch.allclose(numbers.encode(TEXT, norm_first), encoder(TEXT[None])[0], atol=1e-12)
    assert torch.allclose(numbers.decode(TEXT, SOURCE, norm_first), found, atol=1e-12)


def test_the_picture_is_what_the_script_draws() -> None:
    assert numbers.PICTURE.read_text(encoding="utf-8") == numbers.draw()
