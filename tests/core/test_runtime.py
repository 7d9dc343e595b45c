"""What is asked of the machine is there, or the error says what is."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from bimo.core import runtime
from bimo.core.errors import UserError


@pytest.mark.parametrize("asked", ["mps", "meta", "xpu:0", "gpu", "cuda:x"])
def test_devices_other_than_cpu_and_cuda_are_refused(asked: str) -> None:
    with pytest.raises(UserError, match=r"training\.device: .*write cpu, cuda or cuda:0"):
        runtime.pick_device(asked)


def test_a_device_beyond_those_there_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert runtime.pick_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(UserError, match=r"cuda:9 asked for, but this machine has 1 CUDA device"):
        runtime.pick_device("cuda:9")
    assert runtime.pick_device("cpu").type == "cpu"


def test_cores_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked, found in (("3", 3), ("4,2", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert runtime.cores() == found
    for odd in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", odd)
        assert runtime.cores() >= 1


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="only Linux can forget a peak")
def test_a_peak_is_forgotten_with_what_made_it() -> None:
    large = np.ones(1 << 26)
    held = runtime.peak_memory_bytes()
    del large
    assert runtime.peak_memory_bytes() >= held
    runtime.forget_peak_memory()
    assert runtime.peak_memory_bytes() < held - (1 << 28)
