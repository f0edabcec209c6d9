"""Tables from CSV files: `numpy.loadtxt` parses the numbers, and a generator checks each line before it does."""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from xpnn.data.files import describe, fault, opened, read_head
from xpnn.errors import DataFormatError, InputError

#: Names of a target column, in order of preference: in a table of x, y and label, y is a feature.
TARGETS = ("label", "target", "class", "y")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*(e[+-]?\d+)?|\.\d+(e[+-]?\d+)?|nan|inf(inity)?)", re.ASCII | re.IGNORECASE)


class Table(NamedTuple):
    """The selected columns of a CSV file.

    Attributes
    ----------
    features : tuple of str
        Names of the columns of `x`.
    x : ndarray
        Values of shape (n, n_features), all finite: uint8 if every value is an integer from 0 to 255, as in images,
        otherwise float64.
    texts : tuple of str
        Distinct labels, in the order of their first rows; empty if no target was read.
    codes : ndarray
        Index in `texts` of each row's label, int32 of shape (n,).
    lines : ndarray
        Line number of each row in the file, of shape (n,); the header is line 1.
    """

    features: tuple[str, ...]
    x: np.ndarray
    texts: tuple[str, ...]
    codes: np.ndarray
    lines: np.ndarray


def read_csv(path: Path | str, features: Sequence[str] = (), target: str | None = None, labelled: bool = True) -> Table:
    """Read a CSV file whose first line names the columns.

    Parameters
    ----------
    path
        CSV file in UTF-8, plain or gzip, separated by comma, semicolon or tab.
    features
        Columns to read, in this order. If empty, all columns except the target.
    target
        Column that holds the labels. By default ``label``, ``target``, ``class`` or ``y``, the first that exists.
    labelled
        Whether to read the labels. If False, their column is ignored if there is one.

    Returns
    -------
    Table

    Raises
    ------
    InputError
        If a column does not exist, or the file cannot be read.
    DataFormatError
        If the file is not a table of finite numbers. The message names the line and the column.
    """
    for dtype in (np.uint8, np.float64):  # tables of other numbers fail as uint8 in their first lines
        try:
            return _read(path, features, target, labelled, dtype)
        except _NotBytes:
            continue
    raise AssertionError("a float64 table is read or refused")


class _NotBytes(Exception):
    """A value is not an integer from 0 to 255."""


