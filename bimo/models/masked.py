"""What models that tell hidden tokens share: texts are scored by pseudo-likelihood, and none is continued."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor

from bimo.core.errors import CapabilityError
from bimo.models.base import Keep, Kind, NeuralLanguageModel, Score, State, check_numbers, length_mask

_TOKENS_AT_ONCE = 1 << 14  # tokens that a pass of `score` reads
_LOGITS_AT_ONCE = 1 << 22  # logits that it holds


class Fills(Protocol):
    """What the capability `fill` is: a symbol that hides tokens, and logits of what it hides."""

    mask_id: int | None

    def fill(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] of what stands at each place of tokens [B, T]."""
        ...


class MaskedModel(NeuralLanguageModel):
    """A model that reads a text from both sides. mask_id: the id that stands where a token is hidden, or None where none is known."""

    kind = Kind.PSEUDO
    continues_text = False
    mask_id: int | None

    @abstractmethod
    def hidden(
        self, tokens: Tensor, carry: Any = None, boundaries: Tensor | None = None, places: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Hidden states [B, T, D], or those of `places` alone, int64 [N] among B · T: [N, D]; nothing is carried."""

    @abstractmethod
    def told(self, tokens: Tensor, lengths: Tensor, places: Tensor) -> Tensor:
        """Logits [N, V] of what stands at tokens[n, places[n]], for checked tokens [N, T]; nothing drops out."""

    @abstractmethod
    def check_places(self, length: int) -> None:
        """Raise `ContextError` if a row holds more tokens than there are places."""

    def check_fills(self) -> None:
        """Raise `CapabilityError` where the capability `fill` is missing."""
        if "fill" not in self.capabilities:
            raise CapabilityError("this model has no head for hidden tokens and can neither fill nor score; it gives features")

    @property
    def scoring_passes(self) -> int:
        """A text of n tokens is read n - 1 times, each with another one hidden; at most as often as there are places."""
        return (self.context or 0) + 1

    @torch.no_grad()
    def score(self, tokens: Tensor, lengths: Tensor | None = None, given: Any = None, state: State = None) -> Score:
        """Pseudo-likelihood: nats of each token where it is hidden and all others of its row are seen.

        Source: Salazar et al. 2020, "Masked language model scoring". `tokens[:, 0]` is seen, never scored; nothing is continued, so
        the state is None. Rows are hidden and read a few thousand tokens at a time, those of like length together.
        """
        self.check_fills()
        if state is not None or given is not None:
            raise CapabilityError("a masked model scores each row as a whole: it continues no state and takes nothing given")
        if self.mask_id is None:
            raise CapabilityError("config.json: no mask_token_id, and scoring hides each token in turn; write the id of [MASK] there")
        tokens, lengths = self.checked(tokens, lengths)
        self.check_places(tokens.shape[1])
        scored = length_mask(lengths, tokens.shape[1])
        scored[:, 0] = False
        nats = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
        for rows, places in self._passes(scored, lengths):
            nats[rows, places] = self._hidden_nats(tokens[rows], lengths[rows], places, self.mask_id)
        return Score(nats, scored, self.kind, None)

    def _passes(self, scored: Tensor, lengths: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows and places, int64 [N] each, of the tokens that one pass hides, one in each copy of a row."""
        rows, places = scored.nonzero(as_tuple=True)
        order = lengths[rows].argsort(descending=True, stable=True)
        start = 0
        while start < len(order):
            longest = int(lengths[rows[order[start]]])
            size = max(1, min(_TOKENS_AT_ONCE // longest, _LOGITS_AT_ONCE // self.vocab_size))
            chosen = order[start : start + size]
            yield rows[chosen], places[chosen]
            start += size

    def _hidden_nats(self, tokens: Tensor, lengths: Tensor, places: Tensor, mask_id: int) -> Tensor:
        """Nats, float64 [N], of tokens[n, places[n]], each hidden in its row."""
        each = torch.arange(len(tokens), device=tokens.device)
        wanted, seen = tokens[each, places], tokens[:, : int(lengths.max())].clone()
        seen[each, places] = mask_id
        logits = self.told(seen, lengths, places)
        logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        return check_numbers(self, logits.logsumexp(dim=1), "logits").double() - logits.gather(1, wanted[:, None]).squeeze(1).double()

    # -- what it cannot do --------------------------------------------------------------------------------------------

    def start(self, batch: int, given: Any = None) -> State:
        """Nothing remembers a prefix here: a `CapabilityError`, as in the other methods of a state."""
        _continues_nothing()

    def advance(self, state: State, tokens: Tensor, lengths: Tensor | None = None, keep: Keep = "all") -> tuple[Tensor, State]:
        """See `start`."""
        _continues_nothing()

    def select(self, state: State, rows: Tensor) -> State:
        """See `start`."""
        _continues_nothing()

    def join(self, states: Sequence[State]) -> State:
        """See `start`."""
        _continues_nothing()

    def rewind(self, state: State, lengths: Tensor) -> State:
        """See `start`."""
        _continues_nothing()

    def state_bytes(self, state: State) -> int:
        """See `start`."""
        _continues_nothing()


def _continues_nothing() -> NoReturn:
    raise CapabilityError("a masked model does not continue text: it tells what stands in a gap (fill) and how likely a text is (score)")
