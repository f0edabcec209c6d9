"""The loss of a classifier: (logits, target) -> one number to be made small, and its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from xpnn.arrays.namespace import Array, array_namespace, device_of
from xpnn.errors import InputError, one_of
from xpnn.nn.reduction import REDUCTIONS, Reduction, factor_of


class CrossEntropyResiduals(NamedTuple):
    """log_p, target_p: (batch, classes); factor as in `factor_of`."""

    log_p: Array
    target_p: Array
    factor: Array


@dataclass(frozen=True)
class CrossEntropyLoss:
    """loss = Σ_n w_n · ℓ_n / Σ_n w_n, with ℓ_n = −Σ_c t_nc · log softmax(logits_n)_c, in nats.

    logits        (batch, classes)
    target        (batch,) integer labels 0 … classes − 1, and t is their one-hot row (a label outside has none, and
                  its ℓ is 0); or (batch, classes) probabilities t
    sample_weight (batch,) w, or None for 1
    reduction     "mean", as above, or "sum": Σ_n w_n · ℓ_n

    Raises InputError where the shapes do not fit. Softmax is part of the loss: the model ends with its logits.
    """

    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        one_of("reduction", self.reduction, REDUCTIONS)

    def init(self) -> tuple[()]:
        return ()

    def forward(
        self, constants: tuple[()], prediction: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array, CrossEntropyResiduals]:
        xp = array_namespace(prediction)
        shape = tuple(prediction.shape)
        if len(shape) != 2 or tuple(target.shape) not in (shape, shape[:1]):
            raise InputError(
                f"CrossEntropyLoss: prediction has shape {shape} and target {tuple(target.shape)}; expected "
                "(batch, classes) and (batch,) integer labels or (batch, classes) probabilities"
            )
        z = prediction - xp.max(prediction, axis=1, keepdims=True)  # exp cannot overflow
        log_p = z - xp.log(xp.sum(xp.exp(z), axis=1, keepdims=True))
        if target.ndim == 1:
            # A comparison, because the standard has no scatter, and CuPy's integer indexing wraps.
            classes = xp.arange(shape[1], dtype=xp.int32, device=device_of(target))
            target = xp.astype(target, xp.int32)[:, None] == classes  # int32: bytes would wrap beyond 255 classes
        target = xp.astype(target, prediction.dtype)
        factor = factor_of(xp, self.reduction, shape[0], sample_weight)
        loss = -xp.sum(target * log_p * factor)
        return loss, CrossEntropyResiduals(log_p, target, factor)

    def backward(self, constants: tuple[()], residuals: CrossEntropyResiduals) -> Array:
        """∂loss/∂logits_nc = (Σ_k t_nk · softmax(logits_n)_c − t_nc) · w_n / Σ w."""
        log_p, target, factor = residuals
        xp = array_namespace(log_p)
        return (xp.exp(log_p) * xp.sum(target, axis=1, keepdims=True) - target) * factor
