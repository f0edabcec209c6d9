"""A whole experiment in one call: build, train, save and test."""

from __future__ import annotations

import math
import platform
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xpnn import config
from xpnn.devices.place import Place, find_place
from xpnn.errors import InputError, NonFiniteError, SaveError
from xpnn.experiments import factory
from xpnn.experiments.experiment import DownloadProgress, Experiment, prepare
from xpnn.experiments.run_folder import (
    CHECKPOINTS_BY_DEFAULT,
    SCHEMA_VERSION,
    TENSORBOARD,
    CheckpointPlan,
    RunFolder,
)
from xpnn.experiments.saved_run import SavedRun, sha256_of
from xpnn.experiments.settings import Settings, resumed_settings
from xpnn.ranks import Ranks
from xpnn.training import Checkpoint, Metric, SavedTraining, TensorBoard, Trainer
from xpnn.training.checks.ranks import on_rank_0
from xpnn.training.engine import Progress
from xpnn.training.history import Logs
from xpnn.training.saving.checkpoint import environment
from xpnn.training.trainer import Callback
from xpnn.version import __version__

#: Settings that say how the data are read, and do not change the result; TensorBoard compares runs by the others.
_NOT_COMPARED = ("data_dir", "decimal", "encoding", "skip_broken", "task", "monitor")
_SHOWN = ("test_accuracy", "test_r2_score")


def _ignore(*_: Any) -> None: ...


@dataclass(frozen=True)
class Hooks:
    """Functions that `run` calls; by default they do nothing.

    Parameters
    ----------
    on_start : callable
        Called as ``on_start(experiment)`` when data and network are ready, before the training.
    on_trained : callable
        Called as ``on_trained(experiment)`` after the training, before the model is saved.
    is_interrupted : callable
        Called as ``is_interrupted()`` after the training. True if ``experiment.trainer.stop()`` was called from
        outside, as by a signal: the status is then "interrupted", not "finished".
    download_progress : callable
        Called as ``download_progress(file name, bytes so far, bytes in all or 0)`` during a download.
    """

    on_start: Callable[[Experiment], None] = _ignore
    on_trained: Callable[[Experiment], None] = _ignore
    is_interrupted: Callable[[], bool] = lambda: False
    download_progress: DownloadProgress = _ignore


@dataclass(frozen=True, eq=False)
class RunResult:
    """What `run` returns.

    Parameters
    ----------
    experiment : Experiment
        Data, network and trainer.
    facts : dict
        What run.json contains, ready for JSON: settings under "options", "history", "test_loss", "test_accuracy", …
    """

    experiment: Experiment
    facts: dict[str, Any]

    @property
    def settings(self) -> Settings:
        """The settings, completed."""
        return self.experiment.settings

    @property
    def trainer(self) -> Trainer:
        """The trainer, with the trained network."""
        return self.experiment.trainer

    @property
    def history(self) -> list[Logs]:
        """One record per epoch."""
        return self.facts["history"]

    @property
    def test_loss(self) -> float:
        """The loss on the test part of the data."""
        return self.facts["test_loss"]

    @property
    def test_accuracy(self) -> float | None:
        """The accuracy on the test part of the data; None in regression."""
        return self.facts.get("test_accuracy")

    @property
    def test_r2_score(self) -> float | None:
        """R² on the test part of the data; None in classification."""
        return self.facts.get("test_r2_score")

    def __repr__(self) -> str:
        shown = "".join(f", {name}={self.facts[name]:.4f}" for name in _SHOWN if name in self.facts)
        return f"RunResult({len(self.history)} epochs{shown})"


