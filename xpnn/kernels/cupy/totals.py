"""Sums and counters of a training step."""

from __future__ import annotations

import math
from typing import Any

from xpnn.arrays.namespace import array_namespace
from xpnn.kernels.cupy.launch import C_NAMES, launch
from xpnn.kernels.cupy.optimizers import is_flat, tables
from xpnn.training.metrics.accuracy import AccuracySums, count_hits
from xpnn.training.totals import ema_update, update_totals

_LEAST, _CLASSES, _ROWS = 8, 256, 2**16  # the least rows of a thread, and the most classes and rows that are covered


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
    if not isinstance(rows, int) or kind.name not in C_NAMES or any(x.dtype != kind for x in (value, lr)):
        return NotImplemented
    xp = array_namespace(step)
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
    chunk = max(_LEAST, math.isqrt(rows))  # about the same number of iterations in both launches
    parts, new = xp.empty(-(-rows // chunk), dtype=kind), xp.empty(2, dtype=kind)
    labels = xp.ascontiguousarray(xp.astype(target, xp.int32, copy=False))
    launch("hits", kind, parts.size, xp.ascontiguousarray(prediction), labels, parts, rows, classes, chunk)
    launch("add_hits", kind, 1, parts, sums.correct, sums.seen, new, parts.size, rows)
    return AccuracySums(new[0, ...], new[1, ...])


@ema_update.kernel("cupy")
def _ema_update(averages: list[Any], params: list[Any], decay: float, step: Any) -> Any:
    if not is_flat(averages, params):
        return NotImplemented
    for table, n in tables(p=averages, g=params):
        launch("ema_update", averages[0].dtype, n, table, n, step, 1 - decay)
    return averages
