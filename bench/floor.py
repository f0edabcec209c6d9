"""A lower bound for the time of a training step on a GPU, from the best performance of the GPU.

A step consists of arithmetic, memory traffic and kernels that depend on each other:

operations  those of the matrix products
bytes       batch read; hidden activations written and read; weights, and the moments of Adam, read and written
kernels     gather; one product per layer forward, per weight gradient, and per dx except the first; cross-entropy; one
            mask per dropout; one update (that of SGD can be part of the gradients' products)

floor = max(operations / rate of large products, bytes / bandwidth of a large copy) + kernels · time of a graph node

The floor is not reached, because small products do not run at the rate of large ones. A step can be faster if the
memory traffic stays in the cache of the GPU, or if one kernel does the work of several.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from bench.networks import Row
from bench.scaling import multiplications


def operations(row: Row) -> int:
    return 2 * multiplications(row.sizes, row.batch)


def traffic(row: Row, precision: str) -> int:
    """Bytes; in bf16, an activation can have two bytes."""
    weights = sum(a * b + b for a, b in pairwise(row.sizes))
    hidden = row.batch * sum(row.sizes[1:-1])
    kept = 3 if row.optimizer == "adam" else 1  # with the two moments
    return 4 * row.batch * row.sizes[0] + 2 * (2 if precision == "bf16" else 4) * hidden + 2 * 4 * kept * weights


def kernels(row: Row) -> int:
    layers = len(row.sizes) - 1
    return 1 + layers + 1 + layers + (layers - 1) + sum(p > 0 for p in row.dropout) + (row.optimizer == "adam")


def floor(row: Row, precision: str, ceilings: dict[str, Any]) -> dict[str, Any] | None:
    """Return the seconds and their components; None if the rate of products in this precision is unknown."""
    if precision not in ceilings["flops"]:
        return None
    arithmetic = operations(row) / ceilings["flops"][precision]
    moving = traffic(row, precision) / ceilings["bandwidth"]
    waiting = kernels(row) * ceilings["node"]
    return {
        "seconds": max(arithmetic, moving) + waiting,
        "arithmetic": arithmetic,
        "moving": moving,
        "waiting": waiting,
        "operations": operations(row),
        "bytes": traffic(row, precision),
        "kernels": kernels(row),
    }
