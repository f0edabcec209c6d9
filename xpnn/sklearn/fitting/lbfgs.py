"""lbfgs: SciPy's L-BFGS-B on the loss and the gradient that `xpnn.training.value_and_grad` computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
from sklearn.utils.fixes import _get_additional_lbfgs_options_dict
from sklearn.utils.optimize import _check_optimize_result

from xpnn import nn
from xpnn.devices.place import Place, to_numpy, to_place
from xpnn.sklearn.fitting.solvers import penalty_for
from xpnn.sklearn.network import joined, parted
from xpnn.training import value_and_grad


def minimize(
    estimator: Any,
    model: nn.Sequential,
    loss: nn.Loss,
    params: Any,
    rows: tuple[Any, Any, Any],
    place: Place,
    dtype: str,
    after: Callable[[Any], None] | None,
) -> None:
    """Set the parameters of an estimator to those at the minimum; after an exception, to the last ones.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        `n_iter_` and `loss_` are set too.
    model, loss
    params : Params
        The first parameters.
    rows : tuple (x, y, weight)
        At the place.
    place : Place
    dtype : {"float32", "float64"}
        The dtype of the computation. The vector of SciPy is on the host, and its result in float64.
    after : callable, optional
        Called with the parameters after each iteration.
    """
    f = value_and_grad(model, loss, penalty_for(estimator))
    others, coefs, intercepts = parted(params)
    leaves = [*coefs, *intercepts]
    shapes = [tuple(leaf.shape) for leaf in leaves]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def unpacked(flat: np.ndarray, dtype: str = dtype) -> Any:
        """Return the parameters, as views of the vector where that is possible: each may take much memory."""
        parts = [part.reshape(shape) for part, shape in zip(np.split(flat, ends), shapes, strict=True)]
        there = [to_place(part, place, dtype=dtype, copy=False) for part in parts]
        return joined(others, there[: len(coefs)], there[len(coefs) :])

    def packed(params: Any) -> np.ndarray:
        _, coefs, intercepts = parted(params)
        return np.hstack([to_numpy(leaf).ravel() for leaf in (*coefs, *intercepts)])

    latest = packed(params).astype(dtype, copy=False)  # SciPy calls the function with this dtype

    def value_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal latest
        latest = flat
        with place.lib.compute_scope():
            value, grads = f(unpacked(flat), *rows)
        return float(to_numpy(value)), packed(grads)

    options = {
        "maxfun": estimator.max_fun,
        "maxiter": estimator.max_iter,
        "gtol": estimator.tol,
        "maxcor": min(10, estimator.max_iter),  # of the last 10 steps; SciPy takes memory for all of them
        **_get_additional_lbfgs_options_dict("iprint", 1 if estimator.verbose else -1),
    }
    callback = None if after is None else lambda flat: after(unpacked(flat.copy()))
    try:
        result = scipy.optimize.minimize(
            value_and_slope, latest, method="L-BFGS-B", jac=True, callback=callback, options=options
        )
        latest = result.x
        estimator.n_iter_ = _check_optimize_result("lbfgs", result, estimator.max_iter)
        estimator.loss_ = result.fun
    finally:
        estimator._set(unpacked(latest, "float32" if place.lib.why_no_dtype("float64") else "float64"))
