"""First values of weights, drawn on the host in float64 so that every array library starts from the same bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from xpnn.arrays import random
from xpnn.errors import InputError
from xpnn.validation import as_float, one_of

Fan = Literal["fan_in", "fan_out", "fan_avg"]
_FANS = ("fan_in", "fan_out", "fan_avg")


class Initializer(Protocol):
    """What draws first values. An object of your own that keeps this promise serves as well, but cannot be saved."""

    def __call__(self, key: random.Key, shape: tuple[int, int]) -> np.ndarray:
        """float64 values of `shape` = (fan_in, fan_out), on the host: a pure function of key and shape."""


@dataclass(frozen=True)
class VarianceScaling:
    """Zero-mean values with variance `scale / fan`, for a weight of shape (fan_in, fan_out).

    mode:         which fan: "fan_in", "fan_out", or "fan_avg", their mean
    distribution: "normal", or "uniform" on ±√(3 · scale / fan)

    Source: He et al. 2015 (scale 2, fan_in); Glorot and Bengio 2010 (scale 1, fan_avg); LeCun et al. 1998 (scale 1,
    fan_in).
    """

    scale: float
    mode: Fan
    distribution: Literal["normal", "uniform"]

    def __post_init__(self) -> None:
        one_of("VarianceScaling: mode", self.mode, _FANS)
        one_of("VarianceScaling: distribution", self.distribution, ("normal", "uniform"))
        object.__setattr__(self, "scale", as_float("VarianceScaling: scale", self.scale))
        if not 0 <= self.scale < math.inf:
            raise InputError(f"VarianceScaling: scale is {self.scale!r}; expected a number of at least 0")

    def __call__(self, key: random.Key, shape: tuple[int, int]) -> np.ndarray:
        """float64 values of `shape` = (fan_in, fan_out)."""
        deviation = math.sqrt(self.scale / _fan(self.mode, shape))
        if self.distribution == "normal":
            return deviation * random.normal(key, shape)
        return deviation * math.sqrt(3) * (2 * random.uniform(key, shape) - 1)


@dataclass(frozen=True)
class TruncatedNormal:
    """Normal values of mean 0 that keep within ±cut deviations, for a weight of shape (fan_in, fan_out).

    std:  the deviation before the cut (the values' own is smaller: 0.88 · std for a cut of 2)
    cut:  in deviations
    mode: None, or the fan that the deviation shrinks with: std / √fan, and so the bounds are ±cut · std / √fan

    TruncatedNormal(1.0, 1.0, "fan_in") is the normal with deviation 1/√fan_in, cut off at ±1/√fan_in.
    Raises InputError for a std or a cut that is not above 0.
    """

    std: float
    cut: float = 2.0
    mode: Fan | None = None

    def __post_init__(self) -> None:
        for name in ("std", "cut"):
            value = as_float(f"TruncatedNormal: {name}", getattr(self, name))
            if not 0 < value < math.inf:
                raise InputError(f"TruncatedNormal: {name} is {value!r}; expected a number above 0")
            object.__setattr__(self, name, value)
        if self.mode is not None:
            one_of("TruncatedNormal: mode", self.mode, _FANS)

    def __call__(self, key: random.Key, shape: tuple[int, int]) -> np.ndarray:
        """float64 values of `shape` = (fan_in, fan_out)."""
        deviation = self.std if self.mode is None else self.std / math.sqrt(_fan(self.mode, shape))
        return deviation * random.truncated_normal(key, shape, self.cut)


@dataclass(frozen=True)
class Orthogonal:
    """gain · Q with QᵀQ = 1, or QQᵀ = 1 where fan_in < fan_out; every such Q is equally likely.

    Takes 2 · n² · (m − n/3) multiplications and additions for n = min(fan_in, fan_out), m = max(fan_in, fan_out).
    Source: Saxe et al. 2014; Stewart, "The efficient generation of random orthogonal matrices", 1980.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "gain", as_float("Orthogonal: gain", self.gain))
        if not 0 < self.gain < math.inf:
            raise InputError(f"Orthogonal: gain is {self.gain!r}; expected a number above 0")

    def __call__(self, key: random.Key, shape: tuple[int, int]) -> np.ndarray:
        """float64 values of `shape` = (fan_in, fan_out)."""
        q = _orthonormal(random.normal(key, (max(shape), min(shape))))
        return np.multiply(self.gain, q if shape[0] >= shape[1] else q.T, order="C")


@dataclass(frozen=True)
class Constant:
    """Every value is `value`."""

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", as_float("Constant: value", self.value))
        if not math.isfinite(self.value):
            raise InputError(f"Constant: value is {self.value!r}; expected a finite number")

    def __call__(self, key: random.Key, shape: tuple[int, int]) -> np.ndarray:
        """float64 values of `shape`."""
        return np.full(shape, self.value)


