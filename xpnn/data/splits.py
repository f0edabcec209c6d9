"""Splits of a data set into training and test rows."""

from __future__ import annotations

import numpy as np

from xpnn.arrays import random
from xpnn.errors import InputError
from xpnn.validation import as_float


def stratified_split(labels: np.ndarray, fraction: float, key: random.Key) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into two parts with the same proportions of the classes.

    Parameters
    ----------
    labels
        Class indices of shape (n,).
    fraction
        Fraction of the rows in the second part, 0 ≤ fraction < 1.
    key
        Random key. The same key gives the same split on every machine.

    Returns
    -------
    rest, part : ndarray
        Row numbers of the two parts, int32, ascending. `part` has exactly ``round(fraction * n)`` rows.

    Raises
    ------
    InputError
        If `labels` are not class indices, if `fraction` is out of range, if `rest` would be empty, or if `part` would
        be empty although `fraction` > 0.

    Notes
    -----
    Each class contributes its exact quota to `part`, rounded down. The rows that are still missing come from the
    classes with the largest remainders; ties go to the lower class index.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.arrays import random
    >>> rest, part = stratified_split(np.array([0, 0, 0, 0, 1, 1]), 0.5, random.key(0, "split"))
    >>> len(rest), len(part), int((part >= 4).sum())
    (3, 3, 1)
    """
    labels = np.asarray(labels)
    n = labels.size
    if not 0 <= as_float("fraction", fraction) < 1:
        raise InputError(f"fraction: got {fraction!r}; expected 0 <= fraction < 1")
    if labels.ndim != 1 or labels.dtype.kind not in "biu":
        raise InputError(
            f"labels: got {labels.dtype} of shape {labels.shape}; expected class indices of shape (rows,): "
            "numpy.unique(labels, return_inverse=True) makes them of names"
        )
    size = round(fraction * n)
    if n == 0 or size == n or (fraction > 0 and size == 0):
        empty = "no row is held back" if n and size == 0 else "no row remains"
        raise InputError(f"fraction: {fraction!r} of {n} rows is {size}, so {empty}; change the fraction or add rows")
    classes, counts = np.unique(labels, return_counts=True)
    quota, remainder = np.divmod(counts * size, n)  # in integers: floating-point remainders would depend on rounding
    quota[np.argsort(-remainder, kind="stable")[: size - quota.sum()]] += 1
    chosen = np.zeros(n, dtype=bool)
    for label, count, take in zip(classes, counts, quota, strict=True):
        drawn = random.permutation(key.child(int(label)), int(count))[:take]
        chosen[np.flatnonzero(labels == label)[drawn]] = True
    return np.flatnonzero(~chosen).astype(np.int32), np.flatnonzero(chosen).astype(np.int32)
