"""Cross-entropy of integer labels that all count alike, and the penalty on squares."""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnn.arrays.namespace import array_namespace
from xpnn.kernels.common import is_plain
from xpnn.kernels.cupy.launch import C_NAMES, THREADS, is_flat, launch, tables
from xpnn.kernels.cupy.totals import column_sums
from xpnn.nn.losses.cross_entropy import cross_entropy
from xpnn.nn.penalties import add_squares

_CLASSES = 256  # the most that one thread goes through
_PARTS = 4096  # of a sum of squares, each by one thread
_ROWS, _CHUNK = 512, 32  # the most rows of one block; more are divided into chunks


class CrossEntropyResiduals(NamedTuple):
    """d: the gradient, (batch, classes), which forward computes too."""

    d: Any


def _forward(z: Any, loss: Any, constants: Any, target: Any, sample_weight: Any) -> Any:
    """The mean over rows of log Σ_c exp z_c − z_label."""
    xp = array_namespace(z)
    if not is_plain(z, loss, constants, target, sample_weight) or loss.reduction != "mean":
        return NotImplemented
    rows, classes = z.shape
    if target.dtype != xp.int32 or not z.flags.c_contiguous or classes > _CLASSES or z.dtype.name not in C_NAMES:
        return NotImplemented
    chunk = max(1, rows) if rows <= _ROWS else _CHUNK
    parts, d = xp.empty((-(-rows // chunk), 1), dtype=z.dtype), xp.empty_like(z)
    rest = (parts, d, rows, classes, chunk)
    launch("cross_entropy", z.dtype, parts.size * THREADS, z, xp.ascontiguousarray(target), *rest)
    total = parts[0] if parts.size == 1 else column_sums(parts)
    return total[0, ...], CrossEntropyResiduals(d)


def _backward(constants: Any, residuals: CrossEntropyResiduals) -> Any:
    return residuals.d


cross_entropy.kernel("cupy", _forward, _backward, residuals=CrossEntropyResiduals)


@add_squares.kernel("cupy")
def _add_squares(weights: list[Any], grads: list[Any], loss: Any, count: Any, alpha: float, *, donate: bool) -> Any:
    if not donate or not is_flat([loss], weights, grads):
        return NotImplemented
    fixed = isinstance(count, int)
    if not fixed and count.dtype != loss.dtype:
        return NotImplemented
    xp, kind, groups = array_namespace(weights[0]), weights[0].dtype, list(tables(p=weights, u=grads))
    sums = xp.empty((len(groups), _PARTS), dtype=kind)
    for part, (table, n) in zip(sums, groups, strict=True):
        launch("squares_penalty", kind, _PARTS, table, n, None if fixed else count, count if fixed else 0, alpha, part,
               _PARTS)  # fmt: skip
    return loss + column_sums(xp.reshape(sums, (-1, 1)))[0], grads
