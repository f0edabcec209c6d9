"""The callback that logs to Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnn.training.callbacks.base import TrainerLike, check_state, writes
from xpnn.training.callbacks.trackers.outbox import Outbox, hyperparameters, needed, numbers_of
from xpnn.training.history import Logs


class WandbLogger:
    """Log each epoch's record, and the hyperparameters, to Weights & Biases.

    Needs the package wandb (``pip install "xpnn[wandb]"``). With ``mode="offline"`` or the variable
    ``WANDB_MODE=offline`` nothing is sent, until ``wandb sync``.

    Parameters
    ----------
    project : str, optional
        The project. By default wandb's own choice.
    name : str, optional
        The name of the run. By default wandb invents one.
    config : dict, optional
        The hyperparameters to log. By default those of the trainer.
    **options
        Further arguments of ``wandb.init``, such as `entity`, `tags`, `group`, `mode` and `dir`.

    Attributes
    ----------
    run_id : str or None
        The run; None before the end of the first epoch.

    Raises
    ------
    InputError
        If wandb is not installed.

    Notes
    -----
    Values are drawn against the epoch, and the step of a value is its epoch. If a run is active (``wandb.init``), it is
    used with its own steps, and stays open; otherwise the callback starts a run and finishes it. A training that goes
    on from a checkpoint, and a later `fit` of the same trainer, continue the run; epochs that the server already has
    are not logged again. If wandb fails, training goes on, with a warning.

    Examples
    --------
    >>> from xpnn.training import WandbLogger
    >>> logger = WandbLogger("digits", name="first", mode="offline")  # doctest: +SKIP
    >>> history = trainer.fit(x, y, epochs=5, callbacks=[logger])  # doctest: +SKIP
    """

    def __init__(
        self,
        project: str | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        _package()
        self.project, self.name, self.config, self.options = project, name, config, options
        self.run_id: str | None = None
        self._outbox = Outbox("WandbLogger")
        self._run: Any = None
        self._begun = self._is_own = False  # in this fit; whether the callback started the run
        self._first = 0  # the first epoch that the server does not have

    def on_train_begin(self, trainer: TrainerLike) -> None:
        """Forget the run of an earlier training."""
        self._begun = False
        if trainer.steps == 0:
            self.run_id = None

    def __call__(self, trainer: TrainerLike, logs: Logs) -> None:
        if not writes(trainer):
            return
        values = {**numbers_of(logs), "epoch": logs["epoch"]}
        if not self._begun:
            self._begun = True
            config = dict(hyperparameters(trainer) if self.config is None else self.config)
            self._outbox.put(lambda: self._open(config))
        self._outbox.put(lambda: self._log(values))

    def on_train_end(self, trainer: TrainerLike) -> None:
        """Finish the run, if the callback started it."""
        if writes(trainer):
            self._outbox.put(self._close)
            self._outbox.finish()

    def state_dict(self) -> dict[str, Any]:
        """Return the state: plain values."""
        return {"run_id": self.run_id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        check_state(self, state, run_id=str | None)
        self.run_id = state["run_id"]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_run": None}

    def _open(self, config: Mapping[str, Any]) -> None:
        """Start a run, or continue one."""
        active = _package().run
        self._is_own = active is None
        if active is None:
            again = {} if self.run_id is None else {"id": self.run_id, "resume": "allow"}
            active = _package().init(
                project=self.project, name=self.name, config=dict(config), **{**self.options, **again}
            )
            self._first = active.step if active.resumed else 0
        else:
            active.config.update(config, allow_val_change=True)
        active.define_metric("*", step_metric="epoch")
        self._run, self.run_id = active, active.id

    def _log(self, values: Mapping[str, float]) -> None:
        if not self._is_own:
            self._run.log(values)
        elif values["epoch"] >= self._first:
            self._run.log(values, step=int(values["epoch"]))

    def _close(self) -> None:
        if self._is_own:
            self._is_own = False
            self._run.finish()


def _package() -> Any:
    return needed("WandbLogger", "wandb", "wandb")
