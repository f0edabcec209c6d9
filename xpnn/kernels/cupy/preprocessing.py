"""Rows of a batch, and bytes, scaled as they are converted."""

from __future__ import annotations

import math
from typing import Any

from xpnn.arrays.namespace import array_namespace
from xpnn.devices.buffers import address_of
from xpnn.kernels.cupy.launch import C_NAMES, launch
from xpnn.nn.layers.preprocessing import gathered, scaled
from xpnn.training.totals import take_both


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
    if rows.dtype != xp.int32 or rows.shape[0] * math.prod(whole.shape[1:]) >= 2**31:
        return NotImplemented
    y = xp.empty((rows.shape[0], *whole.shape[1:]), dtype=factor.dtype)
    columns = math.prod(whole.shape[1:])
    launch("gathered_bytes", y.dtype, y.size, whole, rows, factor, y, y.size, columns)
    return y


@take_both.kernel("cupy")
def _take_both(x: Any, y: Any, rows: Any) -> Any:
    xp, n = array_namespace(x), rows.shape[0]
    words = [math.prod(part.shape[1:]) * part.dtype.itemsize / 4 for part in (x, y)]
    if any(address_of(part) % 4 for part in (x, y)):
        return NotImplemented
    if rows.dtype != xp.int32 or not all(part.flags.c_contiguous for part in (x, y, rows)):
        return NotImplemented
    if not all(count and count == int(count) for count in words) or n * sum(words) >= 2**31:
        return NotImplemented
    taken = [xp.empty((n, *part.shape[1:]), dtype=part.dtype) for part in (x, y)]
    flat = [part.reshape(-1).view("uint32") for part in (x, y, *taken)]
    by_four = words[0] % 4 == 0 and not any(address_of(part) % 16 for part in (x, taken[0]))
    threads = n * int(words[0] / (4 if by_four else 1) + words[1])
    launch("gathered_rows", "float32", threads, *flat[:2], rows, *flat[2:], n, *map(int, words), by_four)
    return taken
