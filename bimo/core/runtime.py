"""The machine: device, threads, memory, and what it is called."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bimo.core.errors import UserError


def cores() -> int:
    """Processor cores this process may use (OMP_NUM_THREADS wins where set)."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # a list holds one number for each level of nesting
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_device(asked: str | None = None) -> Any:
    """The torch device asked for, or the best one present."""
    import torch

    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise UserError(f"training.device: cannot read {asked!r}; write cpu, cuda or cuda:0") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"training.device: {asked!r} is not supported; write cpu, cuda or cuda:0")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"training.device: {asked} asked for, but torch finds no CUDA device; use cpu")
    if device.type == "cuda" and (device.index or 0) >= (present := torch.cuda.device_count()):
        there = "cuda:0 alone" if present == 1 else f"cuda:0 to cuda:{present - 1}"
        raise UserError(f"training.device: {asked} asked for, but this machine has {present} CUDA device(s), {there}")
    return device


def set_threads(threads: int | None) -> int:
    """Use so many processor threads for torch (all cores if None); return the number."""
    import torch

    number = threads or cores()
    torch.set_num_threads(number)
    return number


def bf16_is_native(device: Any) -> bool:
    """Whether the device multiplies bfloat16 in hardware; where it does not, bfloat16 is many times slower than float32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every build of torch
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def peak_memory_bytes() -> int:
    """The most memory this process has held so far, or since `forget_peak_memory`, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak_memory() -> None:
    """Let `peak_memory_bytes` begin anew from what is held now, where the system can (Linux)."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # proc(5): resets the peak resident set


def memory_bytes() -> int:
    """The memory this process holds now, in bytes."""
    import psutil

    return psutil.Process().memory_info().rss


def matrix_rate(precision: str, device: Any, seconds: float = 0.3) -> float:
    """The machine's best measured matrix rate, in floating-point operations a second: a product of large squares, best of several."""
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    size = 1024 if device.type == "cpu" else 8192
    left = torch.linspace(-1, 1, size * size, device=device).view(size, size).to(dtype)  # draws from no generator
    best, end = 0.0, time.perf_counter() + seconds
    while best == 0.0 or time.perf_counter() < end:
        begin = time.perf_counter()
        torch.mm(left, left)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - begin))
    return best


def processor_name() -> str:
    """What the processor calls itself."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _own_version() -> str:
    try:
        return version("bimo")
    except PackageNotFoundError:  # the source alone is on the path
        return "not installed"


def environment() -> dict[str, Any]:
    """What a bug report or an evidence file needs to know of this machine."""
    import numpy
    import psutil
    import torch

    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return {
        "bimo": _own_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "cores": cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": cuda,
    }
