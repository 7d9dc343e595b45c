"""The weights between models, learned on held-out text from what each of them says of it.

Shapes: N tokens, K parts, V vocabulary, D width of the hidden states.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bimo.data.excerpt import excerpt
from bimo.data.split import Split
from bimo.models.hybrid import Hybrid
from bimo.models.hybrid.weights import Weights
from bimo.models.scoring import place, readings

_ENOUGH = 1e-9  # nats a token: where less is gained in a round, learning ends
_ENOUGH_OF_A_PRODUCT = 1e-6  # as its sums are of single precision
_PRODUCT = 1 << 24  # most log-probabilities that a product's exponents are learned from at once
_DECAYS = (1.0, 0.1, 0.01, 0.001)  # of the gate's matrix; what is best on a held-out part is taken


def told_of(logs: Tensor) -> Tensor:
    """Rows of log-probabilities [N, K] that weights can be learned from: every part speaks, and one at least gives the token a chance."""
    return logs[~logs.isnan().any(1) & (logs > float("-inf")).any(1)]


def linear_weights(logs: Tensor, rounds: int = 500) -> Tensor:
    """Shares float64 [K] under which tokens with these log-probabilities [N, K] are likeliest, by expectation–maximisation.

    Jelinek & Mercer 1980 learn them so; the likelihood is concave in them, so that it is the best there is.

    >>> linear_weights(torch.tensor([[0.5, 0.1], [0.5, 0.1], [0.1, 0.4]]).log()).round(decimals=2).tolist()
    [0.81, 0.19]
    """
    logs = told_of(logs.double())
    weights = logs.new_full(logs.shape[1:], 1 / logs.shape[1])
    if not len(logs):
        return weights
    chances = (logs - logs.amax(1, keepdim=True)).exp()  # [N, K], the likeliest part at one
    before = -torch.inf
    for _ in range(rounds):
        mixed = chances @ weights
        now = float(mixed.log().mean())
        if now - before < _ENOUGH:
            break
        weights, before = weights * (chances / mixed[:, None]).mean(0), now
        weights = weights / weights.sum()
    return weights


def product_weights(told: Tensor, targets: Tensor, rounds: int = 50, late: Callable[[], bool] | None = None) -> Tensor:
    """Exponents float64 [K], none below 0, of the product under which `targets` int64 [N] are likeliest, by projected Newton steps.

    told: log-probabilities [N, K, V] of parts each of which gives every target a chance; another would rule it out under any exponent
    but 0. The model is log-linear in the exponents, so its likelihood is concave. late: once it is true, no further step is begun: each
    was better than the one before.
    """
    told = told.float()
    chosen = told[torch.arange(len(told)), :, targets].double()  # [N, K]
    parts = told.shape[1]
    excludes = told == float("-inf")  # by any part that counts, as in `multiplied`
    excluded = excludes.any(1) if bool(excludes.any()) else None  # [N, V], where all count
    told = told if excluded is None else told.masked_fill(excludes, 0.0)
    weights = torch.full((parts,), 1 / parts, dtype=torch.float64)

    def logits(weights: Tensor) -> Tensor:
        mixed = torch.einsum("nkv,k->nv", told, weights.float())
        if excluded is None:
            return mixed
        return mixed.masked_fill_(excluded if bool((weights > 0).all()) else excludes[:, weights > 0].any(1), float("-inf"))

    def nats(weights: Tensor) -> float:
        return float((logits(weights).logsumexp(1).double() - chosen @ weights).mean())

    now = nats(weights)
    for _ in range(rounds):
        if late is not None and late():
            break
        shares = logits(weights).softmax(1)  # [N, V]
        means = torch.einsum("nkv,nv->nk", told, shares).double()
        spread = torch.einsum("nkv,njv,nv->kj", told, told, shares).double() / len(told) - means.t() @ means / len(told)
        slope = (chosen - means).mean(0)
        free = (weights > 0) | (slope > 0)  # the others stand at 0 and would go below
        step = torch.zeros_like(weights)
        curved = spread[free][:, free] + 1e-9 * torch.eye(int(free.sum()))
        step[free] = torch.linalg.lstsq(curved, slope[free, None]).solution[:, 0]
        steepest = torch.where(free, slope, 0.0) / spread.diagonal().clamp(min=1e-9)  # where Newton's step leaves what is allowed
        if float(slope @ ((weights + steepest).clamp(min=0.0) - weights)) < _ENOUGH_OF_A_PRODUCT:  # nothing is left to gain
            break
        for size, way in ((0.5**halved, way) for halved in range(20) for way in (step, steepest)):
            tried = (weights + size * way).clamp(min=0.0)
            if float(tried.sum()) > 0 and (after := nats(tried)) < now:
                break
        else:
            break
        gained, weights, now = now - after, tried, after
        if gained < _ENOUGH_OF_A_PRODUCT:
            break
    return weights


@dataclass(frozen=True)
class Gate:
    """A gate that was learned, and nats a token with it and with fixed weights, on text that neither was learned from."""

    weights: Weights
    gated: float
    fixed: float


def gate_weights(logs: Tensor, hidden: Tensor, of: int) -> Gate:
    """Shares that depend on the hidden states [N, D] of the part `of`: softmax(A h + b), A and b under which tokens are likeliest.

    logs: log-probabilities [N, K], in the order of the text. The last fifth tells how much A is held back, and whether
    a gate is better than fixed weights at all; then all of the text is learned from.
    """
    kept = ~logs.isnan().any(1) & (logs > float("-inf")).any(1)
    logs, hidden = logs[kept].double(), hidden[kept].float()
    cut = max(1, len(logs) * 4 // 5)
    fixed = linear_weights(logs[:cut])
    best: tuple[float, float] | None = None
    for decay in _DECAYS:
        matrix, bias = _gate(logs[:cut], hidden[:cut], fixed, decay)
        nats = _nats(logs[cut:], hidden[cut:], matrix, bias)
        if best is None or nats < best[0]:
            best = nats, decay
    assert best is not None
    base = float(-(fixed.log() + logs[cut:]).logsumexp(1).mean()) if cut < len(logs) else 0.0
    everywhere = linear_weights(logs)
    matrix, bias = _gate(logs, hidden, everywhere, best[1])
    return Gate(Weights(everywhere, (matrix, bias), of), best[0], base)


def _nats(logs: Tensor, hidden: Tensor, matrix: Tensor, bias: Tensor) -> float:
    if not len(logs):
        return 0.0
    return float(-(torch.nn.functional.linear(hidden, matrix, bias).log_softmax(1).double() + logs).logsumexp(1).mean())


def _gate(logs: Tensor, hidden: Tensor, start: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """A float32 [K, D] and b [K] by L-BFGS from fixed shares, A held back by decay/2 ‖A‖² for each state of unit deviation."""
    mean, scale = hidden.mean(0), hidden.std(0).clamp(min=1e-6)
    states, chances = (hidden - mean) / scale, (logs - logs.amax(1, keepdim=True)).float()
    matrix = torch.zeros(logs.shape[1], hidden.shape[1], requires_grad=True)
    bias = start.clamp(min=1e-6).log().float().requires_grad_()
    optimizer = torch.optim.LBFGS([matrix, bias], max_iter=60, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        shares = torch.nn.functional.linear(states, matrix, bias).log_softmax(1)
        loss = -(shares + chances).logsumexp(1).mean() + 0.5 * decay / hidden.shape[1] * matrix.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[arg-type]
    matrix = matrix.detach() / scale
    return matrix, bias.detach() - matrix @ mean


def logs_by_parts(hybrid: Hybrid, text: Split, context: int | None) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities float64 [N, K] of every scored token of `text`, in its order, by each part; hidden states [N, D] for a gate."""
    logs, hidden = np.zeros((text.tokens, len(hybrid.voices))), None
    scored = np.zeros(text.tokens, bool)
    with torch.no_grad():
        for batch, begin in readings(hybrid, text, context):
            told, states, state = hybrid.learned_from(batch.tokens, batch.lengths, begin.given, begin.state)
            begin.went_on(state)
            place(logs, batch, told)
            place(scored, batch, torch.ones(batch.tokens.shape, dtype=torch.bool))
            if states is not None:
                hidden = np.zeros((text.tokens, states.shape[-1]), np.float32) if hidden is None else hidden
                place(hidden, batch, states)
    return torch.from_numpy(logs[scored]), None if hidden is None else torch.from_numpy(hidden[scored])


@torch.no_grad()
def distributions(hybrid: Hybrid, text: Split, context: int | None, most: int = sys.maxsize) -> tuple[Tensor, Tensor]:
    """What each part says of every next token at some places of `text`, at most so many, [N, K, V], and the tokens that came, [N]."""
    most = min(most, max(256, _PRODUCT // (len(hybrid.voices) * hybrid.vocab_size)))
    found, targets = [], []
    for batch, begin in readings(hybrid, excerpt(text, most, whole=hybrid.whole_documents), context):
        state = hybrid.start(len(batch.tokens), begin.given) if begin.state is None else begin.state
        told, _, state = hybrid.distributions(state, batch.tokens[:, :-1].to(hybrid.device), (batch.lengths - 1).to(hybrid.device))
        begin.went_on(state)
        counted = batch.scored()[:, 1:]
        found.append(torch.stack([logs.cpu()[counted] for logs in told], 1))
        targets.append(batch.tokens[:, 1:][counted])
    return torch.cat(found), torch.cat(targets)
