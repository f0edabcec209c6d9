"""Activations in place, with few passes over memory.

forward(layer, z) -> (y, kept): z is a new array, which may be overwritten or kept.
backward(layer, kept, dy) -> dz: neither kept nor dy is overwritten.
None of them uses `where`, but products with a mask of 0 and 1; see `xpnn.kernels.numpy`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.arrays import special
from xpnn.kernels.numpy.compiled import loops
from xpnn.nn.layers import activations as nn

Pair = tuple[Callable[..., Any], Callable[..., Any]]

_SAVED = 30e-9  # seconds that the loop of erfc saves per element: median on an AMD EPYC, 2026-11-21
_PIECE = 10_000  # elements: a dozen such arrays fit into the L2 cache
_ROOT = math.sqrt(2 / math.pi)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    """1 / (1 + e⁻ᶻ), written to z; e⁻ᶻ may overflow, and 1 / ∞ is the correct limit."""
    np.negative(z, out=z)
    with np.errstate(over="ignore"):
        np.exp(z, out=z)
    z += 1
    return np.reciprocal(z, out=z)


def _sigmoid_forward(layer: Any, z: np.ndarray) -> Any:
    y = _sigmoid(z)
    return y, y


def _sigmoid_backward(layer: Any, y: np.ndarray, dy: np.ndarray) -> np.ndarray:
    dz = 1 - y
    dz *= y
    dz *= dy
    return dz


def _tanh_forward(layer: Any, z: np.ndarray) -> Any:
    y = np.tanh(z, out=z)
    return y, y


def _tanh_backward(layer: Any, y: np.ndarray, dy: np.ndarray) -> np.ndarray:
    dz = y * y
    np.subtract(1, dz, out=dz)
    dz *= dy
    return dz


def _silu_forward(layer: Any, z: np.ndarray) -> Any:
    s = _sigmoid(z.copy())
    return z * s, (z, s)


def _silu_backward(layer: Any, kept: Any, dy: np.ndarray) -> np.ndarray:
    """σ + z · σ · (1 − σ) = σ · (1 + z · (1 − σ))."""
    z, s = kept
    dz = 1 - s
    dz *= z
    dz += 1
    dz *= s
    dz *= dy
    return dz


def _leaky_forward(layer: Any, z: np.ndarray) -> Any:
    if not 0 <= layer.negative_slope <= 1:  # max would select the wrong branch
        return NotImplemented
    y = z * layer.negative_slope
    return np.maximum(z, y, out=y), z


def _leaky_backward(layer: Any, z: np.ndarray, dy: np.ndarray) -> np.ndarray:
    dz = (z > 0).astype(dy.dtype)
    dz *= 1 - layer.negative_slope
    dz += layer.negative_slope
    dz *= dy
    return dz


def _elu_forward(layer: Any, z: np.ndarray) -> Any:
    y = np.minimum(z, 0)
    np.expm1(y, out=y)
    y *= layer.alpha
    y += np.maximum(z, 0)
    return y, z


def _elu_backward(layer: Any, z: np.ndarray, dy: np.ndarray) -> np.ndarray:
    dz = np.minimum(z, 0)
    np.exp(dz, out=dz)
    dz *= layer.alpha
    above = z > 0
    dz *= ~above
    dz += above
    dz *= dy
    return dz


def _softplus_forward(layer: Any, z: np.ndarray) -> Any:
    z *= layer.beta
    y = np.abs(z)
    np.negative(y, out=y)
    np.exp(y, out=y)
    np.log1p(y, out=y)
    y += np.maximum(z, 0)
    y /= layer.beta
    return y, z


def _softplus_backward(layer: Any, z: np.ndarray, dy: np.ndarray) -> np.ndarray:
    dz = _sigmoid(z.copy())
    dz *= dy
    return dz


def _gelu_forward(layer: Any, z: np.ndarray) -> Any:
    """½ z · t with t = 2 Φ = erfc(−z/√2), or 1 + tanh u."""
    t = _tanh_gate(z) if layer.approximate == "tanh" else erfc(z * -math.sqrt(0.5))
    y = z * t
    y *= 0.5
    return y, (z, t)


def _gelu_backward(layer: Any, kept: Any, dy: np.ndarray) -> np.ndarray:
    """½ (t + z · t') with t' = 2 e^(−z²/2) / √(2π), or (1 − tanh² u) · u' = t · (2 − t) · u'."""
    z, t = kept
    if layer.approximate == "tanh":
        dz = 2 - t
        dz *= t
        dz *= _inner(z, 3)
    else:
        dz = z * z
        dz *= -0.5
        np.exp(dz, out=dz)
        dz *= _ROOT
    dz *= z
    dz += t
    dz *= 0.5
    dz *= dy
    return dz


def _tanh_gate(z: np.ndarray) -> np.ndarray:
    """1 + tanh u."""
    t = _inner(z, 1)
    t *= np.clip(z, -10, 10)
    np.tanh(t, out=t)
    t += 1
    return t


def _inner(z: np.ndarray, times: int) -> np.ndarray:
    """√(2/π) · (1 + times · 0.044715 · z²): u / z for 1, u' for 3; z clipped to ±10, where tanh u is ±1."""
    w = np.clip(z, -10, 10)
    w *= w
    w *= times * 0.044715 * _ROOT
    w += _ROOT
    return w


def erfc(x: np.ndarray) -> np.ndarray:
    """As `xpnn.arrays.special.erfc`, by the compiled loop if it is loaded, else piece by piece."""
    y, constants = np.empty(x.size, x.dtype), _constants(x.dtype)
    fast = loops(_SAVED * x.size)
    for start in range(0, x.size, _PIECE):
        piece = x.reshape(-1)[start : start + _PIECE]
        large = np.abs(piece)
        middle = np.clip(large, 0.46875, 4)
        np.maximum(large, 4, out=large)
        for w in (middle, large):
            np.multiply(w, -w, out=w)
            np.exp(w, out=w)
        (fast.erfc if fast else _erfc)(piece, middle, large, y[start : start + _PIECE], *constants)
    return y.reshape(x.shape)


def _erfc(
    x: np.ndarray,
    middle: np.ndarray,
    large: np.ndarray,
    y: np.ndarray,
    edges: Any,
    a: Any,
    b: Any,
    c: Any,
    d: Any,
    p: Any,
    q: Any,
) -> None:
    """y = erfc(x), as the loop `erfc`; middle, large: e^(−w²) for w = |x| in those ranges."""
    low, high, root = edges
    w = np.abs(x)
    small, between, far = np.minimum(w, low), np.clip(w, low, high), np.maximum(w, high)
    square, inverse = small * small, 1 / (far * far)
    near = 1 - small * _polynomial(square, a) / _polynomial(square, b)
    mid = middle * _polynomial(between, c) / _polynomial(between, d)
    tail = large / far * (root - inverse * _polynomial(inverse, p) / _polynomial(inverse, q))
    near *= w <= low
    mid *= (w > low) & (w <= high)
    tail *= w > high
    near += mid
    near += tail
    np.subtract(2, near, out=mid)
    mid *= x < 0
    near *= ~(x < 0)
    np.add(near, mid, out=y)


def _polynomial(x: np.ndarray, coefficients: Any) -> np.ndarray:
    """Highest power first."""
    total = coefficients[0] * x
    for c in coefficients[1:-1]:
        total += c
        total *= x
    total += coefficients[-1]
    return total


@functools.cache
def _constants(dtype: np.dtype) -> tuple[tuple[Any, ...], ...]:
    """The constants of the formula, in `dtype`."""
    return tuple(tuple(map(dtype.type, row)) for row in (special.EDGES, *special.COEFFICIENTS))


#: Other types, and those whose forward returns NotImplemented, are left to the reference.
ACTIVATIONS: dict[type, Pair] = {
    nn.Sigmoid: (_sigmoid_forward, _sigmoid_backward),
    nn.Tanh: (_tanh_forward, _tanh_backward),
    nn.SiLU: (_silu_forward, _silu_backward),
    nn.LeakyReLU: (_leaky_forward, _leaky_backward),
    nn.ELU: (_elu_forward, _elu_backward),
    nn.Softplus: (_softplus_forward, _softplus_backward),
    nn.GELU: (_gelu_forward, _gelu_backward),
    nn.Identity: (lambda layer, z: (z, None), lambda layer, kept, dy: dy),
}