def run(
    settings: Settings | None = None,
    *,
    output: str | Path | None = None,
    device: str | Place = "auto",
    backend: str = "auto",
    callbacks: Sequence[Callback] = (),
    progress: Progress | bool | None = None,
    tensorboard: bool | str | Path = False,
    hooks: Hooks = Hooks(),
    checkpoints: CheckpointPlan = CHECKPOINTS_BY_DEFAULT,
    resume: bool | str = False,
    test: bool = True,
    ranks: Ranks | None = None,
) -> RunResult:
    """Build an experiment from its settings, train it, save it and test it: what `xpnn train` does.

    Parameters
    ----------
    settings : Settings, optional
        The experiment. None for that of the run that is continued. Given settings must agree with it, except for
        `epochs`.
    output : str or Path, optional
        A new folder for the model, its history and run.json; None saves nothing.
    device : str or Place
        "auto", "cpu", "cuda", "cuda:N", or a place from `xpnn.find_place`.
    backend : str
        The array library: "auto", "numpy", "cupy", "torch", "jax" or "strict"; unused if `device` is a Place.
    callbacks : sequence of callables
        Called after each epoch: see `Trainer.fit`.
    progress : callable or bool, optional
        Called between steps as ``progress(rows done, rows of this epoch)``; or whether to show the progress: see
        `Trainer.fit`.
    tensorboard : bool, str or Path, default False
        Whether to write event files for TensorBoard, into the folder "tensorboard" of `output`; or the folder for them.
        A run that is continued goes on with those in `output`. See `xpnn.training.TensorBoard`.
    hooks : Hooks
        Functions that are called at other moments.
    checkpoints : CheckpointPlan
        When to save what is needed to continue the run, if there is an `output`.
    resume : bool or "auto", default False
        Whether to continue the run in `output` from its newest checkpoint; "auto" continues it if there is one. On the
        same machine, the result has the same bits as that of a run without an interruption.
    test : bool, default True
        Whether to test at the end. Leave it out while choosing among runs; `SavedRun.evaluate` tests later.
    ranks : Ranks, optional
        The processes that train together, all of which call `run` with the same arguments: see `Trainer`. Only rank 0
        writes into `output`. A run may be continued with another number of them.

    Returns
    -------
    RunResult

    Raises
    ------
    InputError
        If settings do not go together or do not suit the data, if `output` cannot be written, or if the run in it
        cannot be continued with these settings and data.
    DataFormatError, DownloadError
        If the data cannot be read.
    DeviceUnavailableError
        If the library is not installed, or the precision is not available on the device.
    NonFiniteError
        If the loss becomes NaN or infinite. As after any error during the training, run.json then contains the error,
        and under "nonfinite" what went bad first and the rows of the batch, of the training part of the data.

    Examples
    --------
    >>> from xpnn.experiments import Settings, run
    >>> result = run(Settings(dataset="digits", hidden="32", epochs=30), device="cpu")
    >>> result.test_accuracy > 0.9
    True
    """
    if settings is None and not resume:
        raise InputError("run needs settings, or an `output` with a run to resume")
    if resume and output is None:
        raise InputError("`resume` continues the run in a folder; name it as `output`")
    if settings is not None:
        factory.check(settings)
    board = _tensorboard(tensorboard, output, resume)
    folder = None if output is None else on_rank_0(ranks, lambda: RunFolder(Path(output), resume))
    facts: dict[str, Any] = {}
    try:
        saved = None if folder is None else folder.saved
        if ranks is not None:
            saved = ranks.agree(saved)
        settings = settings or Settings()
        given = settings if saved is None else Settings(**saved.about["given"])
        if saved is not None:
            settings = resumed_settings(saved.about, settings)
        place = device if isinstance(device, Place) else find_place(device, backend)
        if not isinstance(device, Place) and place.fell_back:
            warnings.warn(f"{place.reason}; using the CPU with {place.library}", stacklevel=2)
        experiment = prepare(settings, place, download_progress=hooks.download_progress, ranks=ranks)
        data = "" if output is None else experiment.data_fingerprint()
        about = {"settings": asdict(experiment.settings.with_absolute_paths()), "given": asdict(given), "data": data}
        if saved is not None:
            experiment = _resumed(experiment, saved, data)
        facts |= _facts_before(experiment, saved)
        hooks.on_start(experiment)
        checkpoint = None if output is None else checkpoints.callback(Path(output), about)
        if folder is not None:
            folder.start()
        if board is not None:
            options = facts["options"].items()
            board.hparams = {name: one for name, one in options if one not in (None, "") and name not in _NOT_COMPARED}
            callbacks = [board, *callbacks]
        facts |= _train(experiment, folder, callbacks, progress, hooks, checkpoint, test)
    except BaseException as error:
        if isinstance(error, NonFiniteError) and error.rows is not None:
            bad = {"epoch": error.epoch, "step": error.step, "first": error.first}
            facts["nonfinite"] = {**bad, "rows": experiment.train_rows[error.rows].tolist()}
        if folder is not None:
            folder.record_failure(facts, error)
            if isinstance(error, SaveError):
                raise SaveError(f"{error}{folder.hint()}") from error
        raise
    else:
        if folder is not None:
            folder.write_run(facts)
    finally:
        if folder is not None:
            folder.close()
    if ranks is not None:
        ranks.agree(None)  # the others wait until rank 0 has written: mpiexec may kill it as soon as one ends
    return RunResult(experiment, facts)


