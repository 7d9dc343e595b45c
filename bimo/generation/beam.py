"""Beam search over the interface alone: the likeliest texts, several prompts at once.

Candidates, finished texts and stopping are transformers' (`GenerationMixin._beam_search`): the best num_beams of all
one-token continuations go on; of those that end, the best num_beams by logprob / length ** length_penalty are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bimo.generation.reader import Reader
from bimo.generation.sampling import GenerationConfig, process
from bimo.generation.streaming import TextStream
from bimo.models.base import LanguageModel

_NEVER = float("-inf")


@dataclass
class Hypothesis:
    """A text: its ids, the sum of its (processed) log-probabilities, and that over length ** length_penalty."""

    ids: list[int]
    logprob: float
    score: float


@dataclass
class _Search:
    """The finished texts of one prompt, best first, at most `beams` of them."""

    beams: int
    finished: list[Hypothesis] = field(default_factory=list)

    def add(self, hypothesis: Hypothesis) -> None:
        self.finished = sorted([*self.finished, hypothesis], key=lambda h: -h.score)[: self.beams]

    def done(self, best_running: float, length: int, config: GenerationConfig) -> bool:
        """Whether no running beam, the best having `best_running` nats, is worth going on with after `length` tokens."""
        if best_running == _NEVER:
            return True
        if len(self.finished) < self.beams:
            return False
        if config.early_stopping is True:
            return True
        if config.early_stopping == "never" and config.length_penalty > 0:
            length = config.max_new_tokens
        return best_running / length**config.length_penalty <= self.finished[-1].score


@torch.no_grad()
def beam_search(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    eos: Sequence[int] = (),
    texts: Sequence[TextStream] | None = None,
    given: Any = None,
) -> list[list[Hypothesis]]:
    """The best `num_return_sequences` continuations of each prompt, best first (fewer where fewer are possible).

    given: as in `search.generate`. texts: what follows each prompt, as text; a stop string ends it as an eos id does.
    """
    beams = config.num_beams
    searches = [_Search(beams) for _ in prompts]
    reader = Reader(model, prompts, given)
    reader.select(torch.arange(len(prompts), device=model.device).repeat_interleave(beams))
    streams = None if texts is None else [text for text in texts for _ in range(beams)]  # of each row that is read
    scores = torch.full((len(prompts), beams), _NEVER, dtype=torch.float64, device=model.device)
    scores[:, 0] = 0.0  # the beams are still equal: only the first one counts
    live = list(range(len(prompts)))
    for turn in range(config.max_new_tokens):
        totals = _totals(reader, scores, turn, config, eos)  # [P, beams, V]
        blocked = (totals.amax(-1) == _NEVER) & (scores > _NEVER)
        for place, beam in blocked.nonzero().tolist():
            found = _hypothesis(_written(reader, place * beams + beam, turn), float(scores[place, beam]), config)
            searches[live[place]].add(found)
        tops, origins, tokens = _candidates(totals, eos)  # each [P, candidates]
        last = turn + 1 == config.max_new_tokens
        ends, further = _ends(origins, tokens, eos, streams)
        ends |= last
        for place, rank in ends[:, :beams].nonzero().tolist():
            if (logprob := float(tops[place, rank])) > _NEVER:
                ids = [*_written(reader, int(origins[place, rank]), turn), int(tokens[place, rank])]
                searches[live[place]].add(_hypothesis(ids, logprob, config))
        scores, chosen = tops.masked_fill(ends, _NEVER).topk(beams)  # [P, beams]
        stay = [i for i, prompt in enumerate(live) if not searches[prompt].done(float(scores[i, 0]), turn + 1, config)]
        if not stay or last:
            break
        kept = torch.tensor(stay, device=model.device)
        live = [live[place] for place in stay]
        scores, chosen = scores[kept], chosen[kept]
        if streams is not None:
            streams = [further[place][rank] for place, ranks in zip(stay, chosen.tolist(), strict=True) for rank in ranks]
        reader.select(origins[kept].gather(1, chosen).flatten())
        reader.read(tokens[kept].gather(1, chosen).flatten())
    return [search.finished[: config.num_return_sequences] for search in searches]


def _hypothesis(ids: list[int], logprob: float, config: GenerationConfig) -> Hypothesis:
    return Hypothesis(ids, logprob, logprob / max(1, len(ids)) ** config.length_penalty)


def _totals(reader: Reader, scores: Tensor, turn: int, config: GenerationConfig, eos: Sequence[int]) -> Tensor:
    """Nats of each beam with each next token, float64 [P, beams, V]."""
    log_probs = process(reader.logits.log_softmax(-1), reader.history, turn, config, eos).double()  # [P * beams, V]
    return scores[:, :, None] + log_probs.view(*scores.shape, -1)


def _candidates(totals: Tensor, eos: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The best one-token continuations of each prompt, [P, candidates]: nats so far, row they continue, token.

    Enough of them that `beams` go on even if the best all end.
    """
    prompts, beams, size = totals.shape
    tops, places = totals.view(prompts, -1).topk(min(max(2, 1 + len(eos)) * beams, beams * size))
    first_rows = torch.arange(prompts, device=places.device)[:, None] * beams
    return tops, first_rows + places // size, places % size


def _ends(
    origins: Tensor, tokens: Tensor, eos: Sequence[int], streams: Sequence[TextStream] | None
) -> tuple[Tensor, list[list[TextStream]]]:
    """bool [P, candidates]: which candidates end with their token; and each one's text, where `streams` give those of the rows."""
    ends = torch.isin(tokens, torch.tensor(list(eos), dtype=torch.int64, device=tokens.device))
    if streams is None:
        return ends, []
    pairs = torch.stack([origins, tokens], dim=-1).tolist()
    further = [[streams[row].after(token) for row, token in candidates] for candidates in pairs]
    stopped = torch.tensor([[text.stopped for text in candidates] for candidates in further], device=ends.device)
    return ends | stopped, further


def _written(reader: Reader, row: int, turn: int) -> list[int]:
    return reader.history[row, reader.history.shape[1] - turn :].tolist()
