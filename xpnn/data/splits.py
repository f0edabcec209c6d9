"""Which rows are held back for testing."""

from __future__ import annotations

import numpy as np

from xpnn.arrays import random
from xpnn.errors import InputError


def stratified_split(labels: np.ndarray, fraction: float, key: random.Key) -> tuple[np.ndarray, np.ndarray]:
    """Split the rows 0 … n−1 into `rest` and `part` so that both keep each class's share.

    labels:   class indices, shape (n,)
    fraction: of the rows that go to `part`, 0 ≤ fraction < 1; exactly round(fraction · n) rows do
    key:      draws which rows of each class; the same key draws the same rows everywhere
    returns:  rest, part: int32 row numbers, ascending

    Each class gets its exact quota rounded down; the rows still missing go to the largest remainders, and among equal
    ones to the lower class. Raises InputError for another fraction, and where `rest` or a wanted `part` would be empty.
    """
    n = len(labels)
    if not 0 <= fraction < 1:
        raise InputError(f"fraction: {fraction!r} came, a number from 0 up to (not including) 1 was wanted")
    size = round(fraction * n)
    if n == 0 or size == n or (fraction > 0 and size == 0):
        empty = "no row is held back" if n and size == 0 else "no row remains"
        raise InputError(f"fraction: {fraction!r} of {n} rows is {size}, so {empty}; change it or add rows")
    classes, counts = np.unique(labels, return_counts=True)
    quota, remainder = np.divmod(counts * size, n)  # in integers: a remainder in floats would depend on rounding
    quota[np.argsort(-remainder, kind="stable")[: size - quota.sum()]] += 1
    chosen = np.zeros(n, dtype=bool)
    for label, count, take in zip(classes, counts, quota, strict=True):
        drawn = random.permutation(key.child(int(label)), int(count))[:take]
        chosen[np.flatnonzero(labels == label)[drawn]] = True
    return np.flatnonzero(~chosen).astype(np.int32), np.flatnonzero(chosen).astype(np.int32)
