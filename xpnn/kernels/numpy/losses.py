"""Cross-entropy of integer labels that all count alike, and the penalty on squares."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from xpnn.kernels.common import is_plain
from xpnn.kernels.numpy.compiled import loops
from xpnn.kernels.numpy.optimizers import in_place, pieces
from xpnn.nn.losses.cross_entropy import cross_entropy
from xpnn.nn.penalties import add_squares

_DOT = 8_000  # elements: OpenBLAS would divide more among its threads, which wait for each other actively
_SAVED = 5e-6  # seconds that a loop saves per batch, mostly calls: AMD EPYC, 2026-11-21


class CrossEntropyResiduals(NamedTuple):
    """e: exp(logits − the largest of their row), (batch, classes); total: Σ_c e, (batch,); target: (batch,) labels."""

    e: np.ndarray
    total: np.ndarray
    target: np.ndarray


def _forward(z: np.ndarray, loss: Any, constants: Any, target: np.ndarray, sample_weight: Any) -> Any:
    """The mean over rows of log Σ_c exp z_c − z_label."""
    if not is_plain(z, loss, constants, target, sample_weight):
        return NotImplemented
    if loss.reduction != "mean" or target.dtype.kind not in "iu" or not z.size:
        return NotImplemented
    fast = loops(_SAVED, z.size)
    if fast and z.flags.c_contiguous and target.flags.c_contiguous:
        y, own = np.empty_like(z), np.empty(z.shape[0], z.dtype)
        if not fast.shifted(z, target, y, own):
            return NotImplemented
    else:
        if not 0 <= np.minimum.reduce(target) <= np.maximum.reduce(target) < z.shape[1]:
            return NotImplemented
        y = z - np.maximum.reduce(z, axis=1, keepdims=True)
        own = y.take(_row_starts(*z.shape) + target)
    e = np.exp(y, out=y)  # cannot overflow
    total = np.add.reduce(e, axis=1)
    value = np.add.reduce(np.log(total) - own) / z.dtype.type(z.shape[0])
    return value, CrossEntropyResiduals(e, total, target)


def _backward(constants: Any, residuals: CrossEntropyResiduals) -> Any:
    """(softmax − one-hot) / batch."""
    e, total, target = residuals
    batch = e.dtype.type(e.shape[0])
    fast = loops(_SAVED, e.size)
    if fast and target.flags.c_contiguous:
        d = np.empty_like(e)
        fast.softmax_minus_one_hot(e, total, target, batch, 1 / batch, d)
        return d
    d = e / (total * batch)[:, None]
    flat = d.reshape(-1)
    flat[_row_starts(*e.shape) + target] -= 1 / batch
    return d


cross_entropy.kernel("numpy", _forward, _backward, residuals=CrossEntropyResiduals)


@lru_cache(maxsize=8)
def _row_starts(rows: int, columns: int) -> np.ndarray:
    """Where each row begins in the flat array."""
    return np.arange(0, rows * columns, columns)


@add_squares.kernel("numpy")
def _add_squares(
    weights: list[np.ndarray], grads: list[np.ndarray], loss: Any, count: Any, alpha: float, *, donate: bool
) -> Any:
    if not donate or not in_place(weights, grads):
        return NotImplemented
    factor, total = alpha / float(count), 0.0
    for w, g in pieces(weights, grads, size=_DOT):
        total += float(np.dot(w, w))
        g += w * factor
    return loss + loss.dtype.type(0.5 * factor * total), grads
