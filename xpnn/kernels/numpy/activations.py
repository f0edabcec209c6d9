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
from xpnn.kernels.numpy.compiled import constant, loops, parts
from xpnn.nn.layers import activations as nn

Pair = tuple[Callable[..., Any], Callable[..., Any]]

# Seconds that a loop saves per element: medians on an Intel Xeon, 2026-11-27. Other activations have no loop: it would
# save at most 2 % of a step of 784-400-100-10. Most of their time is exp, log1p and tanh, which stay NumPy's.
_ERFC, _SIMPLE = 20e-9, 0.6e-9
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
    fast = loops(_SIMPLE * z.size, z.size)
    if not fast or not _are_covered(z):
        s = _sigmoid(z.copy())
        return z * s, (z, s)
    s, y = np.negative(z), np.empty_like(z)
    with np.errstate(over="ignore"):
        np.exp(s, out=s)
    fast.silu(*_flat(z, s, y))
    return y, (z, s)


def _silu_backward(layer: Any, kept: Any, dy: np.ndarray) -> np.ndarray:
    """σ + z · σ · (1 − σ) = σ · (1 + z · (1 − σ))."""
    z, s = kept
    fast = loops(_SIMPLE * z.size, z.size)
    if fast and _are_covered(z, s, dy):
        dz = np.empty_like(z)
        fast.silu_backward(*_flat(z, s, dy, dz))
        return dz
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
    if layer.alpha != 1:  # otherwise it is 1 where z > 0
        dz *= layer.alpha
        above = z > 0
        dz *= ~above
        dz += above
    dz *= dy
    return dz


def _softplus_forward(layer: Any, z: np.ndarray) -> Any:
    if layer.beta != 1:
        z *= layer.beta
    y = np.abs(z)
    np.negative(y, out=y)
    np.exp(y, out=y)
    np.log1p(y, out=y)
    y += np.maximum(z, 0)
    if layer.beta != 1:
        y /= layer.beta
    return y, z


def _softplus_backward(layer: Any, z: np.ndarray, dy: np.ndarray) -> np.ndarray:
    dz = _sigmoid(z.copy())
    dz *= dy
    return dz


def _gelu_forward(layer: Any, z: np.ndarray) -> Any:
    """½ z · t with t = 2 Φ = erfc(−z/√2), or 1 + tanh u."""
    is_tanh = layer.approximate == "tanh"
    fast = loops((_SIMPLE if is_tanh else _ERFC) * z.size, z.size)
    if not fast or not _are_covered(z):
        t = _tanh_gate(z) if is_tanh else erfc(z * -math.sqrt(0.5))
        y = z * t
        y *= 0.5
        return y, (z, t)
    t, y = np.empty_like(z), np.empty_like(z)
    if is_tanh:
        fast.gelu_tanh_inner(*_flat(z, t))
        np.tanh(t, out=t)
        fast.gelu_tanh(*_flat(z, t, y))
    else:
        fast.gelu_exponent(*_flat(z, y))
        e = np.exp(y)
        fast.run("gelu", z.dtype, parts(z.size), constant(z.size, int), z, e, t, y)
    return y, (z, t)


def _gelu_backward(layer: Any, kept: Any, dy: np.ndarray) -> np.ndarray:
    """½ (t + z · t') with t' = 2 e^(−z²/2) / √(2π), or (1 − tanh² u) · u' = t · (2 − t) · u'."""
    z, t = kept
    is_tanh = layer.approximate == "tanh"
    fast = loops(_SIMPLE * z.size, z.size) if is_tanh else None
    if fast and _are_covered(z, t, dy):
        dz = np.empty_like(z)
        fast.gelu_tanh_backward(*_flat(z, t, dy, dz))
        return dz
    if is_tanh:
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
    """As `xpnn.arrays.special.erfc`, piece by piece."""
    y, constants = np.empty(x.size, x.dtype), _constants(x.dtype)
    for start in range(0, x.size, _PIECE):
        piece = x.reshape(-1)[start : start + _PIECE]
        _erfc(piece, y[start : start + _PIECE], *constants)
    return y.reshape(x.shape)


def _erfc(x: np.ndarray, y: np.ndarray, edges: Any, a: Any, b: Any, c: Any, d: Any, p: Any, q: Any) -> None:
    """y = erfc(x); as the loop `gelu`, with one exp for both ranges that need it."""
    low, high, root = edges
    w = np.abs(x)
    e = np.maximum(w, low)
    np.multiply(e, -e, out=e)
    np.exp(e, out=e)
    small, between, far = np.minimum(w, low), np.clip(w, low, high), np.maximum(w, high)
    square, inverse = small * small, 1 / (far * far)
    near = 1 - small * _polynomial(square, a) / _polynomial(square, b)
    mid = e * _polynomial(between, c) / _polynomial(between, d)
    tail = e / far * (root - inverse * _polynomial(inverse, p) / _polynomial(inverse, q))
    near *= w <= low
    mid *= (w > low) & (w <= high)
    tail *= w > high
    near += mid
    near += tail
    np.subtract(2, near, out=mid)
    mid *= x < 0
    near *= ~(x < 0)
    np.add(near, mid, out=y)


def _are_covered(*arrays: np.ndarray) -> bool:
    """Whether a loop covers these arrays: in C order, and of one dtype, float32 or float64."""
    kind = arrays[0].dtype
    return kind.itemsize > 2 and all([x.flags.c_contiguous and x.dtype == kind for x in arrays])


def _flat(*arrays: np.ndarray) -> list[np.ndarray]:
    """Flat views."""
    return [x.reshape(-1) for x in arrays]


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
