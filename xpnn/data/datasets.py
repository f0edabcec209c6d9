"""Data sets by name or by path. To add one, write its loader and add a row to `_BUILT_IN`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from xpnn.arrays import random
from xpnn.data import mnist
from xpnn.data.columns import classes_of, encode
from xpnn.data.files import describe, fault, read_head, read_idx, read_npy, refuse_pickle
from xpnn.data.splits import stratified_split
from xpnn.data.tables import read_csv
from xpnn.errors import InputError
from xpnn.validation import one_of


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split into a training set and a test set, as NumPy arrays on the host.

    Attributes
    ----------
    name : str
        Name of the data set.
    x_train, x_test : ndarray
        Images, uint8 of shape (n, height, width), or rows of a table, of shape (n, n_features). A table is uint8 if
        every value in the file is an integer from 0 to 255, otherwise float64.
    y_train, y_test : ndarray
        Class indices, int32 of shape (n,).
    classes : tuple of str
        Labels, in the order of their indices.
    features : tuple of str
        Column names of a table; empty for images.
    scale : float or None
        Factor that maps the values to the range 0 … 1. None for a table, which should be standardized instead.
    source : str
        Where the samples came from, for display.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    features: tuple[str, ...]
    scale: float | None
    source: str


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    target: str | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
    progress: mnist.Progress | None = None,
) -> Dataset:
    """Load a data set by name, or from a CSV file.

    Parameters
    ----------
    name
        ``"digits"``, ``"mnist"``, ``"xor"``, or the path of a .csv or .csv.gz file.
    data_dir
        Folder that already holds the MNIST files. By default they are downloaded once and cached.
    target
        CSV column that holds the classes. By default ``label``, ``target``, ``class`` or ``y``, the first that exists.
    test_fraction
        Fraction of the CSV rows in the test set; 0.2 by default.
    seed
        Seed for the choice of the test rows of a CSV file.
    progress
        Function called during a download with the file name, the number of bytes received, and the total number of
        bytes, which is 0 if unknown.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If the name is unknown, or an argument does not apply to this data set.
    DataFormatError
        If a file is damaged.
    DownloadError
        If a file can be downloaded from none of the mirrors.

    Examples
    --------
    >>> from xpnn.data import load
    >>> digits = load("digits")
    >>> digits.x_train.shape, digits.x_test.shape
    ((1437, 8, 8), (360, 8, 8))
    """
    if not is_table(name):
        if name not in _BUILT_IN and Path(name).is_file():
            raise InputError(f"data: {name!r} is not a .csv or .csv.gz file; save it as CSV with a header")
        one_of("data", name, (*_BUILT_IN, "FILE.csv"))
        for option, value in (("target", target), ("test_fraction", test_fraction)):
            if value is not None:
                raise InputError(
                    f"{option}: got {value!r}, but {name} already has labels and a test set; "
                    f"omit {option}, which is for CSV files"
                )
    if data_dir is not None and name != "mnist":
        raise InputError(f"data_dir: got {str(data_dir)!r}, but {name!r} is not read from a folder; omit data_dir")
    if is_table(name):
        return _csv(name, target, 0.2 if test_fraction is None else test_fraction, seed)
    return _BUILT_IN[name](None if data_dir is None else Path(data_dir), progress)


def is_table(name: str | Path) -> bool:
    """Return whether the name is that of a CSV file."""
    return str(name).lower().endswith((".csv", ".csv.gz"))


def _digits(_data_dir: Path | None, _progress: mnist.Progress | None) -> Dataset:
    with resources.files(__package__).joinpath("digits.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        images, labels, test = stored["images"], stored["labels"].astype(np.int32), stored["test_rows"]
    train = np.setdiff1d(np.arange(len(labels)), test)
    digits = tuple("0123456789")
    parts = images[train], labels[train], images[test], labels[test]
    return Dataset("digits", *parts, digits, (), 1 / 16, "digits")


def _mnist(data_dir: Path | None, progress: mnist.Progress | None) -> Dataset:
    (x_train, y_train, x_test, y_test), folder = mnist.read(data_dir, progress)
    parts = x_train, y_train.astype(np.int32), x_test, y_test.astype(np.int32)
    return Dataset("mnist", *parts, tuple("0123456789"), (), 1 / 255, f"mnist ({folder})")


def _xor(_data_dir: Path | None, _progress: mnist.Progress | None) -> Dataset:
    """The four rows of the exclusive or, which are both the training set and the test set."""
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.uint8), np.array([0, 1, 1, 0], dtype=np.int32)
    return Dataset("xor", x, y, x, y, ("0", "1"), ("a", "b"), 1.0, "xor")


#: Data sets with a name, whose split into training and test set is fixed.
_BUILT_IN: dict[str, Callable[[Path | None, mnist.Progress | None], Dataset]] = {
    "digits": _digits,
    "mnist": _mnist,
    "xor": _xor,
}


def _csv(path: str, target: str | None, test_fraction: float, seed: int) -> Dataset:
    table = read_csv(path, target=target)
    classes = classes_of(path, table)
    y = encode(path, table, classes)
    try:
        rest, part = stratified_split(y, test_fraction, random.key(seed, "test split"))
    except InputError as error:
        raise InputError(f"{path!r}: test_{error}") from error
    parts = table.x[rest], y[rest], table.x[part], y[part]
    return Dataset(Path(path).name, *parts, classes, table.features, None, path)


def read_labelled(
    path: str | Path, target: str | None, features: Sequence[str], classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Read a labelled CSV file for the evaluation of a trained model.

    Parameters
    ----------
    path
        CSV file, plain or gzip.
    target
        Column that holds the labels; see `load`.
    features
        Columns that the model takes, in its order. If empty, all columns except the target.
    classes
        Labels that the model knows, in the order of their indices.

    Returns
    -------
    x : ndarray
        Values, of shape (n, n_features).
    y : ndarray
        Class indices, int32 of shape (n,).

    Raises
    ------
    InputError
        If a column is missing, or a label is not among `classes`.
    DataFormatError
        If the file is damaged.
    """
    table = read_csv(path, features, target)
    return table.x, encode(path, table, classes)


