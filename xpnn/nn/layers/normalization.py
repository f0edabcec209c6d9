"""Normalization: features brought to mean 0 and variance 1, within a row or over the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from xpnn.arrays.namespace import Array, Namespace, array_namespace
from xpnn.arrays.random import Key
from xpnn.arrays.tree import Carried
from xpnn.errors import InputError
from xpnn.validation import as_count, as_float


class NormParams(NamedTuple):
    """weight: (features,), starts at 1; bias: (features,), starts at 0, or None where there is none."""

    weight: Array
    bias: Array | None


class NormResiduals(NamedTuple):
    """xhat: x normalized, of x's shape; scale: 1 / deviation, which broadcasts against it."""

    xhat: Array
    scale: Array


@dataclass(frozen=True)
class LayerNorm:
    """y = x̂ · weight + bias with x̂ = (x − mean) / √(variance + eps), both over the features of each row.

    x, y: (…, features); the variance is the mean square. As torch.nn.LayerNorm. Raises InputError for another width.
    Source: Ba et al. 2016.
    """

    accepts_integers: ClassVar[bool] = False

    features: int
    eps: float = 1e-5

    def __post_init__(self) -> None:
        _settle(self)

    def init(self, key: Key) -> NormParams:
        return NormParams(np.ones(self.features), np.zeros(self.features))

    def forward(self, params: NormParams, x: Array, *, key: Key | None = None) -> tuple[Array, NormResiduals]:
        xp = _checked(self, x)
        shifted = x - x[..., :1]  # the mean of a constant row may round, and eps would not hide it: 0 does not round
        centred = shifted - xp.mean(shifted, axis=-1, keepdims=True)
        scale = _one_over_root(xp, xp.mean(centred * centred, axis=-1, keepdims=True) + self.eps)
        xhat = centred * scale
        return xhat * params.weight + params.bias, NormResiduals(xhat, scale)

    def backward(
        self, params: NormParams, residuals: NormResiduals, dy: Array, *, need_dx: bool = True
    ) -> tuple[Array | None, NormParams]:
        """dx = scale · (g − mean g − x̂ · mean(g · x̂)) with g = dy · weight; dweight = Σ dy · x̂, dbias = Σ dy."""
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
    """y = x̂ · weight with x̂ = x / √(mean of x² + eps), over the features of each row.

    x, y: (…, features). As torch.nn.RMSNorm, whose eps depends on the dtype unless it is given. Raises InputError for
    another width. Source: Zhang and Sennrich 2019.
    """

    accepts_integers: ClassVar[bool] = False

    features: int
    eps: float = 1e-6

    def __post_init__(self) -> None:
        _settle(self)

    def init(self, key: Key) -> NormParams:
        return NormParams(np.ones(self.features), None)

    def forward(self, params: NormParams, x: Array, *, key: Key | None = None) -> tuple[Array, NormResiduals]:
        xp = _checked(self, x)
        scale = _one_over_root(xp, xp.mean(x * x, axis=-1, keepdims=True) + self.eps)
        xhat = x * scale
        return xhat * params.weight, NormResiduals(xhat, scale)

    def backward(
        self, params: NormParams, residuals: NormResiduals, dy: Array, *, need_dx: bool = True
    ) -> tuple[Array | None, NormParams]:
        """dx = scale · (g − x̂ · mean(g · x̂)) with g = dy · weight; dweight = Σ dy · x̂ over rows."""
        xhat, scale = residuals
        xp = array_namespace(dy)
        grads = NormParams(_over_rows(xp, dy * xhat), None)
        if not need_dx:
            return None, grads
        g = dy * params.weight
        return scale * (g - xhat * xp.mean(g * xhat, axis=-1, keepdims=True)), grads


class BatchNormParams(NamedTuple):
    """weight, bias: (features,), or None without affine; running_mean, running_var: Carried (features,)."""

    weight: Array | None
    bias: Array | None
    running_mean: Carried
    running_var: Carried


class BatchNormResiduals(NamedTuple):
    """xhat: (batch, features); scale: (features,); the next running statistics, as they were in inference."""

    xhat: Array
    scale: Array
    running_mean: Carried
    running_var: Carried


