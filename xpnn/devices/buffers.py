"""Arrays as memory: where they lie, and how they are overwritten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, library_of
from xpnn.arrays.tree import Tree

#: Told (number of the device, address of the stream) when a stream of xpnn's own has ended, for what was kept for it.
stream_ends: list[Callable[[int, int], object]] = []


def address_of(x: Array) -> int:
    """Where the numbers of `x` lie: on the host, or on its device."""
    match library_of(x):
        case "cupy":
            return int(x.data.ptr)
        case "torch":
            return int(x.data_ptr())
        case _:
            return int(np.asarray(x).ctypes.data)


def memory_fingerprint(arrays: Tree) -> list[Any]:
    """Which memory these arrays are, and how it is read: equal where a recording of the one serves for the other."""
    leaves = tree.leaves(arrays)
    ways = [leaf.stride() if library_of(leaf) == "torch" else leaf.strides for leaf in leaves]
    return [(address_of(x), tuple(x.shape), x.dtype, way) for x, way in zip(leaves, ways, strict=True)]


@dispatched
def overwrite(buffers: list[Array], values: list[Array]) -> None:
    """Each buffer gets the numbers of its value, which has its shape and dtype and overlaps no other's buffer."""
    for old, new in zip(buffers, values, strict=True):
        old[...] = new
