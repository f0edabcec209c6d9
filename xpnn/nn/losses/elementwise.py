"""Losses that compare prediction and target element by element: ℓ(z, t), and its derivative with respect to z.

Shapes
    prediction, target  z and t, both (batch, outputs)
    sample_weight       w, (batch,), or None for 1

Reduction over the rows n, in the unit of ℓ
    "mean"  Σ_n w_n · (mean of ℓ over the outputs of row n) / Σ_n w_n
    "sum"   Σ_n w_n · (sum of ℓ over the outputs of row n); a trainer logs it divided by Σ_n w_n
    "none"  w_n · ℓ, (batch, outputs); `backward` returns the derivative of each element. Not for training

`backward` multiplies ∂ℓ/∂z by the factor of each element in the reduction. The target is converted to the dtype of the
prediction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from xpnn.arrays.namespace import Array, Namespace, array_namespace
from xpnn.arrays.special import sign
from xpnn.errors import InputError
from xpnn.nn.layers.activations import sigmoid
from xpnn.nn.losses.reduction import REDUCTIONS, Reduction, factor_of, reduced
from xpnn.nn.losses.targets import check_binary, check_range, check_values
from xpnn.validation import Problems, as_float, one_of


class ElementwiseResiduals(NamedTuple):
    """prediction, target: (batch, outputs), of one dtype; factor: of each ℓ in the loss, a scalar or (batch, 1)."""

    prediction: Array
    target: Array
    factor: float | Array


@dataclass(frozen=True)
class MSELoss:
    """Mean squared error, ℓ = (z − t)².

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        The weighted mean over rows and outputs, the weighted sum, or each w · ℓ; see `xpnn.nn.losses.elementwise`.

    Raises
    ------
    InputError
        If `reduction` is unknown. `forward` raises it if the shapes differ.

    Notes
    -----
    The prediction z and the target t have the shape (batch, outputs), sample weights (batch,). The best constant
    prediction is the mean of the targets.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> loss, z, t = nn.MSELoss(), np.array([[1.0], [5.0]]), np.array([[0.0], [2.0]])
    >>> value, residuals = loss.forward((), z, t)
    >>> float(value), loss.backward((), residuals).tolist()
    (5.0, [[1.0], [3.0]])
    >>> float(loss.forward((), z, t, sample_weight=np.array([3.0, 1.0]))[0])
    3.0
    """

    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        one_of("reduction", self.reduction, REDUCTIONS)

    def init(self) -> tuple[()]:
        return ()

    def forward(
        self, constants: tuple[()], prediction: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array, ElementwiseResiduals]:
        xp, z, t, factor = _enter(self, prediction, target, sample_weight)
        return reduced(xp, self.reduction, (z - t) ** 2, factor), ElementwiseResiduals(z, t, factor)

    def backward(self, constants: tuple[()], residuals: ElementwiseResiduals) -> Array:
        """Return the gradient, from ∂ℓ/∂z = 2 (z − t)."""
        z, t, factor = residuals
        return 2 * (z - t) * factor

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """Return `y` as an array (rows, outputs). Raises InputError if its shape does not fit."""
        return check_values(name, y, outputs)


@dataclass(frozen=True)
class L1Loss:
    """Mean absolute error, ℓ = |z − t|.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        The weighted mean over rows and outputs, the weighted sum, or each w · ℓ; see `xpnn.nn.losses.elementwise`.

    Raises
    ------
    InputError
        If `reduction` is unknown. `forward` raises it if the shapes differ.

    Notes
    -----
    The prediction z and the target t have the shape (batch, outputs), sample weights (batch,). The best constant
    prediction is the median of the targets.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> float(nn.L1Loss().forward((), np.array([[1.0], [5.0]]), np.array([[0.0], [2.0]]))[0])
    2.0
    """

    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        one_of("reduction", self.reduction, REDUCTIONS)

    def init(self) -> tuple[()]:
        return ()

    def forward(
        self, constants: tuple[()], prediction: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array, ElementwiseResiduals]:
        xp, z, t, factor = _enter(self, prediction, target, sample_weight)
        return reduced(xp, self.reduction, xp.abs(z - t), factor), ElementwiseResiduals(z, t, factor)

    def backward(self, constants: tuple[()], residuals: ElementwiseResiduals) -> Array:
        """Return the gradient, from ∂ℓ/∂z = sign(z − t), 0 if z = t."""
        z, t, factor = residuals
        return sign(array_namespace(z), z - t) * factor

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """Return `y` as an array (rows, outputs). Raises InputError if its shape does not fit."""
        return check_values(name, y, outputs)


@dataclass(frozen=True)
class HuberLoss:
    """Huber loss: squared for small errors, linear for large ones.

    Parameters
    ----------
    delta : float
        The error at which it becomes linear, above 0.
    reduction : {"mean", "sum", "none"}
        The weighted mean over rows and outputs, the weighted sum, or each w · ℓ; see `xpnn.nn.losses.elementwise`.

    Raises
    ------
    InputError
        If `delta` is not above 0 or `reduction` is unknown. `forward` raises it if the shapes differ.

    Notes
    -----
    ::

        ℓ = ½ (z − t)² if |z − t| ≤ delta, else delta · (|z − t| − ½ delta)

    The prediction z and the target t have the shape (batch, outputs), sample weights (batch,).

    References
    ----------
    Huber, "Robust estimation of a location parameter", 1964.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> float(nn.HuberLoss(2.0).forward((), np.array([[1.0], [5.0]]), np.zeros((2, 1)))[0])
    4.25
    """

    delta: float = 1.0
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        problems = Problems()
        with problems:
            object.__setattr__(self, "delta", as_float("HuberLoss: delta", self.delta))
            if not self.delta > 0:
                raise InputError(f"HuberLoss: delta is {self.delta!r}; expected a number above 0")
        with problems:
            one_of("reduction", self.reduction, REDUCTIONS)
        problems.raise_found()

    def init(self) -> tuple[()]:
        return ()

    def forward(
        self, constants: tuple[()], prediction: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array, ElementwiseResiduals]:
        xp, z, t, factor = _enter(self, prediction, target, sample_weight)
        size = xp.abs(z - t)
        near = xp.where(size < self.delta, size, self.delta)
        each = near * (size - 0.5 * near)  # both cases in one formula
        return reduced(xp, self.reduction, each, factor), ElementwiseResiduals(z, t, factor)

    def backward(self, constants: tuple[()], residuals: ElementwiseResiduals) -> Array:
        """Return the gradient, from ∂ℓ/∂z = z − t if |z − t| ≤ delta, else delta · sign(z − t)."""
        z, t, factor = residuals
        xp = array_namespace(z)
        d = z - t
        return xp.where(d > self.delta, self.delta, xp.where(d < -self.delta, -self.delta, d)) * factor

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """Return `y` as an array (rows, outputs). Raises InputError if its shape does not fit."""
        return check_values(name, y, outputs)


@dataclass(frozen=True)
class BCEWithLogitsLoss:
    """Binary cross-entropy of logits, ℓ = max(z, 0) − z·t + log(1 + e^−|z|), in nats.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        The weighted mean over rows and outputs, the weighted sum, or each w · ℓ; see `xpnn.nn.losses.elementwise`.

    Raises
    ------
    InputError
        If `reduction` is unknown. `forward` raises it if the shapes differ.

    Notes
    -----
    The prediction z and the target t have the shape (batch, outputs), sample weights (batch,). This is −t · log σ(z) −
    (1 − t) · log(1 − σ(z)) with the sigmoid σ, in a form that does not overflow. t is the probability of class 1, from
    0 to 1; each output is a separate binary problem (multi-label classification).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> loss = nn.BCEWithLogitsLoss()
    >>> round(float(loss.forward((), np.array([[0.0], [1000.0]]), np.array([[1.0], [1.0]]))[0]), 4)  # ½ log 2
    0.3466
    """

    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        one_of("reduction", self.reduction, REDUCTIONS)

    def init(self) -> tuple[()]:
        return ()

    def forward(
        self, constants: tuple[()], prediction: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array, ElementwiseResiduals]:
        xp, z, t, factor = _enter(self, prediction, target, sample_weight)
        each = xp.where(z > 0, z, 0.0) - z * t + xp.log1p(xp.exp(-xp.abs(z)))  # does not overflow
        return reduced(xp, self.reduction, each, factor), ElementwiseResiduals(z, t, factor)

    def backward(self, constants: tuple[()], residuals: ElementwiseResiduals) -> Array:
        """Return the gradient, from ∂ℓ/∂z = σ(z) − t."""
        z, t, factor = residuals
        return (sigmoid(array_namespace(z), z) - t) * factor

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """Return `y` as an array (rows, outputs). Raises InputError if it holds values outside 0…1."""
        return check_binary(name, y, outputs)


@dataclass(frozen=True)
class PoissonNLLLoss:
    """Negative log likelihood of counts t under a Poisson distribution, in nats.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        The weighted mean over rows and outputs, the weighted sum, or each w · ℓ; see `xpnn.nn.losses.elementwise`.
    log_input : bool
        Whether the prediction z is the logarithm of the rate, or the rate itself, at least 0.
    eps : float
        Added to a rate before its logarithm is taken; above 0.

    Raises
    ------
    InputError
        If `reduction` is unknown or `eps` out of range. `forward` raises it if the shapes differ.

    Notes
    -----
    ::

        ℓ = e^z − t · z             with log_input
        ℓ = z − t · log(z + eps)    without

    The prediction z and the target t have the shape (batch, outputs), sample weights (batch,). The term log t!, which
    does not depend on z, is left out. The same as ``torch.nn.PoissonNLLLoss``.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> float(nn.PoissonNLLLoss().forward((), np.array([[0.0]]), np.array([[3.0]]))[0])
    1.0
    """

    reduction: Reduction = "mean"
    log_input: bool = True
    eps: float = 1e-8

    def __post_init__(self) -> None:
        problems = Problems()
        with problems:
            one_of("reduction", self.reduction, REDUCTIONS)
        with problems:
            object.__setattr__(self, "eps", as_float("PoissonNLLLoss: eps", self.eps))
            if not 0 < self.eps < math.inf:
                raise InputError(f"PoissonNLLLoss: eps is {self.eps!r}; expected a number above 0")
        problems.raise_found()

    def init(self) -> tuple[()]:
        return ()

    def forward(
        self, constants: tuple[()], prediction: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array, ElementwiseResiduals]:
        xp, z, t, factor = _enter(self, prediction, target, sample_weight)
        each = xp.exp(z) - t * z if self.log_input else z - t * xp.log(z + self.eps)
        return reduced(xp, self.reduction, each, factor), ElementwiseResiduals(z, t, factor)

    def backward(self, constants: tuple[()], residuals: ElementwiseResiduals) -> Array:
        """Return the gradient, from ∂ℓ/∂z = e^z − t with log_input, else 1 − t / (z + eps)."""
        z, t, factor = residuals
        d = array_namespace(z).exp(z) - t if self.log_input else 1 - t / (z + self.eps)
        return d * factor

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """Return `y` as an array (rows, outputs). Raises InputError if it holds negative values."""
        check_range(name, y, 0, math.inf, "counts must not be negative; shift them, or use nn.MSELoss()")
        return check_values(name, y, outputs)


@dataclass(frozen=True)
class QuantileLoss:
    """Quantile loss (pinball loss), ℓ = q · (t − z) if t ≥ z, else (1 − q) · (z − t).

    Parameters
    ----------
    q : float
        The quantile, 0 < q < 1.
    reduction : {"mean", "sum", "none"}
        The weighted mean over rows and outputs, the weighted sum, or each w · ℓ; see `xpnn.nn.losses.elementwise`.

    Raises
    ------
    InputError
        If `q` is out of range or `reduction` is unknown. `forward` raises it if the shapes differ.

    Notes
    -----
    The prediction z and the target t have the shape (batch, outputs), sample weights (batch,). The best constant
    prediction is the q-quantile of the targets.

    References
    ----------
    Koenker and Bassett, "Regression quantiles", 1978.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> float(nn.QuantileLoss(0.9).forward((), np.array([[0.0]]), np.array([[10.0]]))[0])
    9.0
    """

    q: float = 0.5
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        problems = Problems()
        with problems:
            object.__setattr__(self, "q", as_float("QuantileLoss: q", self.q))
            if not 0 < self.q < 1:
                raise InputError(f"QuantileLoss: q is {self.q!r}; expected 0 < q < 1")
        with problems:
            one_of("reduction", self.reduction, REDUCTIONS)
        problems.raise_found()

    def init(self) -> tuple[()]:
        return ()

    def forward(
        self, constants: tuple[()], prediction: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array, ElementwiseResiduals]:
        xp, z, t, factor = _enter(self, prediction, target, sample_weight)
        d = t - z
        each = xp.where(d > 0, self.q * d, (self.q - 1) * d)
        return reduced(xp, self.reduction, each, factor), ElementwiseResiduals(z, t, factor)

    def backward(self, constants: tuple[()], residuals: ElementwiseResiduals) -> Array:
        """Return the gradient, from ∂ℓ/∂z = −q if z < t, 1 − q if z > t, 0 if z = t."""
        z, t, factor = residuals
        xp = array_namespace(z)
        d = t - z
        return xp.where(d > 0, -self.q, xp.where(d < 0, 1 - self.q, xp.zeros_like(d))) * factor

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """Return `y` as an array (rows, outputs). Raises InputError if its shape does not fit."""
        return check_values(name, y, outputs)


def _enter(
    loss: Any, prediction: Array, target: Array, sample_weight: Array | None
) -> tuple[Namespace, Array, Array, float | Array]:
    """Return (xp, prediction, target in the dtype of the prediction, factor of each element in the loss)."""
    if prediction.ndim != 2 or prediction.shape != target.shape or not prediction.shape[1]:
        raise InputError(
            f"{type(loss).__name__}: prediction has shape {tuple(prediction.shape)} and target {tuple(target.shape)}; "
            "expected the same shape (batch, outputs). Pass a column as y[:, None]"
        )
    xp = array_namespace(prediction)
    batch, outputs = prediction.shape
    factor = factor_of(xp, loss.reduction, batch, sample_weight, sample_weight)
    if loss.reduction == "mean":
        factor = factor / outputs
    return xp, prediction, xp.astype(target, prediction.dtype), factor
