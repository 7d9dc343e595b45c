"""Layers that the Transformer families share: norms, positions, attention to a text and to a memory, feed-forward, blocks.

Shapes: B rows, T tokens, D width, H heads, K key-value heads, E width of a head, S keys in sight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bimo.models.activations import GATED, Activation, activate
from bimo.models.base import length_mask
from bimo.models.kernels import transformer
from bimo.models.rotary import rotate

Norm = Literal["layer", "rms"]
Pooling = Literal["mean", "first", "last"]
_SHORT = 48  # tokens of a text, on average, from which attending to it by itself pays


class RMSNorm(nn.Module):
    """x / √(mean(x²) + ε) · γ (Zhang & Sennrich 2019), normalised in float32 whatever the precision of x.

    In float64, too, the quotient is taken in float32: the reference implementations of Llama and Qwen3 do so, and only
    the same rounding gives the same logits.

    >>> RMSNorm(2)(torch.tensor([3.0, 4.0])).tolist()  # √mean = √12.5
    [0.8485..., 1.1313...]
    """

    def __init__(self, width: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] → [..., D]."""
        if x.dtype == torch.float64:
            x32 = x.float()
            x32 = x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + self.epsilon)
            return self.weight * x32.double()
        if transformer.fits(x):
            return transformer.rms_norm(x, self.weight, self.epsilon)
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.epsilon)  # one dtype, or CUDA has no fused kernel for it


def make_norm(kind: Norm, width: int, epsilon: float, bias: bool = True) -> nn.Module:
    """LayerNorm (x − μ)/√(σ² + ε) · γ + β (Ba 2016) or RMSNorm."""
    return nn.LayerNorm(width, epsilon, bias=bias) if kind == "layer" else RMSNorm(width, epsilon)


def sinusoids(context: int, width: int) -> Tensor:
    """Positions as waves, float32 [context, D]: sin at the even places, cos at the odd, of position / 10000^(2i/D) (Vaswani 2017, §3.5).

    They are made on the processor, also for a model that is made without memory.

    >>> sinusoids(2, 4).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.8414..., 0.5403..., 0.0099..., 0.9999...]]
    """
    inverse = 1.0 / (10000.0 ** (torch.arange(0, width, 2, dtype=torch.float32, device="cpu") / width))
    angles = torch.arange(context, dtype=torch.float32, device="cpu")[:, None] * inverse
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


def document_positions(boundaries: Tensor) -> tuple[Tensor, Tensor]:
    """Position within its document and number of the document, int64 [B, T] each, of bool boundaries [B, T].

    >>> position, document = document_positions(torch.tensor([[False, False, True, False]]))
    >>> position.tolist(), document.tolist()
    ([[0, 1, 0, 1]], [[0, 0, 1, 1]])
    """
    places = torch.arange(boundaries.shape[1], device=boundaries.device).expand(boundaries.shape)
    begins = torch.where(boundaries, places, 0).cummax(dim=1).values
    return places - begins, boundaries.cumsum(dim=1)


class KeyValueStore(Protocol):
    """What attention asks of a cache."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep keys and values [B, K, T, E]; return all that are in sight, [B, K, S, E] each."""
        ...


@dataclass(frozen=True)
class Filled:
    """Which places of padded rows [B, T] hold tokens. What works token by token takes these alone, [N, …]; attention lays them back.

    >>> filled = Filled.of(torch.tensor([3, 1]), 3)
    >>> filled.places.tolist(), filled.lay(filled.take(torch.ones(2, 3, 1))).flatten(1).tolist()
    ([0, 1, 2, 3], [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    """

    places: Tensor  # int64 [N], among B · T
    rows: int
    width: int

    @classmethod
    def of(cls, lengths: Tensor, width: int) -> Filled | None:
        """Of rows with so many tokens, int64 [B], padded on the right to `width`; None where leaving padding out does not pay.

        It pays on a processor, whose work grows with the tokens, where more than a twentieth is padding.
        """
        if lengths.is_cuda or int(lengths.sum()) > 0.95 * len(lengths) * width:
            return None
        return cls(length_mask(lengths, width).flatten().nonzero()[:, 0], len(lengths), width)

    def take(self, x: Tensor) -> Tensor:
        """x [B, T, …] → [N, …]."""
        return x.flatten(0, 1).index_select(0, self.places)

    def lay(self, x: Tensor) -> Tensor:
        """x [N, …] → [B, T, …], zero where there is padding."""
        return x.new_zeros(self.rows * self.width, *x.shape[1:]).index_copy(0, self.places, x).view(self.rows, self.width, *x.shape[1:])


