"""How good predictions are: the numbers that are reported for the test rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnn import nn
from xpnn.experiments.goal import Goal
from xpnn.experiments.settings import Settings
from xpnn.training import BalancedAccuracy, F1Score, Trainer
from xpnn.training.metrics.confusion import Confusion

_SPREAD = 0.25  # of the logarithm of the calibration factor
_ROWS = 1024  # as in `Trainer.evaluate`: a product of other size may have other bits


def evaluate(trainer: Trainer, goal: Goal, settings: Settings, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Evaluate a network on labelled rows.

    Parameters
    ----------
    trainer : Trainer
    goal : Goal
    settings : Settings
    x, y : ndarray
        The rows, encoded, and their class indices or numbers.

    Returns
    -------
    dict
        "loss" and the metrics of the trainer. Of classes also "balanced_accuracy" and "f1_score" (macro), "classes"
        (for each class: precision, recall, f1_score, support), "confusion_matrix" (rows: true classes), and, if the
        network gives probabilities, "log_loss": the mean of −ln(probability of the true class), which is the loss
        without label smoothing and class weights.
    """
    target = goal.to_loss(settings, y)
    if not goal.classes:
        return trainer.evaluate(x, target)
    outputs = np.asarray(trainer.predict(x, batch_size=_ROWS))
    # The identity has the same loss and metrics on the outputs as the network on x, which need not run again.
    scorer = Trainer(
        nn.Sequential(), trainer.loss, trainer.optimizer, dtype=str(outputs.dtype), metrics=trainer.metrics
    )
    result = scorer.evaluate(outputs, target) if np.isfinite(outputs).all() else trainer.evaluate(x, target)
    scores = goal.from_outputs(settings, outputs)
    if goal.gives_probabilities(settings):
        of_true = np.take_along_axis(scores, y[:, None], axis=1).astype(np.float64)
        result["log_loss"] = float(-np.log(np.maximum(of_true, np.finfo(scores.dtype).eps)).mean())
    return {**result, **class_scores(goal.classes, y, np.argmax(scores, axis=1))}


def calibration_factor(logits: np.ndarray, y: np.ndarray) -> float:
    """Return the factor of the logits with which their probabilities fit the labels best: temperature scaling.

    Label smoothing makes probabilities too small, overfitting makes them too large. A common factor corrects both, and
    changes no prediction. It minimizes the sum of the cross-entropy over the rows, and ln²(factor) / (2 · 0.25²), which
    keeps it near 1 if there are few rows.

    Parameters
    ----------
    logits : ndarray of shape (rows, classes)
        Of rows on which the network was not trained.
    y : ndarray of shape (rows,)
        Class indices.

    Returns
    -------
    float
        1 / temperature, from e⁻² to e².

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017. The second term was chosen
    on the first half of the tables of `bench.tables`.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([0, 1] * 50)
    >>> round(calibration_factor(np.eye(2)[y], y), 2)  # always right, but with probabilities of 0.73
    2.77
    """
    z = logits.astype(np.float64)
    z -= np.take_along_axis(z, y[:, None], axis=1)

    def slope(log_factor: float) -> float:
        """The derivative of the sum by the logarithm of the factor."""
        scaled = math.exp(log_factor) * z
        p = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return float((p * scaled).sum(axis=1) @ (1 / p.sum(axis=1))) + log_factor / _SPREAD**2

    low, high = -2.0, 2.0
    for _ in range(60):  # bisection, to the last bit
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return math.exp((low + high) / 2)


def class_scores(classes: Sequence[str], true: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Precision, recall and F1 score of each class, and their means; as scikit-learn with zero_division=0.

    Parameters
    ----------
    classes : sequence of str
    true, predicted : ndarray, (rows,)
        Class indices.

    Returns
    -------
    dict
        "balanced_accuracy" is the mean recall of the classes that occur, "f1_score" the mean over those that occur or
        are predicted.

    Examples
    --------
    >>> import numpy as np
    >>> found = class_scores(["a", "b"], np.array([0, 0, 1]), np.array([0, 1, 1]))
    >>> found["balanced_accuracy"], found["confusion_matrix"]
    (0.75, [[1, 1], [0, 1]])
    """
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (true, predicted), 1)
    sums, number = Confusion(counts), len(classes)
    right, support, chosen = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    precision, recall = right / np.maximum(chosen, 1), right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(support + chosen, 1)
    rows = zip(classes, precision, recall, f1, support, strict=True)
    return {
        "balanced_accuracy": BalancedAccuracy(number).result(sums),
        "f1_score": F1Score(number).result(sums),
        "classes": {
            name: {"precision": float(p), "recall": float(r), "f1_score": float(f), "support": int(n)}
            for name, p, r, f, n in rows
        },
        "confusion_matrix": counts.tolist(),
    }
