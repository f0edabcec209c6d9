"""The callback that ends training if the loss or a weight is not finite."""

from __future__ import annotations

import math

from xpnn.devices.place import to_numpy
from xpnn.training.callbacks.base import TrainerLike
from xpnn.training.checks.nonfinite import check_loss, check_weights, shortest
from xpnn.training.history import Logs
from xpnn.training.runners.base import download


class TerminateOnNaN:
    """Raise NonFiniteError if the loss or a weight becomes NaN or infinite.

    `Trainer.fit` puts it before all other callbacks, unless ``terminate_on_nan=False``. The loss is checked after each
    epoch. The weights are checked once, at the end of `fit`: a weight that is not finite earlier makes the next loss
    not finite.

    Raises
    ------
    NonFiniteError
        With the step and the learning rate.
    InputError
        If no row of the epoch counts, because all weights are 0 or their sum overflows.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Trainer, nn, optim
    >>> x = np.linspace(-1, 1, 8)[:, None]
    >>> trainer = Trainer(nn.Linear(1, 1), nn.MSELoss(), optim.SGD(1e3))
    >>> trainer.fit(x, 2 * x, epochs=400, batch_size=8)
    Traceback (most recent call last):
        ...
    xpnn.errors.NonFiniteError: the loss is not finite at step ...
    """

    def __init__(self) -> None:
        self._before = 0  # steps before the current epoch

    def on_train_begin(self, trainer: TrainerLike) -> None:
        """Remember how many steps came before the epoch."""
        self._before = trainer.steps - trainer.epoch_steps

    def __call__(self, trainer: TrainerLike, logs: Logs) -> None:
        if not math.isfinite(logs["loss"]):  # a sum with a value that is not finite is not finite
            check_loss(download(trainer.state.totals), logs["epoch"], self._before)
        self._before = trainer.steps

    def on_train_end(self, trainer: TrainerLike) -> None:
        """Check the weights and the optimizer's state."""
        state = trainer.state
        check_weights(state.params, state.optimizer, trainer.steps, shortest(to_numpy(state.totals.lr)))
