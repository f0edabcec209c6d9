"""How the losses of the rows become one number."""

from __future__ import annotations

from typing import Literal

from xpnn.arrays.namespace import Array, Namespace

Reduction = Literal["mean", "sum", "none"]
REDUCTIONS = ("mean", "sum", "none")


def factor_of(
    xp: Namespace, reduction: Reduction, batch: int, count: Array | None, share: Array | None
) -> float | Array:
    """What the loss of each row is multiplied by: a number, or an array of shape () or (batch, 1).

    count: (batch,), how much each row counts, or None for 1; share: (batch,), its part of the mean's denominator, or
    None for 1. Rows that all count for nothing have the loss 0.
    """
    factor = 1.0 if count is None else count[:, None]
    if reduction != "mean":
        return factor
    if share is None:
        return factor / batch
    total = xp.sum(share)
    return factor / xp.where(total > 0, total, 1.0)


def reduced(xp: Namespace, reduction: Reduction, each: Array, factor: float | Array) -> Array:
    """Σ each · factor, 0-d; for "none" the products themselves."""
    return each * factor if reduction == "none" else xp.sum(each * factor)