@dataclass(frozen=True)
class Sight:
    """What every layer of one pass shares: the angles of its tokens and which keys each of them sees.

    cos, sin: [T, 1, E] or [B, T, 1, E] (None: no rotation); mask: additive or bool [B, 1, T, S] (None: no mask);
    causal: each token sees itself and those before it; cache: where keys and values of earlier tokens lie; still: nothing is
    dropped out, though the model is learning; pieces: (row, start, stop) of texts that each see themselves alone, and the first `shared`
    tokens of their row, in place of a mask; filled: the layers are given these places alone, [N, D] in place of [B, T, D].
    """

    cos: Tensor | None = None
    sin: Tensor | None = None
    mask: Tensor | None = None
    causal: bool = True
    cache: KeyValueStore | None = None
    still: bool = False
    pieces: tuple[tuple[int, int, int], ...] = ()
    shared: int = 0
    filled: Filled | None = None

    @property
    def drops(self) -> bool:
        """Whether a model that is learning drops out in this pass."""
        return self.cache is None and not self.still


def attend(q: Tensor, k: Tensor, v: Tensor, sight: Sight, dropout: float = 0.0, scale: float | None = None) -> Tensor:
    """softmax(QKᵀ/√E) V (Vaswani 2017, eq. 1): q [B, H, T, E], k and v [B, K, S, E] → [B, H, T, E].

    scale: in place of 1/√E. With fewer key-value heads than heads, head h reads key-value head h // (H/K).
    """
    if sight.pieces:
        return _attend_pieces(q, k, v, sight, dropout, scale)
    heads, kv_heads = q.shape[1], k.shape[1]
    if heads != kv_heads and q.shape[2] == 1:  # one step: the heads of a group are that group's queries
        grouped = q.view(q.shape[0], kv_heads, heads // kv_heads, q.shape[3])
        return F.scaled_dot_product_attention(grouped, k, v, attn_mask=sight.mask, scale=scale).reshape(q.shape)
    causal, grouped = sight.causal and q.shape[2] > 1, heads != kv_heads
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=sight.mask, dropout_p=dropout, is_causal=causal, enable_gqa=grouped, scale=scale
    )


def _attend_pieces(q: Tensor, k: Tensor, v: Tensor, sight: Sight, dropout: float, scale: float | None) -> Tensor:
    """Attention of each piece to itself alone, causal: the work grows with the squares of the pieces' lengths, not of the rows'.

    What they share stands before each of them, with its queries, whose results are left out: a square needs no mask.
    """
    grouped = q.shape[1] != k.shape[1]
    rows: list[list[Tensor]] = [[] for _ in range(len(q))]
    for row, start, stop in sight.pieces:
        before = sight.shared if start else 0  # the shared tokens are the first piece of their row
        part = [t[row : row + 1, :, start:stop] for t in (q, k, v)]
        if before:
            part = [torch.cat((t[row : row + 1, :, :before], p), dim=2) for t, p in zip((q, k, v), part, strict=True)]
        causal = before + stop > start + 1
        y = F.scaled_dot_product_attention(*part, dropout_p=dropout, is_causal=causal, enable_gqa=grouped, scale=scale)
        rows[row].append(y[:, :, before:])
    return torch.cat([torch.cat(row, dim=2) for row in rows])


def text_pieces(boundaries: Tensor, shared: int = 0) -> tuple[tuple[int, int, int], ...]:
    """(row, start, stop) of the texts in rows with bool boundaries [B, T], where attending to each by itself pays; none where it does not.

    Behind the first `shared` tokens each text attends to these too. It pays on a processor where texts are long enough for a call each, and
    it saves half of the scores.

    >>> begins = torch.zeros(1, 300, dtype=torch.bool)
    >>> begins[0, 100] = begins[0, 180] = True
    >>> text_pieces(begins)
    ((0, 0, 100), (0, 100, 180), (0, 180, 300))
    """
    rows, width = boundaries.shape
    if boundaries.is_cuda:
        return ()
    begins = boundaries.clone()
    begins[:, 0] = True
    found = begins.nonzero()
    pieces = []
    for (row, start), following in zip(found.tolist(), [*found[1:].tolist(), [rows, 0]], strict=True):
        pieces.append((row, start, following[1] if following[0] == row else width))
    scores = sum((stop - start + (shared if start else 0)) ** 2 for _, start, stop in pieces)
    return tuple(pieces) if len(pieces) * _SHORT <= rows * width and 2 * scores <= rows * width**2 else ()


