"""The callback that stops training if a log value no longer improves."""

from __future__ import annotations

from typing import Any

from xpnn.nn.protocols import Params
from xpnn.training.callbacks.base import TrainerLike, check_state
from xpnn.training.callbacks.monitor import Monitor
from xpnn.training.history import Logs
from xpnn.training.state import on_host
from xpnn.validation import Problems, as_nonnegative_count


class EarlyStopping:
    """Stop training if a log value has not improved for `patience` epochs.

    Parameters
    ----------
    monitor : str, default "val_loss"
        The log value to watch.
    patience : int, default 0
        The number of epochs without improvement after which to stop; 0 has the effect of 1.
    min_delta : float, default 0.0
        A value is an improvement only if it is better by more than this.
    mode : {"auto", "min", "max"}, default "auto"
        Whether lower or higher is better; "auto" decides by the name: lower for a loss or an error, higher for an
        accuracy.
    restore_best_weights : bool, default True
        Whether to load the weights of the best epoch at the end of `fit`, also if it was not stopped. The optimizer's
        state stays that of the last step. If the trainer has `ema`, the weights are the averages, and a later `fit`
        continues from them.

    Attributes
    ----------
    best : float
        The best value so far; ±∞ before there is one.
    best_epoch : int
        Its epoch; 0 before there is one.
    stopped_epoch : int
        The epoch after which training was stopped; 0 if it was not.
    best_weights : Params or None
        A snapshot of the best epoch, also after an exception; None without `restore_best_weights`.

    Raises
    ------
    InputError
        If an argument cannot be used, or, after the first epoch, if `monitor` is not in the logs.

    Notes
    -----
    Each `fit` starts anew, except the first after `Trainer.load_state_dict`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import EarlyStopping, Trainer, nn, optim
    >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> stopping = EarlyStopping("loss", patience=2, min_delta=0.1)
    >>> trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(0.1))
    >>> history = trainer.fit(x, y, epochs=100, batch_size=2, callbacks=[stopping])
    >>> stopping.stopped_epoch == len(history) < 100
    True
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 0,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best_weights: bool = True,
    ) -> None:
        problems = Problems()
        with problems:
            self.patience = as_nonnegative_count("EarlyStopping: patience", patience)
        with problems:
            self._monitor = Monitor("EarlyStopping", monitor, mode, min_delta)
        problems.raise_found()
        self.restore_best_weights = restore_best_weights
        self.best_weights: Params | None = None
        self._last_weights: tuple[Params, Any] | None = None  # parameters and moving averages
        self._reset()

    @property
    def best(self) -> float:
        """The best value so far; ±∞ before there is one."""
        return self._monitor.best

    def on_train_begin(self, trainer: TrainerLike) -> None:
        """Forget the previous fit."""
        self._reset()

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
        """Load the best weights, if they are to be restored. The last ones are kept, for a training that goes on."""
        if self.best_weights is not None:
            self._last_weights = on_host((trainer.state.params, trainer.state.ema))
            trainer.load(self.best_weights)

    def on_train_resume(self, trainer: TrainerLike) -> None:
        """Load the last weights again."""
        if self._last_weights is not None:
            params, ema = self._last_weights
            trainer.load(params, ema or None)
            self._last_weights = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state: plain values and NumPy arrays."""
        return {
            "best": self._monitor.best,
            "waited": self._waited,
            "best_epoch": self.best_epoch,
            "stopped_epoch": self.stopped_epoch,
            "best_weights": self.best_weights,
            "last_weights": self._last_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        check_state(self, state, best=float, waited=int, best_epoch=int, stopped_epoch=int, best_weights=Any)
        check_state(self, {"last_weights": None, **state}, last_weights=tuple[Any, Any] | None)
        self._monitor.best, self._waited = state["best"], state["waited"]
        self.best_epoch, self.stopped_epoch = state["best_epoch"], state["stopped_epoch"]
        self.best_weights, self._last_weights = state["best_weights"], state.get("last_weights")

    def _reset(self) -> None:
        self._monitor.reset()
        self._waited = self.best_epoch = self.stopped_epoch = 0
        self.best_weights = self._last_weights = None
