"""The confusion matrix, and the metrics that are computed from it: balanced accuracy, precision, recall, F1 score.

The matrix is counted on the device, as one_hot(target)ᵀ · one_hot(prediction). Predictions and targets are those of
`Accuracy`. The definitions are those of scikit-learn with zero_division=0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from xpnn.arrays.matmul import matmul
from xpnn.arrays.namespace import Array, array_namespace, device_of
from xpnn.errors import InputError
from xpnn.training.metrics.accuracy import classes_of
from xpnn.validation import Problems, as_count, as_finite, one_of

Average = Literal["macro", "micro", "weighted"]
AVERAGES = ("macro", "micro", "weighted")


class Confusion(NamedTuple):
    """Sums of the metrics of this module.

    Attributes
    ----------
    counts : array of shape (classes, classes)
        Sums of weights; rows are the true classes, columns the predicted ones.
    """

    counts: Array


@dataclass(frozen=True)
class ConfusionMatrix:
    """Confusion matrix: how many rows of each class were predicted as each class.

    Parameters
    ----------
    classes : int
        The number of classes: the outputs of the model, or 2 for one output.
    name : str, default "confusion_matrix"
        The name in the logs.
    threshold : float, default 0.0
        As for `Accuracy`.

    Raises
    ------
    InputError
        If there are fewer than 2 classes; `update` raises it if the shapes do not suit.

    Notes
    -----
    c_ij = Σ w · [target = i] · [argmax prediction = j], where w are the weights of the rows. The result is a nested
    list of floats: rows are the true classes, columns the predicted ones. Predictions and targets are those of
    `Accuracy`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import ConfusionMatrix
    >>> metric, logits = ConfusionMatrix(2), np.array([[3.0, 1.0], [0.0, 2.0], [5.0, 4.0]])
    >>> metric.result(metric.update(metric.init(), logits, np.array([0, 1, 1]), None))
    [[1.0, 0.0], [1.0, 1.0]]
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
class BalancedAccuracy:
    """Balanced accuracy: the mean, over the classes that occur, of the fraction of their rows that is predicted right.

    Parameters
    ----------
    classes : int
        The number of classes: the outputs of the model, or 2 for one output.
    name : str, default "balanced_accuracy"
        The name in the logs.
    threshold : float, default 0.0
        As for `Accuracy`.

    Raises
    ------
    InputError
        If there are fewer than 2 classes; `update` raises it if the shapes do not suit.

    Notes
    -----
    The mean over the classes i with rows of c_ii / Σ_j c_ij, where c is the `ConfusionMatrix`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import BalancedAccuracy
    >>> metric, logits = BalancedAccuracy(2), np.array([[3.0, 1.0], [0.0, 2.0], [5.0, 4.0]])
    >>> metric.result(metric.update(metric.init(), logits, np.array([0, 1, 1]), None))
    0.75
    """

    classes: int
    name: str = "balanced_accuracy"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        _check(self)

    def init(self) -> Confusion:
        return Confusion(np.zeros((self.classes, self.classes)))

    def update(self, sums: Confusion, prediction: Array, target: Array, weight: Array | None) -> Confusion:
        return _count(self, sums, prediction, target, weight)

    def result(self, sums: Confusion) -> float:
        counts = np.asarray(sums.counts, dtype=np.float64)
        occurs = counts.sum(axis=1) > 0
        recall = np.diagonal(counts)[occurs] / counts.sum(axis=1)[occurs]
        return float(recall.mean()) if occurs.any() else float("nan")


@dataclass(frozen=True)
class Precision:
    """Precision: the fraction of the rows predicted as a class that are of this class, averaged over the classes.

    Parameters
    ----------
    classes : int
        The number of classes: the outputs of the model, or 2 for one output.
    average : {"macro", "weighted", "micro"}, default "macro"
        "macro": the mean over the classes that occur or are predicted. "weighted": the mean over the classes, each
        weighted by its number of true rows. "micro": all classes are counted together, which gives the accuracy.
    name : str, default "precision"
        The name in the logs.
    threshold : float, default 0.0
        As for `Accuracy`.

    Raises
    ------
    InputError
        If an argument cannot be used; `update` raises it if the shapes do not suit.

    Notes
    -----
    The mean over the classes j of c_jj / Σ_i c_ij, where c is the `ConfusionMatrix`. A quotient 0 / 0 counts as 0.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Precision
    >>> metric, logits = Precision(2), np.array([[3.0, 1.0], [0.0, 2.0], [5.0, 4.0]])
    >>> metric.result(metric.update(metric.init(), logits, np.array([0, 1, 1]), None))
    0.75
    """

    classes: int
    average: Average = "macro"
    name: str = "precision"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        problems = Problems()
        with problems:
            _check(self)
        with problems:
            one_of("average", self.average, AVERAGES)
        problems.raise_found()

    def init(self) -> Confusion:
        return Confusion(np.zeros((self.classes, self.classes)))

    def update(self, sums: Confusion, prediction: Array, target: Array, weight: Array | None) -> Confusion:
        return _count(self, sums, prediction, target, weight)

    def result(self, sums: Confusion) -> float:
        return _mean(sums, self.average, of_true=0.0)


