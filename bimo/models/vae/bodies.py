"""What reads and what writes: recurrent layers or Transformer blocks, each as an encoder and as a decoder that is given a latent.

Shapes: B rows, T tokens, E embedding width, W units, Z latent width. An encoder makes [B, T, W] of embeddings; a decoder has

    begin(z) → state                          nothing read yet
    learn(x, z) → [B, T, W]                   whole documents, with dropout while learning
    extend(x, z, state, lengths) → [B, T, W] and the new state, never with dropout
    select, join, bytes_of                    as a model's
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bimo.models import cache
from bimo.models.base import length_mask
from bimo.models.kernels.recurrent import Cell, layer
from bimo.models.layers import Attention, Block, FeedForward, RMSNorm, Sight, inner_width, pool
from bimo.models.recurrent import RecurrentLayer
from bimo.models.rotary import rotary_tables
from bimo.models.vae.config import Pooling, VAEConfig

States = tuple[Tensor, ...]  # (h,) or, with LSTM, (h, c): [L, B, W] each
Check = Callable[[int], None]


def pooled(hidden: Tensor, lengths: Tensor, how: Pooling) -> Tensor:
    """One state [B, W] of the states [B, T, W] at each row's first `lengths` places.

    >>> pooled(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2]), "max").item()
    3.0
    """
    if how != "max":
        return pool(hidden, lengths, how)
    return hidden.masked_fill(~length_mask(lengths, hidden.shape[1])[:, :, None], float("-inf")).amax(1)


# -- recurrent --------------------------------------------------------------------------------------------------------------


class RecurrentStack(nn.Module):
    """Layers of one cell, the first of which reads `inputs` values a step."""

    def __init__(self, cell: Cell, inputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.cell: Cell = cell
        self.layers = nn.ModuleList(RecurrentLayer(cell, inputs if number == 0 else width, width) for number in range(depth))

    def forward(self, x: Tensor, states: States, dropout: float = 0.0, every: bool = False) -> tuple[Tensor, list[list[Tensor]]]:
        """Outputs [T, B, W] of inputs [T, B, I], and for h (and c) the list over layers of all their values [T, B, W], or of the last."""
        values: list[list[Tensor]] = [[] for _ in states]
        for number, part in enumerate(cast(list[RecurrentLayer], list(self.layers))):
            x = F.dropout(x, dropout) if dropout else x
            first = [s[number] for s in states]
            cell_state = first[1] if len(first) == 2 else None
            weights = (part.weight_input, part.weight_hidden, part.bias_input, part.bias_hidden)
            x, cells = layer(self.cell, x, first[0], cell_state, *weights, None, every)
            values[0].append(x)
            if cells is not None:
                values[1].append(cells)
        return (F.dropout(x, dropout) if dropout else x), values


class RecurrentEncoder(nn.Module):
    """Reads from left to right."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.stack = RecurrentStack(config.cell, config.input_width, config.width, config.encoder_layers)
        self.shape = (config.encoder_layers, config.width)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """[B, T, W] of embeddings [B, T, E]; what stands behind a row's end changes nothing before it."""
        zeros = x.new_zeros(self.shape[0], len(x), self.shape[1])
        states = (zeros, zeros) if self.stack.cell == "lstm" else (zeros,)
        return self.stack(x.transpose(0, 1), states)[0].transpose(0, 1)


class RecurrentDecoder(nn.Module):
    """The latent is what the first state is made of, and stands beside every input.

    The first state alone (Bowman et al. 2016) is forgotten over a long sentence; an input alone has to be learned through the
    gates before anything of it is kept. Both, as He et al. 2019 do, cost little and keep the way to the latent short.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.depth, self.width, self.dropout = config.layers, config.width, config.dropout
        self.first = nn.Linear(config.latent, config.layers * config.width)
        self.stack = RecurrentStack(config.cell, config.input_width + config.latent, config.width, config.layers)

    def begin(self, z: Tensor) -> States:
        """The states before the first token: h = tanh(W z + b), and c = W z + b with LSTM."""
        made = self.first(z).view(len(z), self.depth, self.width).transpose(0, 1).contiguous()
        return (made.tanh(), made) if self.stack.cell == "lstm" else (made.tanh(),)

    def learn(self, x: Tensor, z: Tensor) -> Tensor:
        """[B, T, W] of documents' embeddings [B, T, E] given z [B, Z]."""
        return self.stack(_beside(x, z), self.begin(z), self.dropout if self.training else 0.0)[0].transpose(0, 1)

    def extend(self, x: Tensor, z: Tensor, state: States, lengths: Tensor, check: Check) -> tuple[Tensor, States]:
        """[B, T, W], and the states at each row's end."""
        output, found = self.stack(_beside(x, z), state, every=True)
        rows, ends = torch.arange(len(lengths), device=lengths.device), lengths - 1
        return output.transpose(0, 1), tuple(torch.stack([values[ends, rows] for values in part]) for part in found)

    def select(self, state: States, rows: Tensor) -> States:
        """Rows int64 [B'] in that order."""
        return tuple(s.index_select(1, rows) for s in state)

    def join(self, states: Sequence[States]) -> States:
        """All rows, in order."""
        return tuple(torch.cat(parts, dim=1) for parts in zip(*states, strict=True))

    def bytes_of(self, state: States) -> int:
        """Bytes per row."""
        return sum(s.nbytes for s in state) // max(1, state[0].shape[1])


