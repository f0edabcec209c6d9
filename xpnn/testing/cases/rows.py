"""What a row of the table holds, and the data that the rows are made from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xpnn import nn
from xpnn.arrays import random
from xpnn.training.metrics import Metric


class LayerCase(NamedTuple):
    """A layer and an input, (batch, …), where its formula has no kink."""

    layer: nn.Layer
    x: np.ndarray


class LossCase(NamedTuple):
    """A loss, a prediction, (batch, outputs), its target, and the weights of the rows or None."""

    loss: nn.Loss
    prediction: np.ndarray
    target: np.ndarray
    sample_weight: np.ndarray | None = None


class MetricCase(NamedTuple):
    """A metric, a prediction, (batch, outputs), and its target."""

    metric: Metric
    prediction: np.ndarray
    target: np.ndarray


def draw(name: str, *shape: int) -> np.ndarray:
    """Return normal float64 values, the same in every run; none is closer to 0 than 0.05.

    Finite differences at 0 would straddle the kink of ReLU and its kin.

    Parameters
    ----------
    name : str
        Another name gives other values.
    *shape : int
        Shape of the result.

    Returns
    -------
    ndarray
        Float64 values of this shape.

    Examples
    --------
    >>> from xpnn.testing.cases import draw
    >>> draw("x", 2, 3).shape
    (2, 3)
    """
    z = random.normal(random.key(0, "test cases").child(name), shape)
    return np.where(np.abs(z) < 0.05, z + 0.2, z)


def public_name(name: str) -> str:
    """Return the public name that a row belongs to: "GELU" for "GELU", "GELU (tanh)" and "GELU: …"."""
    return name.partition(":")[0].partition(" (")[0]
