"""How fast this machine makes training steps: measured on copies, before a run."""

from __future__ import annotations

import copy
import itertools
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from bimo.core import runtime
from bimo.core.recipe import Precision, TrainingSection
from bimo.models.base import NeuralLanguageModel
from bimo.models.quantized import FourBit
from bimo.training import checkpoint
from bimo.training.objectives.base import Objective, training_step


@dataclass
class Probe:
    """Measured over `rounds`: seconds of a training step in one precision on so many threads, and the memory held at its peak."""

    precision: Precision
    threads: int
    seconds_per_step: float
    peak_bytes: int
    rounds: int


_LONG = 2.0  # seconds of a step with all threads from which one alone is not tried: it is no small model
_STRIDE = 7919  # a prime: steps through an epoch that meet each of its batches
_ROUNDS = 6  # of steps that the choice made is timed for; on a GPU every choice, where kernels are loaded for each shape first met


def probe(model: NeuralLanguageModel, objective: Objective, training: TrainingSection, seconds: float, most: float = math.inf) -> Probe:
    """Time training steps on copies of the model (the model, its generators and the data position are left alone).

    What the recipe leaves open is tried and the fastest kept: fp32 and bf16 where the machine has bf16 products; all
    processor threads and one, which is faster for small models (it is not tried where a step takes seconds). torch is left
    with the threads that won. seconds: about how long to try, two steps a choice at least, six on a GPU. most: but for the first
    two steps, nothing is begun that would not be done after so many; where there is such an end, a time is to be filled, and what
    won few and long steps is timed once more.
    """
    native = runtime.bf16_is_native(model.device)
    choices: list[Precision] = [training.precision] if training.precision else ["fp32", "bf16"] if native else ["fp32"]
    generators = checkpoint.generator_states()
    open_ = training.threads is None and model.device.type == "cpu"
    threads = sorted({1, runtime.cores()}, reverse=True) if open_ else [runtime.set_threads(training.threads)]
    timer = _Timer(model, objective, training, time.perf_counter() + most)
    best: Probe | None = None
    for precision, number in itertools.product(choices, threads):
        if best is not None and (timer.late(2 * best.seconds_per_step) or (number == 1 < threads[0] and best.seconds_per_step > _LONG)):
            break
        runtime.set_threads(number)
        # On a GPU the first step loads kernels and says nothing of the speed.
        limit = math.inf if best is None or model.device.type == "cuda" else 4 * best.seconds_per_step
        least = _ROUNDS if model.device.type == "cuda" else 2
        found = timer.time(precision, seconds / len(choices) / len(threads), least=least, limit=limit)
        if best is None or found.seconds_per_step < best.seconds_per_step:
            best = found
    assert best is not None
    runtime.set_threads(best.threads)
    if best.rounds < _ROUNDS and math.isfinite(most) and not timer.late(2 * best.seconds_per_step):
        best = timer.time(best.precision, 0.0, least=_ROUNDS)
    checkpoint.set_generator_states(generators)
    return best


@dataclass
class _Timer:
    """Training steps on copies of a model; `end`, a moment of `time.perf_counter`, is kept but for the rounds that must be made."""

    model: NeuralLanguageModel
    objective: Objective
    training: TrainingSection
    end: float

    def late(self, seconds: float = 0.0) -> bool:
        """Whether something that takes so long would not be done by the end."""
        return time.perf_counter() + seconds > self.end

    def _batches(self, number: int) -> list[Any]:
        """Those of round `number`: from all over the epoch, since rows may be of many lengths."""
        source, count = self.objective.source, self.training.accumulation
        stride = _STRIDE if source.steps_per_epoch % _STRIDE else 1
        places = ((number * count + i) * stride % source.steps_per_epoch for i in range(count))
        return [source.batch(0, place).to(self.model.device) for place in places]

    def time(self, precision: Precision, seconds: float, *, least: int = 2, limit: float = math.inf) -> Probe:
        """Rounds of a step of each kind for about `seconds`, at least `least`, or one where its mean step took longer than `limit`.

        None is begun that would not be done by `end`, but for the first, and, where there is no limit, the second.
        """
        frozen: list[Any] = [p for p in self.model.parameters() if not p.requires_grad]
        frozen += [module for module in self.model.modules() if isinstance(module, FourBit)]
        model = copy.deepcopy(self.model, {id(each): each for each in frozen}).train()  # what learns nothing is not copied
        training = self.training
        optimizers, moments = self.objective.optimizers(model, training), self.objective.moments()
        end, carry = time.perf_counter() + seconds, None
        must = 2 if limit == math.inf else 1
        rounds: list[list[float]] = []  # seconds of a step of each kind
        while len(rounds) < least or (time.perf_counter() < end and len(rounds) < 50):
            rounds.append([])
            for done, _ in moments:
                begin = time.perf_counter()
                batches = self._batches(len(rounds))
                carry = training_step(partial(self.objective.loss, done=done), model, batches, carry, precision).carry
                torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip or math.inf)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                if model.device.type == "cuda":
                    torch.cuda.synchronize()
                rounds[-1].append(time.perf_counter() - begin)
            mean = sum(share * took for (_, share), took in zip(moments, rounds[0], strict=True))
            if mean > limit or (len(rounds) >= must and self.late(sum(rounds[-1]))):
                break
        kinds = zip(moments, zip(*(rounds[1:] or rounds), strict=True), strict=True)
        mean = sum(share * _steady(times) for (_, share), times in kinds)
        peak = torch.cuda.max_memory_allocated(model.device) if model.device.type == "cuda" else runtime.peak_memory_bytes()
        return Probe(precision, torch.get_num_threads(), mean, peak, len(rounds))


def _steady(times: Sequence[float]) -> float:
    """The mean of `times` without those beyond three times their median, which are somebody else's work, or done once.

    >>> _steady([1.0, 3.0, 2.0, 90.0])
    2.0
    """
    most = 3 * statistics.median(times)
    return statistics.fmean(t for t in times if t <= most)
