"""One experiment: its data, its network and its trainer, made from settings, and run."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from xpnn import nn
from xpnn.arrays import random, tree
from xpnn.cli.terminal.downloads import download_progress
from xpnn.data.datasets import Dataset, load
from xpnn.data.splits import stratified_split
from xpnn.devices.place import Place
from xpnn.devices.threads import one_thread_if_small
from xpnn.errors import InputError
from xpnn.experiments import factory
from xpnn.experiments.settings import PRECISIONS, Settings
from xpnn.training import Accuracy, EarlyStopping, History, Trainer
from xpnn.training.trainer import Callback, Progress


class Experiment(NamedTuple):
    """settings: completed; rows, held: of the training part, those to train and those to validate on."""

    settings: Settings
    place: Place
    data: Dataset
    rows: np.ndarray
    held: np.ndarray
    model: nn.Sequential
    trainer: Trainer

    @property
    def epochs(self) -> int:
        """As many as the settings want."""
        return self.settings.epochs or 1

    @property
    def n_parameters(self) -> int:
        """Trained numbers of the network."""
        return sum(leaf.size for leaf in tree.leaves(tree.trained(self.trainer.snapshot())))

    def fit(self, callbacks: Sequence[Callback] = (), progress: Progress | None = None) -> tuple[History, float]:
        """Train; the history, and the seconds it took."""
        data, settings = self.data, self.settings
        batch_size = settings.batch_size or len(self.rows)
        validation = self._part(data.x_train[self.held], data.y_train[self.held]) if len(self.held) else None
        stopping = [] if settings.patience is None else [EarlyStopping(patience=settings.patience)]
        start = time.perf_counter()
        with one_thread_if_small(self.place, batch_size, self.n_parameters):
            history = self.trainer.fit(
                *self._part(data.x_train[self.rows], data.y_train[self.rows]),
                epochs=self.epochs,
                batch_size=batch_size,
                validation_data=validation,
                callbacks=[*callbacks, *stopping],
                progress=progress,
            )
        return history, time.perf_counter() - start

    def test(self) -> dict[str, Any]:
        """Loss and accuracy on the rows held back for testing."""
        return self.trainer.evaluate(*self._part(self.data.x_test, self.data.y_test))

    def figures_of_training(self) -> dict[str, Any]:
        """Loss and accuracy on the rows that were trained on, now that nothing is dropped or distorted."""
        return self.trainer.evaluate(*self._part(self.data.x_train[self.rows], self.data.y_train[self.rows]))

    def _part(self, x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x, factory.targets(self.settings, labels, len(self.data.classes))


def prepare(settings: Settings, place: Place, *, quiet: bool) -> Experiment:
    """Load the data and make the network and its trainer. Raises what loading raises, and InputError."""
    with download_progress(quiet) as progress:
        data = load(
            settings.dataset,
            data_dir=settings.data_dir,
            target=settings.target,
            test_fraction=settings.test_fraction,
            seed=settings.seed,
            progress=progress,
        )
    rows, held = _validation_rows(data, settings)
    settings = settings.complete(len(rows))
    if settings.patience is not None and not len(held):
        raise InputError("--patience watches the validation loss, but there are too few rows to validate on")
    x, y = data.x_train[rows], data.y_train[rows]
    _warn_of_absent_classes(data, y)
    front = factory.front(settings, data, x)
    model = factory.network(settings, math.prod(x.shape[1:]), len(data.classes), front)
    return Experiment(settings, place, data, rows, held, model, trainer_of(settings, model, place))


def trainer_of(settings: Settings, model: nn.Layer, place: Place) -> Trainer:
    """What trains `model` as the settings say."""
    dtype, precision = PRECISIONS[settings.precision]
    return Trainer(
        model,
        factory.loss(settings),
        factory.optimizer(settings, settings.epochs or 1),
        seed=settings.seed,
        device=place,
        dtype=dtype,
        precision=precision,
        metrics=[Accuracy(threshold=0.5 if settings.output_activation == "sigmoid" else 0.0)],
        ema=settings.ema,
    )


def _validation_rows(data: Dataset, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """(rows to train on, rows to validate on) of the training part; too few rows for the fraction: none to validate."""
    y, fraction = data.y_train, settings.validation_fraction
    if round(fraction * len(y)) == 0:
        fraction = 0.0
    return stratified_split(y, fraction, random.key(settings.seed, "validation split"))


def _warn_of_absent_classes(data: Dataset, y: np.ndarray) -> None:
    absent = sorted(set(range(len(data.classes))) - set(y.tolist()))
    if absent:
        names = ", ".join(repr(data.classes[i]) for i in absent[:8])
        warnings.warn(f"no training row has the class {names}: it cannot be learnt", stacklevel=2)
