"""Preprocessing as the first layers of a model, so that it is saved and exported with the model."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.mapped import MappedRows
from xpnn.arrays.namespace import Array, array_namespace, device_of
from xpnn.arrays.random import Key
from xpnn.arrays.tree import Carried
from xpnn.devices.libraries.conversion import as_numbers
from xpnn.devices.place import place_of, to_numpy
from xpnn.errors import InputError
from xpnn.validation import Problems, as_finite, as_float


@dataclass(frozen=True)
class Flatten:
    """Reshape each sample to a vector: (batch, d₁, d₂, …) → (batch, d₁ · d₂ · …).

    Notes
    -----
    ::

        y = x, reshaped to (batch, d₁ · d₂ · …)

    in row-major order. Integers pass through as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> nn.Flatten().forward((), np.ones((32, 28, 28)))[0].shape
    (32, 784)
    """

    accepts_integers: ClassVar[bool | None] = None

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, tuple[int, ...]]:
        shape = tuple(x.shape)
        if not shape:
            raise InputError("Flatten: x has shape (); expected (batch, …)")
        return array_namespace(x).reshape(x, (shape[0], math.prod(shape[1:]))), shape

    def backward(
        self, params: tuple[()], shape: tuple[int, ...], dy: Array, *, need_dx: bool = True
    ) -> tuple[Array, tuple[()]]:
        """Return dx = dy, reshaped to the shape of x."""
        return array_namespace(dy).reshape(dy, shape), ()


class Gathered(NamedTuple):
    """A data set and the rows to take from it.

    A training step passes this instead of x to a model whose `gathers_rows` is True, so that its first layer can take
    the rows and convert them in one pass. It stands for ``xp.take(whole, rows, axis=0)``.

    Attributes
    ----------
    whole : array, (samples, …)
        The data set.
    rows : array, (batch,)
        int32 indices.
    """

    whole: Array
    rows: Array


class ScaleParams(NamedTuple):
    """factor: Carried array, 0-d. Its dtype is the dtype of y."""

    factor: Carried


@dataclass(frozen=True)
class Scale:
    """Multiply by a constant, y = factor · x.

    Parameters
    ----------
    factor : float
        Not trained.

    Raises
    ------
    InputError
        If `factor` is not a number.

    Notes
    -----
    x has any shape and any real dtype; integers are converted to floating point. Scale(1 / 255) turns bytes into values
    from 0 to 1; the data set can stay on the device as bytes.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> from xpnn.arrays import random
    >>> layer = nn.Scale(1 / 255)
    >>> layer.forward(layer.init(random.key(0, "init")), np.array([[0, 255]], dtype=np.uint8))[0]
    array([[0., 1.]])
    """

    accepts_integers: ClassVar[bool] = True
    features_out: ClassVar[str] = "same"
    gathers_rows: ClassVar[bool] = True

    factor: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", as_finite("Scale: factor", self.factor))

    def init(self, key: Key) -> ScaleParams:
        return ScaleParams(Carried(np.asarray(self.factor)))

    def forward(self, params: ScaleParams, x: Array | Gathered, *, key: Key | None = None) -> tuple[Array, None]:
        if isinstance(x, Gathered):
            return gathered(x.whole, x.rows, params.factor.value), None
        return scaled(x, params.factor.value), None

    def backward(
        self, params: ScaleParams, residuals: None, dy: Array | None, *, need_dx: bool = True
    ) -> tuple[Array | None, ScaleParams]:
        """Return dx = factor · dy; the factor is unchanged."""
        return (dy * params.factor.value if need_dx and dy is not None else None), params


@dispatched
def scaled(x: Array, factor: Array) -> Array:
    """Return x · factor in the dtype of `factor`, which is 0-d."""
    return (x if x.dtype == factor.dtype else array_namespace(x).astype(x, factor.dtype)) * factor


@dispatched
def gathered(whole: Array, rows: Array, factor: Array) -> Array:
    """Return `scaled` rows of a data set, (samples, …), for the indices `rows`, (batch,)."""
    return scaled(array_namespace(whole).take(whole, rows, axis=0), factor)


class StandardizeParams(NamedTuple):
    """mean, scale: Carried arrays, (features,); scale is 1 / standard deviation, or 1 for a constant column."""

    mean: Carried
    scale: Carried


@dataclass(frozen=True)
class Standardize:
    """Standardize each column, y = (x − mean) / deviation.

    Parameters
    ----------
    mean, deviation : tuple of float
        Mean and standard deviation of each column. `Standardize.fit(x)` computes them from data.

    Raises
    ------
    InputError
        If their lengths differ. `forward` raises it if x has another shape.

    Notes
    -----
    x and y have the shape (batch, features). A column with deviation 0 is only centred. Mean and deviation are not
    trained. Integers are converted to floating point.

    A column whose mean is more than a thousand times its deviation, such as a time in seconds since 1970, loses its
    differences in float32. So the mean is subtracted in float64 from x of another dtype than that of the parameters,
    and the result is converted; a `Trainer` in float32 does this on the host.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> from xpnn.arrays import random
    >>> x = np.array([[1.0, 5.0], [3.0, 5.0]])
    >>> layer = nn.Standardize.fit(x)
    >>> layer
    Standardize(mean=(2.0, 5.0), deviation=(1.0, 0.0))
    >>> layer.forward(layer.init(random.key(0, "init")), x)[0].tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """

    accepts_integers: ClassVar[bool] = True
    features_out: ClassVar[str] = "same"

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def fit(cls, x: Any) -> Standardize:
        """Compute mean and standard deviation of each column, in float64 on the host.

        Parameters
        ----------
        x : array or table, (rows, features)

        Returns
        -------
        Standardize
            The layer for these columns.

        Raises
        ------
        InputError
            If `x` is empty or has another number of axes, or a column holds values that are not finite or too large.
        """
        x = as_numbers("Standardize.fit: x", x)
        if x.ndim != 2 or 0 in x.shape:
            raise InputError(f"Standardize.fit: x has shape {tuple(x.shape)}; expected (rows, features), not empty")
        with np.errstate(over="ignore", invalid="ignore"):
            if isinstance(x, MappedRows):
                mean, deviation, is_constant = x.moments()
            else:
                table = np.asarray(to_numpy(x), dtype=np.float64)
                mean, deviation = table.mean(axis=0), table.std(axis=0)
                is_constant = table.max(axis=0) == table.min(axis=0)
        bad = np.flatnonzero(~np.isfinite(mean) | ~np.isfinite(deviation))
        if bad.size:
            raise InputError(
                f"Standardize.fit: column {bad[0]} holds values that are not finite or too large; remove or clip them"
            )
        deviation[is_constant] = 0  # instead of a rounding error such as 1e-17
        return cls(tuple(mean.tolist()), tuple(deviation.tolist()))

    def __post_init__(self) -> None:
        _check_lengths(self)

    @property
    def features_in(self) -> int:
        """The number of columns."""
        return len(self.mean)

    def init(self, key: Key) -> StandardizeParams:
        deviation = np.asarray(self.deviation)
        scale = 1 / np.where(deviation > 0, deviation, 1.0)
        return StandardizeParams(Carried(np.asarray(self.mean)), Carried(scale))

    def forward(self, params: StandardizeParams, x: Array, *, key: Key | None = None) -> tuple[Array, None]:
        _check_columns(self, x)
        mean, scale = params.mean.value, params.scale.value
        if x.dtype != mean.dtype:
            xp, offset = array_namespace(x), self._offset
            if offset is not None and not place_of(x).lib.why_no_dtype("float64"):
                x = xp.astype(x, xp.float64)
                x, mean = x - xp.asarray(offset, dtype=x.dtype, device=device_of(x)), _without(mean, offset)
            x = xp.astype(x, mean.dtype)
        return (x - mean) * scale, None

    def backward(
        self, params: StandardizeParams, residuals: None, dy: Array | None, *, need_dx: bool = True
    ) -> tuple[Array | None, StandardizeParams]:
        """Return dx = dy / deviation; mean and scale are unchanged."""
        return (dy * params.scale.value if need_dx and dy is not None else None), params

    def centred(self) -> tuple[np.ndarray, Any] | None:
        """The large means, 0 for the other columns, and the layer for x without them; None if there are none."""
        offset = self._offset
        return None if offset is None else (np.asarray(offset), _Centred(self, offset))

    @functools.cached_property
    def _offset(self) -> tuple[float, ...] | None:
        """The means that are large compared with the deviation of their column, 0 for the others; None if all are 0."""
        pairs = zip(self.mean, self.deviation, strict=True)
        large = tuple(mean if abs(mean) > _LARGE * (deviation or 1.0) else 0.0 for mean, deviation in pairs)
        return large if any(large) else None


_LARGE = 1000.0  # float32 keeps 1/16000 of a deviation of a column with this ratio of mean and deviation


@dataclass(frozen=True)
class _Centred:
    """`Standardize` of x − offset, with the parameters of `Standardize`: y = (x − (mean − offset)) / deviation."""

    accepts_integers: ClassVar[bool] = False

    layer: Standardize
    offset: tuple[float, ...]

    def init(self, key: Key) -> StandardizeParams:
        return self.layer.init(key)

    def forward(self, params: StandardizeParams, x: Array, *, key: Key | None = None) -> tuple[Array, None]:
        return (x - _without(params.mean.value, self.offset)) * params.scale.value, None

    def backward(
        self, params: StandardizeParams, residuals: None, dy: Array | None, *, need_dx: bool = True
    ) -> tuple[Array | None, StandardizeParams]:
        """Return dx = dy / deviation; mean and scale are unchanged."""
        return self.layer.backward(params, residuals, dy, need_dx=need_dx)


def _without(mean: Array, offset: tuple[float, ...]) -> Array:
    """Return mean − offset in the dtype of the mean, without a copy from the host: it may be recorded in a graph."""
    xp = array_namespace(mean)
    columns = xp.arange(len(offset), dtype=xp.int32, device=device_of(mean))
    for i, value in enumerate(offset):
        if value:
            mean = xp.where(columns == i, mean - value, mean)
    return mean


@dataclass(frozen=True)
class Unstandardize:
    """Undo `Standardize`, y = x · deviation + mean: as a last layer, it gives predictions in the unit of the target.

    Parameters
    ----------
    mean, deviation : tuple of float, (features,)
        Mean and standard deviation of each column. Not trained.

    Raises
    ------
    InputError
        If their lengths differ. `forward` raises it if x has another shape.

    Notes
    -----
    x and y have the shape (batch, features). A column with deviation 0 is only shifted, as in `Standardize`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> from xpnn.arrays import random
    >>> layer = nn.Unstandardize(mean=(2.0,), deviation=(10.0,))
    >>> layer.forward(layer.init(random.key(0, "init")), np.array([[-1.0], [0.5]]))[0].tolist()
    [[-8.0], [7.0]]
    """

    accepts_integers: ClassVar[bool] = False
    features_out: ClassVar[str] = "same"

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_lengths(self)

    @property
    def features_in(self) -> int:
        """The number of columns."""
        return len(self.mean)

    def init(self, key: Key) -> StandardizeParams:
        deviation = np.asarray(self.deviation)
        return StandardizeParams(Carried(np.asarray(self.mean)), Carried(np.where(deviation > 0, deviation, 1.0)))

    def forward(self, params: StandardizeParams, x: Array, *, key: Key | None = None) -> tuple[Array, None]:
        _check_columns(self, x)
        return x * params.scale.value + params.mean.value, None

    def backward(
        self, params: StandardizeParams, residuals: None, dy: Array | None, *, need_dx: bool = True
    ) -> tuple[Array | None, StandardizeParams]:
        """Return dx = dy · deviation; mean and scale are unchanged."""
        return (dy * params.scale.value if need_dx and dy is not None else None), params


@dataclass(frozen=True)
class SmoothClip:
    """Limit outliers smoothly to −limit … limit, y = x / √(1 + (x / limit)²).

    Parameters
    ----------
    limit : float
        The bound that large values approach. Values that are small compared with it hardly change.

    Raises
    ------
    InputError
        If `limit` is not a number above 0.

    Notes
    -----
    ::

        y = x · s
        dx = s³ · dy,  with s = 1 / √(1 + (x / limit)²)

    After `Standardize`, a value of 1 becomes 0.95 with a limit of 3, and a value of 100 becomes 2.999. x and y have any
    shape.

    References
    ----------
    Holzmüller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular data",
    2024, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> nn.SmoothClip(3.0).forward((), np.array([0.0, 4.0, -1e30]))[0].tolist()
    [0.0, 2.4, -3.0]
    """

    accepts_integers: ClassVar[bool] = False
    features_out: ClassVar[str] = "same"

    limit: float = 3.0

    def __post_init__(self) -> None:
        limit = as_float("SmoothClip: limit", self.limit)
        if not 0 < limit < math.inf:
            raise InputError(f"SmoothClip: limit is {limit}; expected a number above 0")
        object.__setattr__(self, "limit", limit)

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp, largest = array_namespace(x), 1e8 * self.limit  # beyond it, y is ±limit, and the square could overflow
        x = xp.minimum(xp.maximum(x, xp.full_like(x, -largest)), xp.full_like(x, largest))
        s = 1 / xp.sqrt(1 + (x / self.limit) ** 2)
        return x * s, s

    def backward(
        self, params: tuple[()], s: Array, dy: Array | None, *, need_dx: bool = True
    ) -> tuple[Array | None, tuple[()]]:
        """Return dx = s³ · dy."""
        return (s * s * s * dy if need_dx and dy is not None else None), ()


def _check_lengths(layer: Standardize | Unstandardize) -> None:
    problems, name = Problems(), type(layer).__name__
    with problems:
        if len(layer.mean) != len(layer.deviation):
            raise InputError(
                f"{name}: {len(layer.mean)} means, but {len(layer.deviation)} deviations; expected one per column"
            )
    for field in ("mean", "deviation"):
        with problems:
            for i, value in enumerate(getattr(layer, field)):
                as_finite(f"{name}: {field}[{i}]", value)
    problems.raise_found()


def _check_columns(layer: Standardize | Unstandardize, x: Array) -> None:
    if x.ndim != 2 or x.shape[1] != len(layer.mean):
        raise InputError(
            f"{type(layer).__name__}: x has shape {tuple(x.shape)}; expected (batch, {len(layer.mean)}), the fitted "
            "columns"
        )
