"""The losses of a classifier: (logits or log-probabilities, target) -> one number to be made small, and its gradient.

Both are a weighted sum over rows n and classes c of −q_nc · log p_nc, with what the target, the class weights and the
smoothing make of a row:

    t_nc  the target's share of class c: one-hot for integer labels, or the probabilities as given
    q_nc  = v_c · ((1 − label_smoothing) · t_nc + label_smoothing / classes), with the class weights v
    ℓ_n   = −Σ_c q_nc · log p_nc, in nats
    u_n   how much row n counts: its sample weight w_n, or 0 for a row whose label is ignore_index

    reduction  "mean": Σ_n u_n ℓ_n / Σ_n u_n · v[label of n] (for probabilities: / Σ_n u_n);  "sum": Σ_n u_n ℓ_n;
               "none": u_n ℓ_n, (batch,), and `backward` gives the gradient of each row's own loss
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
from xpnn.validation import as_float, one_of


class ClassWeights(NamedTuple):
    """class_weight: (classes,), or None for 1."""

    class_weight: Array | None


class CrossEntropyResiduals(NamedTuple):
    """log_p, q: (batch, classes); factor: what each row's ℓ is multiplied by: a number, () or (batch, 1)."""

    log_p: Array
    q: Array
    factor: float | Array


class NLLResiduals(NamedTuple):
    """q: (batch, classes); factor: what each row's ℓ is multiplied by: a number, () or (batch, 1)."""

    q: Array
    factor: float | Array


@dataclass(frozen=True)
class CrossEntropyLoss:
    """The cross-entropy of logits against the target, with log p = log softmax(logits); see `xpnn.nn.losses.cross_entropy`.

    logits          (batch, classes); softmax is part of the loss: the model ends with its logits
    target          (batch,) integer labels 0 … classes − 1, or ignore_index; or (batch, classes) probabilities
    sample_weight   (batch,) w, or None for 1
    class_weight    one weight v a class, or None for 1
    label_smoothing the share of each row's target that is spread over all classes, from 0 to 1; in evaluation too
    ignore_index    the label of rows that do not count, or None: every row counts
    reduction       "mean", "sum" or "none"

    As torch.nn.CrossEntropyLoss, whose ignore_index is −100 unasked. Raises InputError where the shapes do not fit.
    """

    default_metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    class_weight: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    ignore_index: int | None = None
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        _settle(self)
        object.__setattr__(self, "label_smoothing", as_float("CrossEntropyLoss: label_smoothing", self.label_smoothing))
        if not 0 <= self.label_smoothing <= 1:
            raise InputError(f"CrossEntropyLoss: label_smoothing is {self.label_smoothing!r}; expected 0 … 1")

    def init(self) -> ClassWeights:
        return _constants(self)

    def forward(
        self, constants: ClassWeights, prediction: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array, Any]:
        return cross_entropy.forward(prediction, self, constants, target, sample_weight)

    def backward(self, constants: ClassWeights, residuals: Any) -> Array:
        """∂ℓ_n/∂logits_nc = softmax(logits_n)_c · Σ_k q_nk − q_nc."""
        return cross_entropy.backward(constants, residuals)

    def counts(self, constants: ClassWeights, prediction: Array, target: Array, sample_weight: Array | None) -> Counts:
        """How much each row counts, in the loss and in the metrics."""
        return _counts(self, constants, prediction, target, sample_weight)

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """`y` as int32 labels or as probabilities; see `xpnn.nn.losses.targets.check_classes`."""
        return check_classes(name, y, outputs, self.ignore_index)


def _forward(
    prediction: Array, loss: CrossEntropyLoss, constants: ClassWeights, target: Array, sample_weight: Array | None
) -> tuple[Array, CrossEntropyResiduals]:
    xp, q, factor = _enter(loss, constants, prediction, target, sample_weight, loss.label_smoothing)
    z = prediction - xp.max(prediction, axis=1, keepdims=True)  # exp cannot overflow
    log_p = z - xp.log(xp.sum(xp.exp(z), axis=1, keepdims=True))
    return _value(xp, loss.reduction, q, log_p, factor), CrossEntropyResiduals(log_p, q, factor)


def _backward(constants: ClassWeights, residuals: CrossEntropyResiduals) -> Array:
    log_p, q, factor = residuals
    xp = array_namespace(log_p)
    return (xp.exp(log_p) * xp.sum(q, axis=1, keepdims=True) - q) * factor


#: .forward(prediction, loss, constants, target, sample_weight), .backward(constants, residuals)
cross_entropy = DispatchedPair(_forward, _backward)


