"""sgd and adam: the optimizers, and the epochs on a `Trainer`; for other data see `steps`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xpnn import nn, optim
from xpnn.devices.place import Place
from xpnn.training import Trainer

Order = Callable[[int, int], np.ndarray] | bool


def optimizer_for(estimator: Any) -> optim.Optimizer:
    """Return a new optimizer; with a learning rate of 1, because `Updates` has scikit-learn's."""
    if estimator.optimizer is not None:
        return estimator.optimizer
    if estimator.solver == "adam":
        return optim.Adam(1.0, (estimator.beta_1, estimator.beta_2), estimator.epsilon, eps_hat=True)
    momentum = float(estimator.momentum)
    nesterov = estimator.nesterovs_momentum and momentum > 0
    return optim.SGD(1.0, momentum, nesterov=nesterov, lr_in_velocity=True)


def penalty_for(estimator: Any) -> nn.L2 | None:
    """Return the penalty of the weights; None without one."""
    return nn.L2(estimator.alpha) if estimator.alpha else None


class Progress(NamedTuple):
    """What a run needs, besides the parameters, to go on with the same bits.

    Attributes
    ----------
    moments : tree of ndarray
        The state of the optimizer.
    epochs, steps : int
        How many there were: schedules and the dropout masks depend on them.
    """

    moments: Any
    epochs: int = 0
    steps: int = 0


class Updates:
    """What scikit-learn has in its optimizer: parameters of an estimator as they were when training began, and a state.

    Attributes
    ----------
    optimizer : Optimizer
        The optimizer.
    learning_rate : float
        The learning rate of the next epoch; with a custom optimizer, the factor of its own.
    seed : int or None
        Determines the dropout masks; None until there is dropout.
    progress : Progress or None
        Where the next run begins; None at the beginning.
    """

    def __init__(self, estimator: Any) -> None:
        self.optimizer = optimizer_for(estimator)
        self.first = float(estimator.learning_rate_init) if estimator.optimizer is None else 1.0
        self.learning_rate = self.first
        fixed = estimator.solver == "adam" and estimator.optimizer is None
        self.schedule = "constant" if fixed else estimator.learning_rate
        self.power_t = estimator.power_t
        self.seed: int | None = None
        self.progress: Progress | None = None

    def epoch_ends(self, rows: int) -> None:
        """Update the learning rate after an epoch; rows: all rows so far."""
        if self.schedule == "invscaling":
            self.learning_rate = self.first / (rows + 1) ** self.power_t

    def stops(self, message: str, verbose: Any) -> bool:
        """Return whether training stops for lack of improvement, and print why."""
        stops, what = True, " Stopping."
        if self.schedule == "adaptive" and self.learning_rate <= 1e-6:
            what = " Learning rate too small. Stopping."
        elif self.schedule == "adaptive":
            self.learning_rate /= 5.0
            stops, what = False, f" Setting learning rate to {self.learning_rate:f}"
        if verbose:
            print(message + what)
        return stops


class TrainerRun:
    """Epochs on a `Trainer`, which stays for the next `partial_fit`."""

    def __init__(
        self,
        estimator: Any,
        model: nn.Sequential,
        loss: nn.Loss,
        updates: Updates,
        params: Any,
        place: Place | None,
        dtype: str,
    ) -> None:
        self._trainer = Trainer(
            model,
            loss,
            updates.optimizer,
            seed=updates.seed or 0,
            device=place,
            dtype=dtype,
            metrics=(),
            precision=estimator.precision,
            penalty=penalty_for(estimator),
            params=params,
        )
        if updates.progress is not None:
            moments, epochs, steps = updates.progress
            saved = self._trainer.state_dict()
            state = saved["state"]._replace(optimizer=moments, step=np.asarray([steps], np.uint32))
            self._trainer.load_state_dict({**saved, "state": state, "epoch": epochs, "steps": steps})

    @property
    def params(self) -> Any:
        """The parameters, on the device; training reuses their memory."""
        return self._trainer.state.params

    @property
    def progress(self) -> Progress:
        """A copy of the state on the host."""
        saved = self._trainer.state_dict()
        return Progress(saved["state"].optimizer, saved["epoch"], int(saved["state"].step[0]))

    def load(self, params: Any) -> None:
        """Replace the parameters."""
        self._trainer.load(params)

    def go(
        self,
        x: Any,
        y: Any,
        weight: Any,
        epochs: int,
        batch_size: int,
        order: Order,
        updates: Updates,
        after: Callable[[float], bool],
    ) -> None:
        """Train for at most this many epochs; `after` is called with the loss of each, and returns whether to stop."""

        def callback(trainer: Trainer, logs: Any) -> None:
            if after(logs["loss"]):
                trainer.stop()
            trainer.lr_scale = updates.learning_rate

        self._trainer.lr_scale = updates.learning_rate
        self._trainer.fit(
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            sample_weight=weight,
            shuffle=order,
            callbacks=[callback],
            progress=False,
            terminate_on_nan=False,
        )

    def loss_of(self, x: Any, y: Any, weight: Any) -> float:
        """Return the loss of these rows, without the penalty."""
        return float(self._trainer.evaluate(x, y, sample_weight=weight)["loss"])
