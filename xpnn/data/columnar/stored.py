"""Columns of a table that may be larger than the memory: each is read once, and is then in a temporary file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from xpnn.data.columnar.scratch import Scratch


@dataclass(frozen=True)
class _Place:
    """Where an array is in the temporary file."""

    begin: int
    dtype: np.dtype
    length: int

    def of(self, raw: np.ndarray) -> np.ndarray:
        return raw[self.begin : self.begin + self.length * self.dtype.itemsize].view(self.dtype)


@dataclass(frozen=True)
class _Words:
    """Text: a code for each row, and the bytes of the different texts, one after the other, with their ends."""

    codes: np.ndarray
    text: np.ndarray
    ends: np.ndarray

    @cached_property
    def texts(self) -> np.ndarray:
        """The different texts, and None for what is missing."""
        found = np.empty(len(self.ends) + 1, object)
        begin = 0
        for i, end in enumerate(self.ends.tolist()):
            found[i], begin = self.text[begin:end].tobytes().decode(), end
        return found

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        chosen: np.ndarray = self.texts[self.codes[rows]]
        return chosen


class StoredColumns(Mapping[str, np.ndarray]):
    """Columns by name; each is read from the file when it is asked for.

    Made by `ColumnWriter`. Its arrays of numbers cannot be written to.
    """

    def __init__(self, columns: Mapping[str, np.ndarray | _Words], rows: np.ndarray | slice) -> None:
        self._columns, self._rows = columns, rows

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name][self._rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def take(self, rows: np.ndarray | slice) -> StoredColumns:
        """Return these rows of these rows; nothing is read."""
        if not isinstance(self._rows, slice):
            return StoredColumns(self._columns, self._rows[rows])
        if self._rows != slice(None):
            raise ValueError("rows of a part of the rows are not needed")
        return StoredColumns(self._columns, rows)


def blocks_of(kinds: Sequence[bool | None], most: int) -> Iterator[list[int]]:
    """Yield the numbers of the columns that are read together: some of numbers, or one of anything else.

    Parameters
    ----------
    kinds : sequence of bool or None
        Whether each column holds numbers; None for a column that is not read.
    most : int
        How many columns of numbers are read together.
    """
    block: list[int] = []
    for i, is_number in enumerate(kinds):
        if is_number is None:
            continue
        if block and (not is_number or len(block) == most):
            yield block
            block = []
        block.append(i)
        if not is_number:
            yield block
            block = []
    if block:
        yield block


class ColumnWriter:
    """Writes columns to a temporary file; its arguments and exceptions are those of `Scratch`."""

    def __init__(self, source: str, wanted: int) -> None:
        self._scratch = Scratch(source, wanted)
        self._places: dict[str, list[_Place]] = {}

    def add(self, name: str, *arrays: np.ndarray) -> None:
        """Write a column: its values, or the three arrays that stand for text."""
        self._places[name] = []
        for values in arrays:
            begin = self._scratch.begin()
            self._scratch.append(values)
            self._places[name].append(_Place(begin, values.dtype, len(values)))

    def columns(self) -> StoredColumns:
        """Return the columns, when all are written."""
        raw = self._scratch.mapped()
        found: dict[str, np.ndarray | _Words] = {}
        for name, places in self._places.items():
            arrays = [place.of(raw) for place in places]
            found[name] = arrays[0] if len(arrays) == 1 else _Words(*arrays)
        return StoredColumns(found, slice(None))

    def close(self) -> None:
        """Give up the file."""
        self._scratch.close()
