"""The neural cache (Grave et al. 2017, "Improving neural language models with a continuous cache"): words of the recent text come again.

p(w | h_t) ∝ Σ 1[w = x_{i+1}] exp(θ h_t · h_i) over the last `size` hidden states h_i and the tokens x_{i+1} after them (equation 2).
Shapes: B rows, T tokens, N places of the cache, D width of the hidden states, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from bimo.models.base import Keep, ModelConfig
from bimo.models.grounds import MOST, Recalled
from bimo.models.hybrid.memory import Memory

_QUERIES = 256  # tokens that look back together


class CacheConfig(ModelConfig):
    """How far a cache looks back, and how closely."""

    size: int = Field(2000, ge=1, description="tokens that are remembered")
    flatness: float | None = Field(None, ge=0, description="θ: how much more alike states count; learned on validation text if not given")


@dataclass(frozen=True)
class Recent:
    """What rows remember: keys [B, N, D] and the tokens that followed them [B, N], the newest at the right; counts [B]: how many are real.

    last [B, D]: the newest hidden state, whose token has not come yet; read bool [B]: whether there is one.
    """

    keys: Tensor
    values: Tensor
    counts: Tensor
    last: Tensor
    read: Tensor


class NeuralCache(Memory):
    """The last tokens of the text at hand, however long it is."""

    Config: ClassVar[type[ModelConfig]] = CacheConfig
    outlives_context = True
    learned_field = "flatness"

    @property
    def reach(self) -> int:
        """See `Memory.reach`."""
        return int(self.config.size)

    def to_try(self, states: Tensor) -> list[float]:
        """By how far the states' products spread: 0, where all places count alike, and more."""
        spread = float((states @ states.t()).flatten().std(correction=0))
        return [factor / max(spread, 1e-9) for factor in (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)]

    def start(self, batch: int, device: torch.device) -> Recent:
        """Nothing remembered."""
        return Recent(
            torch.zeros(batch, 0, self.width, device=device),
            torch.zeros(batch, 0, dtype=torch.int64, device=device),
            torch.zeros(batch, dtype=torch.int64, device=device),
            torch.zeros(batch, self.width, device=device),
            torch.zeros(batch, dtype=torch.bool, device=device),
        )

    def told(
        self, state: Recent, hidden: Tensor, tokens: Tensor, lengths: Tensor, targets: Tensor | None = None, keep: Keep = "all"
    ) -> tuple[Tensor, Recent]:
        """See `Memory.told`."""
        batch, width = tokens.shape
        keys = torch.cat([state.keys.to(hidden), state.last.to(hidden)[:, None], hidden[:, :-1]], 1)  # [B, N + T, D]
        values = torch.cat([state.values, tokens], 1)
        after = self._after(state, keys, values, torch.cat([hidden.new_zeros(batch, 1, self.width), hidden], 1), lengths)
        if keep == "last":
            each = torch.arange(batch, device=tokens.device)
            return self._looked(state, hidden[each, lengths - 1][:, None], lengths[:, None] - 1, keys, values, None), after
        found = []
        for queries in torch.arange(width, device=tokens.device).split(_QUERIES):
            wanted = None if targets is None else targets[:, queries]
            found.append(self._looked(state, hidden[:, queries], queries[None], keys, values, wanted))
        return torch.cat(found, 1), after

    def _looked(self, state: Recent, hidden: Tensor, queries: Tensor, keys: Tensor, values: Tensor, targets: Tensor | None) -> Tensor:
        """Log-probabilities after the tokens at `queries`, [1 or B, Q] of the T, whose hidden states are [B, Q, D]."""
        scores, near = self._scores(state, hidden, queries, keys)
        if targets is not None:
            hits = scores.masked_fill(values[:, None, near] != targets[:, :, None], float("-inf"))
            return hits.logsumexp(2) - scores.logsumexp(2)
        spread = scores.new_zeros(*scores.shape[:2], self.vocabulary.size)
        spread = spread.scatter_add_(2, values[:, None, near].expand_as(scores), scores.softmax(2)).log()
        return spread.masked_fill((scores.amax(2) == float("-inf"))[:, :, None], float("nan"))

    def _scores(self, state: Recent, hidden: Tensor, queries: Tensor, keys: Tensor) -> tuple[Tensor, slice]:
        """θ h·h of each query's state and those at `near`, the M of all places that any may see, [B, Q, M]; -inf where one may not."""
        held, size = state.keys.shape[1], self.config.size
        near = slice(max(0, held + int(queries.min()) - size + 1), held + int(queries.max()) + 1)
        places = torch.arange(keys.shape[1], device=keys.device)[near]
        latest = held + queries[:, :, None]
        seen = (places <= latest) & (places > latest - size)  # [1 or B, Q, M]
        real = torch.where(places == held, state.read[:, None], places >= held - state.counts[:, None])  # [B, M]
        scores = (hidden @ keys[:, near].transpose(1, 2)) * (self.config.flatness or 0.0)
        return scores.masked_fill(~(seen & real[:, None]), float("-inf")), near

    def recalled(self, state: Recent, hidden: Tensor, tokens: Tensor, lengths: Tensor) -> list[list[tuple[Recalled, ...]]]:
        """The places that count most, each by itself; see `Memory.recalled`."""
        held = state.keys.shape[1]
        keys = torch.cat([state.keys.to(hidden), state.last.to(hidden)[:, None], hidden[:, :-1]], 1)
        values = torch.cat([state.values, tokens], 1)
        told: list[list[tuple[Recalled, ...]]] = [[] for _ in range(len(tokens))]
        for queries in torch.arange(tokens.shape[1], device=tokens.device).split(_QUERIES):
            scores, near = self._scores(state, hidden[:, queries], queries[None], keys)
            shares, at = scores.softmax(2).nan_to_num(nan=0.0).topk(min(MOST, scores.shape[2]), dim=2)
            at = at + near.start
            found = values[:, None].expand(-1, len(queries), -1).gather(2, at).tolist()
            back = (held + 1 + queries[None, :, None] - at).tolist()
            for row, every in enumerate(shares.tolist()):
                for n, place in enumerate(queries.tolist()):
                    whole = zip(found[row][n], every[n], back[row][n], strict=True) if place < int(lengths[row]) else ()
                    told[row].append(tuple(Recalled(*one) for one in whole if one[1] > 0))
        return told

    def _after(self, state: Recent, keys: Tensor, values: Tensor, hidden: Tensor, lengths: Tensor) -> Recent:
        """The state after `lengths` tokens of each row; hidden [B, 1 + T, D] has each row's last state at its length."""
        held, width = state.keys.shape[1], values.shape[1] - state.keys.shape[1]
        kept = min(self.config.size, held + width)
        places = ((held + lengths)[:, None] - kept + torch.arange(kept, device=lengths.device)).clamp(min=0)
        counts = (state.counts + state.read.long() + lengths - 1).clamp(max=kept)
        most = int(counts.max()) if len(counts) else 0
        places = places[:, kept - most :]
        return Recent(
            keys.gather(1, places[:, :, None].expand(-1, -1, self.width)),
            values.gather(1, places),
            counts,
            hidden[torch.arange(len(lengths), device=lengths.device), lengths],
            torch.ones_like(state.read),
        )

    def select(self, state: Recent, rows: Tensor) -> Recent:
        """A copy of the state with these rows."""
        return Recent(*(getattr(state, name)[rows] for name in ("keys", "values", "counts", "last", "read")))

    def join(self, states: Sequence[Recent]) -> Recent:
        """One state of all rows, in order; the newest stand at the right."""
        most = max(state.keys.shape[1] for state in states)
        keys = [torch.nn.functional.pad(s.keys, (0, 0, most - s.keys.shape[1], 0)) for s in states]
        values = [torch.nn.functional.pad(s.values, (most - s.values.shape[1], 0)) for s in states]
        rest = [torch.cat([getattr(s, name) for s in states]) for name in ("counts", "last", "read")]
        return Recent(torch.cat(keys), torch.cat(values), *rest)

    def state_bytes(self, state: Recent) -> int:
        """Keys, tokens and the newest state."""
        whole = sum(getattr(state, name).nbytes for name in ("keys", "values", "counts", "last", "read"))
        return whole // max(1, len(state.counts))

    def tensors(self) -> dict[str, Tensor]:
        """Nothing: all that it has learned is θ, in its config."""
        return {}

    def take(self, tensors: Mapping[str, Tensor]) -> Self:
        """Nothing to take."""
        return self
