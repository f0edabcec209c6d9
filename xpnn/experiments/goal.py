"""What a network is trained for: how a data set's targets become those of the loss, and outputs become predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn import nn
from xpnn.data.datasets import Dataset
from xpnn.data.text import listed
from xpnn.errors import InputError
from xpnn.experiments.options import parse_names
from xpnn.experiments.settings import Settings
from xpnn.training import Accuracy, BalancedAccuracy, F1Score, MeanAbsoluteError, Metric, R2Score, RootMeanSquaredError
from xpnn.validation import one_of


@dataclass(frozen=True)
class Goal:
    """Classes, or numbers that are standardized for the training.

    Attributes
    ----------
    classes : tuple of str
        The labels in the order of their indices; empty in regression.
    targets : tuple of str
        The columns that are predicted; empty for images.
    shift, scale : tuple of float
        In regression, for each target: the network is trained on (target − shift) / scale, and its outputs are turned
        back. These are mean and standard deviation of the training rows; of loss poisson 0 and the mean.
    class_weight : tuple of float
        The weights of the classes in the loss; empty if all count alike.
    """

    classes: tuple[str, ...]
    targets: tuple[str, ...] = ()
    shift: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    class_weight: tuple[float, ...] = ()

    @classmethod
    def of(cls, settings: Settings, data: Dataset, y: np.ndarray) -> Goal:
        """The goal for a data set, whose training rows have the targets y.

        Raises
        ------
        InputError
            If the settings do not suit the targets.
        """
        names = data.target.names if data.target else ()
        if data.classes:
            return cls(data.classes, names, class_weight=_class_weight(settings, data.classes, y))
        if settings.loss == "poisson":
            if (y < 0).any() or not (y.mean(axis=0) > 0).all():
                raise InputError(f"`loss` poisson is for counts, but {listed(names)} holds negative values, or only 0")
            shift, scale = np.zeros(y.shape[1]), y.mean(axis=0)
        else:
            shift, scale = y.mean(axis=0), y.std(axis=0)
            scale[y.max(axis=0) == y.min(axis=0)] = 1.0
        if not (np.isfinite(shift) & np.isfinite(scale)).all():
            raise InputError(f"the values of {listed(names)} are too large; scale them first")
        return cls((), names, tuple(shift.tolist()), tuple(scale.tolist()))

    @property
    def task(self) -> str:
        """The task: "classification" or "regression"."""
        return "classification" if self.classes else "regression"

    def outputs(self, settings: Settings) -> int:
        """How many outputs the network has."""
        if not self.classes:
            return len(self.scale)
        return 1 if self.has_one_output(settings) else len(self.classes)

    def has_one_output(self, settings: Settings) -> bool:
        """Whether the network has one output, the probability of the second of two classes."""
        return settings.output_activation == "sigmoid" and len(self.classes) == 2

    def loss(self, settings: Settings) -> nn.Loss:
        """The loss."""
        reduction: Any = settings.reduction
        match settings.loss:
            case "mse":
                return nn.MSELoss(reduction)
            case "l1":
                return nn.L1Loss(reduction)
            case "huber":
                return nn.HuberLoss(reduction=reduction)
            case "quantile":
                return nn.QuantileLoss(0.5 if settings.quantile is None else settings.quantile, reduction)
            case "poisson":
                return nn.PoissonNLLLoss(reduction, log_input=False)
        weight = self.class_weight or None
        return nn.CrossEntropyLoss(weight, label_smoothing=settings.label_smoothing or 0.0, reduction=reduction)

    def metrics(self, settings: Settings) -> list[Metric]:
        """The metrics of the training: the usual ones, and what `monitor` watches.

        Raises InputError if that belongs to the other task.
        """
        of_classes = ("val_accuracy", "val_balanced_accuracy", "val_f1_score")
        of_numbers = ("val_r2_score", "val_mean_absolute_error", "val_root_mean_squared_error")
        one_of("`monitor`", settings.monitor, ("val_loss", *(of_classes if self.classes else of_numbers)))
        if not self.classes:
            return [
                R2Score(len(self.scale)),
                MeanAbsoluteError(scale=self.scale),
                RootMeanSquaredError(scale=self.scale),
            ]
        threshold = 0.5 if settings.output_activation == "sigmoid" else 0.0
        metrics: list[Metric] = [Accuracy(threshold=threshold)]
        if settings.monitor == "val_balanced_accuracy":
            metrics.append(BalancedAccuracy(len(self.classes), threshold=threshold))
        if settings.monitor == "val_f1_score":
            metrics.append(F1Score(len(self.classes), threshold=threshold))
        return metrics

    def to_loss(self, settings: Settings, y: np.ndarray) -> np.ndarray:
        """The targets of the loss.

        Labels stay labels; for mse they become one-hot rows, or one column of 0 and 1. Numbers are standardized.
        """
        if not self.classes:
            return (y - np.asarray(self.shift)) / np.asarray(self.scale)
        if settings.loss != "mse":
            return y
        if self.has_one_output(settings):
            return y[:, None].astype(np.float64)
        return np.eye(len(self.classes))[y]

    def from_outputs(self, settings: Settings, outputs: np.ndarray) -> np.ndarray:
        """Outputs as (rows, classes) probabilities, or scores without an output activation; or as numbers."""
        if not self.classes:
            return outputs.astype(np.float64) * np.asarray(self.scale) + np.asarray(self.shift)
        if settings.loss in (None, "cross-entropy"):
            probabilities: Any = nn.Softmax().forward((), outputs)[0]
            return probabilities
        return np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs

    def gives_probabilities(self, settings: Settings) -> bool:
        """Whether each row of `from_outputs` adds up to 1."""
        scores = settings.loss == "mse" and settings.output_activation != "softmax"
        return bool(self.classes) and (not scores or self.has_one_output(settings))

    def last_layers(self) -> tuple[nn.Layer, ...]:
        """What follows the trained network in the saved model: in regression, the way back to the target's unit."""
        return () if self.classes else (nn.Unstandardize(self.shift, self.scale),)

    def to_json(self) -> dict[str, Any]:
        """Return the goal as plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Goal:
        """Return the goal from plain data. Raises TypeError if it is none."""
        return cls(**{name: tuple(value) for name, value in data.items()})


def _class_weight(settings: Settings, classes: Sequence[str], y: np.ndarray) -> tuple[float, ...]:
    """The weights of the classes; balanced: rows / (classes · rows of the class), as in scikit-learn."""
    if settings.class_weight is None:
        return ()
    if settings.class_weight == "balanced":
        counts = np.bincount(y, minlength=len(classes))
        return tuple((len(y) / (len(classes) * np.maximum(counts, 1))).tolist())
    weights = dict.fromkeys(classes, 1.0)
    for part in parse_names(settings.class_weight):
        name, _, text = part.rpartition("=")
        if name not in weights:
            raise InputError(f"`class_weight`: {part!r} names none of the classes {listed(classes)}; write NAME=2")
        try:
            weights[name] = float(text)
        except ValueError:
            raise InputError(f"`class_weight`: {text!r} is not a number; write {name}=2") from None
    return tuple(weights.values())
