"""One experiment: its data, network and trainer, built from settings."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from xpnn import nn
from xpnn.arrays import tree
from xpnn.arrays.mapped import MappedRows, take_rows
from xpnn.data.datasets import Dataset, is_file, load
from xpnn.devices.place import Place, find_place
from xpnn.devices.precision import check_precision
from xpnn.devices.threads import one_thread_if_small
from xpnn.errors import InputError
from xpnn.experiments import factory
from xpnn.experiments.goal import Goal
from xpnn.experiments.scores import calibration_factor, evaluate
from xpnn.experiments.settings import NUMBER_FORMATS, Settings
from xpnn.ranks import Ranks
from xpnn.training import Checkpoint, EarlyStopping, History, SavedTraining, Trainer
from xpnn.training.checks.inputs import first_bad_for
from xpnn.training.checks.ranks import from_rank_0
from xpnn.training.engine import Progress
from xpnn.training.history import Logs
from xpnn.training.stopwatch import Stopwatch
from xpnn.training.trainer import Callback

DownloadProgress: TypeAlias = Callable[[str, int, int], None]  # (file name, bytes so far, bytes in all or 0)


@dataclass(frozen=True, eq=False)
class Experiment:
    """Data, network and trainer of one experiment, ready to train; made by `prepare`.

    Parameters
    ----------
    settings : Settings
        Completed: see `Settings.complete`.
    place : Place
        Where it runs.
    data : Dataset
        All of the data.
    goal : Goal
        What the network is trained for.
    model : nn.Sequential
        The network, with the layers in front that scale the data.
    trainer : Trainer
        Trains `model`.
    is_resumed : bool
        Whether the trainer goes on from a checkpoint: `fit` then does only the epochs that are left.
    """

    settings: Settings
    place: Place
    data: Dataset
    goal: Goal
    model: nn.Sequential
    trainer: Trainer
    is_resumed: bool = False

    @property
    def train_rows(self) -> np.ndarray:
        """Which rows of the training part of the data to train on."""
        return self.data.train_rows

    @property
    def validation_rows(self) -> np.ndarray:
        """Which rows of the training part of the data to validate on."""
        return self.data.validation_rows

    @property
    def epochs(self) -> int:
        """Epochs to train."""
        return self.settings.epochs or 1

    @property
    def n_parameters(self) -> int:
        """Number of trained parameters of the network."""
        return sum(math.prod(leaf.shape) for leaf in tree.leaves(tree.trained(self.trainer.snapshot())))

    def resumed(self, saved: SavedTraining) -> Experiment:
        """The same experiment, with a trainer that goes on from a checkpoint of it."""
        fresh = self.trainer
        trainer = Trainer.restore(
            saved,
            model=fresh.model,
            loss=fresh.loss,
            optimizer=fresh.optimizer,
            metrics=fresh.metrics,
            device=self.place,
            ranks=fresh.ranks,
        )
        return replace(self, trainer=trainer, is_resumed=True)

    def fit(
        self,
        callbacks: Sequence[Callback] = (),
        progress: Progress | bool | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> tuple[History, float]:
        """Train the network.

        Parameters
        ----------
        callbacks : sequence of callables
            Called after each epoch: see `Trainer.fit`.
        progress : callable or bool, optional
            Called between steps as ``progress(rows done, rows of this epoch)``; or whether to show the progress: see
            `Trainer.fit`.
        checkpoint : Checkpoint, optional
            Saves the training; it is called last.

        Returns
        -------
        history : History
            One record per epoch.
        seconds : float
            How long it took, without suspensions of the process.
        """
        data, settings = self.data, self.settings
        batch_size = settings.batch_size or len(self.train_rows)
        kept = self.validation_rows
        validation = self._with_targets(take_rows(data.x_train, kept), data.y_train[kept]) if len(kept) else None
        stopping = [] if settings.patience is None else [EarlyStopping(settings.monitor, settings.patience)]
        watch = _Watch()
        with one_thread_if_small(self.place, batch_size, self.n_parameters):
            history = self.trainer.fit(
                *self._with_targets(take_rows(data.x_train, self.train_rows), data.y_train[self.train_rows]),
                epochs=max(self.epochs - self.trainer.epoch, 0) if self.is_resumed else self.epochs,
                batch_size=batch_size,
                validation_data=validation,
                callbacks=[watch, *callbacks, *stopping, *filter(None, [checkpoint])],
                progress=progress,
            )
        return history, watch.seconds()

    def calibrate(self) -> float:
        """Scale the outputs of the trained network so that its probabilities fit the validation rows.

        Returns
        -------
        float
            The factor by which the weights of the last layer were multiplied: see
            `xpnn.experiments.scores.calibration_factor`. 1 without validation rows, without classes, and if the
            settings say so.
        """
        kept, settings, last = self.validation_rows, self.settings, self.model.layers[-1]
        if not (settings.calibrate and settings.loss == "cross-entropy" and len(kept) and isinstance(last, nn.Linear)):
            return 1.0
        logits = np.asarray(self.trainer.predict(take_rows(self.data.x_train, kept)))
        if not np.isfinite(logits).all():
            return 1.0
        factor = calibration_factor(logits, self.data.y_train[kept])
        *others, scaled = self.trainer.snapshot()
        scaled = tree.map(lambda leaf: leaf * leaf.dtype.type(factor), scaled)
        self.trainer.load((*others, scaled))
        return factor

    def evaluate_test(self) -> dict[str, Any]:
        """Loss and metrics on the test part of the data; see `xpnn.experiments.scores.evaluate`."""
        return evaluate(self.trainer, self.goal, self.settings, self.data.x_test, self.data.y_test)

    def evaluate_train(self) -> dict[str, Any]:
        """Loss and metrics on the training rows, without dropout and distortion."""
        x, labels = take_rows(self.data.x_train, self.train_rows), self.data.y_train[self.train_rows]
        return self.trainer.evaluate(*self._with_targets(x, labels))

    def data_fingerprint(self) -> str:
        """A digest of the shapes of the data and of up to 1,024 of their rows, to notice a file that has changed."""
        sha = hashlib.sha256()
        for part in (self.data.x_train, self.data.y_train, self.train_rows, self.data.x_test):
            sha.update(f"{part.dtype} {part.shape}".encode())
            rows = np.unique(np.linspace(0, max(len(part) - 1, 0), min(len(part), 1024)).astype(np.int64))
            sha.update(np.ascontiguousarray(take_rows(part, rows)).tobytes())
        return sha.hexdigest()

    def _with_targets(self, x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x, self.goal.to_loss(self.settings, labels)


class _Watch:
    """A callback that measures the time of a training, without suspensions."""

    def __init__(self) -> None:
        self.seconds = Stopwatch().seconds

    def __call__(self, trainer: Trainer, logs: Logs) -> None: ...

    def on_train_batch_end(self, trainer: Trainer) -> None:
        """Called between steps: a pause is a gap."""
        self.seconds()


def prepare(
    settings: Settings,
    place: Place | None = None,
    *,
    download_progress: DownloadProgress | None = None,
    ranks: Ranks | None = None,
) -> Experiment:
    """Load the data and build the network and its trainer.

    Parameters
    ----------
    settings : Settings
        What to build.
    place : Place, optional
        Where to run; None for NumPy on the CPU.
    download_progress : callable, optional
        Called as ``download_progress(file name, bytes so far, bytes in all or 0)`` during a download.
    ranks : Ranks, optional
        The processes that train together: see `Trainer`.

    Returns
    -------
    Experiment

    Raises
    ------
    InputError
        If settings do not go together, or do not suit the data.
    DataFormatError, DownloadError
        If the data cannot be read.
    DeviceUnavailableError
        If the precision is not available on the device.

    Examples
    --------
    >>> from xpnn.experiments import Settings, prepare
    >>> experiment = prepare(Settings(dataset="xor", hidden="2", dropout="0", validation_fraction=0))
    >>> experiment.n_parameters
    12
    """
    place = find_place("cpu") if place is None else place
    factory.check(settings)
    dtype, products = NUMBER_FORMATS[settings.precision]
    check_precision(products, place, dtype)
    data = load(
        settings.dataset,
        data_dir=settings.data_dir,
        test_fraction=settings.test_fraction,
        validation_fraction=settings.validation_fraction,
        seed=settings.rows_seed,
        progress=download_progress,
        table=settings.table if is_file(settings.dataset) or settings.table.given() else None,
        first_bad=first_bad_for(ranks),
    )
    task = "classification" if data.classes else "regression"
    if settings.loss == "cross-entropy" and task == "regression":
        raise InputError(f"`loss` cross-entropy needs classes, but {data.name} has numbers; set `task` classification")
    settings = settings.complete(len(data.train_rows), task, is_table=data.scale is None)
    if settings.patience is not None and not len(data.validation_rows):
        raise InputError("`patience` watches the validation loss, but there are too few rows to validate on")
    x, y = take_rows(data.x_train, data.train_rows), data.y_train[data.train_rows]
    _warn_of_absent_classes(data, y)
    goal = Goal.of(settings, data, y)
    is_mapped = isinstance(x, MappedRows)  # then one process reads all rows, and not each
    front = from_rank_0(ranks if is_mapped else None, lambda: factory.front(settings, data, x))
    model = factory.network(
        settings, data.schema.width if data.schema else math.prod(x.shape[1:]), goal.outputs(settings), front
    )
    return Experiment(settings, place, data, goal, model, trainer_of(settings, goal, model, place, ranks))


def trainer_of(settings: Settings, goal: Goal, model: nn.Layer, place: Place, ranks: Ranks | None = None) -> Trainer:
    """The trainer of `model` on `place`."""
    dtype, precision = NUMBER_FORMATS[settings.precision]
    return Trainer(
        model,
        goal.loss(settings),
        factory.optimizer(settings, settings.epochs or 1),
        seed=settings.seed,
        device=place,
        dtype=dtype,
        precision=precision,
        metrics=goal.metrics(settings),
        ema=settings.ema,
        ranks=ranks,
    )


def _warn_of_absent_classes(data: Dataset, y: np.ndarray) -> None:
    if not data.classes:
        return
    absent = sorted(set(range(len(data.classes))) - set(y.tolist()))
    if absent:
        names = ", ".join(repr(data.classes[i]) for i in absent[:8])
        warnings.warn(f"no training row has the class {names}: it cannot be learned", stacklevel=2)
