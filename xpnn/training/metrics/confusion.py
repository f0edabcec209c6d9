"""Metrics that follow from the confusion matrix, which is kept on the device: one_hot(target)ᵀ · one_hot(prediction).

They take what `Accuracy` takes; their definitions are scikit-learn's, with zero_division=0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from xpnn.arrays.matmul import matmul
from xpnn.arrays.namespace import Array, array_namespace, device_of
from xpnn.errors import InputError
from xpnn.training.metrics.accuracy import classes_of
from xpnn.validation import as_count, as_float, one_of

Average = Literal["macro", "micro", "weighted"]
AVERAGES = ("macro", "micro", "weighted")


class Confusion(NamedTuple):
    """counts: (classes, classes) sums of weights; rows are the true classes, columns the predicted ones."""

    counts: Array


@dataclass(frozen=True)
class ConfusionMatrix:
    """How often each class was taken for each: c_ij = Σ w · [target = i] · [argmax prediction = j].

    classes: how many; 2 for one output. The result is a nested list of floats, rows true, columns predicted.
    prediction and target as for `Accuracy`. Raises InputError for other shapes.
    """

    classes: int
    name: str = "confusion_matrix"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        _check(self)

    def init(self) -> Confusion:
        return Confusion(np.zeros((self.classes, self.classes)))

    def update(self, sums: Confusion, prediction: Array, target: Array, weight: Array | None) -> Confusion:
        return _count(self, sums, prediction, target, weight)

    def result(self, sums: Confusion) -> list[list[float]]:
        return np.asarray(sums.counts, dtype=np.float64).tolist()


@dataclass(frozen=True)
class Precision:
    """The share of right ones among the rows that were given a class: c_jj / Σ_i c_ij, averaged over the classes j.

    average  "macro"     the mean over the classes that occur or are predicted
             "weighted"  the mean over the classes, each weighted by its true rows
             "micro"     all classes in one count, which is the accuracy

    prediction and target as for `Accuracy`. Raises InputError for other shapes.
    """

    classes: int
    average: Average = "macro"
    name: str = "precision"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        _check(self)
        one_of("average", self.average, AVERAGES)

    def init(self) -> Confusion:
        return Confusion(np.zeros((self.classes, self.classes)))

    def update(self, sums: Confusion, prediction: Array, target: Array, weight: Array | None) -> Confusion:
        return _count(self, sums, prediction, target, weight)

    def result(self, sums: Confusion) -> float:
        return _mean(sums, self.average, of_true=0.0)


@dataclass(frozen=True)
class Recall:
    """The share of a class's rows that were found: c_ii / Σ_j c_ij, averaged over the classes i as in `Precision`.

    prediction and target as for `Accuracy`. Raises InputError for other shapes.
    """

    classes: int
    average: Average = "macro"
    name: str = "recall"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        _check(self)
        one_of("average", self.average, AVERAGES)

    def init(self) -> Confusion:
        return Confusion(np.zeros((self.classes, self.classes)))

    def update(self, sums: Confusion, prediction: Array, target: Array, weight: Array | None) -> Confusion:
        return _count(self, sums, prediction, target, weight)

    def result(self, sums: Confusion) -> float:
        return _mean(sums, self.average, of_true=1.0)


@dataclass(frozen=True)
class F1Score:
    """The harmonic mean of precision and recall: 2 c_ii / (Σ_j c_ij + Σ_j c_ji), averaged as in `Precision`.

    prediction and target as for `Accuracy`. Raises InputError for other shapes.
    """

    classes: int
    average: Average = "macro"
    name: str = "f1_score"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        _check(self)
        one_of("average", self.average, AVERAGES)

    def init(self) -> Confusion:
        return Confusion(np.zeros((self.classes, self.classes)))

    def update(self, sums: Confusion, prediction: Array, target: Array, weight: Array | None) -> Confusion:
        return _count(self, sums, prediction, target, weight)

    def result(self, sums: Confusion) -> float:
        return _mean(sums, self.average, of_true=0.5)


def _check(metric: Any) -> None:
    """Raise InputError unless the metric has at least two classes, and a number for its threshold."""
    object.__setattr__(metric, "threshold", as_float(f"{type(metric).__name__}: threshold", metric.threshold))
    what = f"{type(metric).__name__}: classes"
    object.__setattr__(metric, "classes", as_count(what, metric.classes))
    if metric.classes < 2:
        raise InputError(f"{what} is 1; expected at least 2, as one output has too")


def _count(metric: Any, sums: Confusion, prediction: Array, target: Array, weight: Array | None) -> Confusion:
    """The counts after one more batch."""
    predicted, true = classes_of(prediction, target, metric.threshold)
    outputs = prediction.shape[1]
    if metric.classes != max(outputs, 2):
        raise InputError(f"{type(metric).__name__}: classes is {metric.classes}, but there are {outputs} outputs")
    xp = array_namespace(prediction)
    number = xp.arange(metric.classes, dtype=xp.int32, device=device_of(prediction))
    rows = xp.astype(true[:, None] == number, prediction.dtype)
    if weight is not None:
        rows = rows * weight[:, None]
    hits = matmul(rows.T, xp.astype(predicted[:, None] == number, prediction.dtype), exact=True)
    return Confusion(sums.counts + hits)


def _mean(sums: Confusion, average: Average, of_true: float) -> float:
    """The mean over the classes of right ones / (of_true · true ones + (1 − of_true) · predicted ones)."""
    counts = np.asarray(sums.counts, dtype=np.float64)
    right, true, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    if average == "micro":
        right, true, predicted = (part.sum(keepdims=True) for part in (right, true, predicted))
    weight = (true + predicted > 0).astype(np.float64) if average == "macro" else true
    base = of_true * true + (1 - of_true) * predicted
    share = right / np.where(base > 0, base, 1.0)  # nothing there: 0 / 1
    total = weight.sum()
    return float(share @ weight / total) if total > 0 else float("nan")