@dataclass(frozen=True)
class Zeros:
    """Every value is 0."""

    def __call__(self, key: random.Key, shape: tuple[int, int]) -> np.ndarray:
        """float64 values of `shape`."""
        return np.zeros(shape)


#: By name, as layers take them. "fan_in_uniform" is uniform within ±1/√fan_in; "fan_in_normal", with the deviation
#: 1/√fan_in, is "lecun_normal" by another name; "truncated_normal" is that one cut off at two deviations.
INITIALIZERS: dict[str, Initializer] = {
    "he_normal": VarianceScaling(2, "fan_in", "normal"),
    "he_uniform": VarianceScaling(2, "fan_in", "uniform"),
    "glorot_normal": VarianceScaling(1, "fan_avg", "normal"),
    "glorot_uniform": VarianceScaling(1, "fan_avg", "uniform"),
    "lecun_normal": VarianceScaling(1, "fan_in", "normal"),
    "lecun_uniform": VarianceScaling(1, "fan_in", "uniform"),
    "fan_in_normal": VarianceScaling(1, "fan_in", "normal"),
    "fan_in_uniform": VarianceScaling(1 / 3, "fan_in", "uniform"),
    "truncated_normal": TruncatedNormal(1.0, 2.0, "fan_in"),
    "fan_in_truncated_normal": TruncatedNormal(1.0, 1.0, "fan_in"),  # within ±1/√fan_in
    "orthogonal": Orthogonal(),
    "zeros": Zeros(),
}

#: What can be saved.
KINDS: tuple[type, ...] = (Constant, Orthogonal, TruncatedNormal, VarianceScaling, Zeros)


def get(initializer: str | Initializer) -> Initializer:
    """The initializer called so, or the one given. Raises InputError, with the nearest name."""
    if isinstance(initializer, str):
        return INITIALIZERS[one_of("initializer", initializer, INITIALIZERS)]
    if isinstance(initializer, type):
        raise InputError(f"initializer: {initializer.__name__} is a class; write {initializer.__name__}(…)")
    if not callable(initializer):
        raise InputError(
            f"initializer: {initializer!r} is neither a name nor an initializer; names are {', '.join(INITIALIZERS)}"
        )
    return initializer


def first_values(initializer: str | Initializer, key: random.Key, shape: tuple[int, int]) -> np.ndarray:
    """What `initializer` draws: float64 of `shape`. Raises InputError where one of a user's own draws another shape."""
    values = np.asarray(get(initializer)(key, shape), dtype=np.float64)
    if values.shape != shape:
        raise InputError(f"initializer: {initializer!r} gave shape {values.shape}; expected {shape}")
    return values


def _fan(mode: Fan, shape: tuple[int, int]) -> float:
    fan_in, fan_out = shape
    return {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]


def _orthonormal(z: np.ndarray) -> np.ndarray:
    """The first columns of the product of Householder reflections Hₖ = 1 − vₖvₖᵀ, signs drawn: of z's shape, m ≥ n.

    Column k of z, from row k down, is the normal vector that Hₖ turns into the k-th axis. LAPACK is not asked, nor
    BLAS: their sums run in an order that the machine chooses, and a last bit would differ from one to the next.
    """
    rows, columns = z.shape
    v = np.tril(z)
    first = np.diagonal(v).copy()
    sign = np.where(first < 0, -1.0, 1.0)
    norm = np.sqrt(_sum_rows(v * v))
    np.fill_diagonal(v, first + sign * norm)
    v = np.ascontiguousarray((v / np.sqrt(norm * (norm + np.abs(first)))).T)  # now vᵀv = 2
    q = np.eye(rows, columns)
    for start in range(0, columns, _WIDTH):
        block = q[:, start : start + _WIDTH].copy()
        for k in reversed(range(min(start + _WIDTH, columns))):  # a later Hₖ leaves these columns as they are
            below, along = block[k:], v[k, k:, None]
            below -= along * _sum_rows(along * below)
        q[:, start : start + _WIDTH] = block
    return q * -sign  # Hₖ turns its vector to −sign: with this, one direction is as likely as its opposite


_WIDTH = 128  # columns that stay in the cache together


def _sum_rows(x: np.ndarray) -> np.ndarray:
    """Σ over the first axis, half upon half, in x's own memory.

    NumPy's sum would do, but the order of its additions depends on shape and layout, and no version promises it.
    """
    while len(x) > 1:
        half = (len(x) + 1) // 2
        x[: len(x) - half] += x[half:]
        x = x[:half]
    return x[0]
