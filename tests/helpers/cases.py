"""The rows of `xpnn.testing.cases`, each with a reference implementation in another library.

`xpnn.testing` compares a row with finite differences and across array libraries. Here, the references are PyTorch for
layers, losses, optimizers and schedules, and scikit-learn for metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch_layers import LAYER_ORACLES, LOSS_ORACLES, TRAINING_ORACLES, LayerOracle, LossOracle
from torch_optimizers import OPTIMIZER_ORACLES
from torch_schedules import SCHEDULE_ORACLES

from xpnn import nn, optim
from xpnn.arrays import random, tree
from xpnn.testing import cases as table
from xpnn.testing.cases import CLASS_WEIGHT, draw, public_name
from xpnn.training.metrics import Metric
from xpnn.training.metrics.confusion import AVERAGES

__all__ = ["CLASS_WEIGHT", "draw"]

TORCH = Any  # the module torch


def params_of(layer: nn.Layer) -> Any:
    """Return parameters in which every leaf differs from its initial value (a bias of 0 would hide a bug)."""
    params = layer.init(random.key(1, "init"))
    fresh = [leaf + 0.1 * draw(name, *leaf.shape) for name, leaf in tree.named(params)]
    return tree.rebuild(params, fresh)


class LayerCase(NamedTuple):
    id: str
    layer: nn.Layer
    x: np.ndarray
    torch: LayerOracle | None  # (torch, leaves of the parameters, x) -> y
    training: bool = False  # forward gets a key


class LossCase(NamedTuple):
    id: str
    loss: nn.Loss
    prediction: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None
    torch: LossOracle  # (torch, prediction, target, weight) -> loss


class OptimizerCase(NamedTuple):
    id: str
    optimizer: optim.Optimizer
    torch: Callable[[TORCH, list[Any]], Any]  # (torch, parameters) -> torch's optimizer


class ScheduleCase(NamedTuple):
    id: str
    schedule: optim.Schedule
    formula: Callable[[float, float], float]  # (step, steps_per_epoch) -> the learning rate, as a Python float
    torch: Callable[[TORCH, list[Any]], Any]  # (torch, parameters) -> torch's scheduler, stepped once per epoch
    epochs: int  # number of epochs for which torch's scheduler agrees


LAYERS = [LayerCase(name, *row, LAYER_ORACLES[name]) for name, row in table.LAYERS.items()]
LAYERS += [
    LayerCase(f"{name} in training", *table.LAYERS[name], oracle, training=True)
    for name, oracle in TRAINING_ORACLES.items()
]
LOSSES = [LossCase(name, *row, LOSS_ORACLES[name]) for name, row in table.LOSSES.items()]
OPTIMIZERS = [OptimizerCase(name, row, OPTIMIZER_ORACLES[name]) for name, row in table.OPTIMIZERS.items()]
SCHEDULES = [ScheduleCase(name, row, *SCHEDULE_ORACLES[name]) for name, row in table.SCHEDULES.items()]


class InitializerCase(NamedTuple):
    name: str
    variance: Callable[[int, int], float]  # of (fan_in, fan_out)
    bound: Callable[[int, int], float] | None  # of a uniform initializer


INITIALIZERS = [
    InitializerCase("he_normal", lambda i, o: 2 / i, None),
    InitializerCase("he_uniform", lambda i, o: 2 / i, lambda i, o: (6 / i) ** 0.5),
    InitializerCase("glorot_normal", lambda i, o: 2 / (i + o), None),
    InitializerCase("glorot_uniform", lambda i, o: 2 / (i + o), lambda i, o: (6 / (i + o)) ** 0.5),
    InitializerCase("lecun_normal", lambda i, o: 1 / i, None),
    InitializerCase("lecun_uniform", lambda i, o: 1 / i, lambda i, o: (3 / i) ** 0.5),
    InitializerCase("fan_in_normal", lambda i, o: 1 / i, None),
    InitializerCase("fan_in_truncated_normal", lambda i, o: 0.2911250947 / i, lambda i, o: i**-0.5),
    InitializerCase("truncated_normal", lambda i, o: 0.7737413035499232 / i, lambda i, o: 2 * i**-0.5),
    InitializerCase("orthogonal", lambda i, o: 1 / max(i, o), None),
    InitializerCase("zeros", lambda i, o: 0.0, lambda i, o: 0.0),
    InitializerCase("fan_in_uniform", lambda i, o: 1 / (3 * i), lambda i, o: i**-0.5),
]


class MetricCase(NamedTuple):
    """Rows for a metric, and the same metric in scikit-learn."""

    id: str
    metric: Metric
    prediction: np.ndarray
    target: np.ndarray
    sklearn: Callable[[Any, np.ndarray, np.ndarray, Any], Any]  # (sklearn.metrics, prediction, target, weight) -> value


def hard(x: np.ndarray) -> np.ndarray:
    """The class of each row of logits or probabilities: the argmax, or for one column whether it is above 0."""
    return np.argmax(x, axis=1) if x.shape[1] > 1 else (x[:, 0] > 0).astype(int)


def labels(t: np.ndarray) -> np.ndarray:
    """The class of each row of a target: labels, probabilities, or one column of 0 and 1."""
    return t if t.ndim == 1 else hard(t - 0.5 * (t.shape[1] == 1))


def _score(name: str, average: str | None = None, **options: Any) -> Callable[[Any, np.ndarray, np.ndarray, Any], Any]:
    options |= {} if average is None else {"average": average, "zero_division": 0}
    return lambda sk, z, t, w: getattr(sk, name)(labels(t), hard(z), sample_weight=w, **options)


def _top(k: int) -> Callable[[Any, np.ndarray, np.ndarray, Any], Any]:
    return lambda sk, z, t, w: sk.top_k_accuracy_score(labels(t), z, k=k, sample_weight=w, labels=range(5))


def _outputs(name: str) -> Callable[[Any, np.ndarray, np.ndarray, Any], Any]:
    return lambda sk, z, t, w: getattr(sk, name)(t, z, sample_weight=w)


_R2, _MAE, _F1 = _outputs("r2_score"), _outputs("mean_absolute_error"), _score("f1_score", "macro")
SKLEARN = {
    "Accuracy": _score("accuracy_score"),
    "Accuracy: probabilities": _score("accuracy_score"),
    "Accuracy: binary": _score("accuracy_score"),
    "ErrorRate": lambda sk, z, t, w: 100 * sk.zero_one_loss(t, hard(z), sample_weight=w),
    "TopKAccuracy": _top(2),
    "TopKAccuracy: probabilities": _top(3),
    "BalancedAccuracy": _score("balanced_accuracy_score"),
    "ConfusionMatrix": _score("confusion_matrix", labels=range(5)),
    "ConfusionMatrix: binary": _score("confusion_matrix"),
    **{
        f"{name}{'' if average == 'macro' else ': ' + average}": _score(score, average)
        for name, score in (("Precision", "precision_score"), ("Recall", "recall_score"), ("F1Score", "f1_score"))
        for average in AVERAGES
    },
    "F1Score: probabilities": _F1,
    "F1Score: binary": _F1,
    "MeanAbsoluteError": _MAE,
    "MeanAbsoluteError: outputs": _MAE,
    "MeanAbsoluteError: scaled": lambda sk, z, t, w: sk.mean_absolute_error(
        t * [2, 1, 0.5], z * [2, 1, 0.5], sample_weight=w
    ),
    "RootMeanSquaredError": lambda sk, z, t, w: sk.mean_squared_error(t, z, sample_weight=w) ** 0.5,
    "RootMeanSquaredError: outputs": lambda sk, z, t, w: 3 * sk.mean_squared_error(t, z, sample_weight=w) ** 0.5,
    "R2Score": _R2,
    "R2Score: outputs": _R2,
    "R2Score: far from 0": _R2,
}
METRICS = [MetricCase(name, *row, SKLEARN[name]) for name, row in table.METRICS.items()]

#: Public names of xpnn.nn and xpnn.optim that need no row.
NO_ROW = {"Carried", "Key", "Layer", "Loss", "Optimizer", "Penalty", "Schedule", "VarianceScaling"}
NO_ROW |= {"Constant", "Initializer", "Orthogonal", "TruncatedNormal", "Zeros"}  # rows are in INITIALIZERS


def names() -> set[str]:
    """The public names that have a row."""
    return {public_name(name) for name in table.CHECKS}