@dataclass(frozen=True)
class BatchNorm1d:
    """y = x̂ · weight + bias with x̂ = (x − mean) / √(variance + eps), over the batch while training.

    x, y: (batch, features). While training the statistics are the batch's (the variance is the mean square), and the
    running ones follow: r ← (1 − momentum) · r + momentum · the batch's mean, or its variance over batch − 1. In
    inference the running statistics are used. As torch.nn.BatchNorm1d, but that a batch of one trains (its x̂ is 0, and
    the running variance stays) instead of raising. Raises InputError for another width. Source: Ioffe and Szegedy 2015.
    """

    accepts_integers: ClassVar[bool] = False
    cancels_bias: ClassVar[bool] = True
    uses_batch_statistics: ClassVar[bool] = True

    features: int
    eps: float = 1e-5
    momentum: float = 0.1
    affine: bool = True

    def __post_init__(self) -> None:
        _settle(self)
        object.__setattr__(self, "momentum", as_float("BatchNorm1d: momentum", self.momentum))
        if not 0 <= self.momentum <= 1:
            raise InputError(f"BatchNorm1d: momentum is {self.momentum!r}; expected 0 <= momentum <= 1")

    def init(self, key: Key) -> BatchNormParams:
        ones, zeros = np.ones(self.features), np.zeros(self.features)
        running = Carried(np.zeros(self.features)), Carried(np.ones(self.features))
        return BatchNormParams(ones if self.affine else None, zeros if self.affine else None, *running)

    def forward(self, params: BatchNormParams, x: Array, *, key: Key | None = None) -> tuple[Array, BatchNormResiduals]:
        xp = _checked(self, x)
        running = params.running_mean, params.running_var
        if key is None:
            mean, variance = (carried.value for carried in running)
            centred = x - mean
        else:
            shifted = x - x[:1, :]  # the mean of a constant column may round, and eps would not hide it
            mean = xp.mean(shifted, axis=0)
            centred = shifted - mean
            variance = xp.mean(centred * centred, axis=0)
            rows, running_var = x.shape[0], running[1]
            if rows > 1:  # one row shows no variance
                running_var = self._follow(running_var, variance * (rows / (rows - 1)))
            running = self._follow(running[0], x[0, :] + mean), running_var
        scale = _one_over_root(xp, variance + self.eps)
        xhat = centred * scale
        y = xhat if params.weight is None else xhat * params.weight + params.bias
        return y, BatchNormResiduals(xhat, scale, *running)

    def _follow(self, old: Carried, new: Array) -> Carried:
        return Carried((1 - self.momentum) * old.value + self.momentum * new)

    def backward(
        self, params: BatchNormParams, residuals: BatchNormResiduals, dy: Array | None, *, need_dx: bool = True
    ) -> tuple[Array | None, BatchNormParams]:
        """dx = scale · (g − mean g − x̂ · mean(g · x̂)) over the batch, g = dy · weight; in inference dx = scale · g."""
        xhat, scale, *running = residuals
        if dy is None:  # nothing is trained from here downwards
            return None, params._replace(running_mean=running[0], running_var=running[1])
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


def _settle(layer: LayerNorm | RMSNorm | BatchNorm1d) -> None:
    """Check and convert the fields that all of them have."""
    name = type(layer).__name__
    object.__setattr__(layer, "features", as_count(f"{name}: features", layer.features))
    object.__setattr__(layer, "eps", as_float(f"{name}: eps", layer.eps))
    if not layer.eps > 0:
        raise InputError(f"{name}: eps is {layer.eps!r}; expected a number above 0")


def _checked(layer: LayerNorm | RMSNorm | BatchNorm1d, x: Array) -> Namespace:
    if x.ndim < 2 or x.shape[-1] != layer.features or (isinstance(layer, BatchNorm1d) and x.ndim != 2):
        name = f"{type(layer).__name__}({layer.features})"
        raise InputError(f"{name}: x has shape {tuple(x.shape)}; expected (batch, {layer.features})")
    return array_namespace(x)


def _one_over_root(xp: Namespace, variance: Array) -> Array:
    """1 / √variance; NaN, so that a run stops, where the variance overflowed: 0 would make all rows alike."""
    return xp.sqrt(variance) / variance


def _over_rows(xp: Namespace, x: Array) -> Array:
    """The sum over all axes but the last."""
    return xp.sum(x, axis=tuple(range(x.ndim - 1)))
