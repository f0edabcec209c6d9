"""Softmax and its logarithm, over the last axis; no parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.random import Key


@dataclass(frozen=True)
class Softmax:
    """y_j = e^{x_j} / Σ_k e^{x_k} over the last axis. CrossEntropyLoss wants logits: do not put this before it."""

    accepts_integers: ClassVar[bool] = False

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp = array_namespace(x)
        e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))  # the largest exponent is 0: no overflow
        y = e / xp.sum(e, axis=-1, keepdims=True)
        return y, y

    def backward(self, params: tuple[()], y: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """dx_j = y_j · (dy_j − Σ_k dy_k y_k)."""
        xp = array_namespace(dy)
        return y * (dy - xp.sum(dy * y, axis=-1, keepdims=True)), ()


@dataclass(frozen=True)
class LogSoftmax:
    """y_j = x_j − log Σ_k e^{x_k} over the last axis: the logarithm of Softmax, without its underflow."""

    accepts_integers: ClassVar[bool] = False

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp = array_namespace(x)
        z = x - xp.max(x, axis=-1, keepdims=True)  # the largest exponent is 0: no overflow
        y = z - xp.log(xp.sum(xp.exp(z), axis=-1, keepdims=True))
        return y, y

    def backward(self, params: tuple[()], y: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """dx_j = dy_j − e^{y_j} · Σ_k dy_k."""
        xp = array_namespace(dy)
        return dy - xp.exp(y) * xp.sum(dy, axis=-1, keepdims=True), ()
