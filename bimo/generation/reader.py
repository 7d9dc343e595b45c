"""Rows that read: a model's state with the text that made it, over the interface alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bimo.core.errors import UserError
from bimo.models.base import LanguageModel, check_numbers


def held(length: int, context: int | None) -> int:
    """How many last tokens a state holds once `length` were read: when it is full, the last half is read again.

    A rule of the length alone, so that a long prompt and a long continuation are treated alike.

    >>> [held(n, 4) for n in range(1, 10)]
    [1, 2, 3, 4, 2, 3, 4, 2, 3]
    """
    if context is None or length <= context:
        return length
    half = max(1, context // 2)
    return half + (length - context - 1) % (context - half + 1)


def rereads(length: int, context: int | None) -> int:
    """How often the last half was read again by the time that `length` tokens were read.

    >>> [rereads(n, 4) for n in (4, 5, 7, 8)]
    [0, 1, 1, 2]
    """
    if context is None or length <= context:
        return 0
    half = max(1, context // 2)
    return 1 + (length - context - 1) // (context - half + 1)


class Reader:
    """Rows of different lengths that read together.

    given: what the model's `start` takes, a row for each prompt (`Given`, or a tensor), or None. logits: [B, V], float32 or
    better, for what comes next; history: int64 [B, L], everything read, aligned on the
    right, -1 where a row is shorter; lengths: tokens read by each row.
    """

    @torch.no_grad()
    def __init__(self, model: LanguageModel, prompts: Sequence[Sequence[int]], given: Any = None) -> None:
        for index, prompt in enumerate(prompts):
            if len(prompt) == 0:
                raise UserError(f"prompts[{index}]: empty; give at least one id (Tokenizer.encode_document puts <s> first)")
        if given is not None and len(given) != len(prompts):
            raise UserError(f"given: {len(given)} for {len(prompts)} prompts; give one for each")
        self.model = model
        self.given = None if given is None else given.to(model.device)
        self.lengths = [len(prompt) for prompt in prompts]
        width = max(self.lengths)
        rows = [[-1] * (width - len(prompt)) + [int(i) for i in prompt] for prompt in prompts]
        self.history = torch.tensor(rows, dtype=torch.int64, device=model.device)
        model.checked(self.history.clamp(min=0) if min(map(min, prompts)) >= 0 else self.history, None)
        self.logits, self.state = self._read_long() if model.outlives_context else self._read_again(range(len(prompts)))

    def __len__(self) -> int:
        return len(self.lengths)

    @torch.no_grad()
    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows, int64 [B']."""
        self.state = self.model.select(self.state, rows)
        self.given = None if self.given is None else self.given[rows]
        self.history, self.logits = self.history[rows], self.logits[rows]
        self.lengths = [self.lengths[row] for row in rows.tolist()]

    @torch.no_grad()
    def read(self, tokens: Tensor) -> None:
        """Read one more token in each row, int64 [B]."""
        self.history = torch.cat([self.history, tokens[:, None]], 1)
        self.lengths = [length + 1 for length in self.lengths]
        context = self.model.context
        full = [row for row, n in enumerate(self.lengths) if rereads(n, context) > rereads(n - 1, context)]
        if not full:
            logits, self.state = self.model.advance(self.state, tokens[:, None], keep="last")
            self.logits = self._precise(logits[:, 0])
            return
        rows = torch.tensor(full, device=tokens.device)
        self.logits, state = self._renewed(self.model.select(self.state, rows), rows, self._last_half(rows), tokens[rows, None])
        if len(full) < len(self):
            rest = [row for row in range(len(self)) if row not in set(full)]
            kept = torch.tensor(rest, device=tokens.device)
            logits, others = self.model.advance(self.model.select(self.state, kept), tokens[kept, None], keep="last")
            order = torch.cat([rows, kept]).argsort()
            self.logits = torch.cat([self.logits, self._precise(logits[:, 0])])[order]
            state = self.model.select(self.model.join([state, others]), order)
        self.state = state

    def _last_half(self, rows: Tensor) -> Tensor:
        """What these rows read again before their newest token: the rest of the half that a state holds."""
        half = max(1, (self.model.context or 1) // 2)
        return self.history[rows, self.history.shape[1] - half : -1]

    def _renewed(self, state: Any, rows: Tensor, again: Tensor, tokens: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Logits [R, V] and the state of these rows, which read `again` once more and then `tokens`."""
        state = self.model.renew(state, again, given=None if self.given is None else self.given[rows])
        logits, state = self.model.advance(state, tokens, lengths, keep="last")
        return self._precise(logits[:, 0]), state

    def _read_long(self) -> tuple[Tensor, Any]:
        """Logits [B, V] and the state of all rows, read from their beginning: a part of what is remembered outlives the context."""
        model, device = self.model, self.history.device
        size = max(self.lengths)
        texts = torch.stack(
            [row.roll(length - size) for row, length in zip(self.history, self.lengths, strict=True)]
        )  # padded on the right
        lengths = torch.tensor(self.lengths, device=device)
        stop = min(size, model.context or size)
        logits, state = model.advance(
            model.start(len(texts), self.given), texts[:, :stop].clamp(min=0), lengths.clamp(max=stop), keep="last"
        )
        logits = self._precise(logits[:, 0])
        while stop < size and model.context is not None:
            half = max(1, model.context // 2)
            start, stop = stop, min(size, stop + model.context - half + 1)
            rows = (lengths > start).nonzero().squeeze(1)
            parts = (
                texts[rows, start - half + 1 : start],
                texts[rows, start:stop].clamp(min=0),
                (lengths[rows] - start).clamp(max=stop - start),
            )
            found, part = self._renewed(model.select(state, rows), rows, *parts)
            order = torch.arange(len(texts), device=device)
            order[rows] = len(texts) + torch.arange(len(rows), device=device)
            logits, state = torch.cat([logits, found])[order], model.select(model.join([state, part]), order)
        return logits, state

    def _read_again(self, rows: Sequence[int]) -> tuple[Tensor, object]:
        """Logits [R, V] and a new state of these rows, from as much of their text as a state holds."""
        takes = [held(self.lengths[row], self.model.context) for row in rows]
        tokens = torch.zeros(len(takes), max(takes), dtype=torch.int64, device=self.history.device)
        for place, (row, take) in enumerate(zip(rows, takes, strict=True)):
            tokens[place, :take] = self.history[row, -take:]
        lengths = torch.tensor(takes, device=tokens.device)
        given = None if self.given is None else self.given[torch.tensor(list(rows), device=tokens.device)]
        logits, state = self.model.advance(self.model.start(len(takes), given), tokens, lengths, keep="last")
        return self._precise(logits[:, 0]), state

    def _precise(self, logits: Tensor) -> Tensor:
        """Logits in float32 or better; a `ModelError` where they are no numbers."""
        return check_numbers(self.model, logits if logits.dtype == torch.float64 else logits.float(), "logits")
