"""Writing on: greedy choice, drawing and beam search over the interface alone, for any family, many rows at once."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from bimo.core.errors import UserError
from bimo.generation.beam import Hypothesis, beam_search
from bimo.generation.reader import Reader, rereads
from bimo.generation.sampling import GenerationConfig, process, row_generators, sample
from bimo.generation.streaming import DecoderFactory, TextStream, written
from bimo.models.base import LanguageModel
from bimo.models.latent import from_prior, with_latent

Finish = Literal["eos", "length", "stop", "blocked"]
OnToken = Callable[[int, int], None]


@dataclass
class Continuation:
    """One text that was written: without the prompt, with the id that ended it.

    finish: "eos" (the model ended it), "length" (max_new_tokens), "stop" (a stop string) or "blocked" (no token was
    allowed any more). rereads: how often the context was full and its last half was read again. text: where a decoder
    was given; without the stop string. logprob and score (logprob / length ** length_penalty), nats: of beam search.
    """

    prompt: int
    ids: list[int] = field(default_factory=list)
    finish: Finish = "length"
    rereads: int = 0
    text: str | None = None
    logprob: float | None = None
    score: float | None = None


@dataclass
class Generated:
    """What `generate` wrote: num_return_sequences rows for each prompt in turn, best first under beam search."""

    rows: list[Continuation]
    prompt_tokens: int
    generated_tokens: int
    seconds: float
    seed: int

    @property
    def ids(self) -> list[list[int]]:
        """Ids of each row."""
        return [row.ids for row in self.rows]

    @property
    def finishes(self) -> list[Finish]:
        """Why each row ended."""
        return [row.finish for row in self.rows]

    @property
    def rereads(self) -> int:
        """How often the last half of a full context was read again, over all rows; more than 0 should be told."""
        return sum(row.rereads for row in self.rows)


def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig | None = None,
    *,
    given: Any = None,
    eos: int | Iterable[int] | None = None,
    on_token: OnToken | None = None,
    decoder: DecoderFactory | None = None,
) -> Generated:
    """Continue each prompt (ids as they are: `Tokenizer.encode_document` puts <s> first, nothing is added here).

    given: what the model's `start` takes, a row for each prompt: source texts (`Given`), latents [P, Z], or nothing; a model with a
    latent then draws one for each row from the seed (the beams of a prompt share one). eos: the id or ids that end a row; None: nothing
    does (stream documents). on_token(row, id) is told of each id as it is chosen. decoder: gives a decoder of what follows a prompt
    (`Tokenizer.stream_decoder`); asked for by stop strings, fills `text`.
    Raises `UserError` for an empty prompt, ids out of range, or options that do not go together.
    """
    started = time.perf_counter()
    config = config or GenerationConfig.of()
    ends = ending_ids(model, config, eos)
    if not prompts:
        raise UserError("prompts: none given; give a list of lists of ids")
    if config.stop and decoder is None:
        raise UserError("stop: stop strings need a decoder (Tokenizer.stream_decoder)")
    if config.greedy and config.num_return_sequences > 1 and not _draws_latents(model, given):
        raise UserError("num_return_sequences: temperature=0 has one text only; set temperature above 0 or num_beams")
    seed = config.seed if config.seed is not None else secrets.randbits(32)
    if config.num_beams > 1:
        if on_token is not None:
            raise UserError("num_beams: beam search has no text before its end and cannot stream; set num_beams=1")
        if _draws_latents(model, given):
            given = _latents(model, row_generators(prompts, 1, seed))
        rows = _beams(model, prompts, config, ends, decoder, given)
    else:
        writer = _Writer(model, prompts, config, ends, decoder, seed, given)
        for row, token, _ in writer.run():
            if on_token is not None and token is not None:
                on_token(row, token)
        rows = writer.rows
    return Generated(
        rows=rows,
        prompt_tokens=sum(len(prompt) for prompt in prompts),
        generated_tokens=sum(len(row.ids) for row in rows),
        seconds=time.perf_counter() - started,
        seed=seed,
    )


def stream(
    model: LanguageModel,
    prompt: Sequence[int],
    config: GenerationConfig | None = None,
    *,
    given: Any = None,
    eos: int | Iterable[int] | None = None,
    on_token: OnToken | None = None,
    decoder: DecoderFactory,
) -> Iterator[str]:
    """Yield one prompt's continuation piece by piece: whole characters, stop strings held back until sure.

    The pieces join to the `text` that `generate` gives with the same seed. on_token: as there. Closing the iterator stops the work.
    """
    config = config or GenerationConfig.of()
    if config.num_beams > 1 or config.num_return_sequences > 1:
        raise UserError("num_beams, num_return_sequences: a stream is one text; set both to 1")
    ends = ending_ids(model, config, eos)
    seed = config.seed if config.seed is not None else secrets.randbits(32)
    writer = _Writer(model, [prompt], config, ends, decoder, seed, given)

    def pieces() -> Iterator[str]:
        for row, token, text in writer.run():
            if on_token is not None and token is not None:
                on_token(row, token)
            if text:
                yield text

    return pieces()


def ending_ids(model: LanguageModel, config: GenerationConfig, eos: int | Iterable[int] | None) -> tuple[int, ...]:
    """The ids that end a row, checked with the config against the model's vocabulary."""
    ends = () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)
    for end in ends:
        if not 0 <= end < model.vocab_size:
            raise UserError(f"eos: ids must lie in 0…{model.vocab_size - 1}, found {end}")
    config.check_ids(model.vocab_size, ends)
    return ends


