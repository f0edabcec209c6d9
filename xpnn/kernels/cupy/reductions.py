"""Sums of columns."""

from __future__ import annotations

import math
from typing import Any

from xpnn.arrays.namespace import array_namespace
from xpnn.kernels.cupy.launch import THREADS, launch

_CHUNK = 64  # rows that one thread adds up
_SMALL, _FEW = 2**18, 16  # elements of an x that one launch adds up by blocks, if it has more than a few rows


def column_sums(x: Any) -> Any:
    """The sum over the rows of x, (rows, columns), always in the same order."""
    xp, (rows, columns) = array_namespace(x), x.shape
    if x.size <= _SMALL and rows > _FEW:
        y = xp.empty(columns, dtype=x.dtype)
        launch("small_column_sums", x.dtype, columns * THREADS, x, y, rows, columns)
        return y
    while True:
        chunk = rows if rows <= _CHUNK else min(_CHUNK, max(8, math.isqrt(rows)))
        parts = -(-rows // chunk)
        y = xp.empty((parts, columns), dtype=x.dtype)
        launch("column_sums", x.dtype, parts * columns, x, y, rows, columns, chunk)
        if parts == 1:
            return y[0]
        x, rows = y, parts
