"""The gates of one time step, forward and backward, each in one pass over the memory (numba, float32 and float64).

Arrays: `pre` [T, B, G·H] holds what the gates get from the input and, after the step, the activated gates; `rec` [B, G·H] what they get
from the state before; `h`, `c` [T+1, B, H], of which place 0 is the state before the window; `keep` [T, B] is 0 where a row forgets
its state before the step and 1 elsewhere; `extra` [T, B, H] is the cell's own. Backward, dh is `grad` [T, B, H], from the outputs, and
`later` [B, H], from the step after by way of the matrix; `dpre` and `drec` [T, B, G·H] are the gradients of the sums inside the gates, by
way of the input and of the state (the same but for the GRU).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload, register_jitable

from bimo.text.kernels import compiled

# Contraction to fused multiply-add is the only liberty taken: NaN and infinity stay what they are.
_jit = compiled(fastmath={"contract"})

_LOG2E = np.float32(1 / math.log(2))
_LN2_HIGH = np.float32(355 / 512)  # few bits, so that k · high is exact
_LN2_LOW = np.float32(math.log(2) - 355 / 512)
_ROUND = np.float32(1.5 * 2**23)  # adding it leaves the nearest integer in the lowest bits
_LIMIT = np.float32(40.0)
_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(1 / math.factorial(k)) for k in range(8))


@intrinsic
def _power_of_two(context: Any, x: Any) -> Any:
    """2^k in float32, where k stands in the lowest bits of the float32 x = k + _ROUND."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        int32 = ir.IntType(32)
        shifted = builder.shl(builder.bitcast(arguments[0], int32), ir.Constant(int32, 23))
        return builder.bitcast(builder.add(shifted, ir.Constant(int32, 127 << 23)), ir.FloatType())

    return types.float32(types.float32), generate


@register_jitable
def _exp32(x: Any) -> Any:
    """e^x in float32, within two units in the last place; beyond ±40 as at ±40. It has no branch: the compiler makes vectors of it."""
    x = _LIMIT if x > _LIMIT else x
    x = -_LIMIT if x < -_LIMIT else x
    shifted = x * _LOG2E + _ROUND
    k = shifted - _ROUND
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    series = _C0 + r * (_C1 + r * (_C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * (_C6 + r * _C7))))))
    return _power_of_two(shifted) * series  # pyright: ignore[reportCallIssue]


def _one(x):  # type: ignore[no-untyped-def]
    """1 in the precision of x."""


