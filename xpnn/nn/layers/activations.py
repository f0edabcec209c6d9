"""Activations: y = f(x) for each element. They have no parameters and take an x of any shape.

`forward` keeps y or x for `backward`, whichever makes the derivative cheaper. Integers are converted to floating point
before they reach an activation (`accepts_integers = False`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from xpnn.arrays.namespace import Array, Namespace, array_namespace
from xpnn.arrays.random import Key
from xpnn.arrays.special import erfc
from xpnn.errors import InputError
from xpnn.validation import as_finite, as_float, one_of


@dataclass(frozen=True)
class ReLU:
    """Rectified linear unit, y = max(x, 0).

    Notes
    -----
    The derivative at 0 is 0. NaN stays NaN.

    References
    ----------
    Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> y, residuals = nn.ReLU().forward((), np.array([[-1.0, 2.0]]))
    >>> y
    array([[0., 2.]])
    >>> nn.ReLU().backward((), residuals, np.ones((1, 2)))
    (array([[0., 1.]]), ())
    """

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"
    features_out: ClassVar[str] = "same"

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp = array_namespace(x)
        y = xp.where(x < 0, 0.0, x)  # NaN stays NaN
        return y, y

    def backward(self, params: tuple[()], y: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """Return dx = dy where y > 0, else 0."""
        xp = array_namespace(dy)
        return xp.where(y > 0, dy, 0.0), ()


@dataclass(frozen=True)
class Sigmoid:
    """Logistic sigmoid, y = σ(x) = 1 / (1 + e⁻ˣ).

    Notes
    -----
    Computed from e^−|x|, so that it does not overflow. If a model ends with it, use `nn.BCEWithLogitsLoss` on the
    logits instead: it includes the sigmoid.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> nn.Sigmoid().forward((), np.array([[0.0, 1000.0]]))[0]
    array([[0.5, 1. ]])
    """

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"
    features_out: ClassVar[str] = "same"
    preferred_init: ClassVar[str] = "glorot_uniform"

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        y = sigmoid(array_namespace(x), x)
        return y, y

    def backward(self, params: tuple[()], y: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """Return dx = dy · y · (1 − y)."""
        return dy * (y * (1 - y)), ()


@dataclass(frozen=True)
class Tanh:
    """Hyperbolic tangent, y = tanh x.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> nn.Tanh().forward((), np.array([[0.0, 1000.0]]))[0]
    array([[0., 1.]])
    """

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"
    features_out: ClassVar[str] = "same"
    preferred_init: ClassVar[str] = "glorot_uniform"

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        y = array_namespace(x).tanh(x)
        return y, y

    def backward(self, params: tuple[()], y: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """Return dx = dy · (1 − y²)."""
        return dy * (1 - y * y), ()


@dataclass(frozen=True)
class Identity:
    """The identity function, y = x.

    Notes
    -----
    A placeholder where a layer is required; the same as ``torch.nn.Identity``. Integers pass through as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> nn.Identity().forward((), np.array([[3]]))[0]
    array([[3]])
    """

    accepts_integers: ClassVar[bool | None] = None
    fused_role: ClassVar[str] = "activation"
    features_out: ClassVar[str] = "same"

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, None]:
        return x, None

    def backward(
        self, params: tuple[()], residuals: None, dy: Array, *, need_dx: bool = True
    ) -> tuple[Array, tuple[()]]:
        """Return dx = dy."""
        return dy, ()


@dataclass(frozen=True)
class LeakyReLU:
    """Leaky rectified linear unit, y = x for x ≥ 0, else negative_slope · x.

    Parameters
    ----------
    negative_slope : float
        The slope for x < 0, and the derivative at 0.

    References
    ----------
    Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> nn.LeakyReLU(0.1).forward((), np.array([[-1.0, 2.0]]))[0]
    array([[-0.1,  2. ]])
    """

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"
    features_out: ClassVar[str] = "same"

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "negative_slope", as_finite("LeakyReLU: negative_slope", self.negative_slope))

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp = array_namespace(x)
        return xp.where(x < 0, self.negative_slope * x, x), x

    def backward(self, params: tuple[()], x: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """Return dx = dy for x > 0, else negative_slope · dy."""
        xp = array_namespace(dy)
        return xp.where(x > 0, dy, self.negative_slope * dy), ()


@dataclass(frozen=True)
class ELU:
    """Exponential linear unit, y = x for x > 0, else alpha · (eˣ − 1).

    Parameters
    ----------
    alpha : float
        −alpha is the limit of y for x → −∞.

    References
    ----------
    Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by exponential linear units (ELUs)",
    2016.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> nn.ELU(2.0).forward((), np.array([[-1000.0, 3.0]]))[0]
    array([[-2.,  3.]])
    """

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"
    features_out: ClassVar[str] = "same"

    alpha: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", as_finite("ELU: alpha", self.alpha))

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp = array_namespace(x)
        # where() computes both branches: the one that is not selected must not overflow.
        return xp.where(x > 0, x, self.alpha * xp.expm1(xp.where(x > 0, 0.0, x))), x

    def backward(self, params: tuple[()], x: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """Return dx = dy for x > 0, else dy · alpha · eˣ."""
        xp = array_namespace(dy)
        return xp.where(x > 0, dy, dy * self.alpha * xp.exp(xp.where(x > 0, 0.0, x))), ()


@dataclass(frozen=True)
class SiLU:
    """Sigmoid linear unit, y = x · σ(x), with the sigmoid σ; also called swish.

    References
    ----------
    Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units for neural network function approximation in reinforcement
    learning", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> nn.SiLU().forward((), np.array([[-1000.0, 0.0, 1000.0]]))[0]
    array([[  -0.,    0., 1000.]])
    """

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"
    features_out: ClassVar[str] = "same"

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, tuple[Array, Array]]:
        s = sigmoid(array_namespace(x), x)
        return x * s, (x, s)

    def backward(
        self, params: tuple[()], residuals: tuple[Array, Array], dy: Array, *, need_dx: bool = True
    ) -> tuple[Array, tuple[()]]:
        """Return dx = dy · (σ + x · σ · (1 − σ))."""
        x, s = residuals
        return dy * (s + x * s * (1 - s)), ()


@dataclass(frozen=True)
class Softplus:
    """Smooth approximation of ReLU, y = log(1 + e^{beta · x}) / beta.

    Parameters
    ----------
    beta : float
        Sharpness, above 0: for beta → ∞ this is ReLU.

    Raises
    ------
    InputError
        If `beta` is not above 0.

    Notes
    -----
    It does not overflow. The formula holds for every x, whereas ``torch.nn.Softplus`` returns x if beta · x > 20 (a
    difference below 3e-9 / beta).

    References
    ----------
    Dugas, Bengio, Bélisle, Nadeau and Garcia, "Incorporating second-order functional knowledge for better option
    pricing", 2001.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> nn.Softplus().forward((), np.array([[-1000.0, 1000.0]]))[0]
    array([[   0., 1000.]])
    """

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"
    features_out: ClassVar[str] = "same"

    beta: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", as_float("Softplus: beta", self.beta))
        if not 0 < self.beta < math.inf:
            raise InputError(f"Softplus: beta is {self.beta!r}; expected a number above 0")

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp = array_namespace(x)
        z = self.beta * x
        return (xp.where(z < 0, 0.0, z) + xp.log1p(xp.exp(-xp.abs(z)))) / self.beta, x

    def backward(self, params: tuple[()], x: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """Return dx = dy · σ(beta · x)."""
        return dy * sigmoid(array_namespace(dy), self.beta * x), ()


@dataclass(frozen=True)
class GELU:
    """Gaussian error linear unit, y = x · Φ(x), with the distribution function Φ of the standard normal distribution.

    Parameters
    ----------
    approximate : {"none", "tanh"}
        "tanh" replaces Φ(x) by ½ (1 + tanh(√(2/π) · (x + 0.044715 x³))), with an error of y of at most 5e-4.

    Raises
    ------
    InputError
        If `approximate` has another value.

    References
    ----------
    Hendrycks and Gimpel, "Gaussian error linear units (GELUs)", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> nn.GELU().forward((), np.array([[0.0, 1.0]]))[0].round(4)
    array([[0.    , 0.8413]])
    """

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "activation"
    features_out: ClassVar[str] = "same"

    approximate: str = "none"

    def __post_init__(self) -> None:
        one_of("GELU: approximate", self.approximate, ("none", "tanh"))

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        return x * self._gate(x)[0], x

    def backward(self, params: tuple[()], x: Array, dy: Array, *, need_dx: bool = True) -> tuple[Array, tuple[()]]:
        """Return dx = dy · (Φ(x) + x · Φ'(x)); Φ' is the density of the standard normal distribution."""
        gate, slope = self._gate(x)
        return dy * (gate + x * slope), ()

    def _gate(self, x: Array) -> tuple[Array, Array]:
        """Return (Φ(x), Φ'(x)), or of its approximation (½ (1 + tanh u), ½ (1 − tanh² u) · u')."""
        xp = array_namespace(x)
        if self.approximate == "tanh":
            x = xp.where(x > 10, 10.0, xp.where(x < -10, -10.0, x))  # beyond, tanh is ±1 and u' could overflow
            t = xp.tanh(_ROOT * (x + 0.044715 * x * x * x))
            return 0.5 * (1 + t), 0.5 * (1 - t * t) * (_ROOT * (1 + 3 * 0.044715 * x * x))
        return 0.5 * erfc(xp, x * -math.sqrt(0.5)), xp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


_ROOT = math.sqrt(2 / math.pi)


def sigmoid(xp: Namespace, x: Array) -> Array:
    """Return 1 / (1 + e⁻ˣ), computed from e^−|x| so that nothing overflows.

    Parameters
    ----------
    xp : Namespace
        The functions of the library of `x`.
    x : array
        Floating point, of any shape.

    Returns
    -------
    array
        Of the shape and dtype of `x`.
    """
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1 / (1 + e), e / (1 + e))


#: The activations by the names that `MLP` and the command line accept. All can be saved and are part of fused blocks.
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
