"""Tables of mixed columns, as they are in a file."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Frame(NamedTuple):
    """Columns of a table, as read: nothing is encoded, filled or dropped.

    Attributes
    ----------
    source : str
        Name of the file, for messages.
    columns : dict of str to ndarray
        Columns by name, in the order of the file, each of shape (n,). The dtype is float64 (missing values are NaN),
        int64 or uint8 or bool (no missing values), object for text (str; missing values are None), or datetime64[us]
        (missing values are NaT).
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
    columns: dict[str, np.ndarray]
    lines: np.ndarray
    unit: str = "line"

    def place(self, row: int) -> str:
        """Return where a row is in the file, for messages: ``"line 7"`` or ``"row 7"``."""
        return f"{self.unit} {self.lines[row]}"

    def take(self, rows: np.ndarray) -> Frame:
        """Return these rows."""
        return self._replace(columns={n: c[rows] for n, c in self.columns.items()}, lines=self.lines[rows])
