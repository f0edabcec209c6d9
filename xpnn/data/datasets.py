"""Data sets by name or by path. To add one, write its loader and add a row to `_BUILT_IN`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.arrays import random
from xpnn.arrays.mapped import FirstBad, first_not_finite, take_rows
from xpnn.data import mnist
from xpnn.data.download import Progress
from xpnn.data.file_sets import is_file_set, read_file_set
from xpnn.data.files import describe, fault, read_head, read_idx, refuse_pickle
from xpnn.data.limits import memory_scope
from xpnn.data.npy import read_npy
from xpnn.data.readers import is_frame
from xpnn.data.splits import stratified_split
from xpnn.data.tables.column import Column, too_large
from xpnn.data.tables.schema import Schema
from xpnn.data.tables.tabular import TableOptions, split_table
from xpnn.data.tables.target import Target, find_targets
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
        every value in the file is an integer from 0 to 255, otherwise float64. Arrays of 256 MiB and more stay in
        their files (`xpnn.arrays.mapped.MappedRows`); numpy.asarray reads them.
    y_train, y_test : ndarray
        Class indices, int32 of shape (n,); in regression numbers, float64 of shape (n, targets).
    classes : tuple of str
        Labels, in the order of their indices; empty in regression.
    scale : float or None
        Factor that maps the values to the range 0 … 1. None for a table, which should be standardized instead.
    source : str
        Where the samples came from, for display.
    train_rows, validation_rows : ndarray
        Which rows of the training set to train on, and which to hold back for validation.
    schema : Schema or None
        How the columns of a table were encoded; None for images.
    target : Target or None
        What is predicted, of a table.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    scale: float | None
    source: str
    train_rows: np.ndarray
    validation_rows: np.ndarray
    schema: Schema | None = None
    target: Target | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """The columns of the table that are features; empty for images."""
        return self.schema.names if self.schema else ()


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    test_fraction: float | None = None,
    validation_fraction: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
    table: TableOptions | None = None,
    first_bad: FirstBad = first_not_finite,
) -> Dataset:
    """Load a data set by name, or from a table.

    Parameters
    ----------
    name
        ``"digits"``, ``"mnist"``, ``"xor"``, or the path of a table: .csv, .tsv, .parquet, …
    data_dir
        Folder that already holds the MNIST files. By default they are downloaded once and cached;
        with the environment variable XPNN_OFFLINE=1, never.
    test_fraction
        Fraction of the rows of a table in the test set; 0.2 by default.
    validation_fraction
        Fraction of the training set that is held back for validation; of too few rows, none is.
    seed
        Seed for the choice of the rows that are held back.
    progress
        Function called during a download with the file name, the number of bytes received, and the total number of
        bytes, which is 0 if unknown.
    table
        Which columns of a table are what, and how they are read; for tables only.
    first_bad
        Returns the index and the value of the first NaN or infinity of an array in a file, or None.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If the name is unknown, or an argument does not apply to this data set.
    DataError
        If a file is damaged (`DataFormatError`), or unpacks to much more than its size.
    DeviceMemoryError
        If reading a file takes more memory than is free.
    DownloadError
        If a file can be downloaded from none of the mirrors.

    Examples
    --------
    >>> from xpnn.data import load
    >>> digits = load("digits")
    >>> digits.x_train.shape, digits.x_test.shape
    ((1437, 8, 8), (360, 8, 8))
    """
    if data_dir is not None and name != "mnist":
        raise InputError(f"data_dir: got {str(data_dir)!r}, but {name!r} is not read from a folder; omit data_dir")
    if is_table(name):
        fraction = 0.2 if test_fraction is None else test_fraction
        with memory_scope(name):
            return _table(name, table or TableOptions(), fraction, validation_fraction, seed)
    if name not in _BUILT_IN and is_file_set(name):
        with memory_scope(name):
            return _file_set(name, table or TableOptions(), test_fraction, validation_fraction, seed, first_bad)
    if name not in _BUILT_IN and Path(name).exists():
        raise InputError(f"data: {name!r} is not one of these: {KINDS}")
    if name not in _BUILT_IN and Path(name).name != name:
        raise InputError(f"{name!r} does not exist; check the path")
    one_of("data", name, (*_BUILT_IN, "FILE.csv"))
    given = {"test_fraction": test_fraction, **({} if table is None else table.given())}
    for option, value in given.items():
        if value is not None:
            raise InputError(f"`{option}`: got {value!r}, but {name} is no table; omit `{option}`")
    with memory_scope(name):
        loaded = _BUILT_IN[name](None if data_dir is None else Path(data_dir), progress)
    if round(validation_fraction * len(loaded.y_train)) == 0:
        return loaded
    train, held = stratified_split(loaded.y_train, validation_fraction, random.key(seed, "validation split"))
    return dataclasses.replace(loaded, train_rows=train, validation_rows=held)


KINDS = (
    "a table (.csv, .tsv, .parquet, .arrow), arrays (.npz, x.npy,y.npy, a folder of idx files), or a folder with one "
    "folder of images for each class"
)


def is_table(name: str | Path) -> bool:
    """Return whether the name is that of a table."""
    return is_frame(name)


def is_file(name: str) -> bool:
    """Return whether `load` reads this name from files, and not as one of the data sets that have a name."""
    return name not in _BUILT_IN and (is_table(name) or is_file_set(name))


def _digits(_data_dir: Path | None, _progress: Progress | None) -> Dataset:
    with resources.files(__package__).joinpath("digits.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        images, labels, test = stored["images"], stored["labels"].astype(np.int32), stored["test_rows"]
    train = np.setdiff1d(np.arange(len(labels)), test)
    digits = tuple("0123456789")
    parts = images[train], labels[train], images[test], labels[test]
    return Dataset("digits", *parts, digits, 1 / 16, "digits", *_all_of(train))


def _mnist(data_dir: Path | None, progress: Progress | None) -> Dataset:
    (x_train, y_train, x_test, y_test), folder = mnist.read(data_dir, progress)
    parts = x_train, y_train.astype(np.int32), x_test, y_test.astype(np.int32)
    return Dataset("mnist", *parts, tuple("0123456789"), 1 / 255, f"mnist ({folder})", *_all_of(y_train))


def _xor(_data_dir: Path | None, _progress: Progress | None) -> Dataset:
    """The four rows of the exclusive or, which are both the training set and the test set."""
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.uint8), np.array([0, 1, 1, 0], dtype=np.int32)
    schema = Schema((Column("a", "number"), Column("b", "number")))
    return Dataset("xor", x, y, x, y, ("0", "1"), 1.0, "xor", *_all_of(x), schema)


def _all_of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Train on all rows, validate on none."""
    return np.arange(len(rows), dtype=np.int32), np.arange(0, dtype=np.int32)


