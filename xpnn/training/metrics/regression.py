"""Metrics of regression: mean absolute error, root mean square error and R²."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xpnn.arrays.namespace import Array, Namespace, array_namespace, device_of
from xpnn.errors import InputError
from xpnn.validation import as_count, as_finite


class ErrorSums(NamedTuple):
    """Sums of `MeanAbsoluteError` and `RootMeanSquaredError`, for predictions z, targets t and weights w.

    Attributes
    ----------
    total : array
        Σ w · (mean over the outputs of |z − t| or (z − t)²), 0-d.
    seen : array
        Σ w, 0-d.
    """

    total: Array
    seen: Array


@dataclass(frozen=True)
class MeanAbsoluteError:
    """Mean absolute error, in the unit of the target.

    Parameters
    ----------
    name : str, default "mean_absolute_error"
        The name in the logs.
    scale : float or tuple of float, default 1.0
        By what the errors are multiplied, for all outputs or for each: the deviation of targets that were standardized.

    Raises
    ------
    InputError
        By `update`, if prediction and target have different shapes.

    Notes
    -----
    Σ w · (mean over the outputs of scale · |z − t|) / Σ w, over the rows, for predictions z and targets t, both of
    shape (batch, outputs), and weights w of the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import MeanAbsoluteError
    >>> metric = MeanAbsoluteError()
    >>> sums = metric.update(metric.init(), np.array([[1.0], [2.0]]), np.array([[1.5], [4.0]]), None)
    >>> metric.result(sums)
    1.25
    """

    name: str = "mean_absolute_error"
    scale: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        _check_scale(self)

    def init(self) -> ErrorSums:
        return ErrorSums(np.zeros(()), np.zeros(()))

    def update(self, sums: ErrorSums, prediction: Array, target: Array, weight: Array | None) -> ErrorSums:
        xp, z, t, w, rows = _enter(self, prediction, target, weight)
        return ErrorSums(sums.total + xp.sum(w * xp.abs(_scaled(self, xp, z - t))) / z.shape[1], sums.seen + rows)

    def result(self, sums: ErrorSums) -> float:
        return float(sums.total) / float(sums.seen) if sums.seen else float("nan")


@dataclass(frozen=True)
class RootMeanSquaredError:
    """Root mean square error, in the unit of the target.

    Parameters
    ----------
    name : str, default "root_mean_squared_error"
        The name in the logs.
    scale : float or tuple of float, default 1.0
        As for `MeanAbsoluteError`.

    Raises
    ------
    InputError
        By `update`, if prediction and target have different shapes.

    Notes
    -----
    √(Σ w · (mean over the outputs of (scale · (z − t))²) / Σ w), over the rows, for predictions z and targets t, both
    of shape (batch, outputs), and weights w of the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import RootMeanSquaredError
    >>> metric = RootMeanSquaredError()
    >>> metric.result(metric.update(metric.init(), np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]), None)) ** 2
    2.0000000000000004
    """

    name: str = "root_mean_squared_error"
    scale: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        _check_scale(self)

    def init(self) -> ErrorSums:
        return ErrorSums(np.zeros(()), np.zeros(()))

    def update(self, sums: ErrorSums, prediction: Array, target: Array, weight: Array | None) -> ErrorSums:
        xp, z, t, w, rows = _enter(self, prediction, target, weight)
        return ErrorSums(sums.total + xp.sum(w * _scaled(self, xp, z - t) ** 2) / z.shape[1], sums.seen + rows)

    def result(self, sums: ErrorSums) -> float:
        return math.sqrt(float(sums.total) / float(sums.seen)) if sums.seen else float("nan")


class R2Sums(NamedTuple):
    """Sums of `R2Score`, for predictions z, targets t, weights w and d = t − shift.

    Attributes
    ----------
    residual : array of shape (outputs,)
        Σ w · (z − t)².
    shift : array of shape (outputs,)
        The mean of the first batch of targets.
    first, second : arrays of shape (outputs,)
        Σ w · d and Σ w · d².
    seen : array
        Σ w, 0-d.
    """

    residual: Array
    shift: Array
    first: Array
    second: Array
    seen: Array


@dataclass(frozen=True)
class R2Score:
    """Coefficient of determination R²: the fraction of the variance of the targets that is explained, at most 1.

    Parameters
    ----------
    outputs : int, default 1
        The number of outputs of the model.
    name : str, default "r2_score"
        The name in the logs.

    Raises
    ------
    InputError
        If `outputs` is not a whole number of at least 1; `update` raises it if the shapes do not suit.

    Notes
    -----
    1 − Σ w (z − t)² / Σ w (t − mean t)², over the rows, for predictions z and targets t, both of shape
    (batch, outputs), and weights w of the rows; then the mean over the outputs. A constant target gives 1 if it is
    predicted exactly, else 0, as in scikit-learn.

    Targets are summed as t − shift, where the shift is the mean of the first batch. So a large offset of the targets
    costs no precision.

    References
    ----------
    Chan, Golub and LeVeque, "Algorithms for computing the sample variance: analysis and recommendations", 1983
    (shifted data).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import R2Score
    >>> metric = R2Score()
    >>> sums = metric.update(metric.init(), np.array([[1.0], [2.0], [4.0]]), np.array([[0.0], [2.0], [4.0]]), None)
    >>> metric.result(sums)
    0.875
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
            raise InputError(f"R2Score: outputs is {self.outputs}, but the model has {z.shape[1]} outputs")
        # The mean is computed from differences to the first row, so that it is exact for a constant target.
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
        """Return the sums of two disjoint sets of rows, about the shift of the first; empty sums change nothing."""
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
        with np.errstate(all="ignore"):  # values that are not finite stay so
            total = np.maximum(second - first * first / seen, 0.0)
            explained = 1 - residual / np.where(total > 0, total, 1.0)
        return float(np.mean(np.where(total == 0, residual == 0, explained)))


def _check_scale(metric: MeanAbsoluteError | RootMeanSquaredError) -> None:
    """Raise InputError unless the scale is one finite number, or several; store it as Python floats."""
    what, scale = f"{type(metric).__name__}: scale", metric.scale
    found = tuple(as_finite(what, s) for s in scale) if isinstance(scale, (tuple, list)) else as_finite(what, scale)
    object.__setattr__(metric, "scale", found)


def _scaled(metric: MeanAbsoluteError | RootMeanSquaredError, xp: Namespace, error: Array) -> Array:
    """The errors times the scale of the metric."""
    if isinstance(metric.scale, (int, float)):
        return error * float(metric.scale)
    if len(metric.scale) != error.shape[1]:
        raise InputError(
            f"{type(metric).__name__}: scale has {len(metric.scale)} values, but the model has {error.shape[1]} outputs"
        )
    return error * xp.asarray(metric.scale, dtype=error.dtype, device=device_of(error))


def _enter(
    metric: Any, prediction: Array, target: Array, weight: Array | None
) -> tuple[Namespace, Array, Array, Array, Array]:
    """Return xp, the prediction, the target in its dtype, the weights as a column, and the sum of the weights."""
    if prediction.ndim != 2 or prediction.shape != target.shape:
        raise InputError(
            f"{type(metric).__name__}: prediction has shape {tuple(prediction.shape)} and target "
            f"{tuple(target.shape)}; expected the same shape (batch, outputs). Give a column as y[:, None]"
        )
    xp = array_namespace(prediction)
    w = xp.ones_like(prediction[:, 0]) if weight is None else weight
    return xp, prediction, xp.astype(target, prediction.dtype), w[:, None], xp.sum(w)
