"""What bends a next-token distribution: pure functions on logits [B, V], in the order that `sampling` applies them.

`history` is int64 [B, L]: what each row has read and written, aligned on the right, -1 where a row is shorter. Ids at
-inf stay at -inf. Semantics are those of transformers' processors of the same names; penalties by count are OpenAI's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_NEVER = float("-inf")


def _columns(history: Tensor, size: int) -> Tensor:
    """`history` with padding sent to a spare column `size`."""
    return torch.where(history < 0, size, history)


def _banned(logits: Tensor, ids: Tensor, where: Tensor) -> Tensor:
    """`logits` with ids[b, i] at -inf wherever where[b, i]."""
    batch, size = logits.shape
    mask = torch.zeros(batch, size + 1, dtype=torch.bool, device=logits.device)
    mask.scatter_(1, torch.where(where, ids, size), True)
    return logits.masked_fill(mask[:, :size], _NEVER)


def repetition_penalty(logits: Tensor, history: Tensor, penalty: float) -> Tensor:
    """Divide positive logits of ids seen in the row by `penalty` and multiply negative ones (Keskar et al. 2019, §4.1).

    >>> repetition_penalty(torch.tensor([[2.0, -2.0, 1.0]]), torch.tensor([[-1, 0, 1]]), 2.0).tolist()
    [[1.0, -4.0, 1.0]]
    """
    batch, size = logits.shape
    seen = torch.zeros(batch, size + 1, dtype=torch.bool, device=logits.device)
    seen.scatter_(1, _columns(history, size), True)
    return torch.where(seen[:, :size], torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def count_penalties(logits: Tensor, generated: Tensor, frequency: float, presence: float) -> Tensor:
    """Subtract `frequency` times an id's count in the generated part [B, G], and `presence` once if it is there (OpenAI).

    >>> count_penalties(torch.zeros(1, 3), torch.tensor([[1, 1, 2]]), 0.5, 0.25).tolist()
    [[0.0, -1.25, -0.75]]
    """
    batch, size = logits.shape
    counts = torch.zeros(batch, size + 1, dtype=logits.dtype, device=logits.device)
    counts.scatter_add_(1, _columns(generated, size), torch.ones_like(generated, dtype=logits.dtype))
    counts = counts[:, :size]
    return logits - counts * frequency - (counts > 0) * presence


def no_repeat_ngram(logits: Tensor, history: Tensor, size: int) -> Tensor:
    """Forbid every id that would write an n-gram of this `size` a second time in its row.

    >>> no_repeat_ngram(torch.zeros(1, 3), torch.tensor([[0, 1, 2, 0]]), 2).tolist()
    [[0.0, -inf, 0.0]]
    """
    length = history.shape[1]
    if length < size:
        return logits
    windows = history.unfold(1, size, 1)  # [B, L - n + 1, n]
    prefix = history[:, length - size + 1 :]  # [B, n - 1]: what the next id would complete
    known = (windows[..., :-1] == prefix[:, None]).all(-1) & (windows[..., -1] >= 0) & (prefix >= 0).all(-1)[:, None]
    return _banned(logits, windows[..., -1], known)


def bad_words(logits: Tensor, history: Tensor, words: Sequence[Sequence[int]]) -> Tensor:
    """Forbid the last id of each word where the rest of the word stands at the row's end.

    >>> bad_words(torch.zeros(1, 3), torch.tensor([[2, 0]]), [[1], [0, 2], [1, 0]]).tolist()
    [[0.0, -inf, -inf]]
    """
    mask = torch.zeros_like(logits, dtype=torch.bool)
    mask[:, [word[0] for word in words if len(word) == 1]] = True
    for *prefix, last in (word for word in words if 1 < len(word) <= history.shape[1] + 1):
        expected = torch.tensor(prefix, device=history.device)
        mask[:, last] |= (history[:, -len(prefix) :] == expected).all(-1)
    return logits.masked_fill(mask, _NEVER)


def without(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """Forbid `ids` in all rows."""
    mask = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    mask[list(ids)] = True
    return logits.masked_fill(mask, _NEVER)


def temperature(logits: Tensor, value: float) -> Tensor:
    """Divide by `value` > 0; the largest logit is moved to 0 first, so that no value overflows."""
    return (logits - logits.amax(-1, keepdim=True)) / value


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the `k` likeliest ids, and all that tie with the k-th (Fan et al. 2018).

    >>> top_k(torch.tensor([[3.0, 1.0, 2.0, 2.0]]), 2).tolist()
    [[3.0, -inf, 2.0, 2.0]]
    """
    least = logits.topk(min(k, logits.shape[1])).values[:, -1:]
    return logits.masked_fill(logits < least, _NEVER)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest likeliest ids whose probability reaches `p`, at least one (Holtzman et al. 2020).

    >>> top_p(torch.tensor([[0.5, 0.3, 0.2]]).log(), 0.6).isfinite().tolist()
    [[True, True, False]]
    """
    ascending, order = logits.sort(dim=-1, stable=True)
    drop = ascending.softmax(-1).cumsum(-1) <= 1 - p
    drop[:, -1] = False
    return logits.masked_fill(drop.scatter(1, order, drop), _NEVER)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Keep the ids at least `p` times as likely as the likeliest (Nguyen et al. 2024).

    >>> min_p(torch.tensor([[0.6, 0.3, 0.1]]).log(), 0.4).isfinite().tolist()
    [[True, True, False]]
    """
    probabilities = logits.softmax(-1)
    best, at = probabilities.max(-1, keepdim=True)
    drop = (probabilities < p * best).scatter(1, at, False)
    return logits.masked_fill(drop, _NEVER)


def typical_p(logits: Tensor, p: float) -> Tensor:
    """Keep the ids whose surprise is nearest to the entropy, until their probability reaches `p` (Meister et al. 2023)."""
    log_probs = logits.log_softmax(-1)
    entropy = -(log_probs.exp() * log_probs).nansum(-1, keepdim=True)
    distance = (-log_probs - entropy).abs()
    nearest, order = distance.sort(dim=-1, stable=True)
    mass = log_probs.gather(1, order).exp().cumsum(-1)
    last = (mass < p).sum(-1, keepdim=True).clamp(max=logits.shape[1] - 1)
    drop = distance > nearest.gather(1, last)
    return logits.masked_fill(drop, _NEVER)
