"""Initial values of weights, drawn on the host in float64, so that every array library starts from the same bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from xpnn.arrays import random
from xpnn.errors import InputError
from xpnn.validation import Problems, as_float, one_of

Fan = Literal["fan_in", "fan_out", "fan_avg"]
_FANS = ("fan_in", "fan_out", "fan_avg")


class Initializer(Protocol):
    """The interface of initializers: a callable that returns the initial values of a weight.

    A custom initializer can be any callable, but a model that has one cannot be saved to a file. Make it a frozen
    dataclass, so that it compares, prints and pickles. Draw from `xpnn.arrays.random` (`uniform`, `normal`,
    `truncated_normal`), which return float64 NumPy arrays.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> from xpnn import nn
    >>> from xpnn.arrays import random
    >>> @dataclass(frozen=True)
    ... class Sparse:
    ...     fraction: float
    ...     def __call__(self, key, shape):
    ...         keep = random.uniform(key.child("keep"), shape) < self.fraction
    ...         return np.where(keep, random.normal(key.child("values"), shape), 0.0)
    >>> layer = nn.Linear(200, 10, weight_init=Sparse(0.3))
    >>> round(float((layer.init(random.key(0, "init")).weight != 0).mean()), 1)
    0.3
    """

    def __call__(self, key: random.Key, shape: tuple[int, int]) -> np.ndarray:
        """Draw the initial values.

        Parameters
        ----------
        key : Key
            The key of the draw; `key.child(name)` gives independent keys for several draws.
        shape : tuple of two ints
            (fan_in, fan_out).

        Returns
        -------
        ndarray
            float64, of `shape`: a pure function of `key` and `shape`.
        """


@dataclass(frozen=True)
class VarianceScaling:
    """Random values with mean 0 and variance scale / fan.

    Parameters
    ----------
    scale : float
        At least 0.
    mode : {"fan_in", "fan_out", "fan_avg"}
        Which fan of a weight of shape (fan_in, fan_out); "fan_avg" is the mean of both.
    distribution : {"normal", "uniform"}
        The normal distribution, or the uniform one in ±√(3 · scale / fan).

    Raises
    ------
    InputError
        If a value is out of range.

    References
    ----------
    He, Zhang, Ren and Sun, "Delving deep into rectifiers", 2015 (scale 2, fan_in).
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010 (scale 1,
    fan_avg).
    LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998 (scale 1, fan_in).

    Examples
    --------
    >>> from xpnn import nn
    >>> from xpnn.arrays import random
    >>> weight = nn.VarianceScaling(2, "fan_in", "normal")(random.key(0, "init"), (200, 100))
    >>> weight.shape, round(float(weight.std()), 3)  # √(2 / 200) = 0.1
    ((200, 100), 0.1)
    """

    scale: float
    mode: Fan
    distribution: Literal["normal", "uniform"]

    def __post_init__(self) -> None:
        problems = Problems()
        with problems:
            one_of("VarianceScaling: mode", self.mode, _FANS)
        with problems:
            one_of("VarianceScaling: distribution", self.distribution, ("normal", "uniform"))
        with problems:
            object.__setattr__(self, "scale", as_float("VarianceScaling: scale", self.scale))
            if not 0 <= self.scale < math.inf:
                raise InputError(f"VarianceScaling: scale is {self.scale!r}; expected a number of at least 0")
        problems.raise_found()

    def __call__(self, key: random.Key, shape: tuple[int, int]) -> np.ndarray:
        """Return float64 values of `shape`, (fan_in, fan_out)."""
        deviation = math.sqrt(self.scale / _fan(self.mode, shape))
        if self.distribution == "normal":
            return deviation * random.normal(key, shape)
        return deviation * math.sqrt(3) * (2 * random.uniform(key, shape) - 1)


@dataclass(frozen=True)
class TruncatedNormal:
    """Random values of a normal distribution with mean 0 that is truncated at ±cut standard deviations.

    Parameters
    ----------
    std : float
        The standard deviation before the truncation, above 0. That of the values is smaller: 0.88 · std for cut = 2.
    cut : float
        In standard deviations, above 0.
    mode : {"fan_in", "fan_out", "fan_avg"}, optional
        If given, std / √fan replaces std, and the values are within ±cut · std / √fan.

    Raises
    ------
    InputError
        If a value is out of range.

    Notes
    -----
    TruncatedNormal(1.0, 1.0, "fan_in") has the standard deviation 1/√fan_in before it is truncated at ±1/√fan_in.

    Examples
    --------
    >>> from xpnn import nn
    >>> from xpnn.arrays import random
    >>> weight = nn.TruncatedNormal(0.1)(random.key(0, "init"), (100, 100))
    >>> bool(abs(weight).max() <= 0.2), round(float(weight.std()), 2)
    (True, 0.09)
    """

    std: float
    cut: float = 2.0
    mode: Fan | None = None

    def __post_init__(self) -> None:
        problems = Problems()
        for name in ("std", "cut"):
            with problems:
                value = as_float(f"TruncatedNormal: {name}", getattr(self, name))
                if not 0 < value < math.inf:
                    raise InputError(f"TruncatedNormal: {name} is {value!r}; expected a number above 0")
                object.__setattr__(self, name, value)
        if self.mode is not None:
            with problems:
                one_of("TruncatedNormal: mode", self.mode, _FANS)
        problems.raise_found()

    def __call__(self, key: random.Key, shape: tuple[int, int]) -> np.ndarray:
        """Return float64 values of `shape`, (fan_in, fan_out)."""
        deviation = self.std if self.mode is None else self.std / math.sqrt(_fan(self.mode, shape))
        return deviation * random.truncated_normal(key, shape, self.cut)


@dataclass(frozen=True)
class Orthogonal:
    """A random matrix gain · Q with orthonormal columns, or orthonormal rows if fan_in < fan_out.

    Parameters
    ----------
    gain : float
        Above 0.

    Raises
    ------
    InputError
        If `gain` is out of range.

    Notes
    -----
    QᵀQ = 1, or QQᵀ = 1 if fan_in < fan_out; every such Q is equally likely. It takes 2 · n² · (m − n/3) multiplications
    and additions, with n = min(fan_in, fan_out) and m = max(fan_in, fan_out).

    References
    ----------
    Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks", 2014.
    Stewart, "The efficient generation of random orthogonal matrices with an application to condition estimators", 1980.

    Examples
    --------
    >>> from xpnn import nn
    >>> from xpnn.arrays import random
    >>> q = nn.Orthogonal()(random.key(0, "init"), (5, 2))
    >>> abs(q.T @ q).round(12)
    array([[1., 0.],
           [0., 1.]])
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "gain", as_float("Orthogonal: gain", self.gain))
        if not 0 < self.gain < math.inf:
            raise InputError(f"Orthogonal: gain is {self.gain!r}; expected a number above 0")

    def __call__(self, key: random.Key, shape: tuple[int, int]) -> np.ndarray:
        """Return float64 values of `shape`, (fan_in, fan_out)."""
        q = _orthonormal(random.normal(key, (max(shape), min(shape))))
        return np.multiply(self.gain, q if shape[0] >= shape[1] else q.T, order="C")


