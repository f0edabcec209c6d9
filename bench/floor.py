"""The least time that a training step could take on a GPU, from what the GPU does at best.

A step is arithmetic, traffic and kernels that wait for each other:

operations  those of the matrix products
bytes       the batch read; hidden activations written, and read again; weights, and Adam's moments, read and written
kernels     the gather; a product for each layer forward, for each weight's gradient, and for each dx but the first;
            cross-entropy; a mask for each dropout; one update (SGD's can be part of the gradients' products)

floor = max(operations / rate of large products, bytes / bandwidth of a large copy) + kernels · time of a graph's node

Nobody reaches it: small products do not run at the rate of large ones. It may be passed where what is counted as
bytes stays in the GPU's cache, or where one kernel does the work of several.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from bench.networks import Row
from bench.scaling import multiplications


def operations(row: Row) -> int:
    return 2 * multiplications(row.sizes, row.batch)


def traffic(row: Row, precision: str) -> int:
    """Bytes; in bf16 activations may have two each."""
    weights = sum(a * b + b for a, b in pairwise(row.sizes))
    hidden = row.batch * sum(row.sizes[1:-1])
    kept = 3 if row.optimizer == "adam" else 1  # with the two moments
    return 4 * row.batch * row.sizes[0] + 2 * (2 if precision == "bf16" else 4) * hidden + 2 * 4 * kept * weights


def kernels(row: Row) -> int:
    layers = len(row.sizes) - 1
    return 1 + layers + 1 + layers + (layers - 1) + sum(p > 0 for p in row.dropout) + (row.optimizer == "adam")


def floor(row: Row, precision: str, ceilings: dict[str, Any]) -> dict[str, Any] | None:
    """Seconds, and what they are made of; None where the rate of products in this precision is not known."""
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