def _read(path: Path | str, features: Sequence[str], target: str | None, labelled: bool, dtype: type) -> Table:
    head = read_head(path)
    if kind := describe(head):
        raise fault(path, f"found {kind}", "expected a CSV table in UTF-8; save or download it again")
    codes, texts = array("i"), dict[str, int]()

    def encode(text: str) -> int:
        codes.append(texts.setdefault(text.strip(), len(texts)))
        return 0

    with opened(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig") as file:
        try:
            names, separator = _header(path, file)
            goal = _target(path, names, target, needed=labelled)
            columns = _columns(path, names, features, goal)
            numbers, latest = array("q"), [""]
            lines = _lines(path, file, separator, len(names), numbers, latest)
            first = next(lines, None)
            if first is None:
                raise fault(path, "no rows follow the header", "add the data")
            wanted = list(columns)
            converters: dict[int | str, Callable[[str], int]] = {}
            if labelled and goal is not None:
                wanted.append(goal)
                converters[goal] = encode
            x: np.ndarray = np.loadtxt(
                itertools.chain([first], lines),
                dtype=dtype,
                comments=None,
                delimiter=separator,
                quotechar='"',
                usecols=wanted,
                ndmin=2,
                converters=converters,
            )
        except UnicodeDecodeError as error:
            raise fault(path, f"not UTF-8 text ({error.reason})", "save it as CSV in UTF-8") from None
        except InputError:  # xpnn's own, raised while numpy read a line: InputError is a ValueError too
            raise
        except ValueError as error:
            if dtype is np.uint8:
                raise _NotBytes from None
            number = numbers[-1]
            raise _not_a_number(path, latest[0], number, names, columns, separator, str(error)) from None
    x = np.ascontiguousarray(x[:, : len(columns)])
    if dtype is np.float64:
        x = _finite_or_bytes(path, x, [names[c] for c in columns], numbers)
    chosen = tuple(names[c] for c in columns)
    return Table(chosen, x, tuple(texts), np.array(codes, dtype=np.int32), np.array(numbers))


def _header(path: Path | str, file: TextIO) -> tuple[list[str], str]:
    """Return the column names and the separator, from the first line."""
    line = file.readline()
    if not line.strip():
        raise fault(path, "the first line is empty", "write the names of the columns there")
    bare = re.sub(r'"[^"]*"', "", line)
    separator = max(",;\t", key=bare.count)
    names = [name.strip() for name in _cells(path, line, 1, separator)]
    fractions = [name for name in names if _NUMBER.fullmatch(name) and not name.lstrip("+-").isdigit()]
    counted = names == [str(i) for i in range(len(names))]  # the names that pandas gives to unnamed columns
    if fractions or (all(map(_NUMBER.fullmatch, names)) and not counted):
        found = f"the first row looks like data ({listed(names)})"
        raise fault(path, found, "add a header row that names the columns")
    if "" in names:
        hint = "name it or remove it (if pandas wrote its index there, use to_csv(..., index=False))"
        raise fault(path, f"column {names.index('') + 1} of {len(names)} has no name", hint)
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        hint = "give each column a different name, and check that the first row is a header"
        raise fault(path, f"two columns are called {twice!r}", hint)
    return names, separator


def _target(path: Path | str, names: list[str], target: str | None, needed: bool) -> int | None:
    if target is not None and (needed or target in names):
        return _place(path, names, target, "target")
    lower = [name.lower() for name in names]
    known = [lower.index(name) for name in TARGETS if name in lower]
    if needed and not known:
        raise InputError(
            f"{str(path)!r}: no column is called {', '.join(TARGETS[:-1])} or {TARGETS[-1]}; "
            f"name the column that holds the classes with target (--target), one of {listed(names)}"
        )
    return known[0] if known else None


def _columns(path: Path | str, names: list[str], features: Sequence[str], goal: int | None) -> list[int]:
    if missing := [name for name in features if name not in names]:
        _place(path, names, missing[0], f"{len(missing)} of {len(features)} features missing", missing)
    columns = [names.index(name) for name in features] or [i for i in range(len(names)) if i != goal]
    if not columns:
        hint = "add the features, or separate the columns by comma, semicolon or tab"
        raise fault(path, f"the only column is {names[0]!r}, the target", hint)
    return columns


def _place(path: Path | str, names: list[str], name: str, what: str, missing: Sequence[str] = ()) -> int:
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(f"{str(path)!r}: {what}: {listed(missing or [name])}; its columns are {listed(names)}{hint}")


def _lines(
    path: Path | str, file: TextIO, separator: str, width: int, numbers: array[int], latest: list[str]
) -> Iterator[str]:
    """Yield the lines that hold data; append each line's number to `numbers` and keep its text in `latest`.

    Check the number of cells too: with `usecols`, loadtxt accepts a row with too many of them.
    """
    for number, line in enumerate(file, start=2):
        if not line.strip():
            continue
        numbers.append(number)
        latest[0] = line
        count = len(_cells(path, line, number, separator)) if '"' in line else line.count(separator) + 1
        if count != width:
            hint = "each line needs as many cells as the header"
            raise fault(path, f"line {number} has {count} cells, the header has {width}", hint)
        yield line


def _cells(path: Path | str, line: str, number: int, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, strict=True))
    except (csv.Error, StopIteration) as error:
        raise fault(path, f"line {number}: {error}", "close each quotation mark on the line where it opens") from None


def _not_a_number(
    path: Path | str, line: str, number: int, names: list[str], columns: list[int], separator: str, reason: str
) -> DataFormatError:
    """Return the error for the first cell of the line that is not a number, or with loadtxt's `reason` otherwise."""
    cells = _cells(path, line, number, separator)
    bad = next((column for column in columns if not _NUMBER.fullmatch(cells[column].strip())), None)
    if bad is None:
        return fault(path, f"line {number}: {reason!r}", "correct the line")
    cell = cells[bad].strip()
    if not cell:
        found, hint = "the cell is empty", "fill it in or remove the row"
    elif separator != "," and re.fullmatch(r"[+-]?\d+,\d+", cell):
        found, hint = f"{cell[:40]!r} is not a number", "use a decimal point instead of a comma"
    else:
        found, hint = f"{cell[:40]!r} is not a number", "write a number, or remove the column"
    return fault(path, f"line {number}, column {names[bad]!r}: {found}", hint)


def _finite_or_bytes(path: Path | str, x: np.ndarray, names: list[str], numbers: array[int]) -> np.ndarray:
    """Return x, as uint8 if only integers written like "3.0" prevented it from being read as such."""
    low, high = x.min(), x.max()  # NaN if any value is
    if not (np.isfinite(low) and np.isfinite(high)):
        row, column = np.argwhere(~np.isfinite(x))[0]
        found = f"line {numbers[row]}, column {names[column]!r}: {x[row, column]} is not a finite number"
        raise fault(path, found, "fill it in or remove the row")
    if low >= 0 and high <= 255 and np.array_equal(small := x.astype(np.uint8), x):
        return small
    return x


def number_of(text: str) -> float | None:
    """Return the number that `text` represents, or None."""
    return float(text) if _NUMBER.fullmatch(text) else None


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return the first few names, escaped, and the number of the others."""
    names = list(names)
    shown = ", ".join(repr(name[:40]) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
