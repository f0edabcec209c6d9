"""Rows of an array that stays in its file: they are read when they are used."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from xpnn.arrays.namespace import Namespace, array_namespace

_CHUNK = 2**24  # bytes that are read at a time, in order
_GATHERED = 2**22  # bytes that are read at a time, in another order, on their way to a buffer


class MappedRows:
    """Rows of a memory-mapped array, in any order: a data set that may be larger than the memory.

    It has the attributes of a NumPy array that `Trainer` asks for. Indexing its first axis reads rows into memory; a
    function of NumPy reads all of them. `Trainer.fit`, `evaluate` and `predict` read it in parts.

    Parameters
    ----------
    values : ndarray
        The array, usually of `numpy.load` with ``mmap_mode="r"``: real numbers, with at least one axis.
    rows : ndarray of integers, optional
        The rows that belong to it, in order; all by default.
    offset : ndarray, optional
        What is subtracted from each row, in float64; the values are then float32.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
        In the machine's byte order; float32 for halves.

    Examples
    --------
    >>> x = MappedRows(np.arange(6.0).reshape(3, 2))
    >>> x.take(np.array([2, 0])).shape, x[1:].tolist()
    ((2, 2), [[2.0, 3.0], [4.0, 5.0]])
    """

    device = "cpu"

    def __init__(self, values: np.ndarray, rows: np.ndarray | None = None, offset: np.ndarray | None = None) -> None:
        self._values, self._rows, self._offset = np.asarray(values), rows, offset
        self.shape: tuple[int, ...] = (len(values) if rows is None else len(rows), *values.shape[1:])
        is_half = values.dtype.itemsize == 2 and values.dtype.kind == "f"
        self.dtype = np.dtype(np.float32) if is_half or offset is not None else values.dtype.newbyteorder("=")

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"MappedRows(shape={self.shape}, dtype={self.dtype})"

    def take(self, rows: np.ndarray) -> MappedRows:
        """Return these rows of these rows; nothing is read."""
        chosen = np.asarray(rows) if self._rows is None else self._rows[rows]
        return MappedRows(self._values, chosen, self._offset)

    def part(self, first: int, last: int) -> MappedRows:
        """Return the rows first … last − 1 of these rows; nothing is read."""
        if self._rows is None:
            return MappedRows(self._values[first:last], None, self._offset)
        return MappedRows(self._values, self._rows[first:last], self._offset)

    def minus(self, offset: np.ndarray) -> MappedRows:
        """Return the rows minus a constant, subtracted in float64 and rounded to float32; nothing is read."""
        return MappedRows(self._values, self._rows, offset.reshape(self.shape[1:]))

    def reshape(self, *shape: int) -> MappedRows:
        """Return the rows with another shape of each row; the first number is -1, or how many rows there are."""
        return MappedRows(self._values.reshape(len(self._values), *shape[1:]), self._rows, self._offset)

    def __getitem__(self, key: Any) -> np.ndarray:
        first, *others = key if isinstance(key, tuple) else (key,)
        if self._rows is not None:
            first = self._rows[first]
        found = self._values[first]
        if self._offset is not None:
            with np.errstate(over="ignore"):
                found = (found - self._offset).astype(np.float32)
        else:
            found = found.astype(self.dtype, copy=isinstance(first, slice))
        if all(other is Ellipsis for other in others):
            return found
        inner: np.ndarray = found[(slice(None), *others)]
        return inner

    def read_into(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Write these rows into `out`, in its dtype; a value that is too large becomes infinite."""
        is_aligned = self._values.flags.aligned  # in .npz it may not be, and then `take` copies the whole
        if self._offset is None and self._values.dtype == out.dtype and is_aligned:
            chosen = rows if self._rows is None else self._rows[rows]
            np.take(self._values, chosen, axis=0, out=out, mode="clip")  # "raise" would copy once more
        else:
            with np.errstate(over="ignore"):
                np.copyto(out, self[rows], casting="unsafe")

    def parts(self) -> Iterator[np.ndarray]:
        """Yield all rows in order, some at a time."""
        row_bytes = max(1, math.prod(self.shape[1:]) * self.dtype.itemsize)
        step = max(1, _CHUNK // row_bytes)
        for begin in range(0, len(self), step):
            yield self[begin : begin + step]

    def moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return mean and standard deviation of each column, with NumPy's bits, and whether it is constant."""
        columns = self.shape[1]
        if columns == 1:  # NumPy adds the values of one column in another order
            table = np.concatenate([part.astype(np.float64) for part in self.parts()])
            return table.mean(axis=0), table.std(axis=0), table.max(axis=0) == table.min(axis=0)
        total, low, high = np.zeros(columns), np.full(columns, np.inf), np.full(columns, -np.inf)
        for part in self.parts():
            total = np.add.reduce(np.concatenate([total[None], part.astype(np.float64)]), axis=0)
            low, high = np.minimum(low, part.min(axis=0)), np.maximum(high, part.max(axis=0))
        mean, squares = total / len(self), np.zeros(columns)
        for part in self.parts():
            squares = np.add.reduce(np.concatenate([squares[None], (part.astype(np.float64) - mean) ** 2]), axis=0)
        return mean, np.sqrt(squares / len(self)), low == high

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def __array_namespace__(self, api_version: str | None = None) -> Namespace:
        return array_namespace(self._values)


def parts_of(x: Any) -> Iterator[np.ndarray]:
    """Yield the rows of an array, all at once, or of `MappedRows` some at a time."""
    yield from x.parts() if isinstance(x, MappedRows) else (x,)


FirstBad: TypeAlias = Callable[[Any], tuple[tuple[int, ...], float] | None]  # such as the following


def first_not_finite(x: Any) -> tuple[tuple[int, ...], float] | None:
    """Return the index and the value of the first NaN or infinity of a NumPy array or of `MappedRows`, or None."""
    if x.dtype.kind != "f":
        return None
    begin = 0
    for part in parts_of(x):
        is_finite = np.isfinite(part)
        if not is_finite.all():
            index = tuple(int(i) for i in np.argwhere(~is_finite)[0])
            return (begin + index[0], *index[1:]), float(part[index])
        begin += len(part)
    return None


def gather(x: Any, rows: np.ndarray, out: np.ndarray) -> None:
    """Write rows of a NumPy array or of `MappedRows` into `out`, in its dtype, some at a time."""
    source = x if isinstance(x, MappedRows) else MappedRows(x)
    step = max(1, _GATHERED // max(1, math.prod(x.shape[1:]) * x.dtype.itemsize))
    for first in range(0, len(rows), step):
        some = rows[first : first + step]
        source.read_into(some, out[first : first + len(some)])


def take_rows(x: Any, rows: np.ndarray) -> Any:
    """Return rows of a NumPy array as a copy, or of `MappedRows` without reading them."""
    return x.take(rows) if isinstance(x, MappedRows) else x[rows]
