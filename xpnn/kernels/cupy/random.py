"""Random bits and dropout masks."""

from __future__ import annotations

from typing import Any

from xpnn.arrays import random
from xpnn.arrays.namespace import array_namespace
from xpnn.kernels.cupy.launch import launch


@random.words.kernel("cupy")
def _words(k0: Any, k1: Any, step: Any, n: int, first: int = 0) -> Any:
    if first % 2:
        return NotImplemented
    xp = array_namespace(k0)
    y = xp.empty(n, dtype=xp.uint32)
    launch("words", "float32", (n + 1) // 2, k0, k1, step, first // 2 % 2**32, n, y)
    return y


@random.dropout_mask.kernel("cupy")
def _dropout_mask(k0: Any, k1: Any, step: Any, n: int, threshold: int, first: int = 0) -> Any:
    if first % 2:
        return NotImplemented
    xp = array_namespace(k0)
    y = xp.empty(n, dtype=xp.bool)
    launch("dropout_mask", "float32", (n + 1) // 2, k0, k1, step, first // 2 % 2**32, n, threshold, y)
    return y
