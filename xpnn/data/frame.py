"""Tables of mixed columns, as they are in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from xpnn.data.columnar.stored import StoredColumns

_CHUNK = 2**24  # bytes of rows that are taken at a time


class Frame(NamedTuple):
    """Columns of a table, as read: nothing is encoded, filled or dropped.

    Attributes
    ----------
    source : str
        Name of the file, for messages.
    columns : mapping of str to ndarray
        Columns by name, in the order of the file, each of shape (n,); those of a large file are `StoredColumns`. The
        dtype is float64 (missing values are NaN), int64 or uint8 or bool (no missing values), object for text (str;
        missing values are None), or datetime64[us] (missing values are NaT).
    lines : ndarray
        Line of each row in a text file, int64 of shape (n,); the header is line 1. For other files, the number of the
        row, from 1.
    unit : str
        What `lines` counts: ``"line"`` or ``"row"``.

    Examples
    --------
    >>> frame = Frame("t.csv", {"a": np.array([0.5, 2.0])}, np.array([2, 5]))
    >>> frame.place(1)
    'line 5'
    """

    source: str
    columns: Mapping[str, np.ndarray]
    lines: np.ndarray
    unit: str = "line"

    def place(self, row: int) -> str:
        """Return where a row is in the file, for messages: ``"line 7"`` or ``"row 7"``."""
        return f"{self.unit} {self.lines[row]}"

    def take(self, rows: np.ndarray | slice) -> Frame:
        """Return these rows."""
        if isinstance(self.columns, StoredColumns):
            return self._replace(columns=self.columns.take(rows), lines=self.lines[rows])
        return self._replace(columns={n: c[rows] for n, c in self.columns.items()}, lines=self.lines[rows])

    @property
    def is_stored(self) -> bool:
        """Whether the columns are in a temporary file, because they may be too large for the memory."""
        return isinstance(self.columns, StoredColumns)

    def parts(self, row_bytes: int) -> Iterator[Frame]:
        """Yield all rows in order: some at a time if they are stored, so many that they take 16 MiB, else all at once.

        Parameters
        ----------
        row_bytes : int
            What a row takes.
        """
        step = max(1, _CHUNK // max(1, row_bytes)) if self.is_stored else max(1, len(self.lines))
        for begin in range(0, max(1, len(self.lines)), step):
            yield self.take(slice(begin, begin + step)) if self.is_stored else self
