"""Data sets from tables: which columns are features, how they are encoded, and which rows are held back."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn.arrays import random
from xpnn.data.frame import Frame
from xpnn.data.readers import read_frame
from xpnn.data.splits import stratified_split
from xpnn.data.tables.column import LARGEST, check_size, has_missing
from xpnn.data.tables.leaks import warn_of_leaks, without_row_numbers
from xpnn.data.tables.schema import MISSING, Schema
from xpnn.data.tables.target import TASKS, Target, find_targets
from xpnn.data.text import listed
from xpnn.errors import InputError
from xpnn.validation import one_of


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How a table, or another file, is read.

    Parameters
    ----------
    target : str or None
        The column that is predicted, or several in regression, with commas between them. None for ``label``,
        ``target``, ``class`` or ``y``, the first that exists.
    task : {"auto", "classification", "regression"}
        "auto": text, booleans and few different whole numbers are classes.
    features : tuple of str
        The columns to use; empty for all but the target, `drop` and `id`.
    drop : tuple of str
        Columns to leave out.
    id : tuple of str
        Columns that name the rows: they are no features, and `predict` writes them beside the predictions.
    date : tuple of str
        Columns that hold dates.
    missing : {"error", "drop", "mean", "median", "most-frequent", "indicator"}
        What is done with missing values; see `Schema.fit`. "drop" leaves out their rows.
    embedding_above : int or None
        The network learns a vector for each text of a column with more different texts than this; None for one-hot. See
        `Schema.fit`.
    decimal : {".", ","}
        The decimal point of a text file.
    encoding : str
        The encoding of a text file.
    image_size : tuple of two int, or None
        Height and width to which the images of a folder are resized; None if all have one size.
    skip_broken : bool
        Whether to leave out images of a folder that cannot be read.
    largest : float
        The largest number that a feature or a target may be, see `largest_of`.

    Raises
    ------
    InputError
        If a value is not allowed.
    """

    target: str | None = None
    task: str = "auto"
    features: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    id: tuple[str, ...] = ()
    date: tuple[str, ...] = ()
    missing: str = "error"
    embedding_above: int | None = None
    decimal: str = "."
    encoding: str = "utf-8"
    image_size: tuple[int, int] | None = None
    skip_broken: bool = False
    largest: float = math.inf

    def __post_init__(self) -> None:
        one_of("`task`", self.task, TASKS)
        one_of("`missing`", self.missing, MISSING)
        one_of("`decimal`", self.decimal, (".", ","))

    def given(self) -> dict[str, Any]:
        """Return the options that are not the default, by name."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if field.name != "largest" and (value := getattr(self, field.name)) != field.default
        }

    def read(self, path: str | Path) -> Frame:
        """Read the file."""
        return read_frame(path, decimal=self.decimal, encoding=self.encoding)


def largest_of(precision: str) -> float:
    """Return the largest number that a network of this `precision` can learn from."""
    return LARGEST if precision == "fp64" else float(np.finfo(np.float32).max)


class TableSplit(NamedTuple):
    """A table that is ready to train on: the encoded rows, and which of them are for what.

    x, y:       all rows; y: class indices (n,), or numbers (n, targets)
    schema:     how the features were encoded, fitted on the rows `train`
    target:     what is predicted
    train, validation, test: row numbers
    """

    x: np.ndarray
    y: np.ndarray
    schema: Schema
    target: Target
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_table(
    path: str | Path, options: TableOptions, test_fraction: float, validation_fraction: float, seed: int
) -> TableSplit:
    """Read a table, split its rows, and encode them.

    Parameters
    ----------
    path : str or Path
    options : TableOptions
    test_fraction : float
        Fraction of the rows that are held back for the test.
    validation_fraction : float
        Fraction of the other rows that are held back for the validation.
    seed : int
        Determines the splits.

    Returns
    -------
    TableSplit

    Raises
    ------
    InputError, DataFormatError
        If the columns cannot be used as the options say.
    """
    frame = options.read(path)
    names = find_targets(frame, options.target)
    features = _features(frame, options, names)
    if options.missing == "drop":
        frame = complete_rows(frame, (*features, *names))
    fit_schema = Schema.scan(  # faults of the file come first
        frame, features, missing=options.missing, dates=options.date, embedding_above=options.embedding_above
    )
    target = Target.fit(frame, names, options.task)
    y = target.encode(frame)
    check_size(frame, features if target.classes else (*features, *names), options.largest)
    warn_of_leaks(frame, features, target)
    labels = y if target.task == "classification" else np.zeros(len(y), np.int32)
    try:
        rest, test = stratified_split(labels, test_fraction, random.key(seed, "test split"))
    except InputError as error:
        raise InputError(f"{str(path)!r}: test_{error}") from error
    if round(validation_fraction * len(rest)) == 0:
        validation_fraction = 0.0
    kept, held = stratified_split(labels[rest], validation_fraction, random.key(seed, "validation split"))
    train, validation = rest[kept], rest[held]
    schema = fit_schema(train)
    return TableSplit(schema.encode(frame), y, schema, target, train, validation, test)


def _features(frame: Frame, options: TableOptions, targets: Sequence[str]) -> list[str]:
    """The columns that are features."""
    columns = list(frame.columns)
    for option in ("features", "drop", "id", "date"):
        wanted = getattr(options, option)
        unknown = [name for name in wanted if name not in columns]
        if unknown:
            raise InputError(f"{frame.source!r}: `{option}`: {listed(unknown)}; its columns are {listed(columns)}")
        both = [name for name in wanted if name in targets]
        if both:
            raise InputError(f"{frame.source!r}: `{option}`: {listed(both)} is the target; name another column")
    left_out = {*targets, *options.drop, *options.id}
    if options.features:
        both = [name for name in options.features if name in left_out]
        if both:
            raise InputError(f"`features`: {listed(both)} is also in `drop` or `id`; name it once")
        return list(options.features)
    found = without_row_numbers(frame, [name for name in columns if name not in left_out])
    if not found:
        raise InputError(
            f"{frame.source!r}: no column is left for the features beside the target {listed(targets)}; "
            "add the features, or separate the columns by comma, semicolon or tab"
        )
    return found


def complete_rows(frame: Frame, names: Sequence[str]) -> Frame:
    """The rows in which none of these columns is missing; with a warning if they are not all."""
    absent = np.zeros(len(frame.lines), bool)
    for name in names:
        absent |= has_missing(frame.columns[name])
    if absent.all():
        raise InputError(
            f"{frame.source!r}: each row has a missing value, so `missing` drop leaves none; use another way, such as "
            "`missing` mean, or leave out the empty columns by `drop`"
        )
    if absent.any():
        warnings.warn(
            f"{frame.source!r}: {int(absent.sum()):,} of {len(absent):,} rows have missing values and are dropped",
            stacklevel=2,
        )
    return frame.take(np.flatnonzero(~absent))