def _beside(x: Tensor, z: Tensor) -> Tensor:
    """[T, B, E + Z] of x [B, T, E] and z [B, Z]."""
    return torch.cat([x.transpose(0, 1), z.to(x.dtype).expand(x.shape[1], *z.shape)], dim=2)


# -- transformer ------------------------------------------------------------------------------------------------------------


class Blocks(nn.Module):
    """Pre-norm blocks with rotary positions and a last norm: Llama's, with QK-norm."""

    def __init__(self, config: VAEConfig, depth: int, dropout: float) -> None:
        super().__init__()
        width, per_head = config.width, config.width // config.heads
        self.blocks = nn.ModuleList(
            Block(
                Attention(width, config.heads, config.heads, per_head, qk_norm=True),
                FeedForward(width, inner_width(width, "swiglu"), "swiglu"),
                (RMSNorm(width), RMSNorm(width)),
                dropout,
            )
            for _ in range(depth)
        )
        self.norm = RMSNorm(width)
        self.cos: Tensor
        self.sin: Tensor
        cos, sin = rotary_tables(config.context + 1, per_head, 10000.0)
        self.register_buffer("cos", cos, persistent=False)  # [context + 1, 1, E]
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, x: Tensor, positions: Tensor, sight: Sight) -> Tensor:
        """[B, T, W] of x [B, T, W] at positions [T] or [B, T]."""
        sight = replace(sight, cos=self.cos[positions].to(x.dtype), sin=self.sin[positions].to(x.dtype))
        for number, block in enumerate(self.blocks):
            x = block(x, sight, number)
        return self.norm(x)


class TransformerEncoder(nn.Module):
    """Every token sees the whole text."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.blocks = Blocks(config, config.encoder_layers, 0.0)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """[B, T, W] of embeddings [B, T, W]; padding is seen by nobody."""
        inside = length_mask(lengths, x.shape[1])[:, None, None]  # [B, 1, 1, T]
        return self.blocks(x, torch.arange(x.shape[1], device=x.device), Sight(mask=inside, causal=False))


class TransformerDecoder(nn.Module):
    """The latent is what all tokens see before the first one, and is added to every input.

    The two ways of Li et al. 2020 (Optimus): the first, a place of its own, is what a recurrent decoder's first state is; together
    they were the best there.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.first = nn.Linear(config.latent, config.width, bias=False)
        self.added = nn.Linear(config.latent, config.width, bias=False)
        self.blocks = Blocks(config, config.layers, config.dropout)
        self.layout = cache.Layout(config.layers, config.heads, config.width // config.heads, config.context + 1)

    def begin(self, z: Tensor) -> cache.KeyValueCache:
        """A cache that holds the latent's place alone."""
        state = cache.KeyValueCache.empty(self.layout, len(z), z.device, self.first.weight.dtype)
        if len(z):
            self._read(self.first(z)[:, None], state, torch.ones(len(z), dtype=torch.int64, device=z.device), lambda _: None)
        return state

    def learn(self, x: Tensor, z: Tensor) -> Tensor:
        """[B, T, W] of documents' embeddings [B, T, W] given z [B, Z]."""
        x = torch.cat([self.first(z)[:, None], x + self.added(z)[:, None]], dim=1)
        x = F.dropout(x, self.dropout) if self.training and self.dropout else x
        return self.blocks(x, torch.arange(x.shape[1], device=x.device), Sight())[:, 1:]

    def extend(self, x: Tensor, z: Tensor, state: cache.KeyValueCache, lengths: Tensor, check: Check) -> tuple[Tensor, cache.KeyValueCache]:
        """[B, T, W], and the cache with them; `check` is asked whether so many tokens may be held."""
        return self._read(x + self.added(z)[:, None], state, lengths, lambda held: check(held - 1)), state

    def _read(self, x: Tensor, state: cache.KeyValueCache, lengths: Tensor, check: Check) -> Tensor:
        positions, mask = state.open(x.shape[1], lengths, check)
        positions = positions[0] if len(positions) == 1 else positions
        hidden = self.blocks(x, positions, Sight(mask=mask, causal=mask is None, cache=state))
        state.close(lengths)
        return hidden

    def select(self, state: cache.KeyValueCache, rows: Tensor) -> cache.KeyValueCache:
        """Rows int64 [B'] in that order."""
        return state.select(rows)

    def join(self, states: Sequence[cache.KeyValueCache]) -> cache.KeyValueCache:
        """All rows, in order."""
        return cache.join(states)

    def bytes_of(self, state: cache.KeyValueCache) -> int:
        """Bytes per row."""
        return state.bytes_per_row()
