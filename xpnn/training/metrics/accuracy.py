"""Metrics that are kept on the device until the epoch ends: init, update and result, like everything else here.

Those of classes take labels or probabilities as their target, and read one output as a binary one: class 1 where the
logit is above 0, and where the target is above ½. A row of weight 0 does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace, device_of
from xpnn.errors import InputError
from xpnn.validation import as_count, as_float


class AccuracySums(NamedTuple):
    """correct, seen: 0-d sums of weights."""

    correct: Array
    seen: Array


@dataclass(frozen=True)
class Accuracy:
    """The share of rows whose largest output is their class: Σ w · [argmax prediction = target] / Σ w, from 0 to 1.

    prediction: (batch, classes), or (batch, 1) logits of class 1, which is predicted above `threshold`: 0, or 0.5
                where the model ends with a Sigmoid.
    target: (batch,) labels, or probabilities of the prediction's shape, of which the largest counts.
    Raises InputError for other shapes.
    """

    name: str = "accuracy"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", as_float("Accuracy: threshold", self.threshold))

    def init(self) -> AccuracySums:
        return AccuracySums(np.zeros(()), np.zeros(()))

    def update(self, sums: AccuracySums, prediction: Array, target: Array, weight: Array | None) -> AccuracySums:
        return _hit(sums, prediction, target, self.threshold, weight)

    def result(self, sums: AccuracySums) -> float:
        return float(sums.correct) / float(sums.seen) if sums.seen else float("nan")


@dataclass(frozen=True)
class ErrorRate:
    """The percentage of rows whose largest output is not their class: 100 · (1 − accuracy), from 0 to 100.

    prediction and target as for `Accuracy`. Raises InputError for other shapes.
    """

    name: str = "error"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", as_float("ErrorRate: threshold", self.threshold))

    def init(self) -> AccuracySums:
        return AccuracySums(np.zeros(()), np.zeros(()))

    def update(self, sums: AccuracySums, prediction: Array, target: Array, weight: Array | None) -> AccuracySums:
        return _hit(sums, prediction, target, self.threshold, weight)

    def result(self, sums: AccuracySums) -> float:
        seen = float(sums.seen)
        return 100 * (seen - float(sums.correct)) / seen if seen else float("nan")


@dataclass(frozen=True)
class TopKAccuracy:
    """The share of rows whose class is among the k largest outputs: Σ w · [fewer than k stand before it] / Σ w.

    An output stands before the class's own if it is larger, or as large and of a lower number, as in argmax: k = 1 is
    `Accuracy`, and a network whose outputs are all alike gains nothing. NaN counts as larger than any number.

    prediction: (batch, classes), more than k; target: (batch,) labels, or (batch, classes) probabilities.
    Raises InputError for other shapes.
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
            raise InputError(f"TopKAccuracy: k is {self.k} for {classes} outputs, of which it could miss none")
        xp = array_namespace(prediction)
        number = xp.arange(classes, dtype=xp.int32, device=device_of(prediction))
        label = label[:, None]
        own = xp.sum(xp.where(number == label, prediction, 0.0), axis=1, keepdims=True)
        behind = xp.logical_or(prediction < own, xp.logical_and(prediction == own, number >= label))
        before = xp.sum(xp.astype(xp.logical_not(behind), xp.int32), axis=1)
        return _add(sums, before < self.k, prediction, weight)

    def result(self, sums: AccuracySums) -> float:
        return float(sums.correct) / float(sums.seen) if sums.seen else float("nan")


def classes_of(prediction: Array, target: Array, threshold: float = 0.0) -> tuple[Array, Array]:
    """(predicted, true) class of each row, (batch,) integers. Raises InputError for shapes that do not fit."""
    xp = array_namespace(prediction)
    shape = tuple(prediction.shape)
    if len(shape) != 2 or tuple(target.shape) not in (shape, shape[:1]):
        raise InputError(
            f"prediction has shape {shape} and target {tuple(target.shape)}; a metric of classes takes "
            "(batch, classes) and (batch,) labels or (batch, classes) probabilities, or (batch, 1) logits of one class"
        )
    if shape[1] == 1:
        t = target if target.ndim == 1 else target[:, 0]
        is_one = xp.astype(t, prediction.dtype) > 0.5
        return xp.astype(prediction[:, 0] > threshold, xp.int32), xp.astype(is_one, xp.int32)
    label = xp.astype(target, xp.int32) if target.ndim == 1 else xp.argmax(target, axis=1)
    return xp.argmax(prediction, axis=1), label


@dispatched
def count_hits(prediction: Array, target: Array, sums: AccuracySums) -> AccuracySums:
    """The sums after a batch of (batch, classes) and (batch,) labels that all count alike."""
    predicted, label = classes_of(prediction, target)
    return _add(sums, predicted == label, prediction, None)


def _hit(sums: AccuracySums, prediction: Array, target: Array, threshold: float, weight: Array | None) -> AccuracySums:
    """The sums after a batch, in which the largest output counts."""
    if weight is None and prediction.ndim == 2 and prediction.shape[1] > 1 and target.shape == prediction.shape[:1]:
        return count_hits(prediction, target, sums)
    predicted, label = classes_of(prediction, target, threshold)
    return _add(sums, predicted == label, prediction, weight)


def _add(sums: AccuracySums, hit: Array, prediction: Array, weight: Array | None) -> AccuracySums:
    """The sums after a batch whose rows are right where `hit`, (batch,) of bool."""
    xp = array_namespace(prediction)
    hit = xp.astype(hit, prediction.dtype)
    if weight is None:
        return AccuracySums(sums.correct + xp.sum(hit), sums.seen + prediction.shape[0])
    return AccuracySums(sums.correct + xp.sum(weight * hit), sums.seen + xp.sum(weight))
