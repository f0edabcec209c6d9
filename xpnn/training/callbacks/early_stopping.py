"""The callback that ends training when a log stops improving."""

from __future__ import annotations

from typing import Any

from xpnn.nn.protocols import Params
from xpnn.training.callbacks.base import TrainerLike
from xpnn.training.callbacks.monitor import Monitor
from xpnn.training.history import Logs
from xpnn.validation import as_nonnegative_count


class EarlyStopping:
    """Ends the training where a log has not become better for `patience` epochs (0 is taken as 1).

    monitor, min_delta, mode  what is watched, see `Monitor`
    restore_best_weights      at the end of fit, however it came about, the weights of the best epoch are loaded;
                              the optimizer's state stays that of the last. With a trainer's `ema` they are the
                              averages, and a later fit goes on from them

    After each epoch it tells best_epoch and best (0 and ±∞ before there is one), stopped_epoch (0: it has not stopped
    anything) and best_weights (a snapshot, also after an error). Each fit starts afresh. Raises InputError where
    `monitor` is not among the logs.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 0,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best_weights: bool = True,
    ) -> None:
        self.patience = as_nonnegative_count("EarlyStopping: patience", patience)
        self.restore_best_weights = restore_best_weights
        self._monitor = Monitor("EarlyStopping", monitor, mode, min_delta)
        self.best_weights: Params | None = None
        self._forget()

    @property
    def best(self) -> float:
        """The best value so far."""
        return self._monitor.best

    def on_train_begin(self, trainer: TrainerLike) -> None:
        self._forget()

    def __call__(self, trainer: TrainerLike, logs: Logs) -> None:
        if self._monitor.improves(logs):
            self._waited, self.best_epoch = 0, logs["epoch"]
            if self.restore_best_weights:
                self.best_weights = trainer.snapshot()
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.stopped_epoch = logs["epoch"]
            trainer.stop()

    def on_train_end(self, trainer: TrainerLike) -> None:
        if self.best_weights is not None:
            trainer.load(self.best_weights)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and NumPy arrays."""
        return {
            "best": self._monitor.best,
            "waited": self._waited,
            "best_epoch": self.best_epoch,
            "stopped_epoch": self.stopped_epoch,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._monitor.best, self._waited = state["best"], state["waited"]
        self.best_epoch, self.stopped_epoch = state["best_epoch"], state["stopped_epoch"]
        self.best_weights = state["best_weights"]

    def _forget(self) -> None:
        self._monitor.forget()
        self._waited = self.best_epoch = self.stopped_epoch = 0
        self.best_weights = None
