"""The callback that lowers the learning rate when a log stops improving."""

from __future__ import annotations

from typing import Any

from xpnn.errors import InputError
from xpnn.training.callbacks.base import TrainerLike
from xpnn.training.callbacks.monitor import Monitor
from xpnn.training.history import Logs
from xpnn.validation import as_float, as_nonnegative_count


class ReduceLROnPlateau:
    """Multiplies the learning rate by `factor` where a log has not become better for `patience` epochs (`lr_scale`).

    monitor, min_delta, mode  what is watched, see `Monitor`
    cooldown                  how many epochs, the one of the reduction included, do not count towards the next one
    min_lr                    the rate is never brought below this

    Epochs are counted as Keras counts them: torch's scheduler of the same name waits one epoch longer for the same
    patience, and for the same cooldown. Each fit starts afresh, and goes on from the rate it finds. Raises InputError
    where `monitor` is not among the logs.
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
        self.factor, self.min_lr = as_float("factor", factor), as_float("min_lr", min_lr)
        if not 0 < self.factor < 1:
            raise InputError(f"ReduceLROnPlateau: factor is {factor!r}; expected 0 < factor < 1")
        if not self.min_lr >= 0:
            raise InputError(f"ReduceLROnPlateau: min_lr is {min_lr!r}; expected a number of at least 0")
        self.patience = as_nonnegative_count("ReduceLROnPlateau: patience", patience)
        self.cooldown = as_nonnegative_count("ReduceLROnPlateau: cooldown", cooldown)
        self._monitor = Monitor("ReduceLROnPlateau", monitor, mode, min_delta)
        self._waited = self._cooling = 0

    def on_train_begin(self, trainer: TrainerLike) -> None:
        self._monitor.forget()
        self._waited = self._cooling = 0

    def __call__(self, trainer: TrainerLike, logs: Logs) -> None:
        better = self._monitor.improves(logs)
        self._cooling = max(self._cooling - 1, 0)
        if better or self._cooling:
            self._waited = 0
            return
        self._waited += 1
        lr = logs["lr"]
        if self._waited >= self.patience and lr > self.min_lr * (1 + 1e-6):  # min_lr itself, rounded to float32, is met
            trainer.lr_scale *= max(self.factor, self.min_lr / lr)
            self._waited, self._cooling = 0, self.cooldown

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"best": self._monitor.best, "waited": self._waited, "cooling": self._cooling}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._monitor.best, self._waited, self._cooling = state["best"], state["waited"], state["cooling"]
