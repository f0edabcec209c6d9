"""Normalization: layers that scale the features to mean 0 and variance 1, within each row or over the batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, Namespace, array_namespace, device_of
from xpnn.arrays.random import Key
from xpnn.arrays.tree import Carried
from xpnn.devices.libraries.transfers import on_device, over_ranks
from xpnn.errors import InputError
from xpnn.validation import Problems, as_count, as_float


class NormParams(NamedTuple):
    """The parameters of `LayerNorm` and `RMSNorm`.

    Attributes
    ----------
    weight : array, (features,)
        Initially 1.
    bias : array, (features,), or None
        Initially 0; None for `RMSNorm`.
    """

    weight: Array
    bias: Array | None


class NormResiduals(NamedTuple):
    """xhat: the normalized x, of the shape of x; scale: 1 / deviation of each row, (…, 1)."""

    xhat: Array
    scale: Array


@dataclass(frozen=True)
class LayerNorm:
    """Layer normalization: normalize each row over its features, then scale and shift each feature.

    Parameters
    ----------
    features : int
        Size of the last axis of x and y, (batch, …, features).
    eps : float
        Added to the variance; above 0.

    Raises
    ------
    InputError
        If a value is out of range. `forward` raises it if x has another number of features.

    Notes
    -----
    ::

        y = x̂ · weight + bias, x̂ = (x − mean) / √(variance + eps)

    with the mean and the (biased) variance over the features of each row. The same as ``torch.nn.LayerNorm``.

    References
    ----------
    Ba, Kiros and Hinton, "Layer normalization", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> from xpnn.arrays import random
    >>> layer = nn.LayerNorm(2)
    >>> params = layer.init(random.key(0, "init"))
    >>> layer.forward(params, np.array([[1.0, 3.0], [-500.0, 500.0]]))[0].round(3)
    array([[-1.,  1.],
           [-1.,  1.]])
    """

    accepts_integers: ClassVar[bool] = False
    features_out: ClassVar[str] = "same"

    features: int
    eps: float = 1e-5

    def __post_init__(self) -> None:
        _check_fields(self)

    @property
    def features_in(self) -> int:
        """The number of features of x."""
        return self.features

    def init(self, key: Key) -> NormParams:
        return NormParams(np.ones(self.features), np.zeros(self.features))

    def forward(self, params: NormParams, x: Array, *, key: Key | None = None) -> tuple[Array, NormResiduals]:
        _check_shape(self, x)
        return layer_norm(x, params, self.eps)

    def backward(
        self, params: NormParams, residuals: NormResiduals, dy: Array, *, need_dx: bool = True
    ) -> tuple[Array | None, NormParams]:
        """Return dx = scale · (g − mean g − x̂ · mean(g · x̂)), g = dy · weight; dweight = Σ dy · x̂, dbias = Σ dy."""
        return layer_norm_backward(dy, params, residuals, need_dx)


@dispatched
def layer_norm(x: Array, params: NormParams, eps: float) -> tuple[Array, NormResiduals]:
    """Normalize the rows, then scale and shift the features -> (y, residuals)."""
    xp = array_namespace(x)
    shifted = x - x[..., :1]  # a constant row becomes exactly 0; the rounding of its mean could exceed √eps
    centred = shifted - xp.mean(shifted, axis=-1, keepdims=True)
    scale = _one_over_root(xp, xp.mean(centred * centred, axis=-1, keepdims=True) + eps)
    xhat = centred * scale
    return xhat * params.weight + params.bias, NormResiduals(xhat, scale)


@dispatched
def layer_norm_backward(
    dy: Array, params: NormParams, residuals: NormResiduals, need_dx: bool
) -> tuple[Array | None, NormParams]:
    """Return dx = scale · (g − mean g − x̂ · mean(g · x̂)), g = dy · weight; dweight = Σ dy · x̂, dbias = Σ dy."""
    xhat, scale = residuals
    xp = array_namespace(dy)
    grads = NormParams(_over_rows(xp, dy * xhat), _over_rows(xp, dy))
    if not need_dx:
        return None, grads
    g = dy * params.weight
    along = xp.mean(g * xhat, axis=-1, keepdims=True)
    return scale * (g - xp.mean(g, axis=-1, keepdims=True) - xhat * along), grads


@dataclass(frozen=True)
class RMSNorm:
    """Root mean square normalization: divide each row by its root mean square, then scale each feature.

    Parameters
    ----------
    features : int
        Size of the last axis of x and y, (batch, …, features).
    eps : float
        Added to the mean square; above 0.

    Raises
    ------
    InputError
        If a value is out of range. `forward` raises it if x has another number of features.

    Notes
    -----
    ::

        y = x̂ · weight, x̂ = x / √(mean of x² + eps)

    with the mean over the features of each row. The same as ``torch.nn.RMSNorm``, whose default eps depends on the
    dtype.

    References
    ----------
    Zhang and Sennrich, "Root mean square layer normalization", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> from xpnn.arrays import random
    >>> layer = nn.RMSNorm(2)
    >>> layer.forward(layer.init(random.key(0, "init")), np.array([[1.0, 7.0]]))[0].round(3)
    array([[0.2, 1.4]])
    """

    accepts_integers: ClassVar[bool] = False
    features_out: ClassVar[str] = "same"

    features: int
    eps: float = 1e-6

    def __post_init__(self) -> None:
        _check_fields(self)

    @property
    def features_in(self) -> int:
        """The number of features of x."""
        return self.features

    def init(self, key: Key) -> NormParams:
        return NormParams(np.ones(self.features), None)

    def forward(self, params: NormParams, x: Array, *, key: Key | None = None) -> tuple[Array, NormResiduals]:
        _check_shape(self, x)
        return rms_norm(x, params, self.eps)

    def backward(
        self, params: NormParams, residuals: NormResiduals, dy: Array, *, need_dx: bool = True
    ) -> tuple[Array | None, NormParams]:
        """Return dx = scale · (g − x̂ · mean(g · x̂)), g = dy · weight; dweight = Σ dy · x̂."""
        return rms_norm_backward(dy, params, residuals, need_dx)


@dispatched
def rms_norm(x: Array, params: NormParams, eps: float) -> tuple[Array, NormResiduals]:
    """Divide the rows by their root mean square, then scale the features -> (y, residuals)."""
    xp = array_namespace(x)
    scale = _one_over_root(xp, xp.mean(x * x, axis=-1, keepdims=True) + eps)
    xhat = x * scale
    return xhat * params.weight, NormResiduals(xhat, scale)


@dispatched
def rms_norm_backward(
    dy: Array, params: NormParams, residuals: NormResiduals, need_dx: bool
) -> tuple[Array | None, NormParams]:
    """Return dx = scale · (g − x̂ · mean(g · x̂)), g = dy · weight; dweight = Σ dy · x̂."""
    xhat, scale = residuals
    xp = array_namespace(dy)
    grads = NormParams(_over_rows(xp, dy * xhat), None)
    if not need_dx:
        return None, grads
    g = dy * params.weight
    return scale * (g - xhat * xp.mean(g * xhat, axis=-1, keepdims=True)), grads


class BatchNormParams(NamedTuple):
    """The parameters of `BatchNorm1d`.

    Attributes
    ----------
    weight, bias : array, (features,), or None
        Initially 1 and 0; None without `affine`.
    running_mean, running_var : Carried array, (features,)
        Initially 0 and 1; carried from step to step, not trained.
    """

    weight: Array | None
    bias: Array | None
    running_mean: Carried
    running_var: Carried


class BatchNormResiduals(NamedTuple):
    """xhat: (batch, features); scale: 1 / deviation, (features,); the next running statistics."""

    xhat: Array
    scale: Array
    running_mean: Carried
    running_var: Carried


class SharedBatchNormResiduals(NamedTuple):
    """The residuals of a part of a batch, whose other parts other processes compute."""

    local: BatchNormResiduals
    rows: int  # of all parts
    ranks: Any


@dataclass(frozen=True)
class BatchNorm1d:
    """Batch normalization: normalize each feature over the batch, then scale and shift it.

    Parameters
    ----------
    features : int
        Number of columns of x and y, (batch, features).
    eps : float
        Added to the variance; above 0.
    momentum : float
        Weight of the batch in the running statistics, from 0 to 1.
    affine : bool
        Whether to scale and shift by a trained weight and bias.

    Raises
    ------
    InputError
        If a value is out of range. `forward` raises it if x has another shape.

    Notes
    -----
    ::

        y = x̂ · weight + bias, x̂ = (x − mean) / √(variance + eps)

    In training, the mean and the (biased) variance are those of the batch, and the running statistics are updated:
    r ← (1 − momentum) · r + momentum · s, where s is the mean of the batch, or its unbiased variance (divided by
    batch − 1). In inference (without a key) the running statistics take their place.

    The same as ``torch.nn.BatchNorm1d``, except that a batch of one row does not raise: its x̂ is 0, and the running
    variance is not updated.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization: Accelerating deep network training by reducing internal covariate shift",
    2015.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> from xpnn.arrays import random
    >>> layer, x = nn.BatchNorm1d(1), np.array([[1.0], [3.0]])
    >>> params = layer.init(random.key(0, "init"))
    >>> y, residuals = layer.forward(params, x, key=random.key(0, "dropout"))
    >>> y.round(3).tolist()
    [[-1.0], [1.0]]
    >>> _, grads = layer.backward(params, residuals, np.ones((2, 1)))
    >>> grads.running_mean  # the next value, not a gradient
    Carried(value=array([0.2]))
    """

    accepts_integers: ClassVar[bool] = False
    features_out: ClassVar[str] = "same"
    cancels_bias: ClassVar[bool] = True
    uses_batch_statistics: ClassVar[bool] = True
    sums_over_ranks: ClassVar[bool] = True

    features: int
    eps: float = 1e-5
    momentum: float = 0.1
    affine: bool = True

    def __post_init__(self) -> None:
        problems = Problems()
        with problems:
            _check_fields(self)
        with problems:
            object.__setattr__(self, "momentum", as_float("BatchNorm1d: momentum", self.momentum))
            if not 0 <= self.momentum <= 1:
                raise InputError(f"BatchNorm1d: momentum is {self.momentum!r}; expected 0 <= momentum <= 1")
        problems.raise_found()

    @property
    def features_in(self) -> int:
        """The number of features of x."""
        return self.features

    def init(self, key: Key) -> BatchNormParams:
        ones, zeros = np.ones(self.features), np.zeros(self.features)
        running = Carried(np.zeros(self.features)), Carried(np.ones(self.features))
        return BatchNormParams(ones if self.affine else None, zeros if self.affine else None, *running)

    def forward(self, params: BatchNormParams, x: Array, *, key: Key | None = None) -> tuple[Array, Any]:
        _check_shape(self, x)
        if key is not None and not x.shape[0]:
            raise InputError(
                f"BatchNorm1d({self.features}): x has no rows, so they have no mean; expected at least one"
            )
        if key is not None and key.ranks is not None:
            return _shared_batch_norm(x, params, self.eps, self.momentum, key.ranks)
        return batch_norm(x, params, self.eps, None if key is None else self.momentum)

    def backward(
        self, params: BatchNormParams, residuals: Any, dy: Array | None, *, need_dx: bool = True
    ) -> tuple[Array | None, BatchNormParams]:
        """Return dx = scale · (g − mean g − x̂ · mean(g · x̂)), g = dy · weight; dweight = Σ dy · x̂, dbias = Σ dy.

        Means and sums are over the batch. In inference dx is scale · g.
        """
        if type(residuals) is SharedBatchNormResiduals:
            return _shared_batch_norm_backward(dy, params, residuals, need_dx)
        if dy is None:  # nothing is trained, neither here nor below
            return None, params._replace(running_mean=residuals.running_mean, running_var=residuals.running_var)
        return batch_norm_backward(dy, params, residuals, need_dx)


@dispatched
def batch_norm(
    x: Array, params: BatchNormParams, eps: float, momentum: float | None
) -> tuple[Array, BatchNormResiduals]:
    """Normalize the columns, then scale and shift them -> (y, residuals); momentum: None in inference."""
    xp = array_namespace(x)
    running = params.running_mean, params.running_var
    if momentum is None:
        mean, variance = (carried.value for carried in running)
        centred = x - mean
    else:
        shifted = x - x[:1, :]  # a constant column becomes exactly 0; the rounding of its mean could exceed √eps
        mean = xp.mean(shifted, axis=0)
        centred = shifted - mean
        variance = xp.mean(centred * centred, axis=0)
        running = next_statistics(running, momentum, x[0, :] + mean, variance, x.shape[0])
    scale = _one_over_root(xp, variance + eps)
    xhat = centred * scale
    y = xhat if params.weight is None else xhat * params.weight + params.bias
    return y, BatchNormResiduals(xhat, scale, *running)


@dispatched
def batch_norm_backward(
    dy: Array, params: BatchNormParams, residuals: BatchNormResiduals, need_dx: bool
) -> tuple[Array | None, BatchNormParams]:
    """Return dx = scale · (g − mean g − x̂ · mean(g · x̂)), g = dy · weight; dweight = Σ dy · x̂, dbias = Σ dy.

    Means and sums are over the batch. In inference dx is scale · g.
    """
    xhat, scale, *running = residuals
    xp = array_namespace(dy)
    dweight = dbias = None
    g = dy
    if params.weight is not None:
        dweight, dbias, g = xp.sum(dy * xhat, axis=0), xp.sum(dy, axis=0), dy * params.weight
    grads = BatchNormParams(dweight, dbias, *running)
    if not need_dx:
        return None, grads
    if running[0] is params.running_mean:  # inference: the statistics are constants
        return scale * g, grads
    return scale * (g - xp.mean(g, axis=0) - xhat * xp.mean(g * xhat, axis=0)), grads


def _shared_batch_norm(
    x: Array, params: BatchNormParams, eps: float, momentum: float, ranks: Any
) -> tuple[Array, SharedBatchNormResiduals]:
    """As `batch_norm` in training, for a part of a batch: the statistics are those of all parts."""
    xp = array_namespace(x)
    first = x[0, :] if ranks.rank == 0 else xp.zeros_like(x[0, :])  # rank 0 has the first row of the batch
    if on_device(ranks):  # a graph contains the number of rows: it may not be read from the device
        row, rows = over_ranks(ranks, first), int(ranks.sum(np.asarray([float(x.shape[0])]))[0])
    else:
        count = xp.full((1,), float(x.shape[0]), dtype=x.dtype, device=device_of(x))
        first = over_ranks(ranks, xp.concat([first, count]))
        row, rows = first[:-1], int(first[-1])
    shifted = x - row
    mean = over_ranks(ranks, xp.sum(shifted, axis=0)) / rows
    centred = shifted - mean
    variance = over_ranks(ranks, xp.sum(centred * centred, axis=0)) / rows
    running = next_statistics((params.running_mean, params.running_var), momentum, row + mean, variance, rows)
    scale = _one_over_root(xp, variance + eps)
    xhat = centred * scale
    y = xhat if params.weight is None else xhat * params.weight + params.bias
    return y, SharedBatchNormResiduals(BatchNormResiduals(xhat, scale, *running), rows, ranks)


def _shared_batch_norm_backward(
    dy: Array | None, params: BatchNormParams, residuals: SharedBatchNormResiduals, need_dx: bool
) -> tuple[Array | None, BatchNormParams]:
    """As `batch_norm_backward`, for a part of a batch: dweight and dbias are sums over its rows."""
    (xhat, scale, *running), rows, ranks = residuals
    dweight = dbias = None
    if dy is None:
        return None, BatchNormParams(params.weight, params.bias, *running)
    xp, g = array_namespace(dy), dy
    if params.weight is not None:
        dweight, dbias, g = xp.sum(dy * xhat, axis=0), xp.sum(dy, axis=0), dy * params.weight
    grads = BatchNormParams(dweight, dbias, *running)
    if not need_dx:
        return None, grads
    sums = over_ranks(ranks, xp.stack([xp.sum(g, axis=0), xp.sum(g * xhat, axis=0)])) / rows
    return scale * (g - sums[0, :] - xhat * sums[1, :]), grads


def next_statistics(
    running: tuple[Carried, Carried], momentum: float, mean: Array, variance: Array, rows: int
) -> tuple[Carried, Carried]:
    """Return the running mean and variance after a batch of so many rows with this mean and (biased) variance."""

    def updated(old: Carried, new: Array) -> Carried:
        return Carried((1 - momentum) * old.value + momentum * new)

    running_mean, running_var = running
    if rows > 1:  # the unbiased variance of one row is undefined
        running_var = updated(running_var, variance * (rows / (rows - 1)))
    return updated(running_mean, mean), running_var


def _check_fields(layer: LayerNorm | RMSNorm | BatchNorm1d) -> None:
    """Check and convert the fields that all three layers have."""
    name = type(layer).__name__
    problems = Problems()
    with problems:
        object.__setattr__(layer, "features", as_count(f"{name}: features", layer.features))
    with problems:
        object.__setattr__(layer, "eps", as_float(f"{name}: eps", layer.eps))
        if not 0 < layer.eps < math.inf:
            raise InputError(f"{name}: eps is {layer.eps!r}; expected a number above 0")
    problems.raise_found()


def _check_shape(layer: LayerNorm | RMSNorm | BatchNorm1d, x: Array) -> None:
    if x.ndim < 2 or x.shape[-1] != layer.features or (isinstance(layer, BatchNorm1d) and x.ndim != 2):
        name = f"{type(layer).__name__}({layer.features})"
        raise InputError(f"{name}: x has shape {tuple(x.shape)}; expected (batch, {layer.features})")


def _one_over_root(xp: Namespace, variance: Array) -> Array:
    """Return 1 / √variance; NaN if the variance is infinite, so that training stops: 0 would make all rows equal."""
    return xp.sqrt(variance) / variance


def _over_rows(xp: Namespace, x: Array) -> Array:
    """Return the sum over all axes except the last."""
    return xp.sum(x, axis=tuple(range(x.ndim - 1)))
