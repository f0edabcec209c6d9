"""Softmax and its logarithm, over the last axis. They have no parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xpnn.arrays.namespace import Array, Namespace, array_namespace
from xpnn.arrays.random import Key
from xpnn.errors import InputError


@dataclass(frozen=True)
class Softmax:
    """Softmax over the last axis, y_j = e^{x_j} / Σ_k e^{x_k}.

    Notes
    -----
    x and y have the shape (batch, …, classes). The largest x_j is subtracted first, so that nothing overflows. Do not
    put this layer before `nn.CrossEntropyLoss`, which takes logits and includes the softmax.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> nn.Softmax().forward((), np.array([[1000.0, 1000.0], [0.0, np.log(3)]]))[0]
    array([[0.5 , 0.5 ],
           [0.25, 0.75]])
    """

    accepts_integers: ClassVar[bool] = False
    features_out: ClassVar[str] = "same"

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp = _enter("Softmax", x)
        e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))  # the largest exponent is 0: no overflow
        y = e / xp.sum(e, axis=-1, keepdims=True)
        return y, y

    def backward(self, params: tuple[()], y: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """Return dx_j = y_j · (dy_j − Σ_k dy_k y_k)."""
        xp = array_namespace(dy)
        return y * (dy - xp.sum(dy * y, axis=-1, keepdims=True)), ()


@dataclass(frozen=True)
class LogSoftmax:
    """Logarithm of the softmax over the last axis, y_j = x_j − log Σ_k e^{x_k}.

    Notes
    -----
    x and y have the shape (batch, …, classes). It is finite even if the softmax underflows to 0. `nn.NLLLoss` takes its
    result as the prediction.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> nn.LogSoftmax().forward((), np.array([[0.0, 1000.0]]))[0]
    array([[-1000.,     0.]])
    """

    accepts_integers: ClassVar[bool] = False
    features_out: ClassVar[str] = "same"

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp = _enter("LogSoftmax", x)
        z = x - xp.max(x, axis=-1, keepdims=True)  # the largest exponent is 0: no overflow
        y = z - xp.log(xp.sum(xp.exp(z), axis=-1, keepdims=True))
        return y, y

    def backward(self, params: tuple[()], y: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """Return dx_j = dy_j − e^{y_j} · Σ_k dy_k."""
        xp = array_namespace(dy)
        return dy - xp.exp(y) * xp.sum(dy, axis=-1, keepdims=True), ()


def _enter(name: str, x: Array) -> Namespace:
    if not x.ndim or not x.shape[-1]:
        raise InputError(f"{name}: x has shape {tuple(x.shape)}; expected (batch, …, classes) with at least one class")
    return array_namespace(x)
