"""What a run will need, told ahead of it from a short probe of this machine, and checked against the truth after it."""

from __future__ import annotations

import contextlib
import logging
import math
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from bimo.core import progress, runtime
from bimo.core.budget import Budget
from bimo.core.recipe import Precision, TrainingSection
from bimo.data.split import Split
from bimo.models.base import NeuralLanguageModel
from bimo.models.quantized import four_bit_numbers
from bimo.training import checkpoint
from bimo.training.objectives.base import Objective
from bimo.training.probe import probe

_SHARE = 0.95  # of the time that is left is planned for steps; the rest is for what goes slower than the probe


@dataclass
class Plan:
    """An estimate made before step 1. Bytes, seconds and floating-point operations are of the whole run."""

    parameters: int
    memory_bytes: int
    disk_bytes: int  # of the finished run: the model and a checkpoint
    disk_peak_bytes: int  # what must be free when it begins: a new checkpoint is written beside the old one
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


def flops_per_token(model: nn.Module) -> float:
    """Floating-point operations of learning one token: 6 for each weight that multiplies (Kaplan et al. 2020, section 2.1).

    A frozen weight has no gradient of its own, and takes 4. Embedding look-ups are free unless they are the head too; the products inside
    attention are left out.
    """
    head = getattr(model, "head", None)
    weights = {id(p): (6.0 if p.requires_grad else 4.0) * p.numel() for p in model.parameters() if p.dim() >= 2}
    looked_up = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    if head is not None:
        looked_up.discard(id(head()[0]))
    return sum(n for key, n in weights.items() if key not in looked_up) + 4.0 * four_bit_numbers(model)


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
    probe_seconds: float = 10.0,
) -> Plan:
    """Probe the machine for at most a tenth of the budget and tell what the run will need; `training` is left as it is."""
    budget, source = Budget.parse(training.budget), objective.source
    begin = time.perf_counter()
    most = 0.1 * budget.seconds if budget.seconds is not None else math.inf
    with progress.task("measuring the speed of a training step"):
        measured = probe(model, objective, training, min(probe_seconds, 0.8 * most), most)
        rate = runtime.matrix_rate(measured.precision, model.device, min(0.3, 0.1 * most))
    used = seconds_used + time.perf_counter() - begin
    steps = training.steps or count_steps(budget, source, training.accumulation, measured.seconds_per_step, used)
    tokens_per_step = source.tokens_per_epoch / source.steps_per_epoch * training.accumulation
    tokens = round(steps * tokens_per_step)
    flops = flops_per_token(model) * tokens
    seconds = steps * measured.seconds_per_step
    return Plan(
        parameters=model.parameter_count(),
        memory_bytes=measured.peak_bytes,
        disk_bytes=checkpoint.run_bytes(model, training),
        disk_peak_bytes=checkpoint.room_bytes(model, training),
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
    with progress.task("measuring the speed of counting"):
        return _plan_counted(build, split, sample_tokens)


def _plan_counted(build: Callable[[], Any], split: Split, sample_tokens: int) -> CountedPlan:
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
