"""Losses of classifiers: logits or log-probabilities and a target → a scalar in nats, and its gradient.

Rows n, classes c
    t_nc  target: one-hot for integer labels, or the probabilities as given
    q_nc  = v_c · ((1 − label_smoothing) · t_nc + label_smoothing / classes), with the class weights v
    ℓ_n   = −Σ_c q_nc · log p_nc
    u_n   weight of the row: the sample weight w_n, or 0 if the label is ignore_index

Reduction over the rows
    "mean"  Σ_n u_n ℓ_n / Σ_n u_n · v[label of n]; for probabilities Σ_n u_n ℓ_n / Σ_n u_n
    "sum"   Σ_n u_n ℓ_n
    "none"  u_n ℓ_n, (batch,); `backward` returns the gradient of the loss of each row. Not for training
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from xpnn.arrays.dispatch import DispatchedPair
from xpnn.arrays.namespace import Array, Namespace, array_namespace, device_of
from xpnn.errors import InputError
from xpnn.nn.losses.reduction import REDUCTIONS, Reduction, factor_of, reduced
from xpnn.nn.losses.targets import check_classes
from xpnn.nn.traits import Counts
from xpnn.validation import Problems, as_float, one_of


class ClassWeights(NamedTuple):
    """class_weight: array, (classes,), or None for 1."""

    class_weight: Array | None


class CrossEntropyResiduals(NamedTuple):
    """log_p, q: (batch, classes); factor: of each ℓ_n in the loss, a scalar or (batch, 1)."""

    log_p: Array
    q: Array
    factor: float | Array


class NLLResiduals(NamedTuple):
    """q: (batch, classes); factor: of each ℓ_n in the loss, a scalar or (batch, 1)."""

    q: Array
    factor: float | Array


@dataclass(frozen=True)
class CrossEntropyLoss:
    """Cross-entropy between logits and the target, including the softmax.

    Parameters
    ----------
    class_weight : sequence of float, optional
        One weight v per class, at least 0; None for 1.
    label_smoothing : float
        The share of each target that is distributed equally over all classes, from 0 to 1; also in evaluation.
    ignore_index : int, optional
        The label of rows that do not count. By default every row counts.
    reduction : {"mean", "sum", "none"}
        The weighted mean over the rows, their weighted sum, or each u · ℓ; see `xpnn.nn.losses.cross_entropy`.

    Raises
    ------
    InputError
        If a value is out of range. `forward` raises it if the shapes do not fit.

    Notes
    -----
    ::

        ℓ_n = −Σ_c q_nc · log softmax(logits_n)_c

    in nats, with the smoothed and weighted target q of the module. It does not overflow for logits of any size.

    - prediction: logits, (batch, classes). The model must not end with a softmax.
    - target: integer labels 0 … classes − 1 or ignore_index, (batch,); or probabilities, (batch, classes).
    - sample_weight: (batch,), or None for 1.

    The same as ``torch.nn.CrossEntropyLoss``, whose default ignore_index is −100.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> loss, logits, labels = nn.CrossEntropyLoss(), np.array([[0.0, 0.0], [0.0, np.log(3)]]), np.array([0, 1])
    >>> value, residuals = loss.forward(loss.init(), logits, labels)
    >>> round(float(value), 4)  # ½ (log 2 + log 4/3)
    0.4904
    >>> loss.backward(loss.init(), residuals).round(3)
    array([[-0.25 ,  0.25 ],
           [ 0.125, -0.125]])
    """

    default_metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    class_weight: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    ignore_index: int | None = None
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        problems, smoothing = Problems(), self.label_smoothing
        with problems:
            _check_fields(self)
        with problems:
            object.__setattr__(self, "label_smoothing", as_float("CrossEntropyLoss: label_smoothing", smoothing))
            if not 0 <= self.label_smoothing <= 1:
                raise InputError(f"CrossEntropyLoss: label_smoothing is {smoothing!r}; expected 0 … 1")
        problems.raise_found()

    def init(self) -> ClassWeights:
        return _constants(self)

    def forward(
        self, constants: ClassWeights, prediction: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array, Any]:
        return cross_entropy.forward(prediction, self, constants, target, sample_weight)

    def backward(self, constants: ClassWeights, residuals: Any) -> Array:
        """Return the gradient, from ∂ℓ_n/∂logits_nc = softmax(logits_n)_c · Σ_k q_nk − q_nc."""
        return cross_entropy.backward(constants, residuals)

    def counts(self, constants: ClassWeights, prediction: Array, target: Array, sample_weight: Array | None) -> Counts:
        """Return how much each row counts in the loss and in the metrics."""
        return _counts(self, constants, prediction, target, sample_weight)

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """Return `y` as int32 labels or probabilities; see `xpnn.nn.losses.targets.check_classes`."""
        return check_classes(name, y, outputs, self.ignore_index)


def _forward(
    prediction: Array, loss: CrossEntropyLoss, constants: ClassWeights, target: Array, sample_weight: Array | None
) -> tuple[Array, CrossEntropyResiduals]:
    """Return (loss, residuals): the reference for `CrossEntropyLoss.forward`."""
    xp, q, factor = _enter(loss, constants, prediction, target, sample_weight, loss.label_smoothing)
    z = prediction - xp.max(prediction, axis=1, keepdims=True)  # so that exp does not overflow
    log_p = z - xp.log(xp.sum(xp.exp(z), axis=1, keepdims=True))
    return _value(xp, loss.reduction, q, log_p, factor), CrossEntropyResiduals(log_p, q, factor)


def _backward(constants: ClassWeights, residuals: CrossEntropyResiduals) -> Array:
    """Return ∂loss/∂logits: the reference for `CrossEntropyLoss.backward`."""
    log_p, q, factor = residuals
    xp = array_namespace(log_p)
    return (xp.exp(log_p) * xp.sum(q, axis=1, keepdims=True) - q) * factor


#: .forward(prediction, loss, constants, target, sample_weight), .backward(constants, residuals)
cross_entropy = DispatchedPair(_forward, _backward)


@dataclass(frozen=True)
class NLLLoss:
    """Negative log likelihood of the target, given log-probabilities.

    Parameters
    ----------
    class_weight, ignore_index, reduction
        See `CrossEntropyLoss`.

    Raises
    ------
    InputError
        If a value is out of range. `forward` raises it if the shapes do not fit.

    Notes
    -----
    ::

        ℓ_n = −Σ_c q_nc · log p_nc

    in nats, with the weighted target q of the module. The prediction is log p, (batch, classes), as `nn.LogSoftmax`
    returns it; target and sample_weight as for `CrossEntropyLoss`. The same as ``torch.nn.NLLLoss``.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> loss = nn.NLLLoss()
    >>> round(float(loss.forward(loss.init(), np.log([[0.5, 0.5]]), np.array([1]))[0]), 4)
    0.6931
    """

    default_metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    class_weight: tuple[float, ...] | None = None
    ignore_index: int | None = None
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        _check_fields(self)

    def init(self) -> ClassWeights:
        return _constants(self)

    def forward(
        self, constants: ClassWeights, prediction: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array, NLLResiduals]:
        xp, q, factor = _enter(self, constants, prediction, target, sample_weight, 0.0)
        return _value(xp, self.reduction, q, prediction, factor), NLLResiduals(q, factor)

    def backward(self, constants: ClassWeights, residuals: NLLResiduals) -> Array:
        """Return the gradient, from ∂ℓ_n/∂prediction_nc = −q_nc."""
        q, factor = residuals
        return -q * factor

    def counts(self, constants: ClassWeights, prediction: Array, target: Array, sample_weight: Array | None) -> Counts:
        """Return how much each row counts in the loss and in the metrics."""
        return _counts(self, constants, prediction, target, sample_weight)

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """Return `y` as int32 labels or probabilities; see `xpnn.nn.losses.targets.check_classes`."""
        return check_classes(name, y, outputs, self.ignore_index)


def _check_fields(loss: Any) -> None:
    """Check and convert the fields that both losses have."""
    problems = Problems()
    with problems:
        one_of("reduction", loss.reduction, REDUCTIONS)
    with problems:
        _check_ignored(loss)
    with problems:
        _check_weights(loss)
    problems.raise_found()


def _check_ignored(loss: Any) -> None:
    name, ignore = type(loss).__name__, loss.ignore_index
    if ignore is not None and (isinstance(ignore, bool) or not isinstance(ignore, (int, np.integer))):
        raise InputError(f"{name}: ignore_index is {ignore!r}; expected an integer or None")
    if ignore is not None:
        if not -(2**31) <= ignore < 2**31:
            raise InputError(f"{name}: ignore_index is {ignore!r}; expected an int32: labels are stored as int32")
        object.__setattr__(loss, "ignore_index", int(ignore))


def _check_weights(loss: Any) -> None:
    name, weights = type(loss).__name__, loss.class_weight
    if weights is None:
        return
    if isinstance(weights, dict):
        raise InputError(f"{name}: class_weight is a dict; expected a list with one weight per class, in order")
    if not isinstance(weights, Iterable):
        raise InputError(f"{name}: class_weight is {weights!r}; expected one weight per class, or None")
    values = tuple(as_float(f"{name}: class_weight", value) for value in np.asarray(weights).ravel().tolist())
    if not values or not all(0 <= value < math.inf for value in values):
        raise InputError(f"{name}: class_weight is {values!r}; expected finite numbers of at least 0, one per class")
    object.__setattr__(loss, "class_weight", values)


def _constants(loss: Any) -> ClassWeights:
    """Return the class weights as a NumPy array."""
    return ClassWeights(None if loss.class_weight is None else np.asarray(loss.class_weight))


def _enter(
    loss: Any, constants: ClassWeights, z: Array, target: Array, sample_weight: Array | None, smoothing: float
) -> tuple[Namespace, Array, float | Array]:
    """Return (xp, q, factor of each ℓ_n in the loss)."""
    xp, shape, name = array_namespace(z), tuple(z.shape), type(loss).__name__
    if len(shape) != 2 or not shape[1] or tuple(target.shape) not in (shape, shape[:1]):
        raise InputError(
            f"{name}: prediction has shape {shape} and target {tuple(target.shape)}; expected "
            "(batch, classes) and (batch,) integer labels or (batch, classes) probabilities"
        )
    weights = _class_weight(constants)
    if weights is not None and weights.shape[0] != shape[1]:
        raise InputError(f"{name}: {weights.shape[0]} class weights for {shape[1]} classes; expected one per class")
    u, share = loss.counts(constants, z, target, sample_weight)
    q = _shares(xp, target, shape[1], z.dtype)
    if smoothing:
        q = (1 - smoothing) * q + smoothing / shape[1]
    if weights is not None:
        q = q * weights
    return xp, q, factor_of(xp, loss.reduction, shape[0], u, share)


def _class_weight(constants: ClassWeights) -> Array | None:
    """Return the class weights, (classes,), or None."""
    return constants[0] if constants else None  # () is allowed instead of ClassWeights(None)


def _counts(
    loss: Any, constants: ClassWeights, prediction: Array, target: Array, sample_weight: Array | None
) -> Counts:
    """Return the weight of each row, and its share of the denominator of the mean."""
    weights, u = _class_weight(constants), sample_weight
    if target.ndim != 1 or (weights is None and loss.ignore_index is None):
        return Counts(u, u)
    xp = array_namespace(target)
    target = xp.astype(target, xp.int32)  # uint8 cannot be compared or used as an index everywhere
    if loss.ignore_index is not None:
        seen = target != loss.ignore_index
        u = xp.astype(seen, prediction.dtype) if u is None else xp.where(seen, u, 0.0)
        target = xp.where(seen, target, xp.zeros_like(target))  # a valid index
    if weights is None:
        return Counts(u, u)
    share = xp.take(weights, target, axis=0)
    return Counts(u, share if u is None else u * share)


def _value(xp: Namespace, reduction: Reduction, q: Array, log_p: Array, factor: float | Array) -> Array:
    """Return ℓ, reduced. Classes with q = 0 add 0, even if log p is −∞."""
    rows = -xp.sum(q * xp.where(q == 0, 0.0, log_p), axis=1, keepdims=True)
    value = reduced(xp, reduction, rows, factor)
    return value[:, 0] if reduction == "none" else value


def _shares(xp: Namespace, target: Array, classes: int, dtype: Any) -> Array:
    """Return t, (batch, classes)."""
    if target.ndim == 1:
        # A comparison, because the standard has no scatter, and a wrong index would wrap on CuPy.
        labels = xp.arange(classes, dtype=xp.int32, device=device_of(target))
        target = xp.astype(target, xp.int32)[:, None] == labels  # uint8 could not hold 256 or more classes
    return xp.astype(target, dtype)
