"""How fast this machine makes training steps: measured on copies, before a run."""

from __future__ import annotations

import copy
import itertools
import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from bimo.core import runtime
from bimo.core.recipe import Precision, TrainingSection
from bimo.models.base import NeuralLanguageModel
from bimo.training import checkpoint
from bimo.training.objectives.base import Objective, training_step


@dataclass
class Probe:
    """Measured: seconds of a training step in one precision on so many threads, and the memory held at its peak."""

    precision: Precision
    threads: int
    seconds_per_step: float
    peak_bytes: int


def bf16_is_native(device: torch.device) -> bool:
    """Whether this machine multiplies bf16 in hardware, so that a bf16 probe is worth its time."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported())


def probe(model: NeuralLanguageModel, objective: Objective, training: TrainingSection, seconds: float) -> Probe:
    """Time training steps on copies of the model (the model, its generators and the data position are left alone).

    What the recipe leaves open is tried and the fastest kept: fp32 and bf16 where the machine has bf16 products; all
    processor threads and one, which is faster for small models and where others use the machine too. torch is left
    with the threads that won.
    """
    native = bf16_is_native(model.device)
    choices: list[Precision] = [training.precision] if training.precision else ["fp32", "bf16"] if native else ["fp32"]
    generators = checkpoint.generator_states()
    source = objective.source
    batches = [source.batch(0, i % source.steps_per_epoch).to(model.device) for i in range(training.accumulation)]
    open_ = training.threads is None and model.device.type == "cpu"
    threads = sorted({1, runtime.cores()}) if open_ else [runtime.set_threads(training.threads)]
    best, end = None, time.perf_counter() + seconds
    for precision, number in itertools.product(choices, threads):
        runtime.set_threads(number)
        if best is not None and time.perf_counter() > end:
            break
        # On a GPU the first step loads kernels and says nothing of the speed.
        limit = math.inf if best is None or model.device.type == "cuda" else 4 * best.seconds_per_step
        found = _time_steps(copy.deepcopy(model), objective, batches, training, precision, seconds / len(choices) / len(threads), limit)
        if best is None or found.seconds_per_step < best.seconds_per_step:
            best = found
    assert best is not None
    runtime.set_threads(best.threads)
    checkpoint.set_generator_states(generators)
    return best


def _time_steps(
    model: NeuralLanguageModel,
    objective: Objective,
    batches: list[Any],
    training: TrainingSection,
    precision: Precision,
    seconds: float,
    limit: float,
) -> Probe:
    """Steps for about `seconds`, two at least, or one where it took longer than `limit`."""
    model.train()
    optimizers = objective.optimizers(model, training)
    end, times, carry = time.perf_counter() + seconds, [], None
    while len(times) < 2 or (time.perf_counter() < end and len(times) < 50):
        begin = time.perf_counter()
        carry = training_step(partial(objective.loss, done=0.5), model, batches, carry, precision).carry
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip or math.inf)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
        if times[0] > limit:
            break
    steady = sorted(times[1:] or times)
    middle = steady[: max(1, (len(steady) * 3 + 3) // 4)]  # the slowest quarter is somebody else's work
    peak = torch.cuda.max_memory_allocated(model.device) if model.device.type == "cuda" else runtime.peak_memory_bytes()
    return Probe(precision, torch.get_num_threads(), sum(middle) / len(middle), peak)
