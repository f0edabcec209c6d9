"""Losses that compare prediction and target entry by entry: ℓ(z, t), and its derivative by z.

All of them take

    prediction, target  z and t, (batch, outputs), the same shape
    sample_weight       w, (batch,), or None for 1
    reduction           "mean": Σ_n w_n · (mean of ℓ over the outputs of row n) / Σ_n w_n; "sum": Σ_n w_n · Σ_outputs ℓ,
                        of which a trainer logs the weighted mean over the rows; "none": w_n · ℓ, (batch, outputs), and
                        `backward` gives the derivative of each
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from xpnn.arrays.namespace import Array, Namespace, array_namespace
from xpnn.errors import InputError
from xpnn.nn.layers.activations import sigmoid
from xpnn.nn.losses.reduction import REDUCTIONS, Reduction, factor_of, reduced
from xpnn.nn.losses.targets import check_range, check_values
from xpnn.validation import as_float, one_of


class ElementwiseResiduals(NamedTuple):
    """prediction, target: (batch, outputs), in the prediction's dtype; factor: what each ℓ counts in the loss."""

    prediction: Array
    target: Array
    factor: float | Array


@dataclass(frozen=True)
class MSELoss:
    """The squared error, ℓ = (z − t)², of a prediction z.

    prediction z and target t (batch, outputs), sample_weight (batch,); reduced as in `xpnn.nn.losses.elementwise`.
    Raises InputError where the shapes differ.
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
        """∂ℓ/∂z = 2 (z − t)."""
        z, t, factor = residuals
        return 2 * (z - t) * factor

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """`y` as (rows, outputs) values."""
        return check_values(name, y, outputs)


@dataclass(frozen=True)
class L1Loss:
    """The absolute error, ℓ = |z − t|, of a prediction z.

    prediction z and target t (batch, outputs), sample_weight (batch,); reduced as in `xpnn.nn.losses.elementwise`.
    Raises InputError where the shapes differ.
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
        """∂ℓ/∂z = sign(z − t), 0 at 0."""
        z, t, factor = residuals
        return array_namespace(z).sign(z - t) * factor

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """`y` as (rows, outputs) values."""
        return check_values(name, y, outputs)


@dataclass(frozen=True)
class HuberLoss:
    """Squared near the target, linear far from it: ℓ = ½ d² for |d| ≤ delta, else delta · (|d| − ½ delta), d = z − t.

    prediction z and target t (batch, outputs), sample_weight (batch,); reduced as in `xpnn.nn.losses.elementwise`.
    Raises InputError where the shapes differ. Source: Huber 1964.
    """

    delta: float = 1.0
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta", as_float("HuberLoss: delta", self.delta))
        if not self.delta > 0:
            raise InputError(f"HuberLoss: delta is {self.delta!r}; expected a number above 0")
        one_of("reduction", self.reduction, REDUCTIONS)

    def init(self) -> tuple[()]:
        return ()

    def forward(
        self, constants: tuple[()], prediction: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array, ElementwiseResiduals]:
        xp, z, t, factor = _enter(self, prediction, target, sample_weight)
        size = xp.abs(z - t)
        near = xp.where(size < self.delta, size, self.delta)
        each = near * (size - 0.5 * near)  # both branches in one
        return reduced(xp, self.reduction, each, factor), ElementwiseResiduals(z, t, factor)

    def backward(self, constants: tuple[()], residuals: ElementwiseResiduals) -> Array:
        """∂ℓ/∂z = d for |d| ≤ delta, else delta · sign d."""
        z, t, factor = residuals
        xp = array_namespace(z)
        d = z - t
        return xp.where(d > self.delta, self.delta, xp.where(d < -self.delta, -self.delta, d)) * factor

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """`y` as (rows, outputs) values."""
        return check_values(name, y, outputs)


@dataclass(frozen=True)
class BCEWithLogitsLoss:
    """Binary cross-entropy of logits z against probabilities t: ℓ = max(z, 0) − z·t + log(1 + e^−|z|), in nats.

    prediction z and target t (batch, outputs), sample_weight (batch,); reduced as in `xpnn.nn.losses.elementwise`.
    Raises InputError where the shapes differ.
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
        each = xp.where(z > 0, z, 0.0) - z * t + xp.log1p(xp.exp(-xp.abs(z)))  # never overflows
        return reduced(xp, self.reduction, each, factor), ElementwiseResiduals(z, t, factor)

    def backward(self, constants: tuple[()], residuals: ElementwiseResiduals) -> Array:
        """∂ℓ/∂z = σ(z) − t."""
        z, t, factor = residuals
        return (sigmoid(array_namespace(z), z) - t) * factor

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """`y` as (rows, outputs) probabilities."""
        check_range(name, y, 0, 1, "binary targets must be probabilities in 0…1; map two classes to 0 and 1")
        return check_values(name, y, outputs)


@dataclass(frozen=True)
class PoissonNLLLoss:
    """The negative log likelihood of counts t under a Poisson law of rate e^z: ℓ = e^z − t · z, without log t!.

    prediction z and target t (batch, outputs), sample_weight (batch,); reduced as in `xpnn.nn.losses.elementwise`.
    Raises InputError where the shapes differ. As torch.nn.PoissonNLLLoss with log_input.
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
        return reduced(xp, self.reduction, xp.exp(z) - t * z, factor), ElementwiseResiduals(z, t, factor)

    def backward(self, constants: tuple[()], residuals: ElementwiseResiduals) -> Array:
        """∂ℓ/∂z = e^z − t."""
        z, t, factor = residuals
        return (array_namespace(z).exp(z) - t) * factor

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """`y` as (rows, outputs) counts."""
        check_range(name, y, 0, math.inf, "counts must not be negative")
        return check_values(name, y, outputs)


@dataclass(frozen=True)
class QuantileLoss:
    """The pinball loss, whose best prediction is the q-quantile: ℓ = q · d for d = t − z ≥ 0, (q − 1) · d below.

    prediction z and target t (batch, outputs), sample_weight (batch,); reduced as in `xpnn.nn.losses.elementwise`.
    Raises InputError where the shapes differ. Source: Koenker and Bassett 1978.
    """

    q: float = 0.5
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "q", as_float("QuantileLoss: q", self.q))
        if not 0 < self.q < 1:
            raise InputError(f"QuantileLoss: q is {self.q!r}; expected 0 < q < 1")
        one_of("reduction", self.reduction, REDUCTIONS)

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
        """∂ℓ/∂z = −q for z < t, 1 − q for z > t, 0 at t."""
        z, t, factor = residuals
        xp = array_namespace(z)
        d = t - z
        return xp.where(d > 0, -self.q, xp.where(d < 0, 1 - self.q, xp.zeros_like(d))) * factor

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """`y` as (rows, outputs) values."""
        return check_values(name, y, outputs)


def _enter(
    loss: Any, prediction: Array, target: Array, sample_weight: Array | None
) -> tuple[Namespace, Array, Array, float | Array]:
    """(xp, prediction, target in its dtype, factor of each entry)."""
    if prediction.ndim != 2 or prediction.shape != target.shape:
        raise InputError(
            f"{type(loss).__name__}: prediction has shape {tuple(prediction.shape)} and target {tuple(target.shape)}; "
            "expected the same shape (batch, outputs). Give a column as y[:, None]"
        )
    xp = array_namespace(prediction)
    batch, outputs = prediction.shape
    factor = factor_of(xp, loss.reduction, batch, sample_weight, sample_weight)
    if loss.reduction == "mean":
        factor = factor / outputs
    return xp, prediction, xp.astype(target, prediction.dtype), factor