@dataclass(frozen=True)
class NLLLoss:
    """The negative log likelihood of the target: log p is the prediction itself; see `xpnn.nn.losses.cross_entropy`.

    log_probabilities (batch, classes), as nn.LogSoftmax gives them
    target            (batch,) integer labels 0 … classes − 1, or (batch, classes) probabilities
    sample_weight     (batch,) w, or None for 1
    class_weight, ignore_index, reduction as CrossEntropyLoss has them

    As torch.nn.NLLLoss. Raises InputError where the shapes do not fit.
    """

    default_metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    class_weight: tuple[float, ...] | None = None
    ignore_index: int | None = None
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        _settle(self)

    def init(self) -> ClassWeights:
        return _constants(self)

    def forward(
        self, constants: ClassWeights, prediction: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array, NLLResiduals]:
        xp, q, factor = _enter(self, constants, prediction, target, sample_weight, 0.0)
        return _value(xp, self.reduction, q, prediction, factor), NLLResiduals(q, factor)

    def backward(self, constants: ClassWeights, residuals: NLLResiduals) -> Array:
        """∂ℓ_n/∂log p_nc = −q_nc."""
        q, factor = residuals
        return -q * factor

    def counts(self, constants: ClassWeights, prediction: Array, target: Array, sample_weight: Array | None) -> Counts:
        """How much each row counts, in the loss and in the metrics."""
        return _counts(self, constants, prediction, target, sample_weight)

    def check_target(self, name: str, y: Array, outputs: int) -> Array:
        """`y` as int32 labels or as probabilities; see `xpnn.nn.losses.targets.check_classes`."""
        return check_classes(name, y, outputs, self.ignore_index)


def _settle(loss: Any) -> None:
    name = type(loss).__name__
    one_of("reduction", loss.reduction, REDUCTIONS)
    ignore = loss.ignore_index
    if ignore is not None and (isinstance(ignore, bool) or not isinstance(ignore, (int, np.integer))):
        raise InputError(f"{name}: ignore_index is {ignore!r}; expected a whole number, or None")
    if ignore is not None:
        if not -(2**31) <= ignore < 2**31:
            raise InputError(f"{name}: ignore_index is {ignore!r}; labels are kept as int32: expected one that fits")
        object.__setattr__(loss, "ignore_index", int(ignore))
    weights = loss.class_weight
    if weights is None:
        return
    if isinstance(weights, dict):
        raise InputError(f"{name}: class_weight is a dict; give one weight a class, in order: a list")
    if not isinstance(weights, Iterable):
        raise InputError(f"{name}: class_weight is {weights!r}; expected one weight a class, or None")
    values = tuple(as_float(f"{name}: class_weight", value) for value in np.asarray(weights).ravel().tolist())
    if not values or not all(0 <= value < math.inf for value in values):
        raise InputError(f"{name}: class_weight is {values!r}; expected finite numbers of at least 0, one a class")
    object.__setattr__(loss, "class_weight", values)


def _constants(loss: Any) -> ClassWeights:
    return ClassWeights(None if loss.class_weight is None else np.asarray(loss.class_weight))


def _enter(
    loss: Any, constants: ClassWeights, z: Array, target: Array, sample_weight: Array | None, smoothing: float
) -> tuple[Namespace, Array, float | Array]:
    """(xp, q, what each row's ℓ is multiplied by)."""
    xp, shape, name = array_namespace(z), tuple(z.shape), type(loss).__name__
    if len(shape) != 2 or tuple(target.shape) not in (shape, shape[:1]):
        raise InputError(
            f"{name}: prediction has shape {shape} and target {tuple(target.shape)}; expected "
            "(batch, classes) and (batch,) integer labels or (batch, classes) probabilities"
        )
    weights = _class_weight(constants)
    if weights is not None and weights.shape[0] != shape[1]:
        raise InputError(f"{name}: {weights.shape[0]} class weights for {shape[1]} classes; expected one a class")
    u, share = loss.counts(constants, z, target, sample_weight)
    q = _shares(xp, target, shape[1], z.dtype)
    if smoothing:
        q = (1 - smoothing) * q + smoothing / shape[1]
    if weights is not None:
        q = q * weights
    return xp, q, factor_of(xp, loss.reduction, shape[0], u, share)


def _class_weight(constants: ClassWeights) -> Array | None:
    return constants[0] if constants else None  # () will do where there are none


def _counts(
    loss: Any, constants: ClassWeights, prediction: Array, target: Array, sample_weight: Array | None
) -> Counts:
    weights, u = _class_weight(constants), sample_weight
    if target.ndim != 1 or (weights is None and loss.ignore_index is None):
        return Counts(u, u)
    xp = array_namespace(target)
    target = xp.astype(target, xp.int32)  # not every library compares or takes with bytes
    if loss.ignore_index is not None:
        seen = target != loss.ignore_index
        u = xp.astype(seen, prediction.dtype) if u is None else xp.where(seen, u, 0.0)
        target = xp.where(seen, target, xp.zeros_like(target))  # a label that can be looked up
    if weights is None:
        return Counts(u, u)
    share = xp.take(weights, target, axis=0)
    return Counts(u, share if u is None else u * share)


def _value(xp: Namespace, reduction: Reduction, q: Array, log_p: Array, factor: float | Array) -> Array:
    """ℓ, reduced; a class without a share adds nothing, whatever its log p."""
    rows = -xp.sum(q * xp.where(q == 0, 0.0, log_p), axis=1, keepdims=True)
    value = reduced(xp, reduction, rows, factor)
    return value[:, 0] if reduction == "none" else value


def _shares(xp: Namespace, target: Array, classes: int, dtype: Any) -> Array:
    """t: (batch, classes)."""
    if target.ndim == 1:
        # A comparison, because the standard has no scatter, and CuPy's integer indexing wraps.
        labels = xp.arange(classes, dtype=xp.int32, device=device_of(target))
        target = xp.astype(target, xp.int32)[:, None] == labels  # int32: bytes would wrap beyond 255 classes
    return xp.astype(target, dtype)
