"""Metrics that are kept on the device until the epoch ends: init, update and result, like everything else here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from xpnn.arrays.namespace import Array, array_namespace


class Metric(Protocol):
    """What a metric promises."""

    @property
    def name(self) -> str:
        """Its name in the logs."""

    def init(self) -> Any:
        """The empty sums: NumPy arrays on the host, in float64."""

    def update(self, sums: Any, prediction: Array, target: Array, weight: Array | None) -> Any:
        """The sums after one more batch; `weight` is (batch,), or None for 1."""

    def result(self, sums: Any) -> float:
        """The metric of all batches, from its sums on the host."""


class AccuracySums(NamedTuple):
    """correct, seen: 0-d sums of weights."""

    correct: Array
    seen: Array


@dataclass(frozen=True)
class Accuracy:
    """The share of rows whose largest output is their class: Σ w · [argmax prediction = target] / Σ w, from 0 to 1.

    target: (batch,) labels, or (batch, classes) probabilities, of which the largest counts.
    """

    name: str = "accuracy"

    def init(self) -> AccuracySums:
        return AccuracySums(np.zeros(()), np.zeros(()))

    def update(self, sums: AccuracySums, prediction: Array, target: Array, weight: Array | None) -> AccuracySums:
        xp = array_namespace(prediction)
        label = target if target.ndim == 1 else xp.argmax(target, axis=1)
        hit = xp.astype(xp.argmax(prediction, axis=1) == label, prediction.dtype)
        if weight is None:
            return AccuracySums(sums.correct + xp.sum(hit), sums.seen + prediction.shape[0])
        return AccuracySums(sums.correct + xp.sum(weight * hit), sums.seen + xp.sum(weight))

    def result(self, sums: AccuracySums) -> float:
        return float(sums.correct) / float(sums.seen) if sums.seen else float("nan")
