"""Numbers and picture of transformer-blocks.md: `python docs/principles/draw_transformer_blocks.py` draws it anew."""

from __future__ import annotations

from pathlib import Path

import torch
from drawing import BLUE, GREY, RED, arrow, box, label, picture, rule
from torch import Tensor

from bimo.models.layers import Attention, Block, CrossAttention, CrossBlock, FeedForward, Sight, make_norm

PICTURE = Path(__file__).with_name("transformer-blocks.svg")
TEXT = torch.tensor([[1.0, 0, 0, 1], [0, 2, 1, 0], [1, 1, 0, 2]], dtype=torch.float64)  # 墨, 落, 纸
SOURCE = torch.tensor([[2.0, 0, 0, 0], [0, 0, 2, 2]], dtype=torch.float64)
NEW = torch.tensor([0.0, 0, 3, 0], dtype=torch.float64)  # what a token is changed to
OPEN, CAUSAL = Sight(causal=False), Sight()


def _norms(count: int) -> list[torch.nn.Module]:
    return [make_norm("layer", 4, 1e-5).double() for _ in range(count)]


@torch.no_grad()
def _identities(module: torch.nn.Module) -> None:
    """Make every matrix of a layer the identity (of stacked ones, each)."""
    for parameter in module.parameters():
        parameter.copy_(torch.eye(4).repeat(len(parameter) // 4, 1))


def encoder_block(norm_first: bool) -> Block:
    """Bimo's block with one head of width 4, all matrices the identity, γ = 1, β = 0."""
    attention, feed_forward = Attention(4, 1, 1, 4).double(), FeedForward(4, 4, "relu").double()
    _identities(attention)
    _identities(feed_forward)
    first, second = _norms(2)
    return Block(attention, feed_forward, (first, second), norm_first=norm_first).requires_grad_(False)


def decoder_block(norm_first: bool) -> CrossBlock:
    """The same with attention to a memory."""
    plain, cross = encoder_block(norm_first), CrossAttention(4, 1).double()
    _identities(cross)
    first, second, third = _norms(3)
    return CrossBlock(plain.attention, cross, plain.feed_forward, (first, second, third), norm_first=norm_first).requires_grad_(False)


def encode(x: Tensor, norm_first: bool) -> Tensor:
    """Outputs [T, 4] of the encoder block."""
    return encoder_block(norm_first)(x[None], OPEN)[0]


def decode(x: Tensor, memory: Tensor, norm_first: bool = False) -> Tensor:
    """Outputs [T, 4] of the decoder block that looks back at `memory` [S, 4]."""
    block = decoder_block(norm_first)
    return block(x[None], CAUSAL, block.cross.read(memory[None]), OPEN)[0]


def printed_encode(x: Tensor) -> Tensor:
    """LN(X + MHA(X)) + LN(X + FF(X))."""
    block = encoder_block(False)
    attended = block.attention(x[None], OPEN)[0]
    return block.attention_norm(x + attended) + block.feed_forward_norm(x + block.feed_forward(x))


def printed_decode(x: Tensor) -> Tensor:
    """LN(X + MaskedMHA(X)) + LN(X + Encoder(X)), Encoder being the printed one."""
    block = encoder_block(False)
    attended = block.attention(x[None], CAUSAL)[0]
    return block.attention_norm(x + attended) + block.feed_forward_norm(x + printed_encode(x))


def changed(place: int) -> Tensor:
    """The text with another token at `place`."""
    x = TEXT.clone()
    x[place] = NEW
    return x


def looking(memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, weights [T, S] and outputs [T, 4] of the text looking at `memory`, without norms and residual."""
    cross = CrossAttention(4, 1).double().requires_grad_(False)
    _identities(cross)
    scores = TEXT @ memory.T / 2
    keys, _ = cross.read(memory[None])
    weights = cross(TEXT[None], (keys, torch.eye(4, dtype=torch.float64)[None, None, : len(memory)]), OPEN)[0, :, : len(memory)]
    return scores, weights, cross(TEXT[None], cross.read(memory[None]), OPEN)[0]


def spread(norm_first: bool, depth: int = 12) -> tuple[float, float]:
    """Standard deviation after `depth` fresh blocks of width 32, and the gradient's norm in the last block's W₂."""
    torch.manual_seed(0)
    x = torch.randn(4, 16, 32, dtype=torch.float64)
    blocks = [
        Block(
            Attention(32, 4, 4, 8).double(),
            FeedForward(32, 128, "relu", bias=True).double(),
            (make_norm("layer", 32, 1e-5).double(), make_norm("layer", 32, 1e-5).double()),
            norm_first=norm_first,
        )
        for _ in range(depth)
    ]
    for block in blocks:
        x = block(x, OPEN)
    read = make_norm("layer", 32, 1e-5).double()(x) if norm_first else x
    (read * torch.randn(read.shape, dtype=torch.float64)).mean().backward()
    found = blocks[-1].feed_forward.outer.weight.grad
    assert found is not None
    return float(x.detach().std()), float(found.norm())


_STEP = 88  # height of a sub-layer with its residual and its norm


def draw() -> str:
    """Encoder blocks: post-norm, pre-norm, as printed; decoder blocks: post-norm, as printed."""
    encoder, decoder = ["attention", "feed-forward"], ["masked attention", "attention to source", "feed-forward"]
    parts = [*_serial(20, "post-norm", encoder, False), *_serial(184, "pre-norm", encoder, True), *_parallel(348, encoder)]
    parts += [*_serial(570, "decoder, post-norm", decoder, False), *_parallel(734, ["masked attention", "Encoder(X)"])]
    title = "Encoder and decoder blocks: sub-layers in sequence, each with its residual and its norm; as printed, side by side and added"
    return picture(950, 340, title, parts)


def _serial(x: float, title: str, names: list[str], norm_first: bool) -> list[str]:
    """Sub-layers one after the other, each with its residual (blue) and its norm; `y` is where one begins."""
    centre, side, y = x + 64, x + 138, 308.0
    parts = [label(x, 22, title, fill=GREY), label(centre, 326, "X", anchor="middle")]
    for name in names:
        part, norm = (y - 54, y - 30) if norm_first else (y - 36, y - 80)
        plus = y - 68 if norm_first else y - 52
        parts += [rule(centre, y, centre, y - _STEP, stroke=GREY), rule(centre, y - 6, side, y - 6, stroke=BLUE, width=1.5)]
        parts += [rule(side, y - 6, side, plus, stroke=BLUE, width=1.5), arrow(side, plus, centre + 7, plus, stroke=BLUE)]
        parts += [box(x, part, 128, 20, name), box(centre - 20, norm, 40, 18, "LN"), *_plus(centre, plus, GREY)]
        y -= _STEP
    return [*parts, arrow(centre, y, centre, y - 10)]


def _parallel(x: float, names: list[str]) -> list[str]:
    """Sub-layers side by side, each of X itself, added at the end (red)."""
    left, right = x + 44, x + 148
    middle = (left + right) / 2
    parts = [label(x, 22, "as printed", fill=RED), label(middle, 326, "X", anchor="middle"), rule(middle, 308, middle, 292, stroke=GREY)]
    parts.append(rule(left, 292, right, 292, stroke=GREY))
    for centre, name in zip((left, right), names, strict=True):
        parts += [rule(centre, 292, centre, 120, stroke=GREY), box(centre - 20, 176, 40, 18, "LN"), *_plus(centre, 210, GREY)]
        words = name.split() if " " in name else [name]
        parts.append(box(centre - 46, 250 - 16 * len(words), 92, 6 + 16 * len(words), ""))
        parts += [label(centre, 250 - 16 * (len(words) - 1) + 16 * n, word, anchor="middle") for n, word in enumerate(words)]
        parts += [
            rule(centre, 284, centre + 49, 284, stroke=BLUE, width=1.5),
            rule(centre + 49, 284, centre + 49, 210, stroke=BLUE, width=1.5),
        ]
        parts.append(arrow(centre + 49, 210, centre + 7, 210, stroke=BLUE))
    parts += [rule(left, 120, right, 120, stroke=RED, width=2), arrow(middle, 120, middle, 34, stroke=RED)]
    return [*parts, *_plus(middle, 120, RED)]


def _plus(x: float, y: float, stroke: str) -> list[str]:
    return [f'<circle cx="{x:g}" cy="{y:g}" r="7" fill="#faf8f3" stroke="{stroke}"/>', label(x, y + 4, "+", anchor="middle", size=12)]


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
