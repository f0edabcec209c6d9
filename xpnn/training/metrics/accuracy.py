"""Accuracy, error rate and top-k accuracy; and how a metric of classes reads predictions and targets.

A target is labels or probabilities. A model with one output is a binary classifier: it predicts class 1 if the logit is
above 0, and the true class is 1 if the target is above ½. A row of weight 0 does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace, device_of
from xpnn.errors import InputError
from xpnn.validation import as_count, as_finite


class AccuracySums(NamedTuple):
    """Sums of `Accuracy`, `ErrorRate` and `TopKAccuracy`.

    Attributes
    ----------
    correct : array
        Σ of the weights of the rows that are correct, 0-d.
    seen : array
        Σ of the weights of all rows, 0-d.
    """

    correct: Array
    seen: Array


@dataclass(frozen=True)
class Accuracy:
    """Fraction of rows whose class is predicted correctly, from 0 to 1.

    Parameters
    ----------
    name : str, default "accuracy"
        The name in the logs.
    threshold : float, default 0.0
        For a model with one output, the value above which it predicts class 1: 0 for logits; 0.5 for probabilities, if
        the model ends with a Sigmoid.

    Raises
    ------
    InputError
        If the threshold is not a number; `update` raises it if the shapes do not suit.

    Notes
    -----
    Σ w · [argmax prediction = target] / Σ w, where w are the weights of the rows.

    Predictions have the shape (batch, classes), or (batch, 1) for two classes. Targets are labels of shape (batch,), or
    probabilities of the shape of the predictions, of which the largest is the class.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Accuracy
    >>> metric, logits = Accuracy(), np.array([[3.0, 1.0], [0.0, 2.0], [5.0, 4.0]])
    >>> sums = metric.update(metric.init(), logits, np.array([0, 1, 1]), None)
    >>> round(metric.result(sums), 3)
    0.667
    """

    name: str = "accuracy"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", as_finite("Accuracy: threshold", self.threshold))

    def init(self) -> AccuracySums:
        return AccuracySums(np.zeros(()), np.zeros(()))

    def update(self, sums: AccuracySums, prediction: Array, target: Array, weight: Array | None) -> AccuracySums:
        return _hit(sums, prediction, target, self.threshold, weight)

    def result(self, sums: AccuracySums) -> float:
        return float(sums.correct) / float(sums.seen) if sums.seen else float("nan")


@dataclass(frozen=True)
class ErrorRate:
    """Percentage of rows whose class is predicted wrongly, from 0 to 100: 100 · (1 − accuracy).

    Parameters
    ----------
    name : str, default "error"
        The name in the logs.
    threshold : float, default 0.0
        As for `Accuracy`.

    Raises
    ------
    InputError
        If the threshold is not a number; `update` raises it if the shapes do not suit.

    Notes
    -----
    Predictions and targets are those of `Accuracy`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import ErrorRate
    >>> metric, logits = ErrorRate(), np.array([[3.0, 1.0], [0.0, 2.0]])
    >>> metric.result(metric.update(metric.init(), logits, np.array([0, 0]), None))
    50.0
    """

    name: str = "error"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", as_finite("ErrorRate: threshold", self.threshold))

    def init(self) -> AccuracySums:
        return AccuracySums(np.zeros(()), np.zeros(()))

    def update(self, sums: AccuracySums, prediction: Array, target: Array, weight: Array | None) -> AccuracySums:
        return _hit(sums, prediction, target, self.threshold, weight)

    def result(self, sums: AccuracySums) -> float:
        seen = float(sums.seen)
        return 100 * (seen - float(sums.correct)) / seen if seen else float("nan")


@dataclass(frozen=True)
class TopKAccuracy:
    """Fraction of rows whose class is among the k largest outputs, from 0 to 1.

    Parameters
    ----------
    k : int, default 5
        How many of the largest outputs to look at; fewer than there are classes.
    name : str, default "top_k_accuracy"
        The name in the logs.

    Raises
    ------
    InputError
        If k is not a whole number of at least 1; `update` raises it if the shapes do not suit, or if there are no more
        than k outputs.

    Notes
    -----
    Σ w · [fewer than k outputs precede the output of the true class] / Σ w, where w are the weights of the rows.

    An output precedes another if it is larger, or equal with a lower index, as in argmax. So k = 1 is `Accuracy`, and a
    network whose outputs are all equal scores no better than chance. NaN precedes every number.

    Predictions have the shape (batch, classes). Targets are labels of shape (batch,), or probabilities of shape
    (batch, classes).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import TopKAccuracy
    >>> metric, logits = TopKAccuracy(2), np.array([[3.0, 1.0, 0.0], [1.0, 0.0, 2.0]])
    >>> metric.result(metric.update(metric.init(), logits, np.array([1, 1]), None))
    0.5
    """

    k: int = 5
    name: str = "top_k_accuracy"

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", as_count("TopKAccuracy: k", self.k))

    def init(self) -> AccuracySums:
        return AccuracySums(np.zeros(()), np.zeros(()))

    def update(self, sums: AccuracySums, prediction: Array, target: Array, weight: Array | None) -> AccuracySums:
        _, label = classes_of(prediction, target)
        classes = prediction.shape[1]
        if classes <= self.k:
            raise InputError(f"TopKAccuracy: k is {self.k} for {classes} outputs; expected k < {classes}")
        xp = array_namespace(prediction)
        index = xp.arange(classes, dtype=xp.int32, device=device_of(prediction))
        label = label[:, None]
        true = xp.sum(xp.where(index == label, prediction, 0.0), axis=1, keepdims=True)  # the output of the true class
        follows = xp.logical_or(prediction < true, xp.logical_and(prediction == true, index >= label))
        preceding = xp.sum(xp.astype(xp.logical_not(follows), xp.int32), axis=1)
        return _add(sums, preceding < self.k, prediction, weight)

    def result(self, sums: AccuracySums) -> float:
        return float(sums.correct) / float(sums.seen) if sums.seen else float("nan")


def classes_of(prediction: Array, target: Array, threshold: float = 0.0) -> tuple[Array, Array]:
    """Return the predicted and the true class of each row.

    Parameters
    ----------
    prediction : array of shape (batch, classes) or (batch, 1)
    target : array
        Labels of shape (batch,), or probabilities of the shape of `prediction`.
    threshold : float, default 0.0
        With one output, class 1 is predicted above it.

    Returns
    -------
    predicted, true : arrays of shape (batch,)
        Integers.

    Raises
    ------
    InputError
        If the shapes do not suit.
    """
    xp = array_namespace(prediction)
    shape = tuple(prediction.shape)
    if len(shape) != 2 or tuple(target.shape) not in (shape, shape[:1]):
        raise InputError(
            f"prediction has shape {shape} and target {tuple(target.shape)}; a metric of classes expects predictions "
            "(batch, classes), or (batch, 1) for two classes, and labels (batch,) or probabilities of the same shape"
        )
    if shape[1] == 1:
        t = target if target.ndim == 1 else target[:, 0]
        is_one = xp.astype(t, prediction.dtype) > 0.5
        return xp.astype(prediction[:, 0] > threshold, xp.int32), xp.astype(is_one, xp.int32)
    if target.ndim == 1:
        label = xp.astype(target, xp.int32)
    elif xp.isdtype(target.dtype, "bool"):  # the standard has no argmax of booleans
        label = xp.argmax(xp.astype(target, prediction.dtype), axis=1)
    else:
        label = xp.argmax(target, axis=1)
    return xp.argmax(prediction, axis=1), label


@dispatched
def count_hits(prediction: Array, target: Array, sums: AccuracySums) -> AccuracySums:
    """Return the sums after a batch of predictions (batch, classes) and labels (batch,), all of weight 1."""
    predicted, label = classes_of(prediction, target)
    return _add(sums, predicted == label, prediction, None)


def _hit(sums: AccuracySums, prediction: Array, target: Array, threshold: float, weight: Array | None) -> AccuracySums:
    """The sums after a batch; the largest output is the predicted class."""
    if weight is None and prediction.ndim == 2 and prediction.shape[1] > 1 and target.shape == prediction.shape[:1]:
        return count_hits(prediction, target, sums)
    predicted, label = classes_of(prediction, target, threshold)
    return _add(sums, predicted == label, prediction, weight)


def _add(sums: AccuracySums, hit: Array, prediction: Array, weight: Array | None) -> AccuracySums:
    """The sums after a batch; `hit`, (batch,) of bool, marks the correct rows."""
    xp = array_namespace(prediction)
    hit = xp.astype(hit, prediction.dtype)
    if weight is None:
        return AccuracySums(sums.correct + xp.sum(hit), sums.seen + prediction.shape[0])
    return AccuracySums(sums.correct + xp.sum(weight * hit), sums.seen + xp.sum(weight))
