"""The n-gram family: what it remembers of a prefix is its last n - 1 tokens."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from bimo.core.errors import CapabilityError, CorpusError, ModelError
from bimo.models.base import Keep, Kind, LanguageModel, Learning, Score, State, length_mask
from bimo.models.grounds import NOTHING_TOLD, Grounds
from bimo.models.ngram import tables
from bimo.models.ngram.config import NGramConfig
from bimo.models.ngram.counting import Counts, predictable
from bimo.models.ngram.estimation import estimate
from bimo.models.ngram.grounds import Counted
from bimo.models.ngram.lookup import Lookup
from bimo.models.ngram.trie import NOTHING, Trie, push, read
from bimo.text.kernels import thread_count
from bimo.text.vocabulary import Vocabulary

logger = logging.getLogger("bimo")


class NGram(LanguageModel):
    """Counted n-grams of any order, smoothed. `<s>` is context only, `</s>` is predicted, and after `</s>` all begins anew.

    >>> vocabulary = Vocabulary(5, bos=0, eos=1, unk=2, suppressed=(0,))
    >>> model = NGram.build(NGramConfig(order=2, smoothing="mle"), vocabulary)
    >>> model.count([np.array([0, 3, 4, 1, 0, 3, 3, 1])])
    >>> model.estimate()
    >>> (-model.score(torch.tensor([[0, 3, 4, 1]])).nats).exp()[0, 1:].round(decimals=3).tolist()
    [1.0, 0.333, 1.0]
    """

    Config = NGramConfig
    learning = Learning.COUNTED
    objectives: ClassVar[tuple[str, ...]] = ("distillation",)  # what a recipe may name; counting itself has none
    kind: Kind = Kind.EXACT

    def __init__(self, config: NGramConfig, vocabulary: Vocabulary) -> None:
        self.config = config
        self.vocabulary = vocabulary
        if config.smoothing == "stupid-backoff":
            self.kind = Kind.UNNORMALISED
        self.context = None
        self.discounts: list[list[float]] = []  # Kneser-Ney's D1, D2, D3+ of each order
        self.notices: list[str] = []  # what the user should know about the estimate
        self._counts: Counts | None = None
        self._trie: Trie | None = None
        self._lookup: Lookup | None = None
        self._counted: Counted | None = None
        self._bos = -1 if vocabulary.bos is None else vocabulary.bos
        self._eos = -1 if vocabulary.eos is None else vocabulary.eos
        self._penalty = math.log(config.alpha)
        self._uniform = -math.log(max(1, int(predictable(vocabulary).sum())))

    # -- learning -----------------------------------------------------------------------------------------------------

    @classmethod
    def build(cls, config: NGramConfig, vocabulary: Vocabulary) -> Self:
        """A model that has counted nothing yet."""
        return cls(config, vocabulary)

    def count(self, chunks: Iterable[np.ndarray]) -> None:
        """Count n-grams; chunks: ids int [N] of whole documents, one after another, each from `<s>` to `</s>`.

        May be called again to count more before `estimate`. Raises `CorpusError` for ids outside the vocabulary.
        """
        if self.config.smoothing == "arpa":
            raise ModelError("smoothing: a model read from an ARPA file cannot count; build one with smoothing=kneser-ney")
        if self._counts is None:
            self._counts = Counts(self.config.order, self.vocabulary)
        for chunk in chunks:
            self._counts.add(np.asarray(chunk))

    def estimate(self) -> None:
        """Turn the counts into probabilities; what was too small to estimate is told in `notices`."""
        if self._counts is None or self._counts.tokens == 0:
            raise CorpusError("nothing to count: the text holds no token that could be predicted; give it a longer text")
        levels, result = estimate(self._counts, self.config)
        self.trie = Trie.from_estimate(levels, result)
        self.discounts, self.notices = result.discounts, result.notices
        self._counts = None
        for notice in self.notices:
            logger.warning("%s", notice)

    @property
    def trie(self) -> Trie:
        """The n-grams with their probabilities."""
        if self._trie is None:
            raise ModelError("this n-gram model has learned nothing yet; call count() and estimate(), or load one")
        return self._trie

    @trie.setter
    def trie(self, trie: Trie) -> None:
        self._trie = trie
        self._lookup = self._counted = None

    @property
    def lookup(self) -> Lookup:
        """The automaton that scores; built when first needed."""
        if self._lookup is None:
            self._lookup = Lookup.of(self.trie, self.config.rule, self._penalty, self._uniform, self._bos, self._eos)
        return self._lookup

    # -- on disk ------------------------------------------------------------------------------------------------------

    def config_dict(self) -> dict[str, Any]:
        """What `config.json` holds."""
        return tables.config_dict(self.config, self.vocabulary, self.trie, self.discounts, self.notices)

    def tensors(self) -> dict[str, Tensor]:
        """A sorted table per order; see `bimo.models.ngram.tables`."""
        return tables.to_tensors(self.trie)

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Self:
        """The model of a folder; tables that do not fit together are a `ModelError`."""
        choices, vocabulary = tables.read_config(config)
        first = tensors.get("order1.logprob")
        if first is not None and first.numel() != vocabulary.size:  # before anything of that size is made
            raise ModelError(f"model.safetensors: order1.logprob: {first.numel()} words, config.json says {vocabulary.size}")
        model = cls(choices, vocabulary)
        model.trie = tables.from_tensors(choices.order, vocabulary.size, tensors)
        model.discounts = [list(map(float, d)) for d in config.get("discounts", [])]
        model.notices = [str(notice) for notice in config.get("notices", [])]
        return model

    def parameter_count(self) -> int:
        """Probabilities and back-off weights."""
        followed = int(np.count_nonzero(np.diff(self.trie.first)))
        return int(np.count_nonzero(np.isfinite(self.trie.logprob))) + followed

    # -- the interface ------------------------------------------------------------------------------------------------

    def start(self, batch: int, given: Any = None) -> State:
        """Contexts of nothing, int64 [batch, n - 1]."""
        if given is not None:
            raise CapabilityError("an n-gram model takes no source text (given); continue a prompt instead")
        return torch.full((batch, self.config.order - 1), NOTHING, dtype=torch.int64)

    def advance(self, state: State, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> tuple[Tensor, State]:
        """Logits are log-probabilities (of stupid back-off: its scores); see `LanguageModel.advance`."""
        tokens, lengths = self.checked(tokens, lengths)
        batch, width = tokens.shape
        out = np.zeros((batch, 1 if keep == "last" else width, self.vocab_size), np.float32)
        return torch.from_numpy(out), self._read(state, tokens, lengths, out)

    def _read(self, state: Tensor, tokens: Tensor, lengths: Tensor, out: np.ndarray) -> Tensor:
        """The contexts after `tokens`; fills `out` [B, 0 | 1 | T, V] with log-probabilities."""
        trie, contexts = self.trie, state.clone()
        if len(tokens):
            read(
                tokens.contiguous().view(-1).numpy(), lengths.contiguous().numpy(), contexts.view(-1).numpy(), tokens.shape[1],
                self._bos, self._eos, trie.words, trie.first, trie.logprob, trie.backoff,
                int(self.config.rule), self._penalty, self._uniform, out.reshape(-1),
            )  # fmt: skip
        return contexts

    def select(self, state: State, rows: Tensor) -> State:
        """Copy or reorder rows."""
        return state[rows]

    def join(self, states: Sequence[State]) -> State:
        """Put rows together."""
        return torch.cat(list(states))

    def state_bytes(self, state: State) -> int:
        """Eight bytes a token."""
        return 8 * (self.config.order - 1)

    def score(self, tokens: Tensor, lengths: Tensor | None = None, given: Any = None, state: State = None) -> Score:
        """Nats by sparse look-ups: [B, T, V] is never built. See `LanguageModel.score`."""
        tokens, lengths = self.checked(tokens, lengths)
        batch, width = tokens.shape
        state = self.start(batch, given) if state is None else state
        known = length_mask(lengths, width)
        before = torch.cat([state, tokens], dim=1)
        used = torch.cat([state != NOTHING, known], dim=1)
        offsets = np.concatenate([[0], used.sum(dim=1).cumsum(0).numpy()])
        nats = torch.zeros(before.shape, dtype=torch.float64)
        nats[used] = torch.from_numpy(self.score_documents(before[used].numpy(), offsets))
        scored = known.clone()
        scored[:, 0] = False
        end = self._read(state, tokens, lengths - 1, np.zeros((batch, 0, self.vocab_size), np.float32))
        return Score(torch.where(scored, nats[:, state.shape[1] :], 0.0), scored, self.kind, end)

    def grounds(self, tokens: Tensor, lengths: Tensor | None = None, given: Any = None, state: State = None) -> list[list[Grounds]]:
        """The counts behind each token; see `LanguageModel.grounds` and `Counted`."""
        tokens, lengths = self.checked(tokens, lengths)
        state = self.start(len(tokens), given) if state is None else state
        self._counted = self._counted or Counted(self.trie, self.config, self._bos)
        told = [[NOTHING_TOLD] * tokens.shape[1] for _ in range(len(tokens))]
        for row, context in enumerate(state.numpy().copy()):
            ids = tokens[row, : lengths[row]].tolist()
            for place in range(1, len(ids)):
                push(context, ids[place - 1], self._bos, self._eos)
                told[row][place] = Grounds(self._counted.behind(context, ids[place]))
        return told

    def score_documents(self, ids: np.ndarray, offsets: np.ndarray, threads: int | None = None) -> np.ndarray:
        """Nats, float64 [N], of many documents in bulk: document i is ids[offsets[i]:offsets[i + 1]].

        The first token of each (`<s>`) is read, not scored: 0. Uses as many threads as torch may, unless said.
        """
        if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= self.vocab_size):
            raise CorpusError(f"ids: must lie in 0…{self.vocab_size - 1}, found {int(ids.min())}…{int(ids.max())}")
        begins = np.zeros(len(ids) + 1, np.uint8)
        begins[np.asarray(offsets)] = 1
        return self.lookup.score(np.ascontiguousarray(ids, dtype=np.int32), begins[:-1], threads or thread_count())
