"""Parts of a hybrid that are no models by themselves: tokens seen before, found by the hidden states of the part before them.

Shapes: B rows, T tokens, D width of the hidden states, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from bimo.models.base import Keep, ModelConfig
from bimo.models.grounds import Recalled
from bimo.text.vocabulary import Vocabulary


class Memory(ABC):
    """A distribution of the next token from those that followed hidden states like the one at hand."""

    Config: ClassVar[type[ModelConfig]]
    outlives_context: ClassVar[bool]  # whether its state holds more than the context of the part whose states it keeps
    learned_field: ClassVar[str]  # of its config: what is learned on held-out text where it is left open (None)
    remembers: ClassVar[bool] = False  # whether it keeps entries of the training text (`keep`), so that this is read once more

    def __init__(self, config: Any, vocabulary: Vocabulary, width: int) -> None:
        self.config, self.vocabulary, self.width = config, vocabulary, width

    @property
    def reach(self) -> int:
        """How many tokens of the text at hand its state holds."""
        return 0

    @property
    def open_field(self) -> str | None:
        """The field that is still to be learned on held-out text; None where its config has a value."""
        return self.learned_field if getattr(self.config, self.learned_field) is None else None

    @abstractmethod
    def to_try(self, states: Tensor) -> list[float]:
        """Values of the learned field to try, by how the hidden states [n, D] of a text lie."""

    def reading_again(self) -> AbstractContextManager[None]:
        """Inside, one text is read several times under several values of the learned field: what does not depend on it may be kept."""
        return nullcontext()

    def keep(self, keys: Tensor, values: Tensor) -> str | None:
        """Remember these entries, [N, D] and [N], in place of all others, where it `remembers`; in words, what will not be found."""
        raise NotImplementedError(f"{type(self).__name__} keeps no entries of the training text")

    @abstractmethod
    def start(self, batch: int, device: torch.device) -> Any:
        """The state of rows that have read nothing."""

    @abstractmethod
    def told(
        self, state: Any, hidden: Tensor, tokens: Tensor, lengths: Tensor, targets: Tensor | None = None, keep: Keep = "all"
    ) -> tuple[Tensor, Any]:
        """Log-probabilities after each of `tokens` [B, T], whose hidden states are [B, T, D], and the new state.

        Of every next token, [B, T, V] (or [B, 1, V] at each row's end with keep="last"), or of `targets` [B, T] alone, [B, T].
        NaN where nothing is remembered yet.
        """

    @abstractmethod
    def recalled(self, state: Any, hidden: Tensor, tokens: Tensor, lengths: Tensor) -> list[list[tuple[Recalled, ...]]]:
        """What is remembered most after each of `tokens` [B, T], [B][T]: arguments as in `told`, but that lengths may be 0.

        The state stays as it is.
        """

    @abstractmethod
    def select(self, state: Any, rows: Tensor) -> Any:
        """A copy of the state with these rows."""

    @abstractmethod
    def join(self, states: Sequence[Any]) -> Any:
        """One state of all rows, in order."""

    @abstractmethod
    def state_bytes(self, state: Any) -> int:
        """Bytes per row."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What it has learned, by name."""

    @abstractmethod
    def take(self, tensors: Mapping[str, Tensor]) -> Self:
        """This memory with what `tensors` gave; `ModelError` where they do not fit."""
