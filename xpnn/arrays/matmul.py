"""Matrix products, and their precision.

fp32  in the dtype of the arrays, whatever the default of the library is; this is the default here
tf32  factors rounded to 11 significant bits    } for float32 arrays on a GPU with tensor cores; sums, results
bf16  factors rounded to 8 significant bits     } and all other operations stay in float32
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
    """Multiply matrices in the current precision, and add a bias.

    Parameters
    ----------
    x : array, (rows, inner) or (batch, rows, inner)
    w : array, (inner, columns) or (batch, inner, columns)
        One matrix, or a batch of matrices. If only w is a batch, all of it is multiplied by the same x.
    bias : array, (columns,), optional
        Added to each row.
    exact : bool
        If True, compute in the dtype of the arrays, whatever the current precision is.

    Returns
    -------
    array, (rows, columns) or (batch, rows, columns)
        x @ w + bias, a new array.

    Examples
    --------
    >>> import numpy as np
    >>> matmul(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([0.5]))
    array([[11.5]])
    """
    y = x @ w
    if bias is not None:
        y += bias
    return y


def current_precision(exact: bool = False) -> str:
    """Return the precision of a product in this context: a name in PRECISIONS."""
    return "fp32" if exact else _chosen.get()


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Set the precision of products inside a `with` block.

    Parameters
    ----------
    precision : {"fp32", "tf32", "bf16"}

    Examples
    --------
    >>> with matmul_precision("bf16"):
    ...     current_precision(), current_precision(exact=True)
    ('bf16', 'fp32')
    """
    before = _chosen.set(precision)
    try:
        yield
    finally:
        _chosen.reset(before)
