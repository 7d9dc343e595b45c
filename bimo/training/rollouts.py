"""Texts that a model draws while it learns, and what their beginnings are worth: batched, over the interface alone.

Everything is drawn from torch's own generator, whose state a checkpoint keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bimo.core.errors import UserError
from bimo.generation.sampling import draw
from bimo.models.base import LanguageModel, length_mask

Reward = Callable[[Tensor, Tensor], Tensor]  # of whole texts: ids [B, T] and lengths [B] to one number each, [B]
_JUDGED = 1 << 12  # texts judged at a time


@dataclass(frozen=True)
class Texts:
    """Whole texts from `<s>` on. tokens: int64 [B, T], 0 behind a row's end; lengths: int64 [B]."""

    tokens: Tensor
    lengths: Tensor

    @property
    def drawn(self) -> Tensor:
        """bool [B, T]: True at the tokens that were chosen, which all are but `<s>`."""
        inside = length_mask(self.lengths, self.tokens.shape[1])
        inside[:, 0] = False
        return inside

    def distinct_pairs(self) -> float | None:
        """Distinct pairs of neighbours over all pairs (distinct-2: Li et al. 2016), `<s>` left out; None where there is no pair.

        >>> Texts(torch.tensor([[0, 5, 6, 5, 1], [0, 5, 6, 0, 0]]), torch.tensor([5, 3])).distinct_pairs()  # 56 65 51 56
        0.75
        """
        pairs = torch.stack([self.tokens[:, :-1], self.tokens[:, 1:]], 2)[self.drawn[:, :-1] & self.drawn[:, 1:]]
        return len(pairs.unique(dim=0)) / len(pairs) if len(pairs) else None


class _Writers:
    """Begun texts that are written on together, a token a turn, until `</s>`; a finished one leaves."""

    def __init__(self, model: LanguageModel, capacity: int, limit: int) -> None:
        self.model, self.eos = model, model.vocabulary.eos
        self.tokens = torch.zeros(capacity, limit + 1, dtype=torch.int64, device=model.device)
        self.lengths = torch.ones(capacity, dtype=torch.int64, device=model.device)
        self.entered = 0
        self.live = torch.zeros(0, dtype=torch.int64, device=model.device)  # the text that each row of the state writes
        self.state: Any = None

    def enter(self, begun: Tensor, state: Any) -> None:
        """Texts `begun` int64 [N, L] join; `state` has read all of them but their last token. Those within have length L too."""
        count, width = begun.shape
        rows = torch.arange(self.entered, self.entered + count, device=self.live.device)
        self.tokens[rows, :width] = begun
        self.lengths[rows] = width
        self.state = self.model.join([self.state, state]) if len(self.live) else state
        self.live = torch.cat([self.live, rows])
        self.entered += count

    def write(self, at: int) -> None:
        """All that are live have `at` tokens: read the last of each and draw the next."""
        if not len(self.live):
            return
        last = self.tokens[self.live, at - 1]
        logits, self.state = self.model.advance(self.state, last[:, None], keep="last")
        drawn = draw(logits[:, 0], torch.rand(len(last), dtype=torch.float64, device=last.device))
        self.tokens[self.live, at] = drawn
        self.lengths[self.live] = at + 1
        going = torch.ones_like(drawn, dtype=torch.bool) if self.eos is None else drawn != self.eos
        if not bool(going.all()):
            stay = going.nonzero().squeeze(1)
            self.live, self.state = self.live[stay], self.model.select(self.state, stay) if len(stay) else None

    def texts(self) -> Texts:
        """All texts, in the order in which they entered."""
        return Texts(self.tokens[:, : int(self.lengths.max())], self.lengths)


@torch.no_grad()
def draw_texts(model: LanguageModel, rows: int, limit: int) -> Texts:
    """`rows` texts from `<s>` to `</s>`, or to `limit` drawn tokens where that comes first."""
    if model.vocabulary.bos is None:
        raise UserError("rollouts: texts begin with <s>, which this vocabulary does not have")
    writers = _Writers(model, rows, limit)
    writers.enter(torch.full((rows, 1), model.vocabulary.bos, device=model.device), model.start(rows))
    for at in range(1, limit + 1):
        writers.write(at)
    return writers.texts()


@torch.no_grad()
def returns(model: LanguageModel, texts: Texts, reward: Reward, copies: int, limit: int) -> Tensor:
    """What each drawn token is worth, [B, T]: Q(y_1 … y_t-1, y_t), 0 where none was drawn (Yu et al. 2017, eq. 4).

    For the last token it is the text's own reward; for one before it the mean reward of `copies` texts that the model writes on
    from there (Monte-Carlo roll-outs). With copies = 0 every token gets its text's reward. Roll-outs from all places run
    together: at turn t those that begin there join the ones from earlier places, which are as long by then.
    """
    batch, width = texts.tokens.shape
    own = reward(texts.tokens, texts.lengths)
    found = own[:, None].expand(batch, width) * texts.drawn
    begun = (texts.lengths - 2).clamp(min=0)  # of each text: the drawn tokens that are not its last
    if copies == 0 or not int(begun.sum()):
        return found
    writers = _Writers(model, int(begun.sum()) * copies, limit)
    places, state = [], model.start(batch)  # the state of `texts`, read up to the token before last
    for at in range(2, limit + 1):
        rows = (texts.lengths > at).nonzero().squeeze(1)
        if len(rows):
            _, state = model.advance(state, texts.tokens[:, at - 2 : at - 1], keep="last")
            again = rows.repeat_interleave(copies)
            writers.enter(texts.tokens[again, :at], model.select(state, again))
            places.append(torch.stack([rows, torch.full_like(rows, at - 1)]))
        writers.write(at)
    ends = writers.texts()
    parts = zip(ends.tokens.split(_JUDGED), ends.lengths.split(_JUDGED), strict=True)
    rewards = torch.cat([reward(tokens, lengths) for tokens, lengths in parts])
    rows, columns = torch.cat(places, 1)
    found[rows, columns] = rewards.view(-1, copies).mean(1).to(found.dtype)
    return found
