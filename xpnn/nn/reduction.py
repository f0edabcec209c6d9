"""How the losses of the rows become one number."""

from __future__ import annotations

from typing import Literal

from xpnn.arrays.namespace import Array, Namespace

Reduction = Literal["mean", "sum"]
REDUCTIONS = ("mean", "sum")


def factor_of(xp: Namespace, reduction: Reduction, batch: int, sample_weight: Array | None) -> Array:
    """What each row's loss is multiplied by: a number, or (batch, 1). Rows that all weigh nothing have the loss 0."""
    if sample_weight is None:
        return 1 / batch if reduction == "mean" else 1.0
    weight = sample_weight[:, None]
    if reduction == "sum":
        return weight
    total = xp.sum(weight)
    return weight / xp.where(total > 0, total, 1.0)
