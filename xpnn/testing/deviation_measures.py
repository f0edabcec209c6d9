"""How far two computations of one thing are apart: finite differences, and units in the last place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpnn.arrays import random

#: The step of a central difference; it balances truncation, H², against rounding, eps / H: both about 4e-11.
H = float(np.finfo(np.float64).eps) ** (1 / 3)


def differences(
    f: Callable[[np.ndarray], float], x: np.ndarray, entries: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(places, slopes): ∂f/∂x at some entries of x by central differences; places are positions in x.ravel().

    entries: how many are tried, chosen alike in every run; None for all.
    """
    places = random.permutation(random.key(0, "differences"), x.size)
    places = np.sort(places if entries is None else places[:entries])
    slopes = np.empty(places.size)
    for n, i in enumerate(places):
        up, down = x.astype(np.float64), x.astype(np.float64)
        up.flat[i] += H
        down.flat[i] -= H
        slopes[n] = (f(up) - f(down)) / (2 * H)
    return places, slopes


def gradient_error(
    got: np.ndarray, f: Callable[[np.ndarray], float], x: np.ndarray, entries: int | None = None
) -> float:
    """max |got − ∂f/∂x| / max(1, max |∂f/∂x|, |f(x)|), over all entries of x or some; infinite for another shape.

    The differences see the rounding of f itself, which may be large.
    """
    if got.shape != x.shape:
        return float("inf")
    places, slopes = differences(f, x, entries)
    if not places.size:
        return 0.0
    scale = max(1.0, float(np.max(np.abs(slopes))), abs(f(x.astype(np.float64))))
    return float(np.max(np.abs(got.ravel()[places] - slopes))) / scale


def ulps_apart(got: np.ndarray, wanted: np.ndarray) -> float:
    """max |got − wanted| in units in the last place of the largest |wanted|, at least 1, in the dtype of `got`.

    Infinite where one is not finite and the other is, their shapes differ, or whole numbers do.
    """
    if got.dtype.kind != "f" or got.shape != wanted.shape:
        return 0.0 if np.array_equal(got, wanted) else float("inf")
    got64, wanted64 = got.astype(np.float64), wanted.astype(np.float64)
    same = (got64 == wanted64) | (np.isnan(got64) & np.isnan(wanted64))
    if same.all():
        return 0.0
    if not (np.isfinite(got64) & np.isfinite(wanted64))[~same].all():
        return float("inf")
    largest = max(1.0, float(np.max(np.abs(wanted64[np.isfinite(wanted64)]), initial=0.0)))
    unit = float(np.finfo(got.dtype).eps) * largest
    return float(np.max(np.abs(got64[~same] - wanted64[~same])) / unit)
