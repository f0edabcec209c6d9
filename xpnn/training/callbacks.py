"""What happens between epochs. A callback is called as callback(trainer, logs) after each; a plain function is one.

One that also needs the start or the end of `fit` has what `AtStart` or `AtEnd` declares.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from xpnn.arrays.device import to_numpy
from xpnn.errors import InputError, as_float
from xpnn.nn.protocols import Layer, Params
from xpnn.training.checkpoint import save_model
from xpnn.training.finite import check_loss, check_weights, shortest
from xpnn.training.history import Logs, to_json
from xpnn.training.monitor import Monitor
from xpnn.training.plain import download
from xpnn.training.step import State


class TrainerLike(Protocol):
    """What the callbacks here use of a `Trainer`, whose module stands above this one."""

    model: Layer
    steps: int
    lr_scale: float

    @property
    def state(self) -> State: ...
    def snapshot(self) -> Params: ...
    def load(self, params: Params) -> None: ...
    def stop(self) -> None: ...


@runtime_checkable
class AtStart(Protocol):
    """A callback that is also called before the first epoch of each `fit`."""

    def on_train_begin(self, trainer: Any) -> None: ...


@runtime_checkable
class AtEnd(Protocol):
    """A callback that is also called at the end of each `fit`, stopped or not; not where an exception ends it."""

    def on_train_end(self, trainer: Any) -> None: ...


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
        self.patience = _at_least_0("EarlyStopping: patience", patience)
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

    def _forget(self) -> None:
        self._monitor.forget()
        self._waited = self.best_epoch = self.stopped_epoch = 0
        self.best_weights = None


class ModelCheckpoint:
    """Saves the model after each epoch as `save_model` does: each file is whole, and holds the epoch's record.

    filepath        may hold logs, as in "runs/{epoch:02d}-{val_loss:.4f}.safetensors"; folders are made
    save_best_only  only where `monitor` is better than ever; the best is remembered from one fit to the next.
                    A file that is there already is replaced once the new one is whole
    monitor, mode   what is watched, see `Monitor`; only for save_best_only

    Raises InputError for a log that is not there or a layer that cannot be saved, OSError.
    """

    def __init__(
        self, filepath: str | Path, monitor: str = "val_loss", save_best_only: bool = False, mode: str = "auto"
    ) -> None:
        self.filepath = str(filepath)
        self._monitor = Monitor("ModelCheckpoint", monitor, mode) if save_best_only else None

    def __call__(self, trainer: TrainerLike, logs: Logs) -> None:
        path = self._path(logs)
        if self._monitor is None or self._monitor.improves(logs):
            path.parent.mkdir(parents=True, exist_ok=True)
            save_model(path, trainer.model, trainer.snapshot(), to_json(logs))

    def _path(self, logs: Logs) -> Path:
        try:
            return Path(self.filepath.format(**logs))
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise InputError(
                f"ModelCheckpoint: {self.filepath!r} cannot be filled in with the logs {', '.join(logs)}: {error!r}"
            ) from error


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
        self.patience = _at_least_0("ReduceLROnPlateau: patience", patience)
        self.cooldown = _at_least_0("ReduceLROnPlateau: cooldown", cooldown)
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


def check_callbacks(callbacks: Sequence[Any], *, terminate_on_nan: bool) -> tuple[Any, ...]:
    """The callbacks of a fit, `TerminateOnNaN` first if asked for. Raises InputError for what is none."""
    if not isinstance(callbacks, Sequence):
        raise InputError(f"callbacks: {callbacks!r} is no list; give [{callbacks!r}]")
    for callback in callbacks:
        if isinstance(callback, type) or not callable(callback):
            raise InputError(
                f"callbacks: {callback!r} is no callback; give a function or an instance, as EarlyStopping()"
            )
    return (TerminateOnNaN(), *callbacks) if terminate_on_nan else tuple(callbacks)


def begin(callbacks: Sequence[Any], trainer: TrainerLike) -> None:
    """Tell those that want to know it that a fit begins."""
    for callback in callbacks:
        if isinstance(callback, AtStart):
            callback.on_train_begin(trainer)


def end(callbacks: Sequence[Any], trainer: TrainerLike) -> None:
    """Tell those that want to know it that a fit has ended regularly."""
    for callback in callbacks:
        if isinstance(callback, AtEnd):
            callback.on_train_end(trainer)


def _at_least_0(what: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
        raise InputError(f"{what}: {value!r} is not a whole number of at least 0")
    return int(value)
