"""The callback that logs to MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnn.training.callbacks.base import TrainerLike, check_state, writes
from xpnn.training.callbacks.trackers.outbox import Outbox, hyperparameters, needed, numbers_of
from xpnn.training.history import Logs


class MLflowLogger:
    """Log each epoch's record, and the hyperparameters, to an MLflow run.

    The server is that of ``mlflow.set_tracking_uri`` or of the variable ``MLFLOW_TRACKING_URI``. Needs the package
    mlflow (``pip install "xpnn[mlflow]"``); mlflow-skinny is enough for a server.

    Parameters
    ----------
    experiment_name : str, optional
        The experiment, which is created if there is none. By default MLflow's own choice.
    run_name : str, optional
        The name of the run. By default MLflow invents one.
    params : dict, optional
        The hyperparameters to log. By default those of the trainer.
    tags : dict, optional
        Tags of the run.

    Attributes
    ----------
    run_id : str or None
        The run; None before the end of the first epoch.

    Raises
    ------
    InputError
        If mlflow is not installed.

    Notes
    -----
    The step of a value is its epoch. If a run is active (``with mlflow.start_run():``), it is used, and stays open;
    otherwise the callback starts a run and ends it. A training that goes on from a checkpoint, and a later `fit` of the
    same trainer, continue the run; epochs that are already in it are not logged again. If the server fails, training
    goes on, with a warning, and what is missing is logged once the server answers.

    Examples
    --------
    >>> from xpnn.training import MLflowLogger
    >>> logger = MLflowLogger("digits", run_name="first")  # doctest: +SKIP
    >>> history = trainer.fit(x, y, epochs=5, callbacks=[logger])  # doctest: +SKIP
    """

    def __init__(
        self,
        experiment_name: str | None = None,
        run_name: str | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        _package()
        self.experiment_name, self.run_name, self.params, self.tags = experiment_name, run_name, params, tags
        self.run_id: str | None = None
        self._outbox = Outbox("MLflowLogger")
        self._begun = self._is_own = False  # in this fit; whether the callback started the run
        self._logged = 0  # the last epoch in the run

    def on_train_begin(self, trainer: TrainerLike) -> None:
        """Forget the run of an earlier training."""
        self._begun = False
        if trainer.steps == 0:
            self.run_id, self._logged = None, 0

    def __call__(self, trainer: TrainerLike, logs: Logs) -> None:
        if not writes(trainer):
            return
        values, epoch = numbers_of(logs), logs["epoch"]
        if not self._begun:
            self._begun = True
            params = dict(hyperparameters(trainer) if self.params is None else self.params)
            self._outbox.put(self._open, *([] if self.run_id else [lambda: self._describe(params)]))
        self._outbox.put(lambda: self._log(values, epoch))

    def on_train_end(self, trainer: TrainerLike) -> None:
        """End the run, if the callback started it."""
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

    def _open(self) -> None:
        """Start a run, or continue one."""
        mlflow = _package()
        active = mlflow.active_run()
        self._is_own = active is None
        if active is None and self.run_id is None and self.experiment_name is not None:
            mlflow.set_experiment(self.experiment_name)
        if active is None:
            active = mlflow.start_run(run_id=self.run_id, run_name=None if self.run_id else self.run_name)
        if self.run_id is None:
            self.run_id = active.info.run_id
        else:
            self._logged = self._last_epoch()

    def _describe(self, params: Mapping[str, Any]) -> None:
        _package().log_params(params, run_id=self.run_id)
        for name, value in (self.tags or {}).items():
            _package().MlflowClient().set_tag(self.run_id, name, value)

    def _last_epoch(self) -> int:
        client = _package().MlflowClient()
        return max((point.step for point in client.get_metric_history(self.run_id, "loss")), default=0)

    def _log(self, values: Mapping[str, float], epoch: int) -> None:
        if epoch > self._logged:
            _package().log_metrics(values, step=epoch, run_id=self.run_id)
            self._logged = epoch

    def _close(self) -> None:
        if self._is_own:
            self._is_own = False
            _package().end_run()


def _package() -> Any:
    return needed("MLflowLogger", "mlflow", "mlflow")