#: Data sets with a name, whose split into training and test set is fixed.
_BUILT_IN: dict[str, Callable[[Path | None, Progress | None], Dataset]] = {
    "digits": _digits,
    "mnist": _mnist,
    "xor": _xor,
}


_OF_IMAGES = ("image_size", "skip_broken")


def _check_images(path: str, options: TableOptions) -> None:
    """Raise InputError for options of images, unless the data are a folder of images."""
    for name in _OF_IMAGES:
        if name in options.given() and not Path(path).is_dir():
            raise InputError(f"`{name}` belongs to folders of images, and {path} is none; leave it out")


def _table(path: str, options: TableOptions, test_fraction: float, validation_fraction: float, seed: int) -> Dataset:
    _check_images(path, options)
    x, y, schema, target, train, validation, test = split_table(path, options, test_fraction, validation_fraction, seed)
    rest = np.sort(np.concatenate([train, validation]))
    kept, held = (np.searchsorted(rest, rows).astype(np.int32) for rows in (train, validation))
    parts = take_rows(x, rest), y[rest], take_rows(x, test), y[test]
    return Dataset(Path(path).name, *parts, target.classes, None, path, kept, held, schema, target)


def _file_set(
    path: str,
    options: TableOptions,
    test_fraction: float | None,
    validation_fraction: float,
    seed: int,
    first_bad: FirstBad,
) -> Dataset:
    _check_images(path, options)
    unsuited = set(options.given()) - {"task", *_OF_IMAGES}
    if unsuited:
        name = min(unsuited)
        raise InputError(f"`{name}`: got {getattr(options, name)!r}, but {path} is no table; omit `{name}`")
    found = read_file_set(path, options, first_bad)
    target = found.target(options.task)
    x, y = found.x_train, target.encode(found.y_train)
    if found.x_test is not None and found.y_test is not None:
        if test_fraction is not None:
            raise InputError(f"`test_fraction`: {path!r} already has a test set; omit `test_fraction`")
        parts = x, y, found.x_test, target.encode(found.y_test)
    else:
        rest, test = _split(path, y, target, 0.2 if test_fraction is None else test_fraction, seed, "test split")
        parts = take_rows(x, rest), y[rest], take_rows(x, test), y[test]
    if round(validation_fraction * len(parts[1])) == 0:
        validation_fraction = 0.0
    rows = _split(path, parts[1], target, validation_fraction, seed, "validation split")
    name = Path(path.rstrip("/")).name
    return Dataset(name, *parts, target.classes, found.scale, path, *rows, None, target)


