"""Metrics of numbers: how far the predictions are from the targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xpnn.arrays.namespace import Array, Namespace, array_namespace
from xpnn.errors import InputError
from xpnn.validation import as_count


class ErrorSums(NamedTuple):
    """total: Σ w · (mean over the outputs of |z − t|); seen: Σ w; 0-d."""

    total: Array
    seen: Array


@dataclass(frozen=True)
class MeanAbsoluteError:
    """The mean distance, in the target's unit: Σ_n w_n · (mean over the outputs of |z − t|) / Σ_n w_n.

    prediction z, target t: (batch, outputs). Raises InputError where the shapes differ.
    """

    name: str = "mean_absolute_error"

    def init(self) -> ErrorSums:
        return ErrorSums(np.zeros(()), np.zeros(()))

    def update(self, sums: ErrorSums, prediction: Array, target: Array, weight: Array | None) -> ErrorSums:
        xp, z, t, w, rows = _enter(self, prediction, target, weight)
        return ErrorSums(sums.total + xp.sum(w * xp.abs(z - t)) / z.shape[1], sums.seen + rows)

    def result(self, sums: ErrorSums) -> float:
        return float(sums.total) / float(sums.seen) if sums.seen else float("nan")


class R2Sums(NamedTuple):
    """Per output, d = t − shift: Σ w · (z − t)², shift, Σ w · d, Σ w · d², each (outputs,); seen: Σ w, 0-d."""

    residual: Array
    shift: Array
    first: Array
    second: Array
    seen: Array


@dataclass(frozen=True)
class R2Score:
    """The share of the targets' variance that is explained, 1 − Σ w (z − t)² / Σ w (t − mean t)², at most 1.

    Of several outputs, the mean of each one's. A constant target gives 1 if it is met exactly, else 0 (as in
    scikit-learn). All sums are of t − shift, where the shift is the mean of the first batch: a large offset of the
    targets costs no digits (Chan, Golub and LeVeque 1983, "shifted data").

    outputs: how many the model has. prediction z, target t: (batch, outputs). Raises InputError for other shapes.
    """

    outputs: int = 1
    name: str = "r2_score"

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", as_count("R2Score: outputs", self.outputs))

    def init(self) -> R2Sums:
        zero = np.zeros(self.outputs)
        return R2Sums(zero, zero, zero, zero, np.zeros(()))

    def update(self, sums: R2Sums, prediction: Array, target: Array, weight: Array | None) -> R2Sums:
        xp, z, t, w, rows = _enter(self, prediction, target, weight)
        if z.shape[1] != self.outputs:
            raise InputError(f"R2Score: outputs is {self.outputs}, but the model has {z.shape[1]}")
        # The mean is taken of differences from the first row, so that it is exact for targets that are all alike.
        row = t[0, :]
        mean = row + xp.sum(w * (t - row), axis=0) / xp.where(rows > 0, rows, 1.0)
        shift = xp.where(sums.seen > 0, sums.shift, mean)
        d = t - shift
        return R2Sums(
            sums.residual + xp.sum(w * (z - t) ** 2, axis=0),
            shift,
            sums.first + xp.sum(w * d, axis=0),
            sums.second + xp.sum(w * d * d, axis=0),
            sums.seen + rows,
        )

    def merge(self, one: R2Sums, other: R2Sums) -> R2Sums:
        """The sums of both, about the shift of the first; sums without rows change nothing."""
        xp = array_namespace(one.seen)
        shift = xp.where(one.seen > 0, one.shift, other.shift)
        moved = xp.where(other.seen > 0, other.shift - shift, xp.zeros_like(shift))  # d about `shift` is d + moved
        second = other.second + 2 * moved * other.first + moved * moved * other.seen
        return R2Sums(
            one.residual + other.residual,
            shift,
            one.first + other.first + moved * other.seen,
            one.second + second,
            one.seen + other.seen,
        )

    def result(self, sums: R2Sums) -> float:
        residual, _, first, second, seen = (np.asarray(part, dtype=np.float64) for part in sums)
        if not seen:
            return float("nan")
        with np.errstate(all="ignore"):  # what is not finite stays so
            total = np.maximum(second - first * first / seen, 0.0)
            explained = 1 - residual / np.where(total > 0, total, 1.0)
        return float(np.mean(np.where(total == 0, residual == 0, explained)))


def _enter(
    metric: Any, prediction: Array, target: Array, weight: Array | None
) -> tuple[Namespace, Array, Array, Array, Array]:
    """(xp, prediction, target in its dtype, weight of each row as a column, their sum)."""
    if prediction.ndim != 2 or prediction.shape != target.shape:
        raise InputError(
            f"{type(metric).__name__}: prediction has shape {tuple(prediction.shape)} and target "
            f"{tuple(target.shape)}; expected the same shape (batch, outputs). Give a column as y[:, None]"
        )
    xp = array_namespace(prediction)
    w = xp.ones_like(prediction[:, 0]) if weight is None else weight
    return xp, prediction, xp.astype(target, prediction.dtype), w[:, None], xp.sum(w)
