"""Warnings of columns that tell a network what it should find out, or that say nothing about other rows."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import numpy as np

from xpnn.data.frame import Frame
from xpnn.data.tables.column import has_missing
from xpnn.data.tables.target import Target
from xpnn.errors import printable

_ROWS = 10  # of fewer, nothing is said
_UNNAMED = re.compile(r"Unnamed: \d+|level_\d+|__index_level_\d+__|column_\d+")  # as pandas and others name an index


def without_row_numbers(frame: Frame, names: Sequence[str]) -> list[str]:
    """Return the columns without those that number the rows and have no name of their own; warn of all that do."""
    kept = list(names)
    for name in names:
        if not _numbers_rows(frame.columns[name]):
            continue
        if _UNNAMED.fullmatch(name):
            kept.remove(name)
            _warn(frame, f"column {name!r} numbers the rows, so it is left out; name the `features` to use it")
        else:
            _warn(frame, f"column {name!r} numbers the rows: if it has no meaning, leave it out by `drop` {name}")
    return kept


def warn_of_leaks(frame: Frame, names: Sequence[str], target: Target) -> None:
    """Warn of each feature that determines the target alone."""
    if len(frame.lines) < _ROWS:
        return
    goal = frame.columns[target.names[0]]
    for name in names:
        values = frame.columns[name]
        determines = _determines_class if target.task == "classification" else _determines_number
        with np.errstate(over="ignore", invalid="ignore"):  # of numbers near the largest that are allowed
            found = determines(values, goal)
        if found:
            _warn(
                frame,
                f"column {name!r} alone determines the target {target.names[0]!r}: if it is not known before the "
                f"target is, leave it out by `drop` {name}",
            )


def _numbers_rows(values: np.ndarray) -> bool:
    if len(values) < _ROWS or values.dtype.kind not in "iuf" or has_missing(values).any():
        return False
    numbers = values.astype(np.float64)
    return bool(numbers[0].is_integer() and (np.diff(numbers) == 1).all())


def _determines_class(values: np.ndarray, goal: np.ndarray) -> bool:
    """Whether each of a few values occurs with one class only."""
    kinds, codes = _codes(values)
    classes, goals = _codes(goal)
    if kinds < 2 or kinds > max(2 * classes, 20) or len(values) < 5 * kinds:
        return False
    return len(np.unique(codes * classes + goals)) == kinds


def _determines_number(values: np.ndarray, goal: np.ndarray) -> bool:
    """Whether the target is a multiple of the column, plus a constant."""
    if values.dtype.kind not in "iufb" or goal.dtype.kind not in "iufb" or has_missing(values).any():
        return False
    x, y = (part.astype(np.float64) - part.astype(np.float64).mean() for part in (values, goal))
    scale = np.sqrt((x @ x) * (y @ y))
    return bool(scale > 0 and abs(x @ y) / scale > 1 - 1e-9)


def _codes(values: np.ndarray) -> tuple[int, np.ndarray]:
    """The number of different values, and the index of each row in them; a missing value is a value too."""
    if values.dtype.kind == "O":
        values = np.array([str(value).strip() for value in values])
    distinct, codes = np.unique(values, return_inverse=True)
    return len(distinct), codes


def _warn(frame: Frame, text: str) -> None:
    warnings.warn(printable(f"{frame.source!r}: {text}"), stacklevel=3)
