"""What the properties measure with.

"Alone" is the yardstick: one row, read token by token from `start`. Everything else must agree with it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bimo.data.batches import Given
from bimo.models.base import Kind, LanguageModel, Score
from bimo.models.latent import with_latent

Property = Callable[[LanguageModel], None]
PROPERTIES: list[Property] = []
TOLERANCE = 1e-4  # nats, in fp32
EXACT = (Kind.EXACT, Kind.CONDITIONAL)


def holds(check: Property) -> Property:
    """Make `check` one of the properties."""
    PROPERTIES.append(check)
    return check


def of_texts_that_go_on(check: Property) -> Property:
    """A property of models that continue texts; the others refuse, which `it_goes_on_or_says_so` sees to."""

    @functools.wraps(check)
    def checked(model: LanguageModel) -> None:
        if model.continues_text:
            check(model)

    return holds(checked)


def same(found: Tensor, expected: Tensor, what: str) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=TOLERANCE, atol=TOLERANCE, msg=lambda m: f"{what}: {m}")


def log_probs(logits: Tensor) -> Tensor:
    return logits.double().log_softmax(-1)


def longest(model: LanguageModel) -> int:
    return model.context or 9


def given_for(model: LanguageModel, rows: int) -> Any:
    """What every row of a test is given: the same source text, or the same latent; nothing where a model takes nothing.

    The same in every row, so that a row alone can be compared with the row beside others.
    """
    if "latent" in model.capabilities:
        return torch.linspace(-1.5, 1.5, with_latent(model).latent_width).expand(rows, -1)
    if model.kind is Kind.CONDITIONAL:
        source = torch.tensor([[0, 4, 2, 7, 1]]).expand(rows, -1)
        return Given(source, torch.full((rows,), 5))
    return None


def begin(model: LanguageModel, rows: int) -> Any:
    """The state of so many rows that have read nothing."""
    return model.start(rows, given_for(model, rows))


def score(model: LanguageModel, tokens: Tensor, lengths: Tensor | None = None, state: Any = None) -> Score:
    """Nats under what every row is given: a state was given it already."""
    return model.score(tokens, lengths, None if state is not None else given_for(model, len(tokens)), state)


def random_ids(model: LanguageModel, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, model.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def alone(model: LanguageModel, ids: Sequence[int] | Tensor, state: Any = None) -> Tensor:
    """Log-probabilities [T, V] after each of `ids`, read one at a time."""
    state = begin(model, 1) if state is None else state
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
    return model.advance(begin(model, len(tokens)), tokens, lengths)[1]


def continues(model: LanguageModel, state: Any, texts: Sequence[Tensor], what: str) -> None:
    """The state's rows have read `texts`: the next token is predicted as after them alone."""
    token = random_ids(model, len(texts), 1, seed=99)
    logits, _ = model.advance(state, token)
    assert logits.shape == (len(texts), 1, model.vocab_size), what
    for row, text in enumerate(texts):
        same(log_probs(logits[row, 0]), alone(model, torch.cat([text, token[row]]))[-1], f"{what}, row {row}")


def rows_of(tokens: Tensor, lengths: Tensor) -> list[Tensor]:
    return [row[:length] for row, length in zip(tokens, lengths.tolist(), strict=True)]
