"""Measures of deviation: finite differences, and units in the last place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpnn.arrays import random

#: The step of a central difference; it balances truncation, H², against rounding, eps / H: both about 4e-11.
H = float(np.finfo(np.float64).eps) ** (1 / 3)


def differences(
    f: Callable[[np.ndarray], float], x: np.ndarray, entries: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return ∂f/∂x at some entries of x by central differences.

    Parameters
    ----------
    f : callable
        x -> a scalar.
    x : ndarray
        Where to differentiate, in float64.
    entries : int, optional
        How many entries are tried, the same ones in every run; None for all.

    Returns
    -------
    positions : ndarray
        Positions in x.ravel(), ascending.
    derivatives : ndarray
        (f(x + H) − f(x − H)) / 2H at each of them.

    Examples
    --------
    >>> import numpy as np
    >>> positions, derivatives = differences(lambda x: float((x**2).sum()), np.array([1.0, 3.0]))
    >>> positions.tolist(), derivatives.round(6).tolist()
    ([0, 1], [2.0, 6.0])
    """
    positions = random.permutation(random.key(0, "differences"), x.size)
    positions = np.sort(positions if entries is None else positions[:entries])
    derivatives = np.empty(positions.size)
    for n, i in enumerate(positions):
        up, down = x.astype(np.float64), x.astype(np.float64)
        up.flat[i] += H
        down.flat[i] -= H
        derivatives[n] = (f(up) - f(down)) / (2 * H)
    return positions, derivatives


def gradient_error(
    got: np.ndarray, f: Callable[[np.ndarray], float], x: np.ndarray, entries: int | None = None
) -> float:
    """Return the error of a gradient against finite differences; infinite if its shape is not that of x.

    Parameters
    ----------
    got : ndarray
        The gradient.
    f, x, entries
        See `differences`.

    Notes
    -----
    max |got − ∂f/∂x| / max(1, max |∂f/∂x|, |f(x)|). The last term allows for the rounding of f itself, which finite
    differences magnify.
    """
    if got.shape != x.shape:
        return float("inf")
    positions, derivatives = differences(f, x, entries)
    if not positions.size:
        return 0.0
    scale = max(1.0, float(np.max(np.abs(derivatives))), abs(f(x.astype(np.float64))))
    return float(np.max(np.abs(got.ravel()[positions] - derivatives))) / scale


def ulps_apart(got: np.ndarray, wanted: np.ndarray) -> float:
    """Return how far `got` is from `wanted`, in units in the last place.

    Parameters
    ----------
    got, wanted : ndarray
        Their dtypes may differ; the unit is that of `got`.

    Notes
    -----
    max |got − wanted| / (eps · max(1, max |wanted|)). It is infinite if only one of two elements is finite, if the
    shapes differ, or if integers differ.

    Examples
    --------
    >>> import numpy as np
    >>> ulps_apart(np.array([1.0, 2.0 + 2**-22], np.float32), np.array([1.0, 2.0]))
    1.0
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
