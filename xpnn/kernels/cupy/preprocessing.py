"""Bytes, scaled as they are converted."""

from __future__ import annotations

import math
from typing import Any

from xpnn.arrays.namespace import array_namespace
from xpnn.kernels.cupy.launch import C_NAMES, launch
from xpnn.nn.layers.preprocessing import gathered, scaled


@scaled.kernel("cupy")
def _scaled(x: Any, factor: Any) -> Any:
    xp = array_namespace(x)
    if x.dtype != xp.uint8 or not x.flags.c_contiguous or factor.dtype.name not in C_NAMES:
        return NotImplemented
    y = xp.empty(x.shape, dtype=factor.dtype)
    launch("scaled_bytes", y.dtype, y.size, x, factor, y, y.size)
    return y


@gathered.kernel("cupy")
def _gathered(whole: Any, rows: Any, factor: Any) -> Any:
    xp = array_namespace(whole)
    if whole.dtype != xp.uint8 or not whole.flags.c_contiguous or factor.dtype.name not in C_NAMES:
        return NotImplemented
    if rows.dtype != xp.int32:
        return NotImplemented
    y = xp.empty((rows.shape[0], *whole.shape[1:]), dtype=factor.dtype)
    columns = math.prod(whole.shape[1:])
    launch("gathered_bytes", y.dtype, y.size, whole, rows, factor, y, y.size, columns)
    return y
