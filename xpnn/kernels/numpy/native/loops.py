"""Loops that numba compiles: one pass over memory instead of NumPy's several, for contiguous arrays.

Each performs the operations of the NumPy kernel that calls it, element by element, in the same order and with the same
rounding, so that the bits are the same. Hence no `fastmath`, and no exp or tanh, which libraries round differently.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn.arrays.random import PARITY, ROTATIONS
from xpnn.kernels.numpy.native.caching import compiled, inlined

_U32, _PARITY = np.uint32, np.uint32(PARITY)
(_A0, _A1, _A2, _A3), (_B0, _B1, _B2, _B3) = (tuple(map(np.uint32, row)) for row in ROTATIONS)


@inlined
def _mix(x0: Any, x1: Any, r: Any) -> Any:
    """One round of Threefry."""
    x0 = _U32(x0 + x1)
    return x0, _U32(_U32(_U32(x1 << r) | _U32(x1 >> _U32(_U32(32) - r))) ^ x0)


@inlined
def _block(x0: Any, x1: Any, k0: Any, k1: Any, k2: Any) -> Any:
    """The two words of a block, by twenty rounds; x0, x1: its number and its step, each plus its key."""
    x0, x1 = _mix(x0, x1, _A0)
    x0, x1 = _mix(x0, x1, _A1)
    x0, x1 = _mix(x0, x1, _A2)
    x0, x1 = _mix(x0, x1, _A3)
    x0, x1 = _U32(x0 + k1), _U32(x1 + _U32(k2 + _U32(1)))
    x0, x1 = _mix(x0, x1, _B0)
    x0, x1 = _mix(x0, x1, _B1)
    x0, x1 = _mix(x0, x1, _B2)
    x0, x1 = _mix(x0, x1, _B3)
    x0, x1 = _U32(x0 + k2), _U32(x1 + _U32(k0 + _U32(2)))
    x0, x1 = _mix(x0, x1, _A0)
    x0, x1 = _mix(x0, x1, _A1)
    x0, x1 = _mix(x0, x1, _A2)
    x0, x1 = _mix(x0, x1, _A3)
    x0, x1 = _U32(x0 + k0), _U32(x1 + _U32(k1 + _U32(3)))
    x0, x1 = _mix(x0, x1, _B0)
    x0, x1 = _mix(x0, x1, _B1)
    x0, x1 = _mix(x0, x1, _B2)
    x0, x1 = _mix(x0, x1, _B3)
    x0, x1 = _U32(x0 + k1), _U32(x1 + _U32(k2 + _U32(4)))
    x0, x1 = _mix(x0, x1, _A0)
    x0, x1 = _mix(x0, x1, _A1)
    x0, x1 = _mix(x0, x1, _A2)
    x0, x1 = _mix(x0, x1, _A3)
    x0, x1 = _U32(x0 + k2), _U32(x1 + _U32(k0 + _U32(5)))
    return x0, x1


@compiled
def words(k0: Any, k1: Any, step: Any, start: Any, y: Any) -> None:
    """y[2i], y[2i + 1] = the two words of block start + i; start: uint32, y: uint32 (an even number,)."""
    k2 = _U32(_U32(k0 ^ k1) ^ _PARITY)
    start, first = _U32(start + k0), _U32(step + k1)
    for i in range(y.size // 2):
        y[2 * i], y[2 * i + 1] = _block(_U32(_U32(i) + start), first, k0, k1, k2)


@compiled
def mask(k0: Any, k1: Any, step: Any, start: Any, threshold: Any, y: Any) -> None:
    """y = words ≥ threshold; y: bool (an even number,)."""
    k2 = _U32(_U32(k0 ^ k1) ^ _PARITY)
    start, first = _U32(start + k0), _U32(step + k1)
    for i in range(y.size // 2):
        x0, x1 = _block(_U32(_U32(i) + start), first, k0, k1, k2)
        y[2 * i], y[2 * i + 1] = x0 >= threshold, x1 >= threshold


@compiled
def in_range(index: Any, size: Any) -> bool:
    """Whether all indices are from 0 to size − 1."""
    inside = True
    for i in range(index.size):
        inside &= 0 <= index[i] < size
    return inside


@compiled
def rows(x: Any, index: Any, y: Any, first: Any, last: Any) -> None:
    """y[i] = x[index[i]] for i from first to last; x: (samples, bytes), y: (batch, bytes)."""
    for i in range(first, last):
        source, out = x[index[i]], y[i]
        for j in range(out.size):
            out[j] = source[j]


@compiled
def scaled(x: Any, factor: Any, y: Any) -> None:
    """y = factor · x; flat."""
    kind = type(factor)
    for i in range(x.size):
        y[i] = kind(x[i]) * factor


@compiled
def shifted(z: Any, label: Any, y: Any, own: Any) -> bool:
    """y = z − the largest of its row, own = y at the label; z, y: (batch, classes). False for a label out of range."""
    for i in range(z.shape[0]):
        if not 0 <= label[i] < z.shape[1]:
            return False
        row, out = z[i], y[i]
        largest = row[0]
        for j in range(row.size):
            if not row[j] <= largest:  # NaN stays NaN
                largest = row[j]
        for j in range(row.size):
            out[j] = row[j] - largest
        own[i] = out[label[i]]
    return True


@compiled
def softmax_minus_one_hot(e: Any, total: Any, label: Any, batch: Any, share: Any, y: Any) -> None:
    """y = e / (total · batch), minus share = 1 / batch at the label; e, y: (batch, classes), total: (batch,)."""
    for i in range(e.shape[0]):
        row, out = e[i], y[i]
        divisor = total[i] * batch
        for j in range(row.size):
            out[j] = row[j] / divisor
        out[label[i]] -= share


@compiled
def sgd(p: Any, g: Any, settings: Any) -> None:
    """As `sgd_step`, without momentum; flat."""
    inner, outer, weight_decay = settings[0], settings[1], settings[2]
    for i in range(p.size):
        d = g[i]
        if weight_decay:
            d = d + weight_decay * p[i]
        p[i] -= d * inner * outer


@compiled
def sgd_momentum(p: Any, g: Any, v: Any, settings: Any) -> None:
    """As `sgd_step`, with momentum; one of inner and outer is lr, the other 1; nesterov: 0 or 1; flat."""
    inner, outer, weight_decay = settings[0], settings[1], settings[2]
    momentum, nesterov = settings[3], settings[4]
    for i in range(p.size):
        d = g[i]
        if weight_decay:
            d = d + weight_decay * p[i]
        d = d * inner
        v[i] = v[i] * momentum + d
        step = d + momentum * v[i] if nesterov else v[i]
        p[i] -= step * outer


@compiled
def adam(p: Any, g: Any, m: Any, v: Any, settings: Any) -> None:
    """As `adam_step`, without amsgrad; shrink: AdamW's factor of p; weight_decay: Adam's; flat."""
    rate, correction2, beta1, beta2 = settings[0], settings[1], settings[2], settings[3]
    rest1, rest2, eps, shrink, weight_decay = settings[4], settings[5], settings[6], settings[7], settings[8]
    for i in range(p.size):
        d = g[i]
        if weight_decay:
            d = d + weight_decay * p[i]
        m[i] = m[i] * beta1 + d * rest1
        v[i] = v[i] * beta2 + (d * d) * rest2
        p[i] = p[i] * shrink - m[i] / (np.sqrt(v[i] / correction2) + eps) * rate


@compiled
def amsgrad(p: Any, g: Any, m: Any, v: Any, v_max: Any, settings: Any) -> None:
    """As `adam_step`, with amsgrad; shrink, weight_decay: as for `adam`; flat."""
    rate, correction2, beta1, beta2 = settings[0], settings[1], settings[2], settings[3]
    rest1, rest2, eps, shrink, weight_decay = settings[4], settings[5], settings[6], settings[7], settings[8]
    for i in range(p.size):
        d = g[i]
        if weight_decay:
            d = d + weight_decay * p[i]
        m[i] = m[i] * beta1 + d * rest1
        v[i] = v[i] * beta2 + (d * d) * rest2
        v_max[i] = v[i] if v[i] > v_max[i] else v_max[i]
        p[i] = p[i] * shrink - m[i] / (np.sqrt(v_max[i] / correction2) + eps) * rate


@compiled
def rmsprop(p: Any, g: Any, v: Any, settings: Any) -> None:
    """As `rmsprop_step`, without momentum; flat."""
    lr, alpha, rest, eps, weight_decay = settings[0], settings[1], settings[2], settings[3], settings[4]
    for i in range(p.size):
        d = g[i]
        if weight_decay:
            d = d + weight_decay * p[i]
        v[i] = alpha * v[i] + rest * (d * d)
        p[i] -= lr * (d / (np.sqrt(v[i]) + eps))


@compiled
def rmsprop_momentum(p: Any, g: Any, v: Any, u: Any, settings: Any) -> None:
    """As `rmsprop_step`, with momentum; flat."""
    lr, alpha, rest, eps, weight_decay = settings[0], settings[1], settings[2], settings[3], settings[4]
    momentum = settings[5]
    for i in range(p.size):
        d = g[i]
        if weight_decay:
            d = d + weight_decay * p[i]
        v[i] = alpha * v[i] + rest * (d * d)
        u[i] = momentum * u[i] + d / (np.sqrt(v[i]) + eps)
        p[i] -= lr * u[i]


@compiled
def adagrad(p: Any, g: Any, total: Any, settings: Any) -> None:
    """As `adagrad_step`; flat."""
    lr, eps, weight_decay = settings[0], settings[1], settings[2]
    for i in range(p.size):
        d = g[i]
        if weight_decay:
            d = d + weight_decay * p[i]
        total[i] = total[i] + d * d
        p[i] -= lr * d / (np.sqrt(total[i]) + eps)


@compiled
def nadam(p: Any, g: Any, m: Any, v: Any, settings: Any) -> None:
    """As `nadam_step`; shrink: the factor of p with decoupled decay; weight_decay: of the other kind; flat."""
    lr, of_m, of_grad, correction2 = settings[0], settings[1], settings[2], settings[3]
    beta1, rest1, beta2, rest2 = settings[4], settings[5], settings[6], settings[7]
    eps, shrink, weight_decay = settings[8], settings[9], settings[10]
    for i in range(p.size):
        d = g[i]
        if weight_decay:
            d = d + weight_decay * p[i]
        m[i] = beta1 * m[i] + rest1 * d
        v[i] = beta2 * v[i] + rest2 * (d * d)
        p[i] = p[i] * shrink - lr * (of_m * m[i] + of_grad * d) / (np.sqrt(v[i] / correction2) + eps)


@compiled
def lion(p: Any, g: Any, m: Any, settings: Any) -> None:
    """As `lion_step`; shrink: the decay's factor of p; flat."""
    lr, shrink = settings[0], settings[1]
    beta1, rest1, beta2, rest2 = settings[2], settings[3], settings[4], settings[5]
    for i in range(p.size):
        sign = np.sign(beta1 * m[i] + rest1 * g[i])
        m[i] = beta2 * m[i] + rest2 * g[i]
        p[i] = p[i] * shrink - lr * sign


@compiled
def average(e: Any, p: Any, settings: Any) -> None:
    """As `ema_update`; flat."""
    rest = settings[0]
    for i in range(e.size):
        e[i] = e[i] + rest * (p[i] - e[i])


@compiled
def blend(x: Any, y: Any, settings: Any) -> None:
    """x ← a · x + b · y; flat."""
    a, b = settings[0], settings[1]
    for i in range(x.size):
        x[i] = a * x[i] + b * y[i]


@compiled
def muon(p: Any, u: Any, settings: Any) -> None:
    """As the end of `muon_step`; u: the orthogonal matrix, shrink: the decay's factor of p; flat."""
    lr, shrink, scale = settings[0], settings[1], settings[2]
    for i in range(p.size):
        p[i] = p[i] * shrink - lr * (scale * u[i])