class StackedLinear(nn.Linear):
    """Several linear maps of one input as one product; `parts` counts the rows of each, which an optimizer may take apart."""

    def __init__(self, inputs: int, parts: tuple[int, ...], bias: bool = True) -> None:
        super().__init__(inputs, sum(parts), bias=bias)
        self.parts = parts


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani 2017, §3.2.2), with grouped heads (Ainslie 2023) and QK-norm (Henry 2020) if asked.

    `qkv.weight` holds the rows of all query heads, then all key heads, then all value heads (`qkv.parts` counts them). out_bias: of
    the map behind the heads; as `bias`, if not said. scale: of the scores; 1/√(head_width), if not said.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int,
        head_width: int,
        *,
        bias: bool = False,
        out_bias: bool | None = None,
        qk_norm: bool = False,
        epsilon: float = 1e-6,
        dropout: float = 0.0,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width, self.dropout, self.scale = heads, kv_heads, head_width, dropout, scale
        self.qkv = StackedLinear(width, (heads * head_width, kv_heads * head_width, kv_heads * head_width), bias=bias)
        self.out = nn.Linear(heads * head_width, width, bias=bias if out_bias is None else out_bias)
        self.q_norm = RMSNorm(head_width, epsilon) if qk_norm else None
        self.k_norm = RMSNorm(head_width, epsilon) if qk_norm else None

    def forward(self, x: Tensor, sight: Sight, layer: int = 0) -> Tensor:
        """x [B, T, D] → [B, T, D]."""
        qkv = self.qkv(x) if sight.filled is None else sight.filled.lay(self.qkv(x))
        B, T, _ = qkv.shape
        H, K, E = self.heads, self.kv_heads, self.head_width
        q, k, v = self._heads(qkv.view(B, T, H + 2 * K, E), sight)
        if sight.cache is not None:
            k, v = sight.cache.append(layer, k, v)
        dropout = self.dropout if self.training and sight.drops else 0.0
        y = attend(q, k, v, sight, dropout, self.scale).transpose(1, 2).reshape(B, T, H * E)
        return self.out(y if sight.filled is None else sight.filled.take(y))

    def _heads(self, qkv: Tensor, sight: Sight) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, T, E], keys and values [B, K, T, E] of qkv [B, T, H + 2K, E], normalised and turned where that is asked."""
        H, K = self.heads, self.kv_heads
        norms = None if self.q_norm is None or self.k_norm is None else (self.q_norm, self.k_norm)
        angles = None if sight.cos is None or sight.sin is None else (sight.cos, sight.sin)
        if (norms or angles) and transformer.fits(qkv):
            weights, epsilon = ((norms[0].weight, norms[1].weight), norms[0].epsilon) if norms else (None, 0.0)
            return transformer.heads(qkv, (H, K), weights, epsilon, angles)
        qk, v = qkv.split((H + K, K), dim=2)
        if norms:
            q, k = qk.split((H, K), dim=2)
            qk = torch.cat((norms[0](q), norms[1](k)), dim=2)
        if angles:
            qk = rotate(qk, *angles)
        q, k, v = (part.transpose(1, 2) for part in (*qk.split((H, K), dim=2), v))
        return q, k, v


class CrossAttention(nn.Module):
    """Multi-head attention to a memory: queries come from the text, keys and values from what was read elsewhere (Vaswani 2017, §3.2.3)."""

    def __init__(self, width: int, heads: int, *, bias: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width, bias=bias)
        self.key_value = StackedLinear(width, (width, width), bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def read(self, memory: Tensor, filled: Filled | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, S, E] of a memory [B, S, D], or of its filled places alone, [N, D]."""
        made = self.key_value(memory) if filled is None else filled.lay(self.key_value(memory))
        keys, values = made.view(*made.shape[:2], 2 * self.heads, -1).transpose(1, 2).chunk(2, dim=1)
        return keys, values

    def forward(self, x: Tensor, memory: tuple[Tensor, Tensor], sight: Sight) -> Tensor:
        """x [B, T, D] → [B, T, D]; memory: what `read` gave; of `sight` the mask [B, 1, 1 or T, S] counts, over the memory."""
        q = self.query(x).view(*x.shape[:2], self.heads, -1).transpose(1, 2)
        y = attend(q, *memory, sight, self.dropout if self.training and sight.drops else 0.0)
        return self.out(y.transpose(1, 2).reshape(x.shape))