@dataclass(frozen=True)
class Recall:
    """Recall: the fraction of the rows of a class that are predicted as this class, averaged over the classes.

    Parameters
    ----------
    classes, average, threshold
        As for `Precision`.
    name : str, default "recall"
        The name in the logs.

    Raises
    ------
    InputError
        If an argument cannot be used; `update` raises it if the shapes do not suit.

    Notes
    -----
    The mean over the classes i of c_ii / Σ_j c_ij, where c is the `ConfusionMatrix`. A quotient 0 / 0 counts as 0.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Recall
    >>> metric, logits = Recall(2), np.array([[3.0, 1.0], [0.0, 2.0], [5.0, 4.0]])
    >>> metric.result(metric.update(metric.init(), logits, np.array([0, 1, 1]), None))
    0.75
    """

    classes: int
    average: Average = "macro"
    name: str = "recall"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        problems = Problems()
        with problems:
            _check(self)
        with problems:
            one_of("average", self.average, AVERAGES)
        problems.raise_found()

    def init(self) -> Confusion:
        return Confusion(np.zeros((self.classes, self.classes)))

    def update(self, sums: Confusion, prediction: Array, target: Array, weight: Array | None) -> Confusion:
        return _count(self, sums, prediction, target, weight)

    def result(self, sums: Confusion) -> float:
        return _mean(sums, self.average, of_true=1.0)


@dataclass(frozen=True)
class F1Score:
    """F1 score: the harmonic mean of precision and recall of a class, averaged over the classes.

    Parameters
    ----------
    classes, average, threshold
        As for `Precision`.
    name : str, default "f1_score"
        The name in the logs.

    Raises
    ------
    InputError
        If an argument cannot be used; `update` raises it if the shapes do not suit.

    Notes
    -----
    The mean over the classes i of 2 c_ii / (Σ_j c_ij + Σ_j c_ji), where c is the `ConfusionMatrix`. A quotient 0 / 0
    counts as 0.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import F1Score
    >>> metric, logits = F1Score(2), np.array([[3.0, 1.0], [0.0, 2.0], [5.0, 4.0]])
    >>> round(metric.result(metric.update(metric.init(), logits, np.array([0, 1, 1]), None)), 3)
    0.667
    """

    classes: int
    average: Average = "macro"
    name: str = "f1_score"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        problems = Problems()
        with problems:
            _check(self)
        with problems:
            one_of("average", self.average, AVERAGES)
        problems.raise_found()

    def init(self) -> Confusion:
        return Confusion(np.zeros((self.classes, self.classes)))

    def update(self, sums: Confusion, prediction: Array, target: Array, weight: Array | None) -> Confusion:
        return _count(self, sums, prediction, target, weight)

    def result(self, sums: Confusion) -> float:
        return _mean(sums, self.average, of_true=0.5)


def _check(metric: Any) -> None:
    """Raise InputError unless `classes` is at least 2 and `threshold` a number; store both as int and float."""
    problems, name = Problems(), type(metric).__name__
    with problems:
        object.__setattr__(metric, "threshold", as_finite(f"{name}: threshold", metric.threshold))
    with problems:
        object.__setattr__(metric, "classes", as_count(f"{name}: classes", metric.classes))
        if metric.classes < 2:
            raise InputError(f"{name}: classes is 1; expected at least 2; a model with one output has 2 classes")
    problems.raise_found()


def _count(metric: Any, sums: Confusion, prediction: Array, target: Array, weight: Array | None) -> Confusion:
    """Return the counts after one more batch."""
    predicted, true = classes_of(prediction, target, metric.threshold)
    outputs = prediction.shape[1]
    if metric.classes != max(outputs, 2):
        raise InputError(
            f"{type(metric).__name__}: classes is {metric.classes}, but there are {outputs} outputs; expected classes="
            f"{max(outputs, 2)}"
        )
    xp = array_namespace(prediction)
    index = xp.arange(metric.classes, dtype=xp.int32, device=device_of(prediction))
    rows = xp.astype(true[:, None] == index, prediction.dtype)
    if weight is not None:
        rows = rows * weight[:, None]
    counts = matmul(rows.T, xp.astype(predicted[:, None] == index, prediction.dtype), exact=True)
    return Confusion(sums.counts + counts)


def _mean(sums: Confusion, average: Average, of_true: float) -> float:
    """The mean over the classes of correct / (of_true · true + (1 − of_true) · predicted), all of them counts."""
    counts = np.asarray(sums.counts, dtype=np.float64)
    correct, true, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    if average == "micro":
        correct, true, predicted = (part.sum(keepdims=True) for part in (correct, true, predicted))
    weight = (true + predicted > 0).astype(np.float64) if average == "macro" else true
    base = of_true * true + (1 - of_true) * predicted
    share = correct / np.where(base > 0, base, 1.0)  # 0 / 0 counts as 0
    total = weight.sum()
    return float(share @ weight / total) if total > 0 else float("nan")
