"""Random bits, and dropout's masks."""

from __future__ import annotations

from typing import Any

from xpnn.arrays import random
from xpnn.arrays.namespace import array_namespace
from xpnn.kernels.cupy.launch import launch


@random.words.kernel("cupy")
def _words(k0: Any, k1: Any, step: Any, n: int) -> Any:
    xp = array_namespace(k0)
    y = xp.empty(n, dtype=xp.uint32)
    launch("words", "float32", (n + 1) // 2, k0, k1, step, n, y)
    return y


@random.dropout_mask.kernel("cupy")
def _kept(k0: Any, k1: Any, step: Any, n: int, threshold: int) -> Any:
    xp = array_namespace(k0)
    y = xp.empty(n, dtype=xp.bool)
    launch("kept", "float32", (n + 1) // 2, k0, k1, step, n, threshold, y)
    return y
