"""The callback that ends training when a value is not finite."""

from __future__ import annotations

import math

from xpnn.devices.place import to_numpy
from xpnn.training.callbacks.base import TrainerLike
from xpnn.training.checks.nonfinite import check_loss, check_weights, shortest
from xpnn.training.history import Logs
from xpnn.training.runners.base import download


class TerminateOnNaN:
    """Raises NonFiniteError, with the step and the rate, where a loss or a weight becomes NaN or infinite.

    `fit` puts it before all other callbacks unless told terminate_on_nan=False. The weights are asked once, at the end
    of fit: a weight that is spoilt earlier spoils the next loss.
    """

    def __init__(self) -> None:
        self._before = 0  # steps taken before this epoch

    def on_train_begin(self, trainer: TrainerLike) -> None:
        self._before = trainer.steps

    def __call__(self, trainer: TrainerLike, logs: Logs) -> None:
        if not math.isfinite(logs["loss"]):  # a step's loss that is not finite never leaves the sum
            check_loss(download(trainer.state.totals), logs["epoch"], self._before)
        self._before = trainer.steps

    def on_train_end(self, trainer: TrainerLike) -> None:
        state = trainer.state
        check_weights(state.params, state.optimizer, trainer.steps, shortest(to_numpy(state.totals.lr)))
