"""kNN-LM (Khandelwal et al. 2020, "Generalization through memorization"): what followed the k nearest hidden states of the training text.

p(w | h) ∝ Σ 1[w = x_i] exp(−‖h − h_i‖² / τ) over the k nearest keys h_i (equation 2, with a temperature as in their appendix).
Shapes: n queries, N entries, C cells, D width of the hidden states, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, Self, cast

import torch
from pydantic import Field
from torch import Tensor

from bimo.core import runtime
from bimo.core.errors import CapabilityError, ModelError
from bimo.models.base import Keep, ModelConfig, length_mask
from bimo.models.grounds import MOST, Recalled
from bimo.models.hybrid.memory import Memory
from bimo.text.vocabulary import Vocabulary

_PIECE = 1 << 24  # distances that are held together


class KnnConfig(ModelConfig):
    """How many neighbours are asked, and how they are found."""

    k: int = Field(64, ge=1, description="neighbours")
    temperature: float | None = Field(None, gt=0, description="τ, of squared distances; learned on validation text if not given")
    entries: int = Field(1_000_000, ge=1, description="most tokens of the training text that are remembered, evenly drawn")
    search: Literal["exact", "faiss"] | None = Field(
        None,
        description="exact: all entries are looked at; faiss: those of the nearest cells, by the extra retrieval; by size if not given",
    )
    probes: int = Field(16, ge=1, description="of faiss: cells that are looked at")


class Neighbours(Memory):
    """Every token of the training text, under the hidden state before it. keys float16 [N, D], values int32 [N]."""

    Config: ClassVar[type[ModelConfig]] = KnnConfig
    outlives_context = False
    learned_field = "temperature"
    remembers = True

    def __init__(self, config: Any, vocabulary: Vocabulary, width: int) -> None:
        super().__init__(config, vocabulary, width)
        self.keys = torch.zeros(0, width, dtype=torch.float16)
        self.values = torch.zeros(0, dtype=torch.int32)
        self.centres = torch.zeros(0, width)  # of faiss' cells, [C, D]
        self.cells = torch.zeros(0, dtype=torch.int32)  # which of them each entry lies in, [N]
        self._wide: Tensor | None = None
        self._index: Any = None
        self._found: dict[int, tuple[Tensor, Tensor]] | None = None  # what was near to queries, while a text is read again

    # -- learning -----------------------------------------------------------------------------------------------------

    def keep(self, keys: Tensor, values: Tensor) -> str | None:
        """See `Memory.keep`; with search=faiss the cells are made here."""
        self.keys, self.values = keys.to(torch.float16), values.to(torch.int32)
        self._wide = self._index = None
        if self.config.search == "faiss":
            faiss = _faiss()
            count = max(1, min(int(4 * len(keys) ** 0.5), len(keys) // 39))  # faiss asks for 39 entries a cell
            drawn = self.keys[torch.arange(min(len(keys), 64 * count)) * len(keys) // min(len(keys), 64 * count)].float().numpy()
            clusters = faiss.Kmeans(self.width, count, niter=10, seed=0, verbose=False)
            clusters.train(drawn)
            self.centres = torch.from_numpy(clusters.centroids.copy())
            flat = faiss.IndexFlatL2(self.width)
            flat.add(clusters.centroids)
            self.cells = torch.from_numpy(flat.search(self.keys.float().numpy(), 1)[1][:, 0].astype("int32"))
            return self._not_found()
        return None

    def _not_found(self) -> str | None:
        """In words, how many neighbours are not found, asked of some of the entries; None where all are."""
        drawn = self.keys[torch.arange(min(512, len(self.keys))) * len(self.keys) // min(512, len(self.keys))].float()
        found = float(self.nearest(drawn)[0].isfinite().float().mean())
        if found == 1.0:
            return None
        return f"{found:.0%} of the k={self.config.k} neighbours are found in probes={self.config.probes} cells; more probes find more"

    def to_try(self, states: Tensor) -> list[float]:
        """By how far the neighbours are that are found."""
        distances = self.nearest(states)[0]
        typical = max(float(distances[distances.isfinite()].mean()), 1e-9)
        return [typical * factor for factor in (0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0)]

    @contextmanager
    def reading_again(self) -> Iterator[None]:
        """See `Memory.reading_again`: which entries are near does not depend on the temperature."""
        self._found = {}
        try:
            yield
        finally:
            self._found = None

    # -- finding ------------------------------------------------------------------------------------------------------

    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances float32 [n, k] of the k nearest entries to each query [n, D], and their tokens int64 [n, k].

        The nearest come first. Where fewer are found, the rest are infinitely far away, and their tokens mean nothing.
        """
        if not len(self.keys):
            raise ModelError("knn: nothing is remembered; train the hybrid, or load one that has been trained")
        key = None if self._found is None else hash(queries.cpu().numpy().tobytes())
        if self._found is not None and key in self._found:
            return self._found[cast(int, key)]
        k = min(self.config.k, len(self.keys))
        search = self._by_cells if self.config.search == "faiss" else self._exactly
        distances, places = search(queries.cpu(), k)  # the entries lie in the machine's memory, wherever the model is
        found = distances.to(queries.device), self.values[places.clamp(min=0)].long().to(queries.device)
        if self._found is not None:
            self._found[cast(int, key)] = found
        return found

    def _exactly(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        if self._wide is None:
            self._wide = self.keys.float()
            self._sizes = self._wide.square().sum(1)
        best, places = queries.new_full((len(queries), 0), torch.inf), torch.zeros(len(queries), 0, dtype=torch.int64)
        for low in range(0, len(self._wide), size := max(k, _PIECE // max(1, len(queries)))):
            near = self._sizes[low : low + size] - 2 * (queries @ self._wide[low : low + size].t())  # ‖h‖² comes to all alike
            found, at = near.topk(min(k, near.shape[1]), dim=1, largest=False)
            best, order = torch.cat([best, found], 1).topk(min(k, best.shape[1] + found.shape[1]), dim=1, largest=False)
            places = torch.cat([places, at + low], 1).gather(1, order)
        return (best + queries.square().sum(1, keepdim=True)).clamp(min=0), places

    def _by_cells(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        faiss = _faiss()
        if self._index is None:
            flat = faiss.IndexFlatL2(self.width)
            flat.add(self.centres.contiguous().numpy())
            index = faiss.IndexIVFFlat(flat, self.width, len(self.centres), faiss.METRIC_L2)
            index.is_trained = True
            wide, cells = self.keys.float().numpy(), self.cells.long().numpy()
            index.add_core(len(wide), faiss.swig_ptr(wide), None, faiss.swig_ptr(cells))
            self._flat, self._index = flat, index  # the index does not keep the other alive
        faiss.omp_set_num_threads(runtime.cores() if len(queries) > 1 else 1)
        self._index.nprobe = min(self.config.probes, len(self.centres))
        distances, places = self._index.search(queries.contiguous().numpy(), k)
        distances, places = torch.from_numpy(distances), torch.from_numpy(places)
        return distances.masked_fill(places < 0, torch.inf), places

    # -- the memory ---------------------------------------------------------------------------------------------------

    def start(self, batch: int, device: torch.device) -> None:
        """What it remembers does not depend on the text at hand."""

    def told(
        self, state: None, hidden: Tensor, tokens: Tensor, lengths: Tensor, targets: Tensor | None = None, keep: Keep = "all"
    ) -> tuple[Tensor, None]:
        """See `Memory.told`."""
        counted = length_mask(lengths, tokens.shape[1])
        if keep == "last":
            each = torch.arange(len(tokens), device=tokens.device)
            hidden, counted = hidden[each, lengths - 1][:, None], counted[:, :1]
        distances, found = self.nearest(hidden[counted].float())
        shares = self._shares(distances)
        nothing = distances[:, 0].isinf()  # is found; the nearest comes first
        if targets is not None:
            of_targets = hidden.new_full(tokens.shape, float("-inf"))
            said = shares.masked_fill(found != targets[counted][:, None], 0.0).sum(1).log()
            of_targets[counted] = said.masked_fill(nothing, float("nan"))
            return of_targets, None
        spread = hidden.new_zeros(*hidden.shape[:2], self.vocabulary.size)
        said = hidden.new_zeros(len(found), self.vocabulary.size).scatter_add_(1, found, shares)
        spread[counted] = said.masked_fill(nothing[:, None], float("nan"))
        return spread.log(), None

    def _shares(self, distances: Tensor) -> Tensor:
        """How much each neighbour counts, [n, k]; 0 where none is found."""
        return (-distances / (self.config.temperature or 1.0)).softmax(1).nan_to_num(nan=0.0)

    def recalled(self, state: None, hidden: Tensor, tokens: Tensor, lengths: Tensor) -> list[list[tuple[Recalled, ...]]]:
        """The tokens of the nearest entries, each once with the shares of all entries that have it; see `Memory.recalled`."""
        told: list[list[tuple[Recalled, ...]]] = [[()] * tokens.shape[1] for _ in range(len(tokens))]
        counted = length_mask(lengths, tokens.shape[1])
        distances, found = self.nearest(hidden[counted].float())
        shares = self._shares(distances)
        for (row, place), ids, parts in zip(counted.nonzero().tolist(), found.tolist(), shares.tolist(), strict=True):
            sums: dict[int, float] = {}
            for id, share in zip(ids, parts, strict=True):
                sums[id] = sums.get(id, 0.0) + share
            most = sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:MOST]
            told[row][place] = tuple(Recalled(id, share) for id, share in most if share > 0)
        return told

    def select(self, state: None, rows: Tensor) -> None:
        """Nothing to select."""

    def join(self, states: Sequence[None]) -> None:
        """Nothing to join."""

    def state_bytes(self, state: None) -> int:
        """Nothing a row."""
        return 0

    def tensors(self) -> dict[str, Tensor]:
        """The entries, and faiss' cells."""
        entries = {"keys": self.keys, "values": self.values}
        return {**entries, "centres": self.centres, "cells": self.cells} if self.config.search == "faiss" else entries

    def take(self, tensors: Mapping[str, Tensor]) -> Self:
        """These entries; `ModelError` where shapes, or tokens, do not fit."""
        keys, values = tensors["keys"], tensors["values"]
        if (
            keys.dtype != torch.float16
            or keys.dim() != 2
            or keys.shape[1] != self.width
            or values.dtype != torch.int32
            or values.shape != keys.shape[:1]
        ):
            raise ModelError(
                f"model.safetensors: keys {list(keys.shape)} and values {list(values.shape)} are no entries of width {self.width}"
            )
        if len(values) and (int(values.min()) < 0 or int(values.max()) >= self.vocabulary.size):
            raise ModelError(
                f"model.safetensors: values must be ids below {self.vocabulary.size}, found {int(values.min())}…{int(values.max())}"
            )
        self.keys, self.values = keys, values
        if self.config.search == "faiss":
            self.centres, self.cells = tensors["centres"].float(), tensors["cells"].to(torch.int32)
            fits = self.centres.dim() == 2 and self.centres.shape[1] == self.width and self.cells.shape == values.shape
            if not fits or (len(values) and not 0 <= int(self.cells.min()) <= int(self.cells.max()) < len(self.centres)):
                raise ModelError(f"model.safetensors: cells {list(self.cells.shape)} do not fit centres {list(self.centres.shape)}")
        return self


def has_faiss() -> bool:
    """Whether the extra `retrieval` is installed."""
    import importlib.util

    return importlib.util.find_spec("faiss") is not None


def _faiss() -> Any:
    try:
        import faiss  # type: ignore[import-not-found]
    except ImportError:
        raise CapabilityError(
            "knn: search=faiss needs faiss; install it with: pip install 'bimo[retrieval]', or set search=exact"
        ) from None
    return faiss
