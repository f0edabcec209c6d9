"""The reduction of the losses of the rows to a scalar."""

from __future__ import annotations

from typing import Literal

from xpnn.arrays.namespace import Array, Namespace
from xpnn.errors import InputError

Reduction = Literal["mean", "sum", "none"]
REDUCTIONS = ("mean", "sum", "none")


def factor_of(
    xp: Namespace, reduction: Reduction, batch: int, count: Array | None, share: Array | None
) -> float | Array:
    """Return the factor of the loss of each row in the reduced loss.

    Parameters
    ----------
    xp : Namespace
    reduction : {"mean", "sum", "none"}
    batch : int
        Number of rows.
    count : array, (batch,), or None for 1
        Weight of each row in the numerator; see `xpnn.nn.traits.Counts`.
    share : array, (batch,), or None for 1
        Its share of the denominator of the mean. If their sum is 0, the denominator is 1, so that the loss is 0.

    Returns
    -------
    float or array, () or (batch, 1)
        count / Σ share for "mean", otherwise count.

    Raises
    ------
    InputError
        If the mean would be that of no rows.
    """
    factor = 1.0 if count is None else count[:, None]
    if reduction != "mean":
        return factor
    if share is None:
        if not batch:
            raise InputError("the prediction has no rows, so their losses have no mean; expected at least one row")
        return factor / batch
    total = xp.sum(share)
    return factor / xp.where(total != 0, total, 1.0)


def reduced(xp: Namespace, reduction: Reduction, each: Array, factor: float | Array) -> Array:
    """Return Σ each · factor, 0-d; for "none", the products themselves."""
    return each * factor if reduction == "none" else xp.sum(each * factor)
