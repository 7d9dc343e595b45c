"""What a run will need, told ahead of it from a short probe of this machine, and checked against the truth after it."""

from __future__ import annotations

import contextlib
import copy
import itertools
import logging
import math
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from bimo.core import runtime
from bimo.core.budget import Budget
from bimo.core.recipe import Precision, TrainingSection
from bimo.data.split import Split
from bimo.models.base import NeuralLanguageModel
from bimo.training import checkpoint
from bimo.training.objectives.base import Objective, training_step

_SHARE = 0.95  # of the time that is left is planned for steps; the rest is for what goes slower than the probe


@dataclass
class Plan:
    """An estimate made before step 1. Bytes, seconds and floating-point operations are of the whole run."""

    parameters: int
    memory_bytes: int
    disk_bytes: int
    steps: int
    tokens: int
    epochs: float
    flops: float
    seconds: float
    seconds_per_step: float
    tokens_per_second: float
    precision: Precision
    threads: int
    matrix_rate: float  # the machine's best, FLOP/s
    utilisation: float  # share of it that the probe reached (MFU)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data."""
        return asdict(self)


@dataclass
class Probe:
    """Measured: seconds of a training step in one precision on so many threads, and the memory held at its peak."""

    precision: Precision
    threads: int
    seconds_per_step: float
    peak_bytes: int


def flops_per_token(model: nn.Module) -> float:
    """Floating-point operations of learning one token: 6 for each weight that multiplies (Kaplan et al. 2020, section 2.1).

    Embedding look-ups are free unless they are the head too; the products inside attention are left out.
    """
    head = getattr(model, "head", None)
    weights = {id(p): p.numel() for p in model.parameters() if p.dim() >= 2}
    looked_up = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    if head is not None:
        looked_up.discard(id(head()[0]))
    return 6.0 * sum(n for key, n in weights.items() if key not in looked_up)


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


def count_steps(budget: Budget, source: Any, accumulation: int, seconds_per_step: float, seconds_used: float) -> int:
    """Optimizer steps that the budget pays for, at least one."""
    if budget.unit == "seconds":
        steps = _SHARE * (budget.amount - seconds_used) / seconds_per_step
    elif budget.unit == "steps":
        steps = budget.amount
    elif budget.unit == "epochs":
        steps = math.ceil(budget.amount * source.steps_per_epoch / accumulation)
    else:
        steps = budget.amount / (source.tokens_per_epoch / source.steps_per_epoch * accumulation)
    return max(1, int(steps))


def make_plan(
    model: NeuralLanguageModel,
    objective: Objective,
    training: TrainingSection,
    seconds_used: float = 0.0,
    probe_seconds: float | None = None,
) -> Plan:
    """Probe the machine and tell what the run will need; `training` is left as it is."""
    budget, source = Budget.parse(training.budget), objective.source
    begin = time.perf_counter()
    limit = probe_seconds if probe_seconds is not None else 10.0
    if budget.seconds is not None:
        limit = min(limit, 0.08 * budget.seconds)
    measured = probe(model, objective, training, limit)
    rate = runtime.matrix_rate(measured.precision, model.device, min(0.3, limit / 8))
    used = seconds_used + time.perf_counter() - begin
    steps = training.steps or count_steps(budget, source, training.accumulation, measured.seconds_per_step, used)
    tokens_per_step = source.tokens_per_epoch / source.steps_per_epoch * training.accumulation
    tokens = round(steps * tokens_per_step)
    flops = flops_per_token(model) * tokens
    seconds = steps * measured.seconds_per_step
    return Plan(
        parameters=model.parameter_count(),
        memory_bytes=measured.peak_bytes,
        disk_bytes=checkpoint.checkpoint_bytes(model, training.optimizer)
        + sum(p.numel() * p.element_size() for p in model.state_dict().values()),
        steps=steps,
        tokens=tokens,
        epochs=tokens / source.tokens_per_epoch,
        flops=flops,
        seconds=used + seconds,
        seconds_per_step=measured.seconds_per_step,
        tokens_per_second=tokens / seconds,
        precision=measured.precision,
        threads=measured.threads,
        matrix_rate=rate,
        utilisation=flops / seconds / rate,
    )


@dataclass
class CountedPlan:
    """An estimate for a family that counts: all of it is in proportion to what a sample took.

    New word sequences grow rarer as a text goes on, so parameters, memory and disk are upper bounds.
    """

    parameters: int
    memory_bytes: int
    disk_bytes: int
    tokens: int
    seconds: float
    tokens_per_second: float
    threads: int
    sample_tokens: int

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data."""
        return asdict(self)


_FEWEST_SAMPLED = 2_000  # tokens


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What is too little in a sample need not be so in the text."""
    logger = logging.getLogger("bimo")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _count(model: Any, ids: Any) -> Any:
    with _silent():
        model.count([ids])
        model.estimate()
    return model


def plan_counted(build: Callable[[], Any], split: Split, sample_tokens: int) -> CountedPlan:
    """Count the beginning of `split`, and tell what all of it would need. build: makes a fresh model."""
    ids = split.read(0, max(sample_tokens, _FEWEST_SAMPLED))
    share = split.tokens / len(ids)
    _count(build(), ids[:200])  # what is compiled or loaded once does not grow with the text
    before = runtime.memory_bytes()
    tracemalloc.start()
    try:
        begin = time.perf_counter()
        model = _count(build(), ids)
        seconds = time.perf_counter() - begin
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = sum(t.nbytes for t in model.tensors().values())
    return CountedPlan(
        parameters=round(model.parameter_count() * share),
        memory_bytes=before + round(peak * share),
        disk_bytes=round(size * share),
        tokens=split.tokens,
        seconds=seconds * share,
        tokens_per_second=len(ids) / seconds,
        threads=torch.get_num_threads(),
        sample_tokens=len(ids),
    )
