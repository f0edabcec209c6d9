"""Matrix products: the one function that multiplies matrices, and the precision it may be told.

fp32  in the arrays' own dtype, whatever a library would do by itself: the default
tf32  factors rounded to 11 significant bits    } float32 arrays on a GPU with tensor cores; sums, results
bf16  factors rounded to 8 significant bits     } and everything that is no product stay float32
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array

PRECISIONS = ("fp32", "tf32", "bf16")

_chosen: ContextVar[str] = ContextVar("precision", default="fp32")


@dispatched
def matmul(x: Array, w: Array, bias: Array | None = None, *, exact: bool = False) -> Array:
    """x @ w, plus bias in each row: (rows, inner), (inner, columns), (columns,) -> a fresh (rows, columns).

    Or one x with each of several w, (batch, inner, columns) -> (batch, rows, columns).
    exact: in the arrays' own dtype, also where another precision has been chosen.
    """
    y = x @ w
    if bias is not None:
        y += bias
    return y


def current_precision(exact: bool = False) -> str:
    """What has been chosen for a product here and now."""
    return "fp32" if exact else _chosen.get()


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Inside, products have this precision."""
    before = _chosen.set(precision)
    try:
        yield
    finally:
        _chosen.reset(before)
