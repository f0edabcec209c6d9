"""A saved run: a network with everything that evaluation and prediction need."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn import nn
from xpnn.arrays import random, tree
from xpnn.arrays.mapped import take_rows
from xpnn.data.datasets import as_samples, is_file, is_table, load, read_samples
from xpnn.data.file_sets import read_file_set
from xpnn.data.frame import Frame
from xpnn.data.readers import is_pipe
from xpnn.data.tables.column import check_size
from xpnn.data.tables.schema import Schema
from xpnn.data.tables.tabular import complete_rows
from xpnn.data.tables.target import Target, find_targets
from xpnn.devices.place import Place, find_place
from xpnn.errors import DataFormatError, InputError
from xpnn.experiments.experiment import DownloadProgress, Experiment, trainer_of
from xpnn.experiments.goal import Goal
from xpnn.experiments.run_folder import MODEL, file_of_run
from xpnn.experiments.scores import evaluate
from xpnn.experiments.settings import Settings
from xpnn.nn.protocols import Params
from xpnn.training import Trainer, load_model, save_model


class Predictions(NamedTuple):
    """The result of `SavedRun.predict`.

    Attributes
    ----------
    labels : list of str
        The class of each row; empty in regression.
    scores : ndarray of shape (rows, classes) or (rows, targets)
        The probabilities of the classes, or scores, see `are_probabilities`; in regression the numbers.
    are_probabilities : bool
        Whether each row of `scores` adds up to 1.
    """

    labels: list[str]
    scores: np.ndarray
    are_probabilities: bool


class Samples(NamedTuple):
    """Rows to evaluate on.

    Attributes
    ----------
    x : ndarray
        The features.
    labels : ndarray
        The indices of the classes; in regression the numbers.
    which : str
        Which rows these are, as text.
    """

    x: np.ndarray
    labels: np.ndarray
    which: str


@dataclass(frozen=True, eq=False)
class SavedRun:
    """A trained network with everything that is needed to use it again, in one file with a digest.

    Parameters
    ----------
    settings : Settings
        Completed, with absolute paths.
    goal : Goal
        What the network was trained for.
    schema : Schema or None
        How the columns of a table are encoded; None for images.
    input_shape : tuple of int
        The shape of one sample.
    data_sha256 : str or None
        The digest of a CSV file; the test rows can be found again only in the same file.
    model : nn.Sequential
        The network; in regression without its last layer, which turns the outputs back into the unit of the target.
    params : Params
        Its parameters, as NumPy arrays.
    """

    settings: Settings
    goal: Goal
    schema: Schema | None
    input_shape: tuple[int, ...]
    data_sha256: str | None
    model: nn.Sequential
    params: Params

    @classmethod
    def of(cls, experiment: Experiment, data_sha256: str | None) -> SavedRun:
        """The trained network of an experiment."""
        data, params = experiment.data, experiment.trainer.snapshot()
        settings, shape = experiment.settings.with_absolute_paths(), data.x_train.shape[1:]
        return cls(settings, experiment.goal, data.schema, shape, data_sha256, experiment.model, params)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, in the order of the network's outputs; empty in regression."""
        return self.goal.classes

    @property
    def features(self) -> tuple[str, ...]:
        """The columns of a table that are features; empty for images."""
        return self.schema.names if self.schema else ()

    def save(self, folder: Path) -> None:
        """Write the model file into the folder of the run. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)  # it may have been deleted during a long training
        about = {
            "settings": asdict(self.settings),
            "goal": self.goal.to_json(),
            "schema": None if self.schema is None else self.schema.to_json(),
            "input_shape": self.input_shape,
            "data_sha256": self.data_sha256,
        }
        save_model(folder / MODEL, *self.whole(), about)

    def whole(self) -> tuple[nn.Sequential, Params]:
        """The network as it is in the file, and its parameters: in regression, its outputs have the unit of the target.

        Returns
        -------
        tuple
            (model, params)
        """
        last = self.goal.last_layers()
        params = (*self.params, *(layer.init(random.key(0, "init")) for layer in last))
        return nn.Sequential(*self.model.layers, *last), params

    def with_params(self, params: Params) -> SavedRun:
        """The same run with other weights.

        Parameters
        ----------
        params : Params
            NumPy arrays, in the structure of the parameters that `whole` returns.

        Returns
        -------
        SavedRun
        """
        count, goal = len(self.model.layers), self.goal
        for back in params[count:]:
            shift, scale = (tuple(np.asarray(one.value, np.float64).tolist()) for one in (back.mean, back.scale))
            goal = dataclasses.replace(goal, shift=shift, scale=scale)
        return dataclasses.replace(self, params=tuple(params[:count]), goal=goal)

    @classmethod
    def open(cls, folder: str | Path) -> SavedRun:
        """Read a saved run.

        Parameters
        ----------
        folder : str or Path
            The folder that `run(…, output=folder)` or `xpnn train --output FOLDER` wrote.

        Returns
        -------
        SavedRun

        Raises
        ------
        InputError
            If the folder does not contain a run.
        DataFormatError
            If the file is damaged.
        """
        path = file_of_run(folder, MODEL)
        model, params, about = load_model(path)
        try:
            settings, goal = Settings(**about["settings"]), Goal.from_json(about["goal"])
            schema = None if about["schema"] is None else Schema.from_json(about["schema"])
            trained = len(model.layers) - len(goal.last_layers())  # type: ignore[attr-defined]
            model, params = nn.Sequential(*model.layers[:trained]), tuple(params[:trained])  # type: ignore[attr-defined]
            opened = cls(settings, goal, schema, tuple(about["input_shape"]), about["data_sha256"], model, params)
            opened._rehearse()
        except Exception as error:  # whatever odd contents lead to
            text = f"{type(error).__name__}: {error!s:.200}"
            raise DataFormatError(f"{str(path)!r} was not written by xpnn train, or is damaged: {text}") from error
        return opened

    def reading(self, **options: Any) -> SavedRun:
        """The same run that reads files in another way than in training.

        Parameters
        ----------
        **options
            Of `Settings`: ``encoding``, ``decimal``, ``image_size`` or ``skip_broken``; None for that of the training.

        Returns
        -------
        SavedRun

        Raises
        ------
        InputError
            If a value is not allowed.
        """
        given = {name: value for name, value in options.items() if value is not None}
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, **given))

    def _rehearse(self) -> None:
        """Predict one row of zeros. Raises whatever the parts raise if they do not fit together."""
        sizes = [math.prod(leaf.shape) for leaf in tree.leaves(self.params)]
        if not math.prod(self.input_shape) <= max(sizes, default=0) + 2**20:
            raise ValueError(f"the shape of a sample, {self.input_shape}, does not belong to the network")
        with np.errstate(all="ignore"):
            outputs, _ = self.model.forward(self.params, np.zeros((1, *self.input_shape)))
        scores = self.goal.from_outputs(self.settings, np.asarray(outputs))
        wanted = (1, len(self.goal.classes or self.goal.targets))
        if scores.shape != wanted:
            raise ValueError(f"the network has {scores.shape[1:]} outputs, but {wanted[1]} are named")

    @property
    def precision(self) -> str:
        """The value of `precision` to evaluate in: "fp64" if it was trained in it, otherwise "fp32"."""
        return "fp64" if self.settings.precision == "fp64" else "fp32"  # tf32 and bf16 require tensor cores

    def trainer(self, place: Place | None = None) -> Trainer:
        """A trainer with the network and its weights on a place; None for NumPy on the CPU."""
        place = find_place("cpu") if place is None else place
        settings = dataclasses.replace(self.settings, precision=self.precision)
        trainer = trainer_of(settings, self.goal, self.model, place)
        trainer.load(self.params)
        return trainer

    def evaluate(self, samples: Samples | None = None, place: Place | None = None) -> dict[str, Any]:
        """Loss and accuracy on `samples`; by default on the test rows of the run.

        Parameters
        ----------
        samples : Samples, optional
            From `samples`; None for those that the run kept for its test.
        place : Place, optional
            Where to compute; None for NumPy on the CPU.

        Returns
        -------
        dict
            See `xpnn.experiments.scores.evaluate`.
        """
        x, labels, _ = self.samples() if samples is None else samples
        return evaluate(self.trainer(place), self.goal, self.settings, x, labels)

    def read(self, file: str | Path) -> np.ndarray:
        """Read the samples of a table, .npy or IDX file, (rows, *input_shape). Raises InputError, DataFormatError."""
        if self.schema is not None and is_table(file):
            return self.encode(self.settings.table.read(file))
        x = read_samples(file, self.input_shape, self.settings.table)
        self._warn_of_scale(file, x)
        return x

    def predict(self, x: str | Path | np.ndarray, place: Place | None = None) -> Predictions:
        """Predict the class, or the numbers, of rows.

        Parameters
        ----------
        x : str, Path or ndarray
            A .csv, .npy or IDX file, or an array (rows, …) of samples.
        place : Place, optional
            Where to compute; None for NumPy on the CPU.

        Returns
        -------
        Predictions
        """
        if isinstance(x, (str, Path)):
            x = self.read(x)
        elif x.shape in (self.input_shape, (math.prod(self.input_shape),)):  # one sample
            x = x[None]
        outputs: Any = self.trainer(place).predict(as_samples("x", x, self.input_shape))
        scores = self.goal.from_outputs(self.settings, outputs)
        labels = [self.classes[i] for i in np.argmax(scores, axis=1)] if self.classes else []
        return Predictions(labels, scores, self.goal.gives_probabilities(self.settings))

    def encode(self, frame: Frame) -> Any:
        """The features of a table, encoded as in training. Raises InputError, DataFormatError."""
        assert self.schema is not None
        encoded = self.schema.encode(frame)
        check_size(frame, self.schema.names, self.settings.table.largest)
        return encoded

    def _warn_of_scale(self, file: str | Path, x: np.ndarray) -> None:
        """Warn of images whose values have another range than those of the training."""
        factors = [layer.factor for layer in self.model.layers if isinstance(layer, nn.Scale)]
        if not factors or not x.size:
            return
        usual, largest = 1 / factors[0], float(x.max())
        if largest > 1.001 * usual or (usual > 1 and 0 < largest <= 1):
            warnings.warn(
                f"{str(file)!r}: the values are at most {largest:g}, but the network was trained on values from 0 to "
                f"{usual:g}; scale them likewise",
                stacklevel=3,
            )

    def samples(
        self,
        dataset: str | None = None,
        *,
        data_dir: str | None = None,
        target: str | None = None,
        part: str = "test",
        download_progress: DownloadProgress | None = None,
    ) -> Samples:
        """Read rows to evaluate on.

        Parameters
        ----------
        dataset : str, optional
            A data set by name, or a CSV file; None for that of the training.
        data_dir : str, optional
            Folder with the MNIST files.
        target : str, optional
            Column of the table that is predicted; None for that of the training.
        part : {"test", "validation"}
            Which rows of the data set of the training; there may be no validation rows.
        download_progress : callable, optional
            See `prepare`.

        Returns
        -------
        Samples
            The test or validation rows of the data set of the training; all rows of another CSV file.

        Raises
        ------
        InputError
            If the CSV file of the training has changed since, or does not exist.
        """
        settings = self.settings
        if dataset is None and is_pipe(settings.dataset):
            raise InputError(
                f"the run was trained on {settings.dataset!r}, standard input or a pipe, which cannot be read again; "
                "name a file to test on"
            )
        dataset = dataset or settings.dataset
        if is_file(dataset) and (is_pipe(dataset) or not _same_file(dataset, settings.dataset)):
            return self._labelled(dataset, target)
        if self.data_sha256 is not None and not Path(dataset).exists():
            raise InputError(f"{dataset!r} does not exist; it held the data of the training: name a file to test on")
        if is_file(dataset) and sha256_of(dataset) != self.data_sha256:
            raise InputError(
                f"{dataset!r} has changed since the training, so its test rows cannot be found again; "
                "to test on all of its rows, copy it to another name"
            )
        table = dataclasses.replace(settings.table, target=target or settings.target) if is_file(dataset) else None
        data = load(
            dataset,
            data_dir=data_dir or (settings.data_dir if dataset == settings.dataset else None),
            test_fraction=settings.test_fraction if is_file(dataset) else None,
            validation_fraction=settings.validation_fraction,
            seed=settings.rows_seed,
            progress=download_progress,
            table=table,
        )
        x, y, which = data.x_test, data.y_test, "held back from training"
        if part == "validation":
            rows = data.validation_rows
            x, y, which = take_rows(data.x_train, rows), data.y_train[rows], "used for the validation"
        return Samples(as_samples(dataset, x, self.input_shape), y, which)

    def _labelled(self, file: str, target: str | None) -> Samples:
        """All rows of another file; of one with a test set, that."""
        if not is_table(file):
            found = read_file_set(file, self.settings.table)
            known = found.target(self.goal.task)
            rows = found.y_train if found.y_test is None else found.y_test
            images = found.x_train if found.x_test is None else found.x_test
            labels = dataclasses.replace(known, classes=self.classes).encode(rows)
            return Samples(as_samples(file, images, self.input_shape), labels, "all of the file")
        frame = self.settings.table.read(file)
        names = find_targets(frame, target) if target or not self.goal.targets else self.goal.targets
        which = "all of the file"
        if self.schema is not None and self.settings.missing == "drop":
            there = [name for name in (*self.schema.names, *names) if name in frame.columns]  # `encode` names others
            frame, which = complete_rows(frame, there), "all complete rows of the file"
        y = Target(names, self.goal.task, self.classes).encode(frame)
        if self.schema is None:
            features = [name for name in frame.columns if name not in names]
            x = as_samples(file, Schema.fit(frame, features).encode(frame), self.input_shape)
        else:
            x = self.encode(frame)
            check_size(frame, () if self.classes else names, self.settings.table.largest)
        return Samples(x, y, which)


def sha256_of(dataset: str) -> str | None:
    """The digest of a file; None for a folder, several files, and the data sets that have a name."""
    if not is_file(dataset) or not Path(dataset).is_file():
        return None
    with Path(dataset).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same_file(one: str, other: str) -> bool:
    if one == other:
        return True
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)
