"""Keys and values of the tokens that a Transformer has read: one block of memory, rows of different lengths.

Row b holds its tokens at the places 0 … lengths[b] − 1 of its part of the block; what lies behind is old and is masked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_STEP = 32  # capacities are multiples of this many tokens


@dataclass(frozen=True)
class Layout:
    """Shape of a cache: layers, key-value heads, width of a head, and the most tokens a row may hold."""

    layers: int
    heads: int
    width: int
    context: int
    ids: bool = False  # whether the tokens themselves are kept too


class KeyValueCache:
    """Keys and values [N, B, K, C, E] of N layers; C, the capacity, doubles as needed up to the context."""

    def __init__(self, layout: Layout, keys: Tensor, values: Tensor, lengths: Tensor, ids: Tensor | None = None) -> None:
        self.layout, self.keys, self.values, self.lengths = layout, keys, values, lengths
        self.ids = ids  # [B, C], where the layout asks for them
        self.shortest, self.longest = (int(lengths.min()), int(lengths.max())) if len(lengths) else (0, 0)
        self._slice: slice | None = None  # where the tokens being read go: the same places of all rows …
        self._places: tuple[Tensor, Tensor, Tensor] | None = None  # … or (rows, columns of the input, places)
        self._sight, self._even = 0, False

    @classmethod
    def empty(cls, layout: Layout, batch: int, device: torch.device, dtype: torch.dtype) -> KeyValueCache:
        """Rows that have read nothing."""
        block = torch.zeros(layout.layers, batch, layout.heads, 0, layout.width, device=device, dtype=dtype)
        ids = torch.zeros(batch, 0, dtype=torch.int64, device=device) if layout.ids else None
        return cls(layout, block, block.clone(), torch.zeros(batch, dtype=torch.int64, device=device), ids)

    @property
    def batch(self) -> int:
        """Number of rows."""
        return self.keys.shape[1]

    @property
    def capacity(self) -> int:
        """Tokens a row can hold before the block grows."""
        return self.keys.shape[3]

    @property
    def sight(self) -> int:
        """Most tokens that a row holds in the pass that is open: positions lie below it."""
        return self._sight

    def bytes_per_row(self) -> int:
        """Bytes of the block and of the length, per row."""
        ids = 0 if self.ids is None else self.ids.nbytes
        return (self.keys.nbytes + self.values.nbytes + self.lengths.nbytes + ids) // max(1, self.batch)

    def open(self, width: int, lengths: Tensor, check: Callable[[int], None]) -> tuple[Tensor, Tensor | None]:
        """Make room for `width` tokens a row, of which `lengths` int64 [B] count; `check` is asked first whether so many may be held.

        Returns their positions, int64 [B, T] or [1, T] where all rows agree, and which keys they see, bool [B, 1, T, S] or
        None where each sees all in sight (one step) or all before it (nothing was read yet). `append` then stores
        them layer by layer; `close` ends the pass.
        """
        device, fresh = self.lengths.device, self.longest == 0
        uniform = self.shortest == self.longest and (width == 1 or int(lengths.min()) == width)
        even = uniform or width == 1  # all rows grow by `width`
        sight = self.longest + width if even else int((self.lengths + lengths).max())
        check(sight)
        self._sight, self._even = sight, even
        columns = torch.arange(width, device=device)
        self._reserve(self._sight)
        if uniform:
            self._slice, self._places = slice(self.longest, self._sight), None
            positions = (columns + self.longest)[None, :]
        else:
            positions = self.lengths[:, None] + columns
            rows, places = (columns < lengths[:, None]).nonzero(as_tuple=True)
            self._slice, self._places = None, (rows, places, positions[rows, places])
            positions = positions.clamp(max=self.layout.context - 1)  # of padding only
        if fresh or (uniform and width == 1):
            return positions, None
        return positions, (torch.arange(self._sight, device=device) <= positions[:, :, None])[:, None]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values [B, K, T, E] of the opened pass; return all in sight, [B, K, S, E] each."""
        for block, new in ((self.keys[layer], keys), (self.values[layer], values)):
            if self._slice is not None:
                block[:, :, self._slice] = new
            elif self._places is not None:
                rows, columns, places = self._places
                block[rows, :, places] = new[rows, :, columns].to(block.dtype)
        if self.longest == 0:  # nothing to look back at
            return keys, values
        return self.keys[layer, :, :, : self._sight], self.values[layer, :, :, : self._sight]

    def last(self, tokens: Tensor, positions: Tensor, order: int) -> Tensor:
        """Store `tokens` [B, T] of the opened pass; the last `order` tokens at each of their positions, int64 [B, T, order]; −1: none."""
        assert self.ids is not None
        if self._slice is not None:
            self.ids[:, self._slice] = tokens
        elif self._places is not None:
            rows, columns, places = self._places
            self.ids[rows, places] = tokens[rows, columns]
        places = positions[:, :, None] - torch.arange(order - 1, -1, -1, device=tokens.device)  # [1 or B, T, order]
        found = self.ids.gather(1, places.clamp(min=0).expand(len(tokens), -1, -1).flatten(1)).view(len(tokens), -1, order)
        return found.masked_fill(places < 0, -1)

    def close(self, lengths: Tensor) -> None:
        """End the pass: the rows now hold `lengths` tokens more."""
        self.lengths = self.lengths + lengths
        if self._even:
            self.shortest, self.longest = self.shortest + self._sight - self.longest, self._sight
        else:
            self.shortest, self.longest = int(self.lengths.min()), int(self.lengths.max())

    def _reserve(self, length: int) -> None:
        """Let the block hold `length` tokens a row."""
        if length > self.capacity:
            capacity = _rounded(max(length, min(2 * self.capacity, self.layout.context)))
            self.keys, self.values = _widened(self.keys, capacity), _widened(self.values, capacity)
            self.ids = None if self.ids is None else _wider(self.ids, capacity)

    def select(self, rows: Tensor) -> KeyValueCache:
        """A copy with the rows int64 [B'] in that order."""
        rows = rows.to(self.lengths.device)
        width = min(self.capacity, _rounded(self.longest + 1))
        keys, values = (block[:, :, :, :width].index_select(1, rows) for block in (self.keys, self.values))
        ids = None if self.ids is None else self.ids[:, :width].index_select(0, rows)
        return KeyValueCache(self.layout, keys, values, self.lengths[rows], ids)

    def rewind(self, lengths: Tensor) -> KeyValueCache:
        """The same block, of which only the first `lengths` int64 [B] tokens of each row count."""
        return KeyValueCache(self.layout, self.keys, self.values, lengths, self.ids)


def join(caches: Sequence[KeyValueCache]) -> KeyValueCache:
    """One cache of all rows, in order."""
    width = max(_rounded(c.longest) for c in caches)
    blocks = []
    for name in ("keys", "values"):
        parts = [getattr(c, name)[:, :, :, :width] for c in caches]
        blocks.append(torch.cat([p if p.shape[3] == width else _widened(p, width) for p in parts], dim=1))
    ids = [_wider(c.ids[:, :width], width) for c in caches if c.ids is not None]
    return KeyValueCache(caches[0].layout, blocks[0], blocks[1], torch.cat([c.lengths for c in caches]), torch.cat(ids) if ids else None)


def _rounded(length: int) -> int:
    return -(-length // _STEP) * _STEP


def _widened(block: Tensor, capacity: int) -> Tensor:
    """A copy of the block with room for `capacity` tokens a row, zeros behind the old ones."""
    wide = block.new_zeros(*block.shape[:3], capacity, block.shape[4])
    wide[:, :, :, : block.shape[3]] = block
    return wide


def _wider(ids: Tensor, capacity: int) -> Tensor:
    """Ids [B, C] with room for `capacity` tokens a row."""
    return torch.nn.functional.pad(ids, (0, capacity - ids.shape[1]))
