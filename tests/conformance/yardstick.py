"""What the properties measure with.

"Alone" is the yardstick: one row, read token by token from `start`. Everything else must agree with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bimo.models.base import Kind, LanguageModel

Property = Callable[[LanguageModel], None]
PROPERTIES: list[Property] = []
TOLERANCE = 1e-4  # nats, in fp32
EXACT = (Kind.EXACT, Kind.CONDITIONAL)


def holds(check: Property) -> Property:
    """Make `check` one of the properties."""
    PROPERTIES.append(check)
    return check


def same(found: Tensor, expected: Tensor, what: str) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=TOLERANCE, atol=TOLERANCE, msg=lambda m: f"{what}: {m}")


def log_probs(logits: Tensor) -> Tensor:
    return logits.double().log_softmax(-1)


def longest(model: LanguageModel) -> int:
    return model.context or 9


def random_ids(model: LanguageModel, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, model.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def alone(model: LanguageModel, ids: Sequence[int] | Tensor, state: Any = None) -> Tensor:
    """Log-probabilities [T, V] after each of `ids`, read one at a time."""
    state = model.start(1) if state is None else state
    found = []
    for token in torch.as_tensor(ids).tolist():
        logits, state = model.advance(state, torch.tensor([[token]]))
        assert logits.shape == (1, 1, model.vocab_size)
        found.append(log_probs(logits[0, 0]))
    return torch.stack(found)


def ragged(model: LanguageModel, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random rows of lengths 1, 2, `width` and between, with random padding."""
    lengths = torch.tensor([1, min(2, width), width, max(1, width - 2), 1])
    return random_ids(model, len(lengths), width, seed=seed), lengths


def state_after(model: LanguageModel, tokens: Tensor, lengths: Tensor | None = None) -> Any:
    return model.advance(model.start(len(tokens)), tokens, lengths)[1]


def continues(model: LanguageModel, state: Any, texts: Sequence[Tensor], what: str) -> None:
    """The state's rows have read `texts`: the next token is predicted as after them alone."""
    token = random_ids(model, len(texts), 1, seed=99)
    logits, _ = model.advance(state, token)
    assert logits.shape == (len(texts), 1, model.vocab_size), what
    for row, text in enumerate(texts):
        same(log_probs(logits[row, 0]), alone(model, torch.cat([text, token[row]]))[-1], f"{what}, row {row}")


def rows_of(tokens: Tensor, lengths: Tensor) -> list[Tensor]:
    return [row[:length] for row, length in zip(tokens, lengths.tolist(), strict=True)]
