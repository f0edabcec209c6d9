"""The losses of scikit-learn's perceptrons, with the gradients that it uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xpnn import nn
from xpnn.arrays.namespace import Array, array_namespace, device_of
from xpnn.nn.layers.activations import sigmoid
from xpnn.nn.losses.reduction import factor_of

#: The losses that xpnn adds, by the name of the parameter `loss`; the argument is the parameter `quantile`.
FURTHER: dict[str, Callable[[float], nn.Loss]] = {
    "absolute_error": lambda quantile: nn.L1Loss(),
    "huber": lambda quantile: nn.HuberLoss(),
    "quantile": lambda quantile: nn.QuantileLoss(quantile),
}

#: What turns the outputs of the last layer into predictions, and the loss that belongs to it.
OUTPUTS = ("softmax", "logistic", "identity", "exp")


@dataclass(frozen=True)
class Objective:
    """The loss for one of scikit-learn's output activations, as a function of the values before it.

    Parameters
    ----------
    output : {"softmax", "logistic", "identity", "exp"}
        The output activation. With "softmax", the loss is cross-entropy of labels; with "logistic", binary
        cross-entropy, summed over the outputs.
    loss : {"squared_error", "poisson"}
        With "identity" and "exp": half the squared error, averaged over the outputs, or Poisson deviance, summed over
        them. The gradient is the same, so that the other one of the two may be chosen after the first training.

    Notes
    -----
    The loss is the mean over the rows with their weights. Probabilities are limited to [eps, 1 − eps] of their dtype in
    the loss, and not in the gradient. The gradient of the squared error is that of its *sum* over the outputs, as in
    scikit-learn (https://github.com/scikit-learn/scikit-learn/issues/8349); `squared_slope` is the one place for it.
    """

    output: str
    loss: str = "squared_error"
    reduction = "mean"
    epoch_average = "rows"  # of scikit-learn: batches count by their rows, also if the rows have weights

    def init(self) -> tuple[()]:
        return ()

    def forward(
        self, constants: tuple[()], prediction: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array, Array]:
        """Return (loss, gradient); the gradient is cheap once the loss is known."""
        xp, z = array_namespace(prediction), prediction
        factor = factor_of(xp, "mean", z.shape[0], sample_weight, sample_weight)
        if self.output == "softmax":
            z = z - xp.max(z, axis=1, keepdims=True)
            p = xp.exp(z)
            total = xp.sum(p, axis=1, keepdims=True)
            p /= total
            classes = xp.arange(z.shape[1], dtype=target.dtype, device=device_of(z))
            own = xp.astype(target[:, None] == classes, p.dtype)
            each = -xp.log(limited(xp, xp.sum(own * p, axis=1, keepdims=True)))
            slope = p - own
        elif self.output == "logistic":
            p = sigmoid(xp, z)
            q = limited(xp, p)
            each = -target * xp.log(q) - (1 - target) * xp.log(1 - q)
            slope = p - target
        else:
            p = xp.exp(z) if self.output == "exp" else z
            slope = p - target
            if self.loss == "poisson":
                each = target * xp.log(xp.where(target == 0, 1.0, target / p)) - target + p
            else:
                each = (0.5 / z.shape[1]) * slope**2
        slope = squared_slope(self.output, slope)
        slope *= factor
        return xp.sum(each * factor), slope

    def backward(self, constants: tuple[()], residuals: Array) -> Array:
        """Return the gradient, ∂loss/∂prediction."""
        return residuals


def limited(xp: Any, p: Array) -> Array:
    """Return probabilities that are limited to [eps, 1 − eps]."""
    eps = float(xp.finfo(p.dtype).eps)
    return xp.where(p < eps, eps, xp.where(p > 1 - eps, 1 - eps, p))


def squared_slope(output: str, slope: Array) -> Array:
    """Return the gradient of a row's loss for the difference of prediction and target: the difference itself.

    For several outputs with a squared error, the gradient of the mean would be the difference divided by their number.
    """
    return slope


def predictions(output: str, z: Array) -> Array:
    """Apply the output activation to the values of the last layer."""
    xp = array_namespace(z)
    if output == "softmax":
        e = xp.exp(z - xp.max(z, axis=1, keepdims=True))
        return e / xp.sum(e, axis=1, keepdims=True)
    if output == "logistic":
        return sigmoid(xp, z)
    return xp.exp(z) if output == "exp" else z
