"""Sums and counters of a training step, with Python's control flow: on the host, reading a value costs nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnn.training.metrics.accuracy import AccuracySums, count_hits
from xpnn.training.totals import update_totals


@update_totals.kernel("numpy")
def _update_totals(
    step: np.ndarray,
    clock: Any,
    loss: Any,
    weight: Any,
    bad_step: np.ndarray,
    bad_lr: Any,
    value: Any,
    rows: Any,
    lr: Any,
    is_sum: bool,
) -> Any:
    now = step + 1
    if not math.isfinite(value) and not bad_step[0]:
        bad_step, bad_lr = now, lr
    return now, clock + 1, loss + (value if is_sum else value * rows), weight + rows, bad_step, bad_lr


@count_hits.kernel("numpy")
def _count_hits(prediction: np.ndarray, target: np.ndarray, sums: AccuracySums) -> Any:
    hits = int(np.count_nonzero(prediction.argmax(axis=1) == target))  # a NumPy integer would widen float32
    return AccuracySums(sums.correct + hits, sums.seen + len(target))
