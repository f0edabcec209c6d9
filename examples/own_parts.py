"""A custom layer, loss, metric and callback, which work with any array library. Run: python examples/own_parts.py"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xpnn import Trainer, nn, optim
from xpnn.arrays.namespace import array_namespace
from xpnn.testing import check_layer, check_loss


class GainParams(NamedTuple):
    """gain: (features,), trained; size: (features,), the running mean of |x|, carried but not trained."""

    gain: Any
    size: nn.Carried


@dataclass(frozen=True)
class RunningScale:
    """y = gain · x / size, where size is the running mean of |x| over the previous batches."""

    features: int

    def init(self, key: nn.Key) -> GainParams:
        return GainParams(np.ones(self.features), nn.Carried(np.ones(self.features)))

    def forward(self, params: GainParams, x: Any, *, key: nn.Key | None = None) -> tuple[Any, Any]:
        xp = array_namespace(x)
        size = params.size.value
        following = size if key is None else 0.9 * size + 0.1 * xp.mean(xp.abs(x), axis=0)
        scaled = x / size
        return params.gain * scaled, (scaled, nn.Carried(following))

    def backward(self, params: GainParams, residuals: Any, dy: Any, *, need_dx: bool = True) -> tuple[Any, GainParams]:
        xp = array_namespace(dy)
        scaled, following = residuals
        return dy * params.gain / params.size.value, GainParams(xp.sum(dy * scaled, axis=0), following)


@dataclass(frozen=True)
class LogCosh:
    """loss = Σ_n w_n · mean_outputs log cosh(z − t) / Σ_n w_n."""

    def init(self) -> tuple[()]:
        return ()

    def forward(self, constants: Any, prediction: Any, target: Any, sample_weight: Any = None) -> tuple[Any, Any]:
        xp = array_namespace(prediction)
        d = prediction - target
        w = xp.ones_like(d[:, :1]) if sample_weight is None else sample_weight[:, None]
        factor = w / (xp.sum(w) * d.shape[1])
        size = xp.abs(d)
        each = size + xp.log1p(xp.exp(-2 * size)) - math.log(2)  # log cosh d, without overflow
        return xp.sum(factor * each), (d, factor)

    def backward(self, constants: Any, residuals: Any) -> Any:
        d, factor = residuals
        return array_namespace(d).tanh(d) * factor


class LargestErrorSums(NamedTuple):
    """largest: 0-d."""

    largest: Any


@dataclass(frozen=True)
class LargestError:
    """max |z − t| over all rows of an epoch that count."""

    name: str = "largest_error"

    def init(self) -> LargestErrorSums:
        return LargestErrorSums(np.zeros(()))

    def update(self, sums: LargestErrorSums, prediction: Any, target: Any, weight: Any) -> LargestErrorSums:
        xp = array_namespace(prediction)
        error = xp.abs(prediction - target)
        if weight is not None:
            error = xp.where(weight[:, None] > 0, error, 0.0)
        return LargestErrorSums(xp.maximum(sums.largest, xp.max(error)))

    def merge(self, one: LargestErrorSums, other: LargestErrorSums) -> LargestErrorSums:
        """The sums of two sets of rows together; without this method they would be added."""
        return LargestErrorSums(array_namespace(one.largest).maximum(one.largest, other.largest))

    def result(self, sums: LargestErrorSums) -> float:
        return float(sums.largest)


def print_progress(trainer: Trainer, logs: dict[str, Any]) -> None:
    """A callback is a function of (trainer, logs), called after each epoch."""
    if logs["epoch"] % 10 == 0:
        print(f"epoch {logs['epoch']}: loss {logs['loss']:.4f}, largest error {logs['largest_error']:.3f}")


x = np.random.default_rng(0).normal(size=(200, 4)) * [1, 10, 100, 1000]
y = (x / [1, 10, 100, 1000]).sum(axis=1, keepdims=True)
check_layer(RunningScale(4), x[:8])
check_loss(LogCosh(), y[:8], y[8:16], np.arange(8.0))
trainer = Trainer(
    nn.Sequential(RunningScale(4), nn.Linear(4, 1)), LogCosh(), optim.Adam(0.05), metrics=[LargestError()]
)
trainer.fit(x, y, epochs=40, callbacks=[print_progress])