class FeedForward(nn.Module):
    """f(xW₁ + b₁)W₂ + b₂, or gated: (f(xW_g) ⊙ xW₁)W₂ (Shazeer 2020), whose `inner.weight` holds the gate's rows first."""

    def __init__(self, width: int, inner: int, activation: Activation, *, bias: bool = False) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.inner = StackedLinear(width, (inner, inner) if activation in GATED else (inner,), bias=bias)
        self.outer = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, D] → [B, T, D]."""
        return self.outer(activate(self.inner(x), self.activation))


def inner_width(width: int, activation: Activation, asked: int | None = None) -> int:
    """The inner width of a feed-forward layer: as asked, or 4 · width; gated, 8/3 · width in steps of 64, which costs about as much.

    >>> inner_width(192, "gelu"), inner_width(192, "swiglu")
    (768, 512)
    """
    if asked is not None:
        return asked
    return -(-width * 8 // 3 // 64) * 64 if activation in GATED else 4 * width


class Block(nn.Module):
    """Pre-norm: x + Attention(norm(x)), then x + FeedForward(norm(x)); dropout before each addition.

    Post-norm (norm_first=False): norm(x + Attention(x)), then norm(x + FeedForward(x)), as Vaswani et al. 2017 have it.
    """

    def __init__(
        self,
        attention: Attention,
        feed_forward: FeedForward,
        norms: tuple[nn.Module, nn.Module],
        dropout: float = 0.0,
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = norms
        self.attention, self.feed_forward, self.dropout, self.norm_first = attention, feed_forward, dropout, norm_first

    def add(self, x: Tensor, part: Callable[[Tensor], Tensor], norm: nn.Module, sight: Sight) -> Tensor:
        """x [B, T, D] and what `part` makes of it, normalised before or after."""
        y = part(norm(x) if self.norm_first else x)
        x = x + (F.dropout(y, self.dropout) if self.dropout and self.training and sight.drops else y)
        return x if self.norm_first else norm(x)

    def forward(self, x: Tensor, sight: Sight, layer: int = 0) -> Tensor:
        """x [B, T, D] → [B, T, D]."""
        x = self.add(x, lambda y: self.attention(y, sight, layer), self.attention_norm, sight)
        return self.add(x, self.feed_forward, self.feed_forward_norm, sight)


class CrossBlock(Block):
    """A block that also attends to a memory, between its attention to the text and its feed-forward layer."""

    def __init__(
        self,
        attention: Attention,
        cross: CrossAttention,
        feed_forward: FeedForward,
        norms: tuple[nn.Module, nn.Module, nn.Module],
        dropout: float = 0.0,
        norm_first: bool = True,
    ) -> None:
        super().__init__(attention, feed_forward, (norms[0], norms[2]), dropout, norm_first)
        self.cross, self.cross_norm = cross, norms[1]

    def forward(  # type: ignore[override]
        self, x: Tensor, sight: Sight, memory: tuple[Tensor, Tensor], memory_sight: Sight, layer: int = 0
    ) -> Tensor:
        """x [B, T, D] → [B, T, D]; memory: keys and values [B, H, S, E] that `cross.read` gave."""
        x = self.add(x, lambda y: self.attention(y, sight, layer), self.attention_norm, sight)
        x = self.add(x, lambda y: self.cross(y, memory, memory_sight), self.cross_norm, sight)
        return self.add(x, self.feed_forward, self.feed_forward_norm, sight)


def pool(x: Tensor, lengths: Tensor, pooling: Pooling = "mean") -> Tensor:
    """One vector a row, [B, D], of x [B, T, D]: the mean of its first `lengths[b]` places, the first of them or the last.

    >>> pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2])).tolist()
    [[2.0]]
    """
    if pooling == "mean":
        inside = torch.arange(x.shape[1], device=x.device)[None, :, None] < lengths[:, None, None]
        return (x * inside).sum(1) / lengths[:, None].to(x.dtype)
    if pooling == "first":
        return x[:, 0]
    return x[torch.arange(len(lengths), device=x.device), lengths - 1]
