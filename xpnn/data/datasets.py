"""Data sets by name or by path. To add one, write its loader and give it a row in `_FIXED`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from xpnn.arrays import random
from xpnn.data import mnist
from xpnn.data.files import describe, fault, read_head, read_idx, read_npy, refuse_pickle
from xpnn.data.splits import stratified_split
from xpnn.data.tables import Table, listed, number_of, read_csv
from xpnn.errors import InputError
from xpnn.validation import one_of


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples to learn from and samples held back, as host NumPy arrays.

    x_train, x_test: uint8 images (n, height, width), or a table (n, n_features) of float64, or of uint8 where every
                     value in the file is an integer from 0 to 255
    y_train, y_test: int32 class indices (n,)
    classes:         the labels as text, in the order of the indices
    features:        the column names of a table, () for images
    scale:           what brings the values into 0 … 1; None for a table: standardize it
    source:          where the samples came from, to show to the user
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
    """Load the data set called `name`: "digits", "mnist", "xor", or the path of a .csv or .csv.gz file.

    data_dir:      a folder that holds the MNIST files already
    target:        the CSV column with the classes; by default label, else target, else class, else y
    test_fraction: of the CSV rows, held back for testing, drawn under `seed` (default 0.2)
    progress:      called with (file name, bytes so far, bytes in all or 0) during a download

    Raises InputError for what cannot be used, DataFormatError for damaged files, DownloadError without network.
    """
    if not is_table(name):
        if name not in _FIXED and Path(name).is_file():
            raise InputError(f"data: {name!r}: xpnn learns from .csv and .csv.gz files; save it as CSV with a header")
        one_of("data", name, (*_FIXED, "FILE.csv"))
        for option, value in (("target", target), ("test_fraction", test_fraction)):
            if value is not None:
                raise InputError(
                    f"{option}: {value!r} came, but {name} has labels and a test part of its own; "
                    f"leave {option} out (it is for CSV files)"
                )
    if data_dir is not None and name != "mnist":
        raise InputError(f"data_dir: {str(data_dir)!r} came, but {name!r} is not read from a folder; leave it out")
    if is_table(name):
        return _csv(name, target, 0.2 if test_fraction is None else test_fraction, seed)
    return _FIXED[name](None if data_dir is None else Path(data_dir), progress)


def is_table(name: str | Path) -> bool:
    """Whether the data set is a CSV file, by its name."""
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
    """The four rows of the exclusive or, to train on and to test on."""
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.uint8), np.array([0, 1, 1, 0], dtype=np.int32)
    return Dataset("xor", x, y, x, y, ("0", "1"), ("a", "b"), 1.0, "xor")


#: The data sets with a name of their own, whose split into training and test part is fixed.
_FIXED: dict[str, Callable[[Path | None, mnist.Progress | None], Dataset]] = {
    "digits": _digits,
    "mnist": _mnist,
    "xor": _xor,
}


def _csv(path: str, target: str | None, test_fraction: float, seed: int) -> Dataset:
    table = read_csv(path, target=target)
    classes = _classes(path, table)
    y = _encode(path, table, classes)
    try:
        rest, part = stratified_split(y, test_fraction, random.key(seed, "test split"))
    except InputError as error:
        raise InputError(f"{path!r}: test_{error}") from error
    parts = table.x[rest], y[rest], table.x[part], y[part]
    return Dataset(Path(path).name, *parts, classes, table.features, None, path)


def read_labelled(
    path: str | Path, target: str | None, features: Sequence[str], classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Read every row of a CSV file for a model that is trained already: x (n, n_features), y int32 (n,).

    features: the model's columns, found by name; () for all but the target
    classes:  the model's labels; InputError names those in the file that are not among them
    """
    table = read_csv(path, features, target)
    return table.x, _encode(path, table, classes)


def read_features(path: str | Path, features: Sequence[str], n: int) -> np.ndarray:
    """Read samples to predict from a .csv, .npy or idx file: (rows, n), images flattened; uint8 or float64.

    features: the model's columns, found by name in a CSV file (others are ignored); () for a model of images, which
              takes all columns but the one that `load` would take for the target
    n:        how many values the model takes for a sample

    Raises InputError where the shape does not fit, DataFormatError for damaged files, NaN, infinities and pickles.
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
        raise fault(
            path, f"found {describe(head) or 'text'}", "samples are read from .csv, .csv.gz, .npy and idx files"
        )
    shape = x.shape
    if x.ndim == 0 or x.size == 0:
        raise fault(path, f"holds no samples (shape {shape})", f"expected (rows, {n})")
    if math.prod(shape[1:]) != n and shape != (n,):  # (n,): one sample
        raise InputError(f"{str(path)!r}: has shape {shape}; the model takes {n} values a sample: (rows, {n})")
    x = x.reshape(-1, n)
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise fault(path, f"x[{row}, {column}] is {x[row, column]}", "replace it by a finite number")
    return x.astype(x.dtype if x.dtype == np.uint8 else np.float64, copy=False)


def _classes(path: str | Path, table: Table) -> tuple[str, ...]:
    """The labels as text: by value if all are integers (1.0 is 1), otherwise by letters."""
    for text in table.texts:
        if text.lower() in ("", "nan"):
            found = f"line {_line(table, text)}: the label is missing ({text!r})"
            raise fault(path, found, "fill it in or remove the row")
    numbers = [number_of(text) for text in table.texts]
    if None in numbers:
        classes = sorted(table.texts)
    else:
        for text, number in zip(table.texts, numbers, strict=True):
            if number is not None and not number.is_integer():
                raise InputError(
                    f"{str(path)!r}: line {_line(table, text)}: the target is {text!r}, so it looks like a regression "
                    "target, a quantity; xpnn needs class labels, text or integers: name their column with target"
                )
        classes = sorted({_integer(text) for text in table.texts}, key=int)
    if len(classes) < 2:
        raise InputError(f"{str(path)!r}: every row has the label {classes[0]!r}; there must be two classes or more")
    return tuple(classes)


def _encode(path: str | Path, table: Table, classes: Sequence[str]) -> np.ndarray:
    """Each row's class index, int32 (n,)."""
    index = {label: i for i, label in enumerate(classes)}
    known = [index.get(text, index.get(_integer(text), -1)) for text in table.texts]
    unknown = [text for text, i in zip(table.texts, known, strict=True) if i < 0]
    if unknown:
        raise InputError(
            f"{str(path)!r}: line {_line(table, unknown[0])}: the model has no class {listed(unknown)}; "
            f"its classes are {listed(classes)}. Correct or remove those rows"
        )
    return np.array(known, dtype=np.int32)[table.codes]


def _integer(text: str) -> str:
    """An integer as classes are called: "1.0" and "01" are "1"; any other text unchanged."""
    number = number_of(text)
    if number is None or not number.is_integer():
        return text
    return str(int(text)) if text.lstrip("+-").isdigit() else str(int(number))


def _line(table: Table, text: str) -> int:
    """The first line with that label."""
    return int(table.lines[np.argmax(table.codes == table.texts.index(text))])
