"""Sums and counters of a training step."""

from __future__ import annotations

import math
from typing import Any

from xpnn.arrays.namespace import array_namespace
from xpnn.kernels.cupy.launch import C_NAMES, THREADS, is_flat, launch, tables
from xpnn.training.metrics.accuracy import AccuracySums, count_hits
from xpnn.training.totals import ema_update, update_totals

_CLASSES, _ROWS, _CHUNK = 256, 2**18, 1024  # the most classes and rows that are covered, and rows of a block
_ROWS_EACH = 64  # rows that one thread adds up
_SMALL, _FEW = 2**18, 16  # elements of an x that one launch adds up by blocks, if it has more than a few rows


@update_totals.kernel("cupy")
def _update_totals(
    step: Any,
    clock: Any,
    loss: Any,
    weight: Any,
    bad_step: Any,
    bad_lr: Any,
    value: Any,
    rows: Any,
    lr: Any,
    is_sum: bool,
) -> Any:
    kind = clock.dtype
    xp = array_namespace(step)
    if not isinstance(rows, int) or kind.name not in C_NAMES or any(x.dtype != kind for x in (value, lr)):
        return NotImplemented
    if step.dtype != xp.uint32 or bad_step.dtype != xp.uint32:
        return NotImplemented
    words, values = xp.empty(2, dtype=step.dtype), xp.empty(4, dtype=kind)
    arguments = (step, clock, loss, weight, bad_step, bad_lr, value, lr, rows, is_sum)
    launch("totals", kind, 1, *arguments, words, values)
    return words[:1], values[0, ...], values[1, ...], values[2, ...], words[1:], values[3, ...]


@count_hits.kernel("cupy")
def _count_hits(prediction: Any, target: Any, sums: AccuracySums) -> Any:
    (rows, classes), kind = prediction.shape, prediction.dtype
    if classes > _CLASSES or rows > _ROWS or kind.name not in C_NAMES or sums.seen.dtype != kind:
        return NotImplemented
    xp = array_namespace(prediction)
    labels = xp.ascontiguousarray(xp.astype(target, xp.int32, copy=False))
    prediction, new, parts = xp.ascontiguousarray(prediction), xp.empty(2, dtype=kind), -(-rows // _CHUNK)
    if parts == 1:
        launch("hits", kind, THREADS, prediction, labels, *sums, new, rows, classes, rows)
    else:
        found = xp.empty(parts, dtype=kind)
        launch("hits", kind, parts * THREADS, prediction, labels, None, None, found, rows, classes, _CHUNK)
        launch("add_hits", kind, 1, found, *sums, new, parts, rows)
    return AccuracySums(new[0, ...], new[1, ...])


@ema_update.kernel("cupy")
def _ema_update(averages: list[Any], params: list[Any], decay: float, step: Any) -> Any:
    if not is_flat(averages, params) or step.dtype != array_namespace(step).uint32:
        return NotImplemented
    for table, n in tables(p=averages, g=params):
        launch("ema_update", averages[0].dtype, n, table, n, step, 1 - decay)
    return averages


def column_sums(x: Any) -> Any:
    """The sum over the rows of x, (rows, columns), always in the same order."""
    xp, (rows, columns) = array_namespace(x), x.shape
    if x.size <= _SMALL and rows > _FEW:
        y = xp.empty(columns, dtype=x.dtype)
        launch("small_column_sums", x.dtype, columns * THREADS, x, y, rows, columns)
        return y
    while True:
        chunk = rows if rows <= _ROWS_EACH else min(_ROWS_EACH, max(8, math.isqrt(rows)))
        parts = -(-rows // chunk)
        y = xp.empty((parts, columns), dtype=x.dtype)
        launch("column_sums", x.dtype, parts * columns, x, y, rows, columns, chunk)
        if parts == 1:
            return y[0]
        x, rows = y, parts
