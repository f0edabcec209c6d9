"""Activations: y = f(x), element by element; none has parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from xpnn.arrays.namespace import Array, Namespace, array_namespace
from xpnn.arrays.random import Key
from xpnn.arrays.special import erfc
from xpnn.errors import InputError
from xpnn.validation import as_float, one_of


@dataclass(frozen=True)
class ReLU:
    """y = max(x, 0); its derivative at 0 is taken as 0."""

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"

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
    """y = σ(x) = 1 / (1 + e⁻ˣ)."""

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"
    preferred_init: ClassVar[str] = "glorot_uniform"

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        y = sigmoid(array_namespace(x), x)
        return y, y

    def backward(self, params: tuple[()], y: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """dx = dy · y · (1 − y)."""
        return dy * (y * (1 - y)), ()


@dataclass(frozen=True)
class Tanh:
    """y = tanh x."""

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"
    preferred_init: ClassVar[str] = "glorot_uniform"

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        y = array_namespace(x).tanh(x)
        return y, y

    def backward(self, params: tuple[()], y: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """dx = dy · (1 − y²)."""
        return dy * (1 - y * y), ()


@dataclass(frozen=True)
class Identity:
    """y = x: a place-holder, as torch.nn.Identity."""

    accepts_integers: ClassVar[bool | None] = None
    fused_role: ClassVar[str] = "activation"

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, None]:
        return x, None

    def backward(
        self, params: tuple[()], residuals: None, dy: Array, *, need_dx: bool = True
    ) -> tuple[Array, tuple[()]]:
        """dx = dy."""
        return dy, ()


@dataclass(frozen=True)
class LeakyReLU:
    """y = x for x ≥ 0, negative_slope · x below. Source: Maas et al. 2013."""

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "negative_slope", as_float("LeakyReLU: negative_slope", self.negative_slope))

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp = array_namespace(x)
        return xp.where(x < 0, self.negative_slope * x, x), x

    def backward(self, params: tuple[()], x: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """dx = dy for x > 0, negative_slope · dy elsewhere."""
        xp = array_namespace(dy)
        return xp.where(x > 0, dy, self.negative_slope * dy), ()


@dataclass(frozen=True)
class ELU:
    """y = x for x > 0, alpha · (eˣ − 1) elsewhere. Source: Clevert et al. 2016."""

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"

    alpha: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", as_float("ELU: alpha", self.alpha))

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp = array_namespace(x)
        # The branch that is not taken must not overflow either.
        return xp.where(x > 0, x, self.alpha * xp.expm1(xp.where(x > 0, 0.0, x))), x

    def backward(self, params: tuple[()], x: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """dx = dy for x > 0, dy · alpha · eˣ elsewhere."""
        xp = array_namespace(dy)
        return xp.where(x > 0, dy, dy * self.alpha * xp.exp(xp.where(x > 0, 0.0, x))), ()


@dataclass(frozen=True)
class SiLU:
    """y = x · σ(x), with σ the sigmoid; also called swish. Source: Elfwing et al. 2017."""

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, tuple[Array, Array]]:
        s = sigmoid(array_namespace(x), x)
        return x * s, (x, s)

    def backward(
        self, params: tuple[()], residuals: tuple[Array, Array], dy: Array, *, need_dx: bool = True
    ) -> tuple[Array, tuple[()]]:
        """dx = dy · (σ + x · σ · (1 − σ))."""
        x, s = residuals
        return dy * (s + x * s * (1 - s)), ()


@dataclass(frozen=True)
class Softplus:
    """y = log(1 + e^{beta · x}) / beta, a smooth ReLU; never overflows.

    Exact everywhere, where torch.nn.Softplus goes over to y = x above beta · x = 20 (a difference below 3e-9 / beta).
    Source: Dugas et al. 2001.
    """

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"

    beta: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", as_float("Softplus: beta", self.beta))
        if not self.beta > 0:
            raise InputError(f"Softplus: beta is {self.beta!r}; expected a number above 0")

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp = array_namespace(x)
        z = self.beta * x
        return (xp.where(z < 0, 0.0, z) + xp.log1p(xp.exp(-xp.abs(z)))) / self.beta, x

    def backward(self, params: tuple[()], x: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """dx = dy · σ(beta · x)."""
        return dy * sigmoid(array_namespace(dy), self.beta * x), ()


@dataclass(frozen=True)
class GELU:
    """y = x · Φ(x), with Φ the distribution function of the standard normal.

    approximate: "none", or "tanh" for y = ½ x (1 + tanh(√(2/π) · (x + 0.044715 x³))), off by at most 5e-4
    Raises InputError for another approximation. Source: Hendrycks and Gimpel 2016.
    """

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"

    approximate: str = "none"

    def __post_init__(self) -> None:
        one_of("GELU: approximate", self.approximate, ("none", "tanh"))

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        return x * self._gate(x)[0], x

    def backward(self, params: tuple[()], x: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """dx = dy · (gate + x · gate'), with y = x · gate(x); Φ' is the normal density."""
        gate, slope = self._gate(x)
        return dy * (gate + x * slope), ()

    def _gate(self, x: Array) -> tuple[Array, Array]:
        """(gate, its derivative): Φ and the density, or ½ (1 + tanh u) and ½ (1 − tanh² u) · u'."""
        xp = array_namespace(x)
        if self.approximate == "tanh":
            x = xp.where(x > 10, 10.0, xp.where(x < -10, -10.0, x))  # beyond, tanh is ±1 and u' could overflow
            t = xp.tanh(_ROOT * (x + 0.044715 * x * x * x))
            return 0.5 * (1 + t), 0.5 * (1 - t * t) * (_ROOT * (1 + 3 * 0.044715 * x * x))
        return 0.5 * erfc(xp, x * -math.sqrt(0.5)), xp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


_ROOT = math.sqrt(2 / math.pi)


def sigmoid(xp: Namespace, x: Array) -> Array:
    """1 / (1 + e⁻ˣ), computed from e^−|x| so that nothing overflows."""
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1 / (1 + e), e / (1 + e))


#: By name, as MLP and the command take them; all of them are layers that can be saved and run in a dense block.
ACTIVATIONS: dict[str, type[Any]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "gelu": GELU,
    "silu": SiLU,
    "softplus": Softplus,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "identity": Identity,
}
