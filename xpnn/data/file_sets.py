"""Data sets from files that are no tables: .npz archives, .npy pairs, idx files, and folders of images."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xpnn.arrays.mapped import FirstBad, first_not_finite, parts_of
from xpnn.data.frame import Frame
from xpnn.data.readers import is_arrays, is_image_folder, read_arrays, read_image_folder
from xpnn.data.tables.tabular import TableOptions
from xpnn.data.tables.target import Target
from xpnn.data.text import listed
from xpnn.errors import InputError


class FileSet(NamedTuple):
    """Samples as they were read, and their targets as columns.

    x_train, x_test:   x_test is None if the file has none
    y_train, y_test:   columns "y", or "y0", "y1", … of several targets
    classes:           of a folder of images; else empty
    """

    x_train: np.ndarray
    y_train: Frame
    x_test: np.ndarray | None
    y_test: Frame | None
    classes: tuple[str, ...]

    @property
    def scale(self) -> float | None:
        """The factor that maps images to 0 … 1; None if a sample is a row of numbers."""
        if self.x_train.ndim == 2:
            return None
        is_bytes = self.x_train.dtype == np.uint8
        largest = 255.0 if is_bytes else max(float(np.abs(part).max()) for part in parts_of(self.x_train))
        return 1 / largest if largest > 1 else 1.0

    def target(self, task: str) -> Target:
        """What is predicted."""
        names = tuple(self.y_train.columns)
        if not self.classes:
            return Target.fit(self.y_train, names, task)
        if task == "regression":
            raise InputError(f"{self.y_train.source!r}: folders of images are classes; leave out `task` regression")
        return Target(names, "classification", self.classes)


def is_file_set(path: str | Path) -> bool:
    """Return whether `read_file_set` reads this path."""
    return is_arrays(path) or is_image_folder(path)


def read_file_set(path: str | Path, options: TableOptions, first_bad: FirstBad = first_not_finite) -> FileSet:
    """Read samples and targets.

    Parameters
    ----------
    path
        As for `read_arrays` or `read_image_folder`.
    options
        `size` and `skip_broken` of images.
    first_bad
        As for `read_arrays`.

    Raises
    ------
    InputError, DataFormatError
        If the files cannot be read, or do not belong together.
    """
    source = str(path)
    if is_arrays(path):
        _, x, y, x_test, y_test = read_arrays(path, first_bad=first_bad)
        return FileSet(x, _columns(source, y), x_test, None if y_test is None else _columns(source, y_test), ())
    images = read_image_folder(path, options.image_size, options.skip_broken)
    if images.skipped:
        warnings.warn(
            f"{source!r}: {len(images.skipped)} broken images are left out: {listed(images.skipped, 3)}", stacklevel=2
        )
    names = np.array(images.classes, object)
    test = None if images.y_test is None else _columns(source, names[images.y_test])
    return FileSet(images.x_train, _columns(source, names[images.y_train]), images.x_test, test, images.classes)


def _columns(source: str, y: np.ndarray) -> Frame:
    if y.ndim > 2:
        raise InputError(f"{source!r}: the targets have shape {y.shape}; expected (rows,) or (rows, targets)")
    if y.dtype.kind in "US":
        y = y.astype(str).astype(object)
    columns = {"y": y} if y.ndim == 1 else {f"y{i}": y[:, i] for i in range(y.shape[1])}
    return Frame(source, columns, np.arange(1, len(y) + 1), "row")