def read_features(path: str | Path, features: Sequence[str], n: int) -> np.ndarray:
    """Read unlabelled samples for prediction from a .csv, .npy or idx file.

    Parameters
    ----------
    path
        File to read; its type is detected from the content.
    features
        Columns that the model takes, in its order; other columns of a CSV file are ignored. If empty, all columns
        except the one that `load` would use as the target.
    n
        Number of values per sample.

    Returns
    -------
    ndarray
        Samples of shape (rows, n), images flattened; uint8 or float64.

    Raises
    ------
    InputError
        If the shape does not match `n`.
    DataFormatError
        If the file is damaged or a pickle, or holds NaN or infinities.
    """
    refuse_pickle(path)
    head = read_head(path)
    if is_table(path):
        x = read_csv(path, features, labelled=False).x
    elif head.startswith(b"\x93NUMPY"):
        x = read_npy(path)
    elif head.startswith(b"\0\0"):
        x = read_idx(path)
    else:
        raise fault(path, f"found {describe(head) or 'text'}", "expected a .csv, .csv.gz, .npy or idx file")
    shape = x.shape
    if x.ndim == 0 or x.size == 0:
        raise fault(path, f"holds no samples (shape {shape})", f"expected (rows, {n})")
    if math.prod(shape[1:]) != n and shape != (n,):  # (n,): one sample
        raise InputError(f"{str(path)!r}: has shape {shape}; the model takes {n} values per sample: (rows, {n})")
    x = x.reshape(-1, n)
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise fault(path, f"x[{row}, {column}] is {x[row, column]}", "replace it with a finite number")
    return x.astype(x.dtype if x.dtype == np.uint8 else np.float64, copy=False)
