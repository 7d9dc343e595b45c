"""A mixture of whole documents: each was written by one of the parts, and which one shows as it is read.

P(x) = Σ wₖ Pₖ(x). Token by token that is a mixture whose weights are wₖ Pₖ(x_<t) / Σ wⱼ Pⱼ(x_<t), so that bounds on whole documents
can join: Σ wₖ times lower bounds of Pₖ(x) is one of P(x). Shapes: B rows, T tokens, K parts, V vocabulary, Z width of a latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from bimo.core.errors import CapabilityError
from bimo.models.base import Keep, Kind, LanguageModel, Score, State
from bimo.models.hybrid.model import Hybrid, Voice
from bimo.models.hybrid.weights import Weights
from bimo.models.latent import with_latent

_IMPOSSIBLE = -1000.0  # nats: what a token that a part excludes takes of its weight; with less, no part would be left after two such


@dataclass(frozen=True)
class Read:
    """A state: every part's, log wₖ Pₖ of what was read, float64 [B, K], and what each part says of the next token, [B, K, V].

    known bool [B]: whether the next token's chance is still to be counted; not where nothing was read, nor after a score, which has.
    """

    parts: tuple[State, ...]
    logs: Tensor
    said: Tensor
    known: Tensor


class ByDocument(Hybrid):
    """Parts that are mixed by whole documents. A part with a latent makes it a bound, and gives it that latent."""

    kinds: ClassVar[tuple[Kind, ...]] = (Kind.EXACT, Kind.CONDITIONAL, Kind.BOUND)

    def __init__(self, mixture: str, voices: Sequence[Voice], weights: Weights) -> None:
        super().__init__(mixture, voices, weights)
        if any(voice.model is None for voice in voices) or weights.gate is not None:
            raise CapabilityError("mixture=documents mixes models by whole documents; a cache, neighbours or a gate need mixture=linear")
        if self.context is not None and any(model.context is None for model in self.models):
            self.whole_documents = True  # type: ignore[misc]  # nothing begins anew inside a document
        latents = [model for model in self.models if "latent" in model.capabilities]
        conditional = any(model.kind is Kind.CONDITIONAL for model in self.models)
        if len(latents) + conditional > 1:
            raise CapabilityError("mixture=documents: one part at most is given something, a latent or a source")
        self.kind = Kind.BOUND if any(model.kind is Kind.BOUND for model in self.models) else self.kind
        self.capabilities = frozenset({"latent"} if latents else ())  # type: ignore[misc]  # of this one, not of the class
        self._latent = latents[0] if latents else None

    # -- the part with a latent ---------------------------------------------------------------------------------------

    @property
    def latent_width(self) -> int:
        """Z, of the part that has a latent."""
        return with_latent(self._with_latent()).latent_width

    @property
    def score_samples(self) -> int:
        """Importance samples of that part's bound."""
        return with_latent(self._with_latent()).score_samples

    @score_samples.setter
    def score_samples(self, samples: int) -> None:
        with_latent(self._with_latent()).score_samples = samples

    def encode(self, tokens: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance, [B, Z] each, by the part that has a latent."""
        return with_latent(self._with_latent()).encode(tokens, lengths)

    def _with_latent(self) -> LanguageModel:
        if self._latent is None:
            raise CapabilityError("no part of this hybrid has a latent")
        return self._latent

    def given_to(self, model: LanguageModel, given: Any) -> Any:
        """A latent, or a source, goes to the one part that takes it."""
        return given if model is self._latent or model.kind is Kind.CONDITIONAL else None

    # -- the interface ------------------------------------------------------------------------------------------------

    def start(self, batch: int, given: Any = None) -> Read:
        """Nothing read; given: latents [B, Z], or a source, for the part that takes it."""
        if given is not None and self._latent is None and self.kind is not Kind.CONDITIONAL:
            raise CapabilityError("no part of this hybrid takes anything given; write the source into the prompt")
        parts = tuple(model.start(batch, self.given_to(model, given)) for model in self.models)
        logs = self.weights.values.log().to(self.device).expand(batch, -1)
        said = torch.zeros(batch, len(self.models), 0, device=self.device)
        return Read(parts, logs, said, torch.zeros(batch, dtype=torch.bool, device=self.device))

    @torch.no_grad()
    def advance(self, state: Read, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> tuple[Tensor, Read]:
        """Logits are log-probabilities; see `LanguageModel.advance`."""
        tokens, lengths = self.checked(tokens, lengths)
        each = torch.arange(len(tokens), device=tokens.device)
        told, parts = [], []
        for model, own in zip(self.models, state.parts, strict=True):
            logits, own = model.advance(own, tokens, lengths)
            told.append(logits.to(self.device).float().log_softmax(-1))
            parts.append(own)
        said = torch.stack(told, 2)  # [B, T, K, V]
        grown = self._grown(state, tokens, said)
        weights = grown.log_softmax(-1)
        ends = lengths - 1
        after = Read(tuple(parts), grown[each, ends], said[each, ends], torch.ones_like(state.known))
        if keep == "last":
            said, weights = said[each, ends][:, None], weights[each, ends][:, None]
        return (weights[..., None] + said).logsumexp(2).float(), after

    def _grown(self, state: Read, tokens: Tensor, said: Tensor) -> Tensor:
        """log wₖ Pₖ of what was read up to each token, float64 [B, T, K]; said [B, T, K, V] of what comes after each."""
        inner = said[:, :-1].gather(3, tokens[:, 1:, None, None].expand(-1, -1, said.shape[2], 1)).squeeze(3).double()
        first = state.logs.clone()
        if bool(state.known.any()):
            chance = state.said[state.known].gather(2, tokens[state.known, :1, None].expand(-1, said.shape[2], 1)).squeeze(2)
            first[state.known] = first[state.known] + chance.double().clamp(min=_IMPOSSIBLE)
        return torch.cat([first[:, None], inner.clamp(min=_IMPOSSIBLE)], 1).cumsum(1)

    @torch.no_grad()
    def score(self, tokens: Tensor, lengths: Tensor | None = None, given: Any = None, state: Any = None) -> Score:
        """Nats of each token under the mixture of documents; see `LanguageModel.score`. A bound where a part's score is one."""
        tokens, lengths = self.checked(tokens, lengths)
        weights, nats, scores, left = self._by_parts(tokens, lengths, given, state)
        scored = scores[0].scored.to(self.device)
        kinds = [score.kind for score in scores]
        kind = next((k for k in (Kind.BOUND, Kind.CONDITIONAL) if k in kinds), Kind.EXACT)
        return Score(torch.where(scored, -(weights - nats).logsumexp(2), 0.0), scored, kind, left)

    def _by_parts(self, tokens: Tensor, lengths: Tensor, given: Any, state: Any) -> tuple[Tensor, Tensor, list[Score], Read]:
        """Logarithms of the weights before each token, and each part's nats of it, [B, T, K]; the parts' scores; the state after them."""
        before = self.weights.values.log().to(self.device).expand(len(tokens), -1) if state is None else self._counted(state, tokens)
        scores = []
        for k, model in enumerate(self.models):
            begin = None if state is None else state.parts[k]
            scores.append(model.score(tokens, lengths, self.given_to(model, given) if state is None else None, begin))
        nats = torch.stack([score.nats.to(self.device) for score in scores], 2)  # [B, T, K], 0 where nothing is scored
        logs = before[:, None] - nats.clamp(max=-_IMPOSSIBLE).cumsum(1)
        weights = torch.cat([before[:, None], logs[:, :-1]], 1).log_softmax(2)
        ends = logs[torch.arange(len(tokens), device=self.device), lengths - 1]
        known = torch.zeros_like(lengths, dtype=torch.bool)
        left = Read(tuple(score.state for score in scores), ends, ends.new_zeros(len(tokens), len(scores), 0), known)
        return weights, nats, scores, left

    def _counted(self, state: Read, tokens: Tensor) -> Tensor:
        """log wₖ Pₖ of what the state has read and of the first of `tokens`, float64 [B, K]."""
        logs = state.logs.clone()
        for row in state.known.nonzero().flatten().tolist():
            logs[row] += state.said[row, :, tokens[row, 0]].double().clamp(min=_IMPOSSIBLE)
        return logs

    def select(self, state: Read, rows: Tensor) -> Read:
        """A copy of every part's rows."""
        parts = tuple(m.select(own, rows.to(m.device)) for m, own in zip(self.models, state.parts, strict=True))
        return Read(parts, state.logs[rows], state.said[rows], state.known[rows])

    def join(self, states: Sequence[Read]) -> Read:
        """Every part's rows, in order."""
        parts = tuple(m.join(own) for m, own in zip(self.models, zip(*(s.parts for s in states), strict=True), strict=True))
        size = max(state.said.shape[2] for state in states)
        said = [s.said if s.said.shape[2] == size else s.said.new_zeros(*s.said.shape[:2], size) for s in states]
        return Read(parts, torch.cat([s.logs for s in states]), torch.cat(said), torch.cat([s.known for s in states]))

    def rewind(self, state: Read, lengths: Tensor) -> Read:
        """What was said of a token is not kept, so nothing can be taken back."""
        return LanguageModel.rewind(self, state, lengths)  # type: ignore[return-value]  # it raises

    @property
    def outlives_context(self) -> bool:
        """Nothing does: a document is a whole."""
        return False

    def renew(self, state: Read, tokens: Tensor, lengths: Tensor | None = None, given: Any = None) -> Read:
        """As every model does."""
        return cast(Read, LanguageModel.renew(self, state, tokens, lengths, given))

    def state_bytes(self, state: Read) -> int:
        """All parts', and what they say of the next token."""
        own = (state.logs.nbytes + state.said.nbytes + state.known.nbytes) // max(1, len(state.known))
        return own + sum(model.state_bytes(part) for model, part in zip(self.models, state.parts, strict=True))

    def shares(self, tokens: Tensor, lengths: Tensor | None = None, given: Any = None, state: State = None) -> tuple[Tensor, Tensor, State]:
        """See `Hybrid.shares`: the weights are those that a document's beginning has left each part."""
        weights, nats, _, left = self._by_parts(*self.checked(tokens, lengths), given, state)
        return weights, -nats, left

    def states_of(self, state: Read) -> tuple[State, ...]:
        """The parts' states, in order."""
        return state.parts