def _sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + e^−x)."""


def _tanh(x):  # type: ignore[no-untyped-def]
    """1 − 2 / (e^2x + 1); in float32 with an error of 1e-7 beside the 1."""


@overload(_one)
def _one_overload(x):  # type: ignore[no-untyped-def]
    one = np.float32(1) if x == types.float32 else 1.0
    return lambda x: one


@overload(_sigmoid)
def _sigmoid_overload(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        one = np.float32(1)
        return lambda x: one / (one + _exp32(-x))
    return lambda x: 1.0 / (1.0 + math.exp(-x))


@overload(_tanh)
def _tanh_overload(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        one, two = np.float32(1), np.float32(2)
        return lambda x: one - two / (_exp32(two * x) + one)
    return lambda x: math.tanh(x)


@_jit
def rnn_forward(t, pre, rec, h, c, extra, keep):  # type: ignore[no-untyped-def]
    """h[t+1] = tanh(pre + rec); c and extra are not used."""
    _, B, H = h.shape
    for b in range(B):
        k, p, r, new = keep[t, b], pre[t, b], rec[b], h[t + 1, b]
        for j in range(H):
            new[j] = _tanh(p[j] + k * r[j])


@_jit
def rnn_backward(t, grad, later, direct, pre, h, c, extra, keep, dpre, drec):  # type: ignore[no-untyped-def]
    """dpre = dh (1 − h²)."""
    T, B, H = grad.shape
    one = _one(keep[0, 0])
    for b in range(B):
        k = keep[t + 1, b] if t + 1 < T else one
        y, g, l, d = h[t + 1, b], grad[t, b], later[b], dpre[t, b]
        for j in range(H):
            d[j] = (g[j] + k * l[j]) * (one - y[j] * y[j])


@_jit
def lstm_forward(t, pre, rec, h, c, extra, keep):  # type: ignore[no-untyped-def]
    """c[t+1] = f c + i g, h[t+1] = o tanh(c[t+1]); extra[t] becomes tanh(c[t+1])."""
    _, B, H = h.shape
    for b in range(B):
        k, p, r = keep[t, b], pre[t, b], rec[b]
        old, new, cell, squashed = c[t, b], h[t + 1, b], c[t + 1, b], extra[t, b]
        i, f, g, o = p[:H], p[H : 2 * H], p[2 * H : 3 * H], p[3 * H :]
        r_i, r_f, r_g, r_o = r[:H], r[H : 2 * H], r[2 * H : 3 * H], r[3 * H :]
        for j in range(H):  # many short loops: the compiler makes vectors of each, and of their union not
            i[j] = _sigmoid(i[j] + k * r_i[j])
        for j in range(H):
            f[j] = _sigmoid(f[j] + k * r_f[j])
        for j in range(H):
            g[j] = _tanh(g[j] + k * r_g[j])
        for j in range(H):
            o[j] = _sigmoid(o[j] + k * r_o[j])
        for j in range(H):
            cell[j] = f[j] * (k * old[j]) + i[j] * g[j]
        for j in range(H):
            squashed[j] = _tanh(cell[j])
        for j in range(H):
            new[j] = o[j] * squashed[j]


@_jit
def lstm_backward(t, grad, later, direct, pre, h, c, extra, keep, dpre, drec):  # type: ignore[no-untyped-def]
    """Gradients of i, f, g, o; `direct` [B, H] goes in as dc[t+1] and out as dc[t]."""
    T, B, H = grad.shape
    one = _one(keep[0, 0])
    for b in range(B):
        k, now = (keep[t + 1, b] if t + 1 < T else one), keep[t, b]
        p, d, g, l = pre[t, b], dpre[t, b], grad[t, b], later[b]
        old, squashed, dc = c[t, b], extra[t, b], direct[b]
        for j in range(H):
            i, f, n, o, s = p[j], p[H + j], p[2 * H + j], p[3 * H + j], squashed[j]
            dh = g[j] + k * l[j]
            dcell = dc[j] + dh * o * (one - s * s)
            d[j] = dcell * n * i * (one - i)
            d[H + j] = dcell * (now * old[j]) * f * (one - f)
            d[2 * H + j] = dcell * i * (one - n * n)
            d[3 * H + j] = dh * s * o * (one - o)
            dc[j] = dcell * f * now


@_jit
def gru_forward(t, pre, rec, h, c, extra, keep):  # type: ignore[no-untyped-def]
    """h[t+1] = (1 − z) n + z h[t]; c[0, 0] holds the bias inside r ⊙ (W h + b), extra[t] becomes that bracket."""
    _, B, H = h.shape
    one = _one(keep[0, 0])
    bias = c[0, 0]
    for b in range(B):
        k, p, r = keep[t, b], pre[t, b], rec[b]
        old, new, inside = h[t, b], h[t + 1, b], extra[t, b]
        reset, z, n = p[:H], p[H : 2 * H], p[2 * H :]
        r_r, r_z, r_n = r[:H], r[H : 2 * H], r[2 * H :]
        for j in range(H):
            reset[j] = _sigmoid(reset[j] + k * r_r[j])
        for j in range(H):
            z[j] = _sigmoid(z[j] + k * r_z[j])
        for j in range(H):
            inside[j] = k * r_n[j] + bias[j]
        for j in range(H):
            n[j] = _tanh(n[j] + reset[j] * inside[j])
        for j in range(H):
            new[j] = (one - z[j]) * n[j] + z[j] * (k * old[j])


@_jit
def gru_backward(t, grad, later, direct, pre, h, c, extra, keep, dpre, drec):  # type: ignore[no-untyped-def]
    """Gradients of r, z, n; `direct` [B, H] goes in as the part of dh that came by way of z and out as the next such part."""
    T, B, H = grad.shape
    one = _one(keep[0, 0])
    for b in range(B):
        k, now = (keep[t + 1, b] if t + 1 < T else one), keep[t, b]
        p, d, e, g, l = pre[t, b], dpre[t, b], drec[t, b], grad[t, b], later[b]
        old, inside, past = h[t, b], extra[t, b], direct[b]
        for j in range(H):
            r, z, n = p[j], p[H + j], p[2 * H + j]
            dh = g[j] + k * l[j] + past[j]
            dn = dh * (one - z) * (one - n * n)
            dr = dn * inside[j] * r * (one - r)
            dz = dh * (now * old[j] - n) * z * (one - z)
            d[j], d[H + j], d[2 * H + j] = dr, dz, dn
            e[j], e[H + j], e[2 * H + j] = dr, dz, dn * r
            past[j] = dh * z * now
