"""Layers that stand first: they turn raw data into what the network likes, and are saved and exported with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace, is_array
from xpnn.arrays.random import Key
from xpnn.arrays.tree import Carried
from xpnn.devices.place import to_numpy
from xpnn.errors import InputError
from xpnn.validation import as_float


@dataclass(frozen=True)
class Flatten:
    """y = x as rows: (batch, d₁, d₂, …) -> (batch, d₁·d₂·…)."""

    accepts_integers: ClassVar[bool | None] = None

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, tuple[int, ...]]:
        shape = tuple(x.shape)
        return array_namespace(x).reshape(x, (shape[0], math.prod(shape[1:]))), shape

    def backward(
        self, params: tuple[()], shape: tuple[int, ...], dy: Array, *, need_dx: bool = True
    ) -> tuple[Array, tuple[()]]:
        """dx = dy in the shape of x."""
        return array_namespace(dy).reshape(dy, shape), ()


class Gathered(NamedTuple):
    """Rows of a data set that are yet to be taken, (rows,) numbers: what a training step gives a model that begins with
    Scale, so that they can be scaled on the way.
    """

    whole: Array
    rows: Array


class ScaleParams(NamedTuple):
    """factor: Carried 0-d array; it also tells the dtype in which bytes are scaled."""

    factor: Carried


@dataclass(frozen=True)
class Scale:
    """y = factor · x; turns bytes into fractions: Scale(1 / 255). x of any shape and any real dtype."""

    accepts_integers: ClassVar[bool] = True
    gathers_rows: ClassVar[bool] = True

    factor: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", as_float("Scale: factor", self.factor))

    def init(self, key: Key) -> ScaleParams:
        return ScaleParams(Carried(np.asarray(self.factor)))

    def forward(self, params: ScaleParams, x: Array | Gathered, *, key: Key | None = None) -> tuple[Array, None]:
        if isinstance(x, Gathered):
            return gathered(x.whole, x.rows, params.factor.value), None
        return scaled(x, params.factor.value), None

    def backward(
        self, params: ScaleParams, residuals: None, dy: Array | None, *, need_dx: bool = True
    ) -> tuple[Array | None, ScaleParams]:
        """dx = factor · dy; the factor is carried on."""
        return (dy * params.factor.value if need_dx and dy is not None else None), params


@dispatched
def scaled(x: Array, factor: Array) -> Array:
    """x · factor in the dtype of `factor`, which is 0-d."""
    return (x if x.dtype == factor.dtype else array_namespace(x).astype(x, factor.dtype)) * factor


@dispatched
def gathered(whole: Array, rows: Array, factor: Array) -> Array:
    """`scaled` rows of a data set: (rows,) numbers."""
    return scaled(array_namespace(whole).take(whole, rows, axis=0), factor)


class StandardizeParams(NamedTuple):
    """mean, scale: Carried arrays of shape (features,); scale = 1 / standard deviation."""

    mean: Carried
    scale: Carried


@dataclass(frozen=True)
class Standardize:
    """y = (x − mean) / deviation, column by column; x and y are (batch, features).

    `Standardize.fit(x)` measures the columns. A column that never changes has deviation 0: it is only centred.
    """

    accepts_integers: ClassVar[bool] = True

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def fit(cls, x: Any) -> Standardize:
        """The layer for the columns of x, (rows, features): host arithmetic in float64. Raises InputError."""
        table = np.asarray(to_numpy(x) if is_array(x) else x, dtype=np.float64)
        if table.ndim != 2 or table.size == 0:
            raise InputError(f"Standardize.fit: x has shape {table.shape}; expected (rows, features), not empty")
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = table.mean(axis=0), table.std(axis=0)
        bad = np.flatnonzero(~np.isfinite(mean) | ~np.isfinite(deviation))
        if bad.size:
            raise InputError(f"Standardize.fit: the values of column {bad[0]} are too large, or not finite")
        deviation[table.max(axis=0) == table.min(axis=0)] = 0  # rounding may leave 1e-17
        return cls(tuple(mean.tolist()), tuple(deviation.tolist()))

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.deviation):
            raise InputError(f"Standardize: {len(self.mean)} means, but {len(self.deviation)} deviations")

    def init(self, key: Key) -> StandardizeParams:
        deviation = np.asarray(self.deviation)
        scale = 1 / np.where(deviation > 0, deviation, 1.0)
        return StandardizeParams(Carried(np.asarray(self.mean)), Carried(scale))

    def forward(self, params: StandardizeParams, x: Array, *, key: Key | None = None) -> tuple[Array, None]:
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise InputError(
                f"Standardize: x has shape {tuple(x.shape)}; expected (batch, {len(self.mean)}), the columns fitted"
            )
        mean, scale = params.mean.value, params.scale.value
        if x.dtype != mean.dtype:
            x = array_namespace(x).astype(x, mean.dtype)
        return (x - mean) * scale, None

    def backward(
        self, params: StandardizeParams, residuals: None, dy: Array | None, *, need_dx: bool = True
    ) -> tuple[Array | None, StandardizeParams]:
        """dx = dy / deviation; mean and scale are carried on."""
        return (dy * params.scale.value if need_dx and dy is not None else None), params