def _tensorboard(wanted: bool | str | Path, output: str | Path | None, resume: bool | str) -> TensorBoard | None:
    """The callback that writes event files; a run that has some goes on with them."""
    usual = None if output is None else Path(output) / TENSORBOARD
    if wanted is True and usual is None:
        raise InputError("`tensorboard` needs an `output`, the folder of the run, or a folder of its own")
    if wanted is False and (not resume or usual is None or not usual.is_dir()):
        return None
    return TensorBoard(usual if isinstance(wanted, bool) and usual is not None else Path(str(wanted)))


def _resumed(experiment: Experiment, saved: SavedTraining, data: str) -> Experiment:
    """The experiment as the checkpoint left it. Raises InputError if the data have changed, or with too few epochs."""
    if saved.about["data"] != data:
        raise InputError(f"{experiment.data.source}: the data have changed since the run began, so it cannot continue")
    resumed = experiment.resumed(saved)
    trainer = resumed.trainer
    begun = trainer.epoch + bool(trainer.epoch_steps)
    if begun > resumed.epochs:
        raise InputError(f"`epochs` {resumed.epochs}: the run has already begun epoch {begun}; give at least {begun}")
    return resumed


def _facts_before(experiment: Experiment, saved: SavedTraining | None) -> dict[str, Any]:
    settings, place = experiment.settings, experiment.place
    system = f"{platform.system()} {platform.release()} {platform.machine()}"  # `platform.platform` starts a process
    variables = {name: config.get(name) for name in config.VARIABLES if config.is_set(name)}
    return {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "status": "running",
        "dataset": settings.dataset,
        "backend": place.library,
        "device": place.name,
        "device_reason": place.reason,
        "precision": settings.precision,
        **({} if experiment.trainer.ranks is None else {"ranks": experiment.trainer.ranks.size}),
        "seed": settings.seed,
        "task": experiment.goal.task,
        "classes": list(experiment.goal.classes),
        "targets": list(experiment.goal.targets),
        "features": list(experiment.data.features),
        "n_parameters": experiment.n_parameters,
        "options": asdict(settings),
        "environment": {**environment(place), "platform": system, "variables": variables},
        "resumed_from": None if saved is None else Path(saved.path).name,
    }


def _train(
    experiment: Experiment,
    folder: RunFolder | None,
    callbacks: Sequence[Callback],
    progress: Progress | bool | None,
    hooks: Hooks,
    checkpoint: Checkpoint | None,
    test: bool,
) -> dict[str, Any]:
    """Train, save and test; the facts of the results."""
    settings, before = experiment.settings, experiment.trainer.history.records[:]
    digest = sha256_of(settings.dataset)  # before the training, during which the file may change
    loggers = [] if folder is None else [folder.log]
    history, seconds = experiment.fit([*loggers, *callbacks], progress, checkpoint)
    factor = experiment.calibrate()
    hooks.on_trained(experiment)
    if folder is not None:
        SavedRun.of(experiment, digest).save(folder.path)
        folder.complete_history(history.records)
    trained = len(history) - len(before)
    tested = experiment.evaluate_test() if test else {}
    return {
        "status": "interrupted" if hooks.is_interrupted() else "finished",
        "epochs": len(history),
        "history": [_record(record, list(experiment.trainer.metrics)) for record in history],
        "calibration_factor": factor,
        **_best(history.records, settings.monitor),
        **{f"test_{name}": value for name, value in tested.items()},
        "seconds": seconds + sum(record["seconds"] for record in before),
        "samples_per_second": trained * len(experiment.train_rows) / seconds,
        "output": None if folder is None else str(folder.path),
    }


def _record(record: Logs, metrics: Sequence[Metric]) -> Logs:
    """The values of an epoch; those of the validation are None without one."""
    names = ["loss", *(metric.name for metric in metrics)]
    return {name: record.get(name) for name in ("epoch", *names, *(f"val_{name}" for name in names), "lr", "seconds")}


def _best(records: Sequence[Logs], monitor: str) -> dict[str, Any]:
    """The epoch with the best value of `monitor`, and its validation values; nothing without a validation."""
    known = [record for record in records if math.isfinite(record.get(monitor, math.nan))]
    if not known:
        return {}
    sign = -1 if monitor.endswith(("loss", "error")) else 1
    best = max(known, key=lambda record: sign * record[monitor])
    return {
        "best_epoch": best["epoch"],
        **{f"best_{name}": value for name, value in best.items() if name.startswith("val_")},
    }
