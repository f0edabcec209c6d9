"""The rows of a table in text, counted fast: the usual file is whole, and then each line is a row.

polars raises for a row with too many cells, and fills one with too few by nulls, so that its last cell is null. What it
does not tell is found here, in a few passes over the bytes. If anything is unusual, `records.scan` looks at each row.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from xpnn.data.readers.header import Header
from xpnn.data.readers.records import Records
from xpnn.devices.cpu_blas import usable_cores

_CHUNK = 2**18  # fits into the cache
_LINE, _RETURN, _QUOTE = b'\n\r"'


def tally(text: bytes, header: Header) -> tuple[Records, int | None] | None:
    """Return the rows if each line is one, and the number of separators.

    Parameters
    ----------
    text
        The file as UTF-8.
    header
        What is known of it.

    Returns
    -------
    tuple (records, separators) or None
        None if this cannot be said. The separators between cells are unknown, None, if there are quotation marks.
    """
    cells, start = len(header.names), header.start
    if cells == 1 or start >= len(text) or any("\n" in cell for row in header.sample for cell in row):
        return None
    view = np.frombuffer(text, np.uint8)
    border = np.zeros(256, bool)
    border[[ord(header.separator), _LINE, _RETURN, _QUOTE]] = True
    quoted = text.find(b'"', start) >= 0

    def look(begin: int) -> tuple[int, int, np.ndarray | None]:
        chunk = view[begin : begin + _CHUNK]
        marks = np.flatnonzero(chunk == _QUOTE) + begin if quoted else None
        separators = 0 if quoted else np.count_nonzero(chunk == ord(header.separator))
        return int(np.count_nonzero(chunk == _LINE)), int(separators), marks

    with ThreadPoolExecutor(min(4, usable_cores())) as pool:  # NumPy releases the lock
        lines, separators, marks = zip(*pool.map(look, range(start, len(text), _CHUNK)), strict=True)
    if quoted and not _well_placed(view, np.concatenate(marks), border):
        return None
    rows = sum(lines) + (text[-1:] != b"\n")
    records = Records(text, start, np.arange(header.line, header.line + rows), cells, quoted)
    return records, None if quoted else sum(separators)


def _well_placed(view: np.ndarray, marks: np.ndarray, border: np.ndarray) -> bool:
    """Return whether each quotation mark begins or ends a cell, or is one of two inside of one."""
    if len(marks) % 2:
        return False
    before, after = marks[::2] - 1, marks[1::2] + 1
    if after[-1] == len(view):
        after = after[:-1]
    return bool(border[view[before]].all() and border[view[after]].all())