def _draws_latents(model: LanguageModel, given: Any) -> bool:
    return given is None and "latent" in model.capabilities


def _latents(model: LanguageModel, generators: Sequence[np.random.Generator]) -> Tensor:
    """A latent of its own for each row [B, Z], drawn before anything else is; a row keeps it where it reads again."""
    return from_prior(generators, with_latent(model).latent_width)


class _Writer:
    """Rows that write together, one token a turn; a finished row leaves the batch."""

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[Sequence[int]],
        config: GenerationConfig,
        eos: tuple[int, ...],
        decoder: DecoderFactory | None,
        seed: int,
        given: Any,
    ) -> None:
        copies = config.num_return_sequences
        self.config, self.eos = config, eos
        generators = row_generators(prompts, copies, seed)
        if _draws_latents(model, given):
            self.reader = Reader(model, [prompt for prompt in prompts for _ in range(copies)], _latents(model, generators))
        else:
            self.reader = Reader(model, prompts, given)
            if copies > 1:
                self.reader.select(torch.arange(len(prompts), device=model.device).repeat_interleave(copies))
        self.rows = [Continuation(prompt=index // copies) for index in range(len(prompts) * copies)]
        self.streams = [TextStream(decoder(prompts[row.prompt]), config.stop) for row in self.rows] if decoder else None
        self.generators = None if config.greedy else generators

    def run(self) -> Iterator[tuple[int, int | None, str]]:
        """Write until every row has ended, yielding (row, id, text that can be shown) for each id (None: blocked)."""
        live = list(range(len(self.rows)))  # live[i]: the row that the reader's i-th row writes
        for turn in range(self.config.max_new_tokens):
            logits = process(self.reader.logits, self.reader.history, turn, self.config, self.eos)
            open_ = logits.amax(-1) > float("-inf")
            tokens = self._choose(logits, open_, live)
            stay = []
            for place, (row, token, allowed) in enumerate(zip(live, tokens.tolist(), open_.tolist(), strict=True)):
                if not allowed:
                    self.rows[row].finish = "blocked"
                    yield row, None, self._finish(row, place)
                    continue
                shown, ended = self._write(row, place, token)
                if not ended:
                    stay.append(place)
                yield row, token, shown
            if not stay:
                break
            live = [live[place] for place in stay]
            if len(stay) < len(tokens):
                kept = torch.tensor(stay, device=tokens.device)
                self.reader.select(kept)
                tokens = tokens[kept]
            self.reader.read(tokens)

    def _choose(self, logits: Tensor, allowed: Tensor, live: list[int]) -> Tensor:
        """Ids [B] from processed logits [B, V]; an arbitrary one where nothing is allowed."""
        if self.generators is None:
            return logits.argmax(-1)
        logits = torch.where(allowed[:, None], logits, 0.0)
        uniforms = torch.tensor([self.generators[row].random() for row in live], dtype=torch.float64, device=logits.device)
        return sample(logits, uniforms, self.config)

    def _write(self, row: int, place: int, token: int) -> tuple[str, bool]:
        """Give the id to its row; what can be shown, and whether the row has ended."""
        continuation = self.rows[row]
        continuation.ids.append(token)
        stream = self.streams[row] if self.streams else None
        shown = stream.push(token) if stream else ""
        if token in self.eos:
            continuation.finish = "eos"
        elif stream is not None and stream.stopped:
            continuation.finish = "stop"
        elif len(continuation.ids) < self.config.max_new_tokens:
            return shown, False
        return shown + self._finish(row, place), True

    def _finish(self, row: int, place: int) -> str:
        continuation = self.rows[row]
        continuation.rereads = rereads(self.reader.lengths[place], self.reader.model.context)
        if self.streams is None:
            return ""
        rest = self.streams[row].finish()
        continuation.text = self.streams[row].text
        if self.streams[row].stopped:
            continuation.finish = "stop"
        return rest


def _beams(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    eos: tuple[int, ...],
    decoder: DecoderFactory | None,
    given: Any,
) -> list[Continuation]:
    def continuation(index: int, found: Hypothesis) -> Continuation:
        text = written(found.ids, decoder(prompts[index]), config.stop) if decoder else None
        finish: Finish = "length" if len(found.ids) == config.max_new_tokens else "blocked"
        if found.ids and found.ids[-1] in eos:
            finish = "eos"
        elif text is not None and text.stopped:
            finish = "stop"
        read = len(prompts[index]) + max(0, len(found.ids) - 1)
        return Continuation(index, found.ids, finish, rereads(read, model.context), text.text if text else None, found.logprob, found.score)

    texts = [TextStream(decoder(prompt), config.stop) for prompt in prompts] if decoder and config.stop else None
    found = beam_search(model, prompts, config, eos, texts, given)
    return [continuation(index, row) for index, rows in enumerate(found) for row in rows]
