"""The recurrent layer: torch's own results and gradients, and states that are forgotten in mid-window."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import get_args

import pytest
import torch

from bimo.core import runtime
from bimo.models.kernels import recurrent
from bimo.models.kernels.recurrent import GATES, Cell

CELLS = get_args(Cell)
MODULES = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
T, B, I, H = 6, 3, 4, 5


def parameters(cell: str, dtype: torch.dtype = torch.float64, width: int = H) -> list[torch.Tensor | None]:
    torch.manual_seed(1)
    g = GATES[cell] * width
    shapes = [(T, B, I), (B, width), (B, width), (g, I), (g, width), (g,), (width,)]
    values: list[torch.Tensor | None] = [torch.randn(*shape, dtype=dtype).requires_grad_() for shape in shapes]
    values[2] = values[2] if cell == "lstm" else None
    values[6] = values[6] if cell == "gru" else None
    return values


def resets() -> torch.Tensor:
    keep = torch.ones(T, B, 1, dtype=torch.float64)
    keep[0, 1] = keep[2, 0] = keep[2, 1] = keep[5, 2] = 0
    return keep


@pytest.mark.parametrize("cell", CELLS)
def test_layer_equals_torch(cell):
    x, h, c, w_x, w_h, b, b_n = parameters(cell)
    module = MODULES[cell](I, H).double()
    with torch.no_grad():
        module.weight_ih_l0.copy_(w_x)
        module.weight_hh_l0.copy_(w_h)
        module.bias_ih_l0.copy_(b)
        module.bias_hh_l0.zero_()
        if b_n is not None:
            module.bias_hh_l0[2 * H :] = b_n
    theirs, last = module(x, (h[None], c[None]) if c is not None else h[None])
    ours, cells = recurrent.layer(cell, x, h, c, w_x, w_h, b, b_n, None)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    if cells is not None:
        assert torch.allclose(cells[-1], last[1][0], rtol=0, atol=1e-12)
    weight = torch.randn_like(ours)
    wanted = torch.autograd.grad((theirs * weight).sum(), [module.weight_ih_l0, module.weight_hh_l0, module.bias_ih_l0, x, h])
    found = torch.autograd.grad((ours * weight).sum(), [w_x, w_h, b, x, h])
    assert all(torch.allclose(f, w, rtol=0, atol=1e-11) for f, w in zip(found, wanted, strict=True))


@pytest.mark.parametrize("forget", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients(cell, forget):
    given = parameters(cell)
    keep = resets() if forget else None
    inputs = [p for p in given if p is not None]

    def run(*values: torch.Tensor) -> torch.Tensor:
        rest = iter(values)
        return recurrent.layer(cell, *[None if p is None else next(rest) for p in given], keep)[0]

    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("cell", CELLS)
def test_layer_equals_plain_steps_with_resets(cell):
    x, h, c, w_x, w_h, b, b_n = parameters(cell)
    bias_hidden = None if b_n is None else torch.cat([b_n.new_zeros(2 * H), b_n])
    wanted = recurrent.plain_layer(cell, x, h, c, w_x, w_h, b, bias_hidden, resets())
    found = recurrent.layer(cell, x, h, c, w_x, w_h, b, b_n, resets())
    for f, w in zip(found, wanted, strict=True):
        assert (f is None and w is None) or torch.allclose(f, w, rtol=0, atol=1e-12)


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_float32_is_near_and_vendor_agrees(cell, onednn, monkeypatch):
    """Also where torch was built without oneDNN."""
    if not onednn:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    given = parameters(cell, torch.float32, width=600)  # with 12 steps wide enough for the matrix to be put in order once
    given = [p if p is None else (p * 600**-0.5 if p.shape[0] > T else p).detach() for p in given]
    given[0] = torch.cat([given[0], given[0]])
    exact = recurrent.layer(cell, *[None if p is None else p.double() for p in given], None)[0]
    for every in (True, False):
        found = recurrent.layer(cell, *given, None, every)[0]
        assert torch.allclose(found.double(), exact, rtol=0, atol=1e-5)


def test_float32_gates_are_exact_to_rounding():
    from bimo.models.kernels import recurrent_gates as gates

    x = torch.linspace(-45, 45, 20001).view(1, 1, -1)
    pre, h = x.clone(), torch.zeros(2, 1, x.shape[2])
    gates.rnn_forward(0, pre.numpy(), torch.zeros_like(pre[0]).numpy(), h.numpy(), h.numpy(), h.numpy(), torch.ones(1, 1).numpy())
    assert float((h[1] - torch.tanh(x[0].double())).abs().max()) < 3e-7
    pre[0, 0, 0] = float("nan")
    gates.rnn_forward(0, pre.numpy(), torch.zeros_like(pre[0]).numpy(), h.numpy(), h.numpy(), h.numpy(), torch.ones(1, 1).numpy())
    assert h[1, 0, 0].isnan()


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("forget", [False, True])
@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_autocast_keeps_states_in_the_precision_of_the_weights(cell, every, forget, native, monkeypatch):
    """Also states and inputs that autocast made bf16: kernels take one precision alone, and which kernel runs depends on the processor."""
    monkeypatch.setattr(runtime, "bf16_is_native", lambda device: native)
    given = parameters(cell, torch.float32)
    keep = resets().float() if forget else None
    exact = recurrent.layer(cell, *given, keep, every)[0]
    low = [value if value is None or place > 2 else value.bfloat16() for place, value in enumerate(given)]
    with torch.autocast("cpu", torch.bfloat16):
        output, cells = recurrent.layer(cell, *low, keep, every)
    assert output.dtype == torch.float32
    assert cells is None or cells.dtype == torch.float32
    assert 0 < float((output - exact).detach().abs().max()) < 0.1
    output.sum().backward()
    assert {value.grad.dtype for value in given if value is not None} == {torch.float32}


def test_gates_are_compiled_where_no_folder_can_be_written() -> None:
    code = """
        from numba.core.caching import CacheImpl
        CacheImpl._locator_classes = []
        import numpy as np
        from bimo.models.kernels import recurrent_gates as gates
        z = np.zeros
        h = z((2, 1, 3))
        gates.rnn_forward(0, np.ones((1, 1, 3)), z((1, 3)), h, h, z((1, 1, 3)), np.ones((1, 1)))
        assert np.allclose(h[1], np.tanh(1.0))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
