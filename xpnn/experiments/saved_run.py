"""A saved run: a network with everything that evaluation and prediction need."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn import nn
from xpnn.data.datasets import is_table, load, read_features, read_labelled
from xpnn.devices.place import Place, find_place
from xpnn.errors import DataFormatError, InputError
from xpnn.experiments import factory
from xpnn.experiments.experiment import DownloadProgress, trainer_of
from xpnn.experiments.run_folder import MODEL
from xpnn.experiments.settings import Settings
from xpnn.nn.protocols import Params
from xpnn.training import Trainer, load_model, save_model


class Predictions(NamedTuple):
    """The result of `SavedRun.predict`.

    Attributes
    ----------
    labels : list of str
        The class of each row.
    scores : ndarray of shape (rows, classes)
        The probabilities of the classes, or scores; see `are_probabilities`.
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
        The indices of the classes.
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
    classes : tuple of str
        The labels, in the order of the network's outputs.
    features : tuple of str
        The column names of a table; () for images.
    input_shape : tuple of int
        The shape of one sample.
    data_sha256 : str or None
        The digest of a CSV file; the test rows can be found again only in the same file.
    model : nn.Layer
        The network.
    params : Params
        Its parameters, as NumPy arrays.
    """

    settings: Settings
    classes: tuple[str, ...]
    features: tuple[str, ...]
    input_shape: tuple[int, ...]
    data_sha256: str | None
    model: nn.Layer
    params: Params

    def save(self, folder: Path) -> None:
        """Write the model file into the folder of the run. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)  # it may have been deleted during a long training
        about = {
            "settings": asdict(self.settings),
            "classes": self.classes,
            "features": self.features,
            "input_shape": self.input_shape,
            "data_sha256": self.data_sha256,
        }
        save_model(folder / MODEL, self.model, self.params, about)

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
        path = Path(folder) / MODEL
        if not path.is_file():
            raise InputError(f"{str(folder)!r} does not contain a run: it has no {MODEL}, which train --output writes")
        model, params, about = load_model(path)
        try:
            settings = Settings(**about.pop("settings"))
            lists = {name: tuple(about[name]) for name in ("classes", "features", "input_shape")}
            return cls(settings, **lists, data_sha256=about["data_sha256"], model=model, params=params)
        except (KeyError, TypeError) as error:
            raise DataFormatError(f"{str(path)!r} was not written by xpnn train: {error}") from error

    @property
    def precision(self) -> str:
        """The value of `precision` to evaluate in: "fp64" if it was trained in it, otherwise "fp32"."""
        return "fp64" if self.settings.precision == "fp64" else "fp32"  # tf32 and bf16 require tensor cores

    def trainer(self, place: Place | None = None) -> Trainer:
        """A trainer with the network and its weights on a place; None for NumPy on the CPU."""
        place = find_place("cpu") if place is None else place
        trainer = trainer_of(dataclasses.replace(self.settings, precision=self.precision), self.model, place)
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
            "loss" and "accuracy".
        """
        x, labels, _ = self.samples() if samples is None else samples
        return self.trainer(place).evaluate(x, factory.targets(self.settings, labels, len(self.classes)))

    def read(self, file: str | Path) -> np.ndarray:
        """Read the samples of a .csv, .npy or IDX file, (rows, *input_shape). Raises InputError, DataFormatError."""
        return read_features(file, self.features, math.prod(self.input_shape)).reshape(-1, *self.input_shape)

    def predict(self, x: str | Path | np.ndarray, place: Place | None = None) -> Predictions:
        """Classify rows.

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
        x = self.read(x) if isinstance(x, (str, Path)) else x
        outputs: Any = self.trainer(place).predict(x.reshape(-1, *self.input_shape))
        scores = factory.probabilities(self.settings, outputs)
        labels = [self.classes[i] for i in np.argmax(scores, axis=1)]
        return Predictions(labels, scores, factory.gives_probabilities(self.settings, len(self.classes)))

    def samples(
        self,
        dataset: str | None = None,
        *,
        data_dir: str | None = None,
        target: str | None = None,
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
            CSV column of the classes; None for that of the training.
        download_progress : callable, optional
            See `prepare`.

        Returns
        -------
        Samples
            The test rows of the data set of the training; all rows of another CSV file.

        Raises
        ------
        InputError
            If the CSV file of the training has changed since.
        """
        settings = self.settings
        dataset = dataset or settings.dataset
        if is_table(dataset) and (not is_table(settings.dataset) or not _same_file(dataset, settings.dataset)):
            x, labels = read_labelled(dataset, target or settings.target, self.features, self.classes)
            return Samples(x, labels, "all of the file")
        if is_table(dataset):
            if sha256_of(dataset) != self.data_sha256:
                raise InputError(
                    f"{dataset!r} has changed since the training, so its test rows cannot be found again; "
                    "to test on all of its rows, copy it to another name"
                )
            target, fraction = target or settings.target, settings.test_fraction
        else:
            target, fraction = None, None  # these are for tables
        data = load(
            dataset,
            data_dir=data_dir or (settings.data_dir if dataset == settings.dataset else None),
            target=target,
            test_fraction=fraction,
            seed=settings.seed,
            progress=download_progress,
        )
        return Samples(data.x_test, data.y_test, "held back from training")


def sha256_of(dataset: str) -> str | None:
    """The digest of a CSV file; None for the data sets that have a name."""
    if not is_table(dataset):
        return None
    with Path(dataset).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same_file(one: str, other: str) -> bool:
    if one == other:
        return True
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)
