"""RMSNorm and the heads of attention, forward and backward, each in one pass over the memory (numba, float32).

Arrays: R rows; D their width; N = Q + K + V heads of E numbers each in a row, queries, keys and values in that order. `inverse` is
1 / √(mean(x²) + ε) of what was normalised; the tables cos and sin [P, E] (`bimo.models.rotary.rotary_tables`) hold row r's angles
at r mod P.
"""

from __future__ import annotations

import math

import numpy as np

from bimo.text.kernels import compiled

# Sums may be taken in another order, so that the compiler makes vectors of them; NaN and infinity stay what they are.
_jit = compiled(fastmath={"contract", "reassoc"})
_ONE = np.float32(1)


@_jit
def norm_forward(x, weight, epsilon, y, inverse):  # type: ignore[no-untyped-def]
    """y [R, D] = x · inverse · weight [D]; inverse [R]."""
    R, D = x.shape
    for r in range(R):
        a, b = x[r], y[r]
        squares = np.float32(0)
        for j in range(D):
            squares += a[j] * a[j]
        scale = _ONE / math.sqrt(squares / np.float32(D) + epsilon)
        inverse[r] = scale
        for j in range(D):
            b[j] = a[j] * scale * weight[j]


@_jit
def norm_backward(grad, x, weight, inverse, dx, dweight):  # type: ignore[no-untyped-def]
    """dx [R, D]; dweight [D] is added to. With x̂ = x · inverse and g = grad · weight: dx = inverse (g − x̂ mean(g x̂))."""
    R, D = x.shape
    for r in range(R):
        g, a, d, scale = grad[r], x[r], dx[r], inverse[r]
        along = np.float32(0)
        for j in range(D):
            along += g[j] * weight[j] * a[j]
        along *= scale * scale * scale / np.float32(D)
        for j in range(D):
            dweight[j] += g[j] * a[j] * scale
            d[j] = g[j] * weight[j] * scale - a[j] * along


@_jit
def heads_forward(qkv, weights, normed, epsilon, cos, sin, turned, q, k, v, inverse):  # type: ignore[no-untyped-def]
    """qkv [R, N, E] → q [R, Q, E] and k [R, K, E], each head normalised, weighted by weights [Q + K, E] and turned, and v [R, V, E].

    normed, turned: whether each of these is done; inverse [R, Q + K].
    """
    R, N, E = qkv.shape
    Q, H, P, half = q.shape[1], len(weights), len(cos), E // 2
    line = np.empty(E, np.float32)
    for r in range(R):
        c, s = cos[r % P], sin[r % P]
        for h in range(H):
            a, b, w = qkv[r, h], q[r, h] if h < Q else k[r, h - Q], weights[h]
            scale = _ONE
            if normed:
                squares = np.float32(0)
                for j in range(E):
                    squares += a[j] * a[j]
                scale = _ONE / math.sqrt(squares / np.float32(E) + epsilon)
                inverse[r, h] = scale
            if not turned:
                for j in range(E):
                    b[j] = a[j] * scale * w[j]
                continue
            for j in range(E):
                line[j] = a[j] * scale * w[j]
            for j in range(half):
                b[j] = line[j] * c[j] + line[half + j] * s[j]
            for j in range(half):
                b[half + j] = line[half + j] * c[half + j] + line[j] * s[half + j]
        for h in range(H, N):
            v[r, h - H] = qkv[r, h]


@_jit
def heads_backward(dq, dk, dv, qkv, weights, normed, cos, sin, turned, inverse, dqkv, dweights):  # type: ignore[no-untyped-def]
    """dqkv [R, N, E] from dq, dk and dv: turned back, then as `norm_backward`; dweights [Q + K, E] is added to."""
    R, N, E = qkv.shape
    Q, H, P, half = dq.shape[1], len(weights), len(cos), E // 2
    line = np.empty(E, np.float32)
    for r in range(R):
        c, s = cos[r % P], sin[r % P]
        for h in range(H):
            g, a, d, w, dw = dq[r, h] if h < Q else dk[r, h - Q], qkv[r, h], dqkv[r, h], weights[h], dweights[h]
            if turned:
                for j in range(half):
                    line[j] = g[j] * c[j] + g[half + j] * s[half + j]
                for j in range(half):
                    line[half + j] = g[half + j] * c[half + j] + g[j] * s[j]
            else:
                for j in range(E):
                    line[j] = g[j]
            if not normed:
                for j in range(E):
                    d[j] = line[j] * w[j]
                continue
            scale, along = inverse[r, h], np.float32(0)
            for j in range(E):
                along += line[j] * w[j] * a[j]
            along *= scale * scale * scale / np.float32(E)
            for j in range(E):
                dw[j] += line[j] * a[j] * scale
                d[j] = line[j] * w[j] * scale - a[j] * along
        for h in range(H, N):
            dqkv[r, h] = dv[r, h - H]
