"""What the two players of the adversarial game minimise, and the watch over their game."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from bimo.data.batches import Batch
from bimo.models.base import NeuralLanguageModel
from bimo.training.objectives.causal import causal_likelihood
from bimo.training.rollouts import Texts, draw_texts, returns

if TYPE_CHECKING:
    from bimo.training.objectives.adversarial import AdversarialConfig

logger = logging.getLogger("bimo")

_WATCH = 0.9  # how long the moving average of the variety remembers, in turns
_SMALLEST = 1e-6  # deviation of rewards that they are divided by


class Players(Protocol):
    """What the game asks of a model beside being a language model, which is its generator. The buffers are moving averages."""

    generator: nn.Module
    discriminator: nn.Module
    reward_mean: Tensor
    reward_square: Tensor
    reward_weight: Tensor
    variety: Tensor
    stopped: Tensor

    def judge(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Logits [B]: one number a whole text."""
        ...

    def draw_relaxed(self, rows: int, limit: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """Weights [B, T, V] that carry a gradient, ids [B, T], lengths [B]."""
        ...


def discriminator_loss(real: Tensor, drawn: Tensor, real_label: float = 1.0) -> Tensor:
    """−log D(x) − log(1 − D(G(z))), each the mean over its texts, from their logits [B] (Goodfellow 2014, eq. 1).

    D judges one sample at a time and says one number. With `real_label` below 1 it is asked to be less sure of
    real texts (one-sided label smoothing: Salimans 2016).

    >>> round(discriminator_loss(torch.zeros(3), torch.zeros(3)).item(), 4)  # it cannot tell: 2 ln 2
    1.3863
    """
    return F.binary_cross_entropy_with_logits(real, torch.full_like(real, real_label)) + F.softplus(drawn).mean()


def policy_gradient(log_probs: Tensor, worth: Tensor) -> Tensor:
    """−Σ worth · log P(token), both [N], whose gradient is, in expectation, minus that of the reward (Williams 1992)."""
    return -(log_probs * worth.detach()).sum()


def valued(loss: Tensor, value: Tensor) -> Tensor:
    """A number that is `value` and has the gradient of `loss`.

    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> y = valued(x * x, torch.tensor(5.0))
    >>> y.backward()
    >>> y.item(), x.grad.item()
    (5.0, 6.0)
    """
    return value.detach() + (loss - loss.detach())


class Game:
    """One turn of the game on one batch of real texts. told: figures of the turn, each a mean."""

    def __init__(self, config: AdversarialConfig, model: NeuralLanguageModel, batch: Batch, limit: int) -> None:
        self.config, self.model, self.batch, self.limit = config, model, batch, limit
        self.players = cast(Players, model)
        self.real = Texts(batch.tokens, batch.lengths)
        self.told: dict[str, float] = {}

    def discriminator_turn(self) -> Tensor:
        """The discriminator's loss, a mean of its texts times the batch's count; its value is the batch's likelihood."""
        drawn = draw_texts(self.model, len(self.real.lengths), self.limit)
        on_real, on_drawn = (self.players.discriminator(t.tokens, t.lengths, learning=True) for t in (self.real, drawn))
        self._tell(on_real, on_drawn, drawn)
        with torch.no_grad():
            nats = causal_likelihood(self.model, self.batch).nats
        return valued(discriminator_loss(on_real, on_drawn, self.config.real_label) * self.batch.count, nats)

    def generator_turn(self, done: float) -> Tensor:
        """The generator's loss: what the discriminator says, likelihood and entropy. done: share of the game that was played."""
        loss, drawn, on_drawn = self._through_relaxed(done) if self.config.estimator == "gumbel" else self._by_policy()
        with torch.no_grad():
            self._tell(self.players.judge(self.real.tokens, self.real.lengths), on_drawn, drawn)
        with torch.set_grad_enabled(self.config.likelihood > 0):
            nats = causal_likelihood(self.model, self.batch).nats
        return valued(loss + self.config.likelihood * nats, nats)

    def _by_policy(self) -> tuple[Tensor, Texts, Tensor]:
        """REINFORCE over drawn texts, each token with what it is worth above the baseline; summed over the tokens."""
        drawn = draw_texts(self.model, len(self.real.lengths), self.limit)
        worth = returns(self.model, drawn, lambda *text: self.players.judge(*text).sigmoid(), self.config.rollouts, self.limit)
        log_probs, entropy = self._chosen(drawn)
        loss = policy_gradient(log_probs, self._advantage(worth[drawn.drawn])) - self.config.entropy * entropy
        with torch.no_grad():
            return loss, drawn, self.players.judge(drawn.tokens, drawn.lengths)

    def _through_relaxed(self, done: float) -> tuple[Tensor, Texts, Tensor]:
        """−log D of relaxed texts, the discriminator held fast; a mean of the texts times the batch's count."""
        config = self.config
        temperature = config.temperature * (config.final_temperature / config.temperature) ** done
        weights, tokens, lengths = self.players.draw_relaxed(len(self.real.lengths), self.limit, temperature)
        fixed = {name: p.detach() for name, p in self.players.discriminator.named_parameters()}
        logits = functional_call(self.players.discriminator, fixed, (weights, lengths))
        drawn = Texts(tokens, lengths)
        loss = F.softplus(-logits).mean() * self.batch.count
        if config.entropy:
            loss = loss - config.entropy * self._chosen(drawn)[1]
        return loss, drawn, logits.detach()

    def _chosen(self, texts: Texts) -> tuple[Tensor, Tensor]:
        """Log-probabilities [N] of the drawn tokens, and the sum of the entropies of what they were drawn from; never drops out."""
        tokens, lengths, chosen = texts.tokens, texts.lengths, texts.drawn[:, 1:]
        hidden, _ = self.model.extend(self.model.start(len(tokens)), tokens[:, :-1], lengths - 1)
        log_probs = self.model.logits(hidden[chosen]).log_softmax(-1)  # [N, V]
        entropy = -(log_probs.exp() * log_probs.masked_fill(log_probs == float("-inf"), 0.0)).sum()
        return log_probs.gather(1, tokens[:, 1:][chosen][:, None]).squeeze(1), entropy

    @torch.no_grad()
    def _advantage(self, worth: Tensor) -> Tensor:
        """Worth [N] above the moving average of earlier turns, in its deviations if asked, clipped; then the averages move on.

        Neither knows this turn's texts, so that the gradient's expectation keeps its direction.
        """
        players, decay = self.players, self.config.reward_decay
        advantage = worth
        if weight := float(players.reward_weight):
            mean, square = float(players.reward_mean) / weight, float(players.reward_square) / weight
            deviation = max(_SMALLEST, max(0.0, square - mean * mean) ** 0.5) if self.config.normalised else 1.0
            advantage = (worth - mean) / deviation
        for average, value in ((players.reward_mean, worth.double().mean()), (players.reward_square, worth.double().square().mean()),
                               (players.reward_weight, 1.0)):  # fmt: skip
            average.mul_(decay).add_(value * (1 - decay))
        return advantage.clamp(-self.config.reward_clip, self.config.reward_clip)

    @torch.no_grad()
    def _tell(self, on_real: Tensor, on_drawn: Tensor, drawn: Texts) -> None:
        """Keep the turn's figures, and move the average of the variety on."""
        right = ((on_real > 0).float().mean() + (on_drawn <= 0).float().mean()) / 2
        ours, theirs = drawn.distinct_pairs(), self.real.distinct_pairs()
        self.told = {
            "discriminator_loss": float(discriminator_loss(on_real, on_drawn, self.config.real_label)),
            "discriminator_accuracy": float(right), "reward": float(on_drawn.sigmoid().mean()), "distinct_2": ours or 0.0,
        }  # fmt: skip
        if theirs:
            self.players.variety.mul_(_WATCH).add_((ours or 0.0) / theirs * (1 - _WATCH))

    def watch(self, step: int) -> None:
        """Stop the game, with a notice, where the generator's texts have become too much alike."""
        variety, least = float(self.players.variety), self.config.least_variety
        if variety < least:
            self.players.stopped.fill_(step)
            logger.warning(
                "step %d: the generator has collapsed: its texts have %.0f%% of the distinct pairs of tokens that the text has "
                "(objective.least_variety=%g). The game is stopped, and the rest of the run learns by likelihood; give "
                "objective.likelihood or objective.entropy more weight, or take fewer objective.generator_turns",
                step, 100 * variety, least,
            )  # fmt: skip
