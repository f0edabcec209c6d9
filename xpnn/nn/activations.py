"""Activations: y = f(x), element by element, except for Softmax; none has parameters."""

from __future__ import annotations

from dataclasses import dataclass

from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.random import Key


@dataclass(frozen=True)
class ReLU:
    """y = max(x, 0); its derivative at 0 is taken as 0."""

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp = array_namespace(x)
        y = xp.where(x < 0, 0.0, x)  # NaN stays NaN
        return y, y

    def backward(self, params: tuple[()], y: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """dx = dy where y > 0, else 0."""
        xp = array_namespace(dy)
        return xp.where(y > 0, dy, 0.0), ()


@dataclass(frozen=True)
class Sigmoid:
    """y = 1 / (1 + e⁻ˣ), computed from e^−|x| so that nothing overflows."""

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp = array_namespace(x)
        e = xp.exp(-xp.abs(x))
        y = xp.where(x >= 0, 1 / (1 + e), e / (1 + e))
        return y, y

    def backward(self, params: tuple[()], y: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """dx = dy · y · (1 − y)."""
        return dy * (y * (1 - y)), ()


@dataclass(frozen=True)
class Tanh:
    """y = tanh x."""

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        y = array_namespace(x).tanh(x)
        return y, y

    def backward(self, params: tuple[()], y: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """dx = dy · (1 − y²)."""
        return dy * (1 - y * y), ()


@dataclass(frozen=True)
class Softmax:
    """y_j = e^{x_j} / Σ_k e^{x_k} over the last axis. CrossEntropyLoss wants logits: do not put this before it."""

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
