"""First values of weights, drawn on the host in float64 so that every array library starts from the same bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xpnn.arrays import random
from xpnn.errors import InputError, as_float, one_of


@dataclass(frozen=True)
class VarianceScaling:
    """Zero-mean values with variance `scale / fan`, for a weight of shape (fan_in, fan_out).

    mode:         which fan: "fan_in", "fan_out", or "fan_avg", their mean
    distribution: "normal", or "uniform" on ±√(3 · scale / fan)

    Source: He et al. 2015 (scale 2, fan_in); Glorot and Bengio 2010 (scale 1, fan_avg).
    """

    scale: float
    mode: Literal["fan_in", "fan_out", "fan_avg"]
    distribution: Literal["normal", "uniform"]

    def __post_init__(self) -> None:
        one_of("VarianceScaling: mode", self.mode, ("fan_in", "fan_out", "fan_avg"))
        one_of("VarianceScaling: distribution", self.distribution, ("normal", "uniform"))
        if not 0 <= as_float("VarianceScaling: scale", self.scale) < math.inf:
            raise InputError(f"VarianceScaling: scale is {self.scale!r}; expected a number of at least 0")

    def __call__(self, key: random.Key, shape: tuple[int, int]) -> np.ndarray:
        """float64 values of `shape` = (fan_in, fan_out)."""
        fan_in, fan_out = shape
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        deviation = math.sqrt(self.scale / fan)
        if self.distribution == "normal":
            return deviation * random.normal(key, shape)
        return deviation * math.sqrt(3) * (2 * random.uniform(key, shape) - 1)


#: By name, as layers take them. "fan_in_uniform" is uniform within ±1/√fan_in.
INITIALIZERS = {
    "he_normal": VarianceScaling(2, "fan_in", "normal"),
    "he_uniform": VarianceScaling(2, "fan_in", "uniform"),
    "glorot_normal": VarianceScaling(1, "fan_avg", "normal"),
    "glorot_uniform": VarianceScaling(1, "fan_avg", "uniform"),
    "fan_in_uniform": VarianceScaling(1 / 3, "fan_in", "uniform"),
}


def get(initializer: str | VarianceScaling) -> VarianceScaling:
    """The initializer called so, or the one given. Raises InputError with the nearest name."""
    if isinstance(initializer, str):
        return INITIALIZERS[one_of("initializer", initializer, INITIALIZERS)]
    if not isinstance(initializer, VarianceScaling):
        raise InputError(f"initializer: {initializer!r} is neither a name nor a VarianceScaling")
    return initializer