@dataclass(frozen=True)
class Constant:
    """The same value everywhere.

    Parameters
    ----------
    value : float
        A finite number.

    Raises
    ------
    InputError
        If `value` is not finite.

    Examples
    --------
    >>> from xpnn import nn
    >>> nn.Constant(0.5)(None, (1, 2))
    array([[0.5, 0.5]])
    """

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", as_float("Constant: value", self.value))
        if not math.isfinite(self.value):
            raise InputError(f"Constant: value is {self.value!r}; expected a finite number")

    def __call__(self, key: random.Key, shape: tuple[int, int]) -> np.ndarray:
        """Return float64 values of `shape`."""
        return np.full(shape, self.value)


@dataclass(frozen=True)
class Zeros:
    """Zeros.

    Examples
    --------
    >>> from xpnn import nn
    >>> nn.Zeros()(None, (1, 2))
    array([[0., 0.]])
    """

    def __call__(self, key: random.Key, shape: tuple[int, int]) -> np.ndarray:
        """Return float64 values of `shape`."""
        return np.zeros(shape)


#: The initializers by the names that layers accept. "fan_in_uniform" is uniform in ±1/√fan_in; "fan_in_normal", with
#: the standard deviation 1/√fan_in, is the same as "lecun_normal"; "truncated_normal" is its truncation at two of them.
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

#: The classes that can be saved to a file.
KINDS: tuple[type, ...] = (Constant, Orthogonal, TruncatedNormal, VarianceScaling, Zeros)


def get(initializer: str | Initializer) -> Initializer:
    """Return an initializer by its name.

    Parameters
    ----------
    initializer : str or Initializer
        A name in `INITIALIZERS`; an initializer is returned as it is.

    Returns
    -------
    Initializer

    Raises
    ------
    InputError
        If the name is unknown (the message suggests the most similar one), or it is a class, or not callable.

    Examples
    --------
    >>> get("lecun_normal")
    VarianceScaling(scale=1.0, mode='fan_in', distribution='normal')
    """
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
    """Draw the initial values of a weight.

    Parameters
    ----------
    initializer : str or Initializer
    key : Key
    shape : tuple of two ints
        (fan_in, fan_out).

    Returns
    -------
    ndarray
        float64, of `shape`.

    Raises
    ------
    InputError
        If there is no such initializer, or it returns another shape.
    """
    values = np.asarray(get(initializer)(key, shape), dtype=np.float64)
    if values.shape != shape:
        raise InputError(f"initializer: {initializer!r} returned shape {values.shape}; expected {shape}")
    return values


def _fan(mode: Fan, shape: tuple[int, int]) -> float:
    """Return the fan of a weight of `shape`, (fan_in, fan_out)."""
    fan_in, fan_out = shape
    return {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]


def _orthonormal(z: np.ndarray) -> np.ndarray:
    """Return the first columns of a product of Householder reflections Hₖ = 1 − vₖvₖᵀ with random signs: (m, n), m ≥ n.

    Hₖ maps column k of z, from row k on, to a multiple of the k-th axis. LAPACK and BLAS are not used: the order of
    their additions depends on the machine, and so would the last bits.
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
        for k in reversed(range(min(start + _WIDTH, columns))):  # a later Hₖ does not change these columns
            below, along = block[k:], v[k, k:, None]
            below -= along * _sum_rows(along * below)
        q[:, start : start + _WIDTH] = block
    return q * -sign  # Hₖ maps its vector to −sign; so each direction is as likely as its opposite


_WIDTH = 128  # columns that fit into the cache together


def _sum_rows(x: np.ndarray) -> np.ndarray:
    """Return the sum over the first axis by adding halves, in place.

    The order of additions in NumPy's sum depends on shape and layout, and may change between versions.
    """
    while len(x) > 1:
        half = (len(x) + 1) // 2
        x[: len(x) - half] += x[half:]
        x = x[:half]
    return x[0]
