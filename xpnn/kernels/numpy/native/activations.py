"""Loops for activations; as in `loops.py`, NumPy computes exp and tanh."""

from __future__ import annotations

import math
from typing import Any

from xpnn.arrays.special import COEFFICIENTS, EDGES
from xpnn.kernels.numpy.native.caching import compiled, inlined

_ROOT_HALF, _SLOPE, _CUBE = math.sqrt(0.5), math.sqrt(2 / math.pi), 0.044715
_LOW, _HIGH, _ONE_OVER_ROOT_PI = EDGES
_A, _B, _C, _D, _P, _Q = COEFFICIENTS


@compiled
def relu(y: Any, bias: Any, first: Any, last: Any) -> None:
    """y ← max(y + bias, 0) in columns first to last; y: (batch, features)."""
    zero = y.dtype.type(0)
    for i in range(y.shape[0]):
        row = y[i, first:last]
        for j in range(row.size):
            z = row[j] + bias[first + j]
            row[j] = zero if z < 0 else z


@compiled
def relu_dropout(y: Any, bias: Any, keep: Any, scale: Any, first: Any, last: Any) -> None:
    """y ← max(y + bias, 0) · scale where keep is True, else 0, in these columns; y, keep: (batch, features)."""
    zero = type(scale)(0)
    for i in range(y.shape[0]):
        row, mask = y[i, first:last], keep[i, first:last]
        for j in range(row.size):
            z = row[j] + bias[first + j]
            row[j] = z * scale if mask[j] and not z < 0 else zero


@compiled
def relu_backward(dy: Any, y: Any, scale: Any, dz: Any, dbias: Any) -> None:
    """dz = dy · scale where y > 0, else 0; dbias = Σ_batch dz, row after row, as NumPy adds them."""
    zero = type(scale)(0)
    dbias[:] = zero
    for i in range(y.shape[0]):
        above, row, out = y[i], dy[i], dz[i]
        for j in range(dbias.size):
            d = row[j] * scale if above[j] > 0 else zero
            out[j] = d
            dbias[j] += d


@inlined
def _polynomial(x: Any, coefficients: Any) -> Any:
    """Highest power first."""
    kind = type(x)
    total = kind(coefficients[0])
    for c in coefficients[1:]:
        total = total * x + kind(c)
    return total


@compiled
def gelu_exponent(z: Any, y: Any) -> None:
    """y = −w² with w = |z| / √2, or the lower edge of `erfc` if that is larger; flat."""
    kind = z.dtype.type
    for i in range(z.size):
        w = abs(z[i] * kind(-_ROOT_HALF))
        w = kind(_LOW) if w < kind(_LOW) else w
        y[i] = w * -w


@compiled
def gelu(z: Any, e: Any, t: Any, y: Any) -> None:
    """t = `erfc`(−z / √2), y = ½ z · t; e: exp of `gelu_exponent`; flat.

    The range of z selects a numerator and a denominator, so that there is one division instead of three.
    """
    kind = z.dtype.type
    one, two, half = kind(1), kind(2), kind(0.5)
    low, high, root = kind(_LOW), kind(_HIGH), kind(_ONE_OVER_ROOT_PI)
    for i in range(z.size):
        x = z[i] * kind(-_ROOT_HALF)
        w = abs(x)
        small = w if w < low else low
        between = low if w < low else (high if w > high else w)
        far = w if w > high else high
        square, inverse = small * small, one / (far * far)
        is_near, is_middle = w <= low, w <= high
        above, below = inverse * _polynomial(inverse, _P), _polynomial(inverse, _Q)
        above = e[i] * _polynomial(between, _C) if is_middle else above
        below = _polynomial(between, _D) if is_middle else below
        above = small * _polynomial(square, _A) if is_near else above
        below = _polynomial(square, _B) if is_near else below
        ratio = above / below
        g = one - ratio if is_near else (ratio if is_middle else e[i] / far * (root - ratio))
        g = two - g if x < 0 else g
        g = g if x == x else x
        t[i] = g
        y[i] = z[i] * g * half


@inlined
def _inner(z: Any, times: Any) -> Any:
    """√(2/π) · (1 + times · 0.044715 · z²)."""
    kind = type(z)
    return z * z * kind(times * _CUBE * _SLOPE) + kind(_SLOPE)


@inlined
def _clipped(z: Any) -> Any:
    """From −10 to 10, where tanh u is ±1."""
    ten = type(z)(10)
    return -ten if z < -ten else (ten if z > ten else z)


@compiled
def gelu_tanh_inner(z: Any, u: Any) -> None:
    """u of tanh u; flat."""
    for i in range(z.size):
        u[i] = _inner(_clipped(z[i]), 1) * _clipped(z[i])


@compiled
def gelu_tanh(z: Any, t: Any, y: Any) -> None:
    """t ← 1 + tanh u, y = ½ z · t; t: tanh u; flat."""
    one, half = z.dtype.type(1), z.dtype.type(0.5)
    for i in range(z.size):
        t[i] += one
        y[i] = z[i] * t[i] * half


@compiled
def gelu_tanh_backward(z: Any, t: Any, dy: Any, dz: Any) -> None:
    """dz = ½ (t + z · t') · dy with t' = t · (2 − t) · u'; flat."""
    two, half = z.dtype.type(2), z.dtype.type(0.5)
    for i in range(z.size):
        slope = (two - t[i]) * t[i] * _inner(_clipped(z[i]), 3)
        dz[i] = (slope * z[i] + t[i]) * half * dy[i]


@compiled
def silu(z: Any, s: Any, y: Any) -> None:
    """s ← σ(z) = 1 / (1 + s), y = z · σ; s: e^−z; flat."""
    one = z.dtype.type(1)
    for i in range(z.size):
        s[i] = one / (s[i] + one)
        y[i] = z[i] * s[i]


@compiled
def silu_backward(z: Any, s: Any, dy: Any, dz: Any) -> None:
    """dz = σ · (1 + z · (1 − σ)) · dy; s: σ; flat."""
    one = z.dtype.type(1)
    for i in range(z.size):
        dz[i] = ((one - s[i]) * z[i] + one) * s[i] * dy[i]