def _split(
    path: str, y: np.ndarray, target: Target, fraction: float, seed: int, purpose: str
) -> tuple[np.ndarray, np.ndarray]:
    labels = y if target.classes else np.zeros(len(y), np.int32)
    try:
        return stratified_split(labels, fraction, random.key(seed, purpose))
    except InputError as error:
        raise InputError(f"{path!r}: {purpose.split()[0]}_{error}") from error


def read_samples(path: str | Path, shape: tuple[int, ...], table: TableOptions | None = None) -> np.ndarray:
    """Read unlabelled samples of a network without named features, such as images, from a table, .npy or idx file.

    Parameters
    ----------
    path
        File to read; its type is detected from the content. Of a table, all columns are read except the one that `load`
        would use as the target.
    shape
        The shape of one sample.
    table
        How a table is read.

    Returns
    -------
    ndarray
        Samples of shape (rows, *shape); uint8 or float64. A file of this shape is one sample.

    Raises
    ------
    InputError
        If the file has another shape.
    DataFormatError
        If the file is damaged or a pickle, or holds NaN or infinities.
    """
    if not is_table(path):
        refuse_pickle(path)
        head = read_head(path)
    if is_table(path):
        frame = (table or TableOptions()).read(path)
        names = [name for name in frame.columns if name not in find_targets(frame, None, needed=False)]
        x = np.asarray(Schema.fit(frame, names).encode(frame))
    elif head.startswith(b"\x93NUMPY"):
        x = read_npy(path)
    elif head.startswith(b"\0\0"):
        x = read_idx(path)
    else:
        raise fault(path, f"found {describe(head) or 'text'}", "expected a table, .npy or idx file")
    n = math.prod(shape)
    if x.ndim == 0 or x.size == 0:
        raise fault(path, f"holds no samples (shape {x.shape})", f"expected (rows, {n})")
    x = as_samples(str(path), x[None] if x.shape in ((n,), shape) else x, shape).reshape(-1, n)
    if x.dtype.kind == "f":
        largest = (table or TableOptions()).largest
        bad = np.argwhere(~np.isfinite(x) | (np.abs(x) > largest))
        if len(bad):
            found, what = x[tuple(bad[0])], f"x[{bad[0][0]}, {bad[0][1]}] is {x[tuple(bad[0])]}"
            what += f", {too_large(largest)}" if np.isfinite(found) else ""
            raise fault(path, what, "replace it with a finite number" if not np.isfinite(found) else "scale the values")
    return x.astype(x.dtype if x.dtype == np.uint8 else np.float64, copy=False).reshape(-1, *shape)


def as_samples(source: str, x: Any, shape: tuple[int, ...]) -> Any:
    """Return samples in the shape that a network takes.

    Parameters
    ----------
    source
        Name of the file, for the message.
    x
        An array or `MappedRows`, (rows, …).
    shape
        The shape of one sample.

    Returns
    -------
    array
        (rows, *shape). Flat samples of images get the shape of the images, and images of a network that takes flat
        samples become flat.

    Raises
    ------
    InputError
        If the samples have another number of values, or are images of another shape.
    """
    n, found, wanted = math.prod(shape), *([k for k in one if k != 1] for one in (x.shape[1:], shape))
    is_flat = len(found) <= 1 or len(wanted) <= 1
    if math.prod(found) != n or not (is_flat or found == wanted):
        expected = f"(rows, {', '.join(map(str, shape))})" if shape else "(rows,)"
        raise InputError(f"{source!r}: has shape {x.shape}; the model takes {n} values per sample: {expected}")
    return x.reshape(-1, *shape)
