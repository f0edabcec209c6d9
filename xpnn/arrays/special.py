"""Functions that the array API standard lacks, or that some library computes in a way that steps cannot use."""

from __future__ import annotations

import functools
from collections.abc import Callable

from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, Namespace, array_namespace


def erfc(xp: Namespace, x: Array) -> Array:
    """Compute the complementary error function element by element.

    Parameters
    ----------
    xp : namespace
        The namespace of x.
    x : array of floats

    Returns
    -------
    array
        (2/√π) ∫ₓ^∞ e^{−t²} dt, of the shape and dtype of x. In float64 the relative error is at most 4e-15 for x < 6,
        and 3e-14 beyond.

    References
    ----------
    Cody, "Rational Chebyshev approximations for the error function", Mathematics of Computation 23, 1969.

    Examples
    --------
    >>> import numpy as np
    >>> erfc(np, np.array([0.0, np.inf, -np.inf]))
    array([1., 0., 2.])
    """
    a = xp.abs(x)
    low, high, root = EDGES
    # Each range gets its own arguments, so that the branches that are not selected stay finite.
    small = xp.where(a < low, a, low)
    middle = xp.where(a < low, low, xp.where(a > high, high, a))
    large = xp.where(a > high, a, high)
    square, inverse = small * small, 1 / (large * large)
    near = 1 - small * _polynomial(square, _A) / _polynomial(square, _B)
    mid = xp.exp(-middle * middle) * _polynomial(middle, _C) / _polynomial(middle, _D)
    tail = root - inverse * _polynomial(inverse, _P) / _polynomial(inverse, _Q)
    far = xp.exp(-large * large) / large * tail
    y = xp.where(a <= low, near, xp.where(a <= high, mid, far))
    y = xp.where(x < 0, 2 - y, y)
    return xp.where(x == x, y, x)  # NaN stays NaN


def sign(xp: Namespace, x: Array) -> Array:
    """Compute the sign element by element; unlike `xp.sign` of array-api-compat, it never waits for a GPU.

    Parameters
    ----------
    xp : namespace
        The namespace of x.
    x : array of floats

    Returns
    -------
    array
        −1, 0 or 1, of the shape and dtype of x; NaN stays NaN.

    Examples
    --------
    >>> import numpy as np
    >>> sign(np, np.array([-3.0, 0.0, 2.0, np.nan]))
    array([-1.,  0.,  1., nan])
    """
    return xp.where(x > 0, 1.0, xp.where(x < 0, -1.0, x + 0.0))  # −0 becomes 0


@dispatched
def concat(arrays: list[Array], axis: int = 0) -> Array:
    """Join arrays along an axis; unlike `concat` of CuPy, any number of them while steps are recorded.

    Parameters
    ----------
    arrays : list of array
        Arrays of one library, which differ in this axis only.
    axis : int, default 0
        The axis.

    Returns
    -------
    array

    Examples
    --------
    >>> import numpy as np
    >>> concat([np.zeros((2, 1)), np.ones((2, 2))], axis=1)
    array([[0., 1., 1.],
           [0., 1., 1.]])
    """
    return array_namespace(arrays[0]).concat(arrays, axis=axis)


@dispatched
def by_rows(x: Array, function: Callable[[Array], Array], rows: int) -> Array:
    """Apply a function to some rows of an array at a time, so that what it allocates stays small.

    Parameters
    ----------
    x : array of shape (n, …)
        The argument; n may be 0.
    function : callable
        Its result has as many rows as its argument, of which each depends on the same row alone. It may be called in
        several threads at the same time.
    rows : int
        The most rows of a call.

    Returns
    -------
    array of shape (n, …)

    Examples
    --------
    >>> import numpy as np
    >>> by_rows(np.arange(5.0), lambda x: x * x, 2)
    array([ 0.,  1.,  4.,  9., 16.])
    """
    n = x.shape[0]
    parts = [function(x[i : min(i + rows, n), ...]) for i in range(0, max(n, 1), rows)]
    return parts[0] if len(parts) == 1 else concat(parts)


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Highest power first."""
    return functools.reduce(lambda total, c: total * x + c, coefficients[1:], coefficients[0] + 0 * x)


EDGES = (0.46875, 4.0, 0.5641895835477563)  # where the ranges meet, and 1/√π
_A = (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3)
_B = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_C = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
_D = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)
_P = (
    1.63153871373020978e-2,
    3.05326634961232344e-1,
    3.60344899949804439e-1,
    1.25781726111229246e-1,
    1.60837851487422766e-2,
    6.58749161529837803e-4,
)
_Q = (
    1.0,
    2.56852019228982242,
    1.87295284992346725,
    5.27905102951428412e-1,
    6.05183413124413191e-2,
    2.33520497626869185e-3,
)
COEFFICIENTS = (_A, _B, _C, _D, _P, _Q)
