"""Checks of the parameters and of the data by scikit-learn's own functions, for arrays of any library.

NumPy arrays, sparse matrices, data frames and lists go through `validate_data`. An array of another library stays on
its device: only its values are checked there, and if anything is wrong with it, a copy on the host goes through
`validate_data`, which raises in scikit-learn's words.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.utils._array_api import check_same_namespace
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted, check_X_y, validate_data

from xpnn.arrays.matmul import PRECISIONS
from xpnn.arrays.namespace import Array, array_namespace, is_array
from xpnn.devices.libraries import default_library, library_of_array
from xpnn.devices.place import Place, place_of, to_numpy, to_place
from xpnn.nn.layers.containers import NORMS
from xpnn.sklearn.network import NAMES
from xpnn.training.checks.inputs import all_finite

SUM_IS_ZERO = "Weights sum to zero, can't be normalized"  # as in numpy.average
_SPARSE = ["csr", "csc"]
_FLOATS = (np.float64, np.float32)


def constraints() -> dict[str, list[Any]]:
    """Return the constraints of the parameters, in scikit-learn's form, from which it makes its messages."""
    at_least_one, share = Interval(Integral, 1, None, closed="left"), Interval(Real, 0, 1, closed="left")
    positive, not_negative = Interval(Real, 0, None, closed="neither"), Interval(Real, 0, None, closed="left")
    return {
        "hidden_layer_sizes": ["array-like", at_least_one],
        "activation": [StrOptions(set(NAMES)), list, tuple, HasMethods(["forward", "backward"])],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [not_negative],
        "batch_size": [StrOptions({"auto"}), at_least_one],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [positive],
        "power_t": [not_negative],
        "max_iter": [at_least_one],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [not_negative],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [share],
        "beta_1": [share],
        "beta_2": [share],
        "epsilon": [positive],
        "n_iter_no_change": [at_least_one, Options(Real, {np.inf})],
        "max_fun": [at_least_one],
        "dropout": [share, "array-like"],
        "norm": [StrOptions(set(NORMS)), None],
        "optimizer": [HasMethods(["init", "update"]), None],
        "precision": [StrOptions(set(PRECISIONS))],
        "device": [str, Place, None],
    }


def is_foreign(x: Any) -> bool:
    """Return whether `x` is an array of another library than NumPy."""
    return is_array(x) and library_of_array(x) is not default_library()


def on_host(x: Any) -> Any:
    """Return an array of another library than NumPy on the host; anything else as it is."""
    return to_numpy(_plain("y", x)) if is_foreign(x) else x


def _plain(name: str, x: Any) -> Array:
    """Return an array of another library in a form that NumPy can read: of the floats that it lacks, as float32."""
    x = library_of_array(x).plain(name, x)
    lacking = "float" in dtype_name(x) and dtype_name(x) not in ("float16", "float32", "float64")
    xp = array_namespace(x)
    return xp.astype(x, xp.float32) if lacking else x


def features_and_targets(estimator: Any, x: Any, y: Any, *, reset: bool, **options: Any) -> tuple[Any, Any]:
    """Check the data of `fit`.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    x, y
        The arguments of `fit`.
    reset : bool
        Whether the number and the names of the features are those of these data from now on.
    **options
        Further options of `validate_data` for `y`.

    Returns
    -------
    x : array or sparse matrix, float32 or float64
        Where it was.
    y : ndarray or sparse matrix
        On the host.
    """
    y = on_host(y)
    if scipy.sparse.issparse(x) and estimator.device not in (None, "auto", "cpu"):
        raise ValueError(f"device is {estimator.device!r}, but sparse matrices are trained on the CPU; use a dense X.")
    if not is_foreign(x):
        return validate_data(
            estimator, x, y, accept_sparse=_SPARSE, multi_output=True, dtype=_FLOATS, reset=reset, **options
        )
    x = _foreign(estimator, x, reset, _FLOATS)
    rows = np.broadcast_to(np.zeros((1, 1)), (x.shape[0], 1))
    _, y = check_X_y(rows, y, multi_output=True, estimator=estimator, **options)
    return x, y


def targets(estimator: Any, name: str, y: Any) -> np.ndarray:
    """Check targets of rows for validation as those for training; return them on the host, one column as flat."""
    y = check_array(on_host(y), accept_sparse="csr", ensure_2d=False, dtype=None, input_name=name, estimator=estimator)
    y = y.toarray() if scipy.sparse.issparse(y) else y
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the name of an argument before the messages of a check, which has another name for it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def features(estimator: Any, x: Any, method: str) -> Any:
    """Check the data of a method after `fit`. Raises NotFittedError before it."""
    check_is_fitted(estimator)
    if _is_plain(estimator, x):
        return x
    check_same_namespace(x, estimator, attribute="_first_coef", method=method)
    if is_foreign(x):
        return _foreign(estimator, x, False, "numeric")
    return validate_data(estimator, x, accept_sparse=_SPARSE, reset=False)


def _is_plain(estimator: Any, x: Any) -> bool:
    """Return whether `x` passes the checks of `validate_data`, which take longer than the predictions for few rows."""
    return (
        type(x) is np.ndarray
        and type(estimator.coefs_[0]) is np.ndarray
        and x.dtype.type in _FLOATS
        and x.ndim == 2
        and x.shape[0] > 0
        and x.shape[1] == estimator.n_features_in_
        and not hasattr(estimator, "feature_names_in_")
        and all_finite(x)
    )


def weights(sample_weight: Any, x: Any) -> np.ndarray | None:
    """Return the weights of the rows on the host, in the dtype of x, or None."""
    if sample_weight is None:
        return None
    rows = np.broadcast_to(np.zeros((1, 1), dtype_name(x)), (x.shape[0], 1))
    weight = _check_sample_weight(on_host(sample_weight), rows)
    if not weight.any():
        raise ZeroDivisionError(SUM_IS_ZERO)
    return weight


def dtype_name(x: Any) -> str:
    """Return the name of the dtype of an array of any library."""
    return str(x.dtype).rpartition(".")[2]


def _foreign(estimator: Any, x: Any, reset: bool, dtype: Any) -> Array:
    x = _plain("X", x)
    right = x.ndim == 2 and 0 not in x.shape and dtype_name(x) in ("float32", "float64")
    if right and all_finite(x):
        validate_data(estimator, x, reset=reset, skip_check_array=True)
        return x
    host = validate_data(estimator, to_numpy(x), dtype=dtype, reset=reset)
    there = place_of(x)
    if host.dtype.kind != "f":
        host = host.astype(np.float64)
    wanted = None if not there.lib.why_no_dtype(host.dtype.name) else "float32"
    return to_place(host, there, dtype=wanted)


def rows_of(x: Any, rows: np.ndarray) -> Any:
    """Return these rows of an array or a sparse matrix."""
    if not is_foreign(x):
        return x[rows]
    there = place_of(x)
    return array_namespace(x).take(x, to_place(rows.astype(np.int32), there), axis=0)
