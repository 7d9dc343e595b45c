"""Sides timed in one process, step by step in turn, so that what else the machine does falls on both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from bimo.core import runtime
from bimo.core.runtime import bf16_is_native

CPU = torch.device("cpu")


def interleaved(sides: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2) -> dict[str, list[float]]:
    """Seconds of each round of each side; who begins changes from round to round; the first `warmup` rounds are not counted.

    >>> {name: len(times) for name, times in interleaved({"a": int, "b": int}, rounds=3).items()}
    {'a': 3, 'b': 3}
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warmup + rounds):
        order = list(sides.items()) if turn % 2 == 0 else list(sides.items())[::-1]
        for name, work in order:
            begin = time.perf_counter()
            work()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def pick_precision(asked: str | None) -> str:
    """bf16 where this machine multiplies it in hardware, otherwise fp32; for both sides alike."""
    return asked or ("bf16" if bf16_is_native(CPU) else "fp32")


def compared(seconds: Mapping[str, list[float]], tokens: int, precision: str, flops: float | None = None) -> dict[str, Any]:
    """Medians of `ours` and `theirs`, tokens a second, and the ratio; with `flops` of a step, the share of the machine's matrix rate."""
    median = {name: statistics.median(times) for name, times in seconds.items()}
    found: dict[str, Any] = {
        "precision": precision,
        "bf16_in_hardware": bf16_is_native(CPU),
        "threads": torch.get_num_threads(),
        "rounds": len(seconds["ours"]),
        **{f"{name}_seconds_per_step": value for name, value in median.items()},
        **{f"{name}_tokens_per_second": tokens / value for name, value in median.items()},
        "ratio": median["theirs"] / median["ours"],
        "ratio_of_fastest": min(seconds["theirs"]) / min(seconds["ours"]),
    }
    if flops is not None:
        rate = runtime.matrix_rate(precision, CPU, seconds=2.0)
        found |= {"matrix_rate": rate, **{f"{name}_share_of_matrix_rate": flops / value / rate for name, value in median.items()}}
    return found
