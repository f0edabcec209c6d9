"""The callback that lowers the learning rate if a log value no longer improves."""

from __future__ import annotations

from typing import Any

from xpnn.errors import InputError
from xpnn.training.callbacks.base import TrainerLike, check_state
from xpnn.training.callbacks.monitor import Monitor
from xpnn.training.history import Logs
from xpnn.validation import Problems, as_float, as_nonnegative_count


class ReduceLROnPlateau:
    """Multiply the learning rate by `factor` if a log value has not improved for `patience` epochs.

    Parameters
    ----------
    monitor : str, default "val_loss"
        The log value to watch.
    factor : float, default 0.1
        The factor of a reduction, 0 < factor < 1.
    patience : int, default 10
        The number of epochs without improvement after which to reduce.
    min_delta : float, default 1e-4
        A value is an improvement only if it is better by more than this.
    cooldown : int, default 0
        The number of epochs after a reduction, including its own, that do not count as epochs without improvement.
    min_lr : float, default 0.0
        The learning rate is not reduced below this.
    mode : {"auto", "min", "max"}, default "auto"
        Whether lower or higher is better; "auto" decides by the name, as in `EarlyStopping`.

    Raises
    ------
    InputError
        If an argument cannot be used, or, after the first epoch, if `monitor` is not in the logs.

    Notes
    -----
    The callback changes `Trainer.lr_scale`. Epochs are counted as in Keras; torch's scheduler of the same name waits
    one epoch longer for the same patience, and for the same cooldown. Each `fit` starts anew, from the current learning
    rate, except the first after `Trainer.load_state_dict`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import ReduceLROnPlateau, Trainer, nn, optim
    >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(0.1))
    >>> plateau = ReduceLROnPlateau("loss", factor=0.5, patience=2, min_delta=9.0)
    >>> _ = trainer.fit(x, y, epochs=5, batch_size=2, callbacks=[plateau])
    >>> trainer.lr_scale
    0.25
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        mode: str = "auto",
    ) -> None:
        problems = Problems()
        with problems:
            self.factor = as_float("ReduceLROnPlateau: factor", factor)
            if not 0 < self.factor < 1:
                raise InputError(f"ReduceLROnPlateau: factor is {factor!r}; expected 0 < factor < 1")
        with problems:
            self.min_lr = as_float("ReduceLROnPlateau: min_lr", min_lr)
            if not self.min_lr >= 0:
                raise InputError(f"ReduceLROnPlateau: min_lr is {min_lr!r}; expected a number of at least 0")
        with problems:
            self.patience = as_nonnegative_count("ReduceLROnPlateau: patience", patience)
        with problems:
            self.cooldown = as_nonnegative_count("ReduceLROnPlateau: cooldown", cooldown)
        with problems:
            self._monitor = Monitor("ReduceLROnPlateau", monitor, mode, min_delta)
        problems.raise_found()
        self._waited = self._cooling = 0

    def on_train_begin(self, trainer: TrainerLike) -> None:
        """Forget the previous fit."""
        self._monitor.reset()
        self._waited = self._cooling = 0

    def __call__(self, trainer: TrainerLike, logs: Logs) -> None:
        better = self._monitor.improves(logs)
        self._cooling = max(self._cooling - 1, 0)
        if better or self._cooling:
            self._waited = 0
            return
        self._waited += 1
        lr = logs["lr"]
        if self._waited >= self.patience and lr > self.min_lr * (1 + 1e-6):  # min_lr may have been rounded to float32
            trainer.lr_scale *= max(self.factor, self.min_lr / lr)
            self._waited, self._cooling = 0, self.cooldown

    def state_dict(self) -> dict[str, Any]:
        """Return the state: plain values."""
        return {"best": self._monitor.best, "waited": self._waited, "cooling": self._cooling}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        check_state(self, state, best=float, waited=int, cooling=int)
        self._monitor.best, self._waited, self._cooling = state["best"], state["waited"], state["cooling"]
