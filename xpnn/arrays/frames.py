"""Data frames and series of pandas, polars, PyArrow and others as NumPy arrays, by narwhals (the extra ``frames``)."""

from __future__ import annotations

import decimal
import importlib
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnn.errors import InputError

_LIBRARIES = {"pandas", "polars", "pyarrow", "modin", "cudf"}


def is_frame(x: Any) -> bool:
    """Return whether `x` is of one of the libraries whose frames `frame_values` reads. Imports none of them.

    Parameters
    ----------
    x : object
        Anything.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_frame([1.0, 2.0])
    False
    """
    return any(kind.__module__.partition(".")[0] in _LIBRARIES for kind in type(x).__mro__)


def same_columns(name: str, x: Any, known: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Check that a data frame has the columns of the first one, by their names and their order.

    Parameters
    ----------
    name : str
        The name of `x` in messages.
    x : object
        Anything. What is not a data frame with text as names passes.
    known : tuple of str or None
        The names of the first frame; None before it.

    Returns
    -------
    tuple of str or None
        The names of the first frame, which may be `x`.

    Raises
    ------
    InputError
        If columns are missing, unexpected or in another order.

    Examples
    --------
    >>> same_columns("x", [[1.0, 2.0]], ("age", "height"))
    ('age', 'height')
    """
    names = _names(x) if is_frame(x) else None
    if names is None or known is None or names == known:
        return known if names is None else names
    missing = [column for column in known if column not in names]
    unexpected = [column for column in names if column not in known]
    if missing or unexpected:
        parts = [f"{what} {_listed(some)}" for what, some in (("without", missing), ("with", unexpected)) if some]
        raise InputError(
            f"{name} has other columns than the first data frame: {', and '.join(parts)}; expected {_listed(known)}"
        )
    first = next(i for i, pair in enumerate(zip(names, known, strict=True)) if pair[0] != pair[1])
    raise InputError(
        f"{name} has its columns in another order than the first data frame: column {first} is {names[first]!r}; "
        f"expected {known[first]!r}: select the columns in the order {_listed(known)}"
    )


def _names(x: Any) -> tuple[str, ...] | None:
    """The names of the columns of a data frame, if all are text."""
    try:
        nw = importlib.import_module("narwhals")
        found = nw.from_native(x, eager_only=True, pass_through=True)
        names = tuple(found.columns) if isinstance(found, nw.DataFrame) else ()
    except Exception:  # of any type, as in `frame_values`
        return None
    return names if names and all(isinstance(column, str) for column in names) else None


def _listed(names: Sequence[str], most: int = 8) -> str:
    """Names for a message; of many, the first ones."""
    shown = ", ".join(f"{column!r:.40}" for column in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def frame_values(name: str, x: Any) -> np.ndarray | None:
    """Return the numbers of a data frame or a series.

    Parameters
    ----------
    name : str
        The name of `x` in messages.
    x : frame or series
        Of numbers and booleans, also nullable ones without missing values.

    Returns
    -------
    ndarray or None
        (rows, columns) or (rows,), in the dtype to which the columns promote. None if `x` is neither frame nor series,
        has two columns of one name, or narwhals is not installed.

    Raises
    ------
    InputError
        If a column holds something else, or a value is missing. The message names the column and the row.
    """
    try:
        nw = importlib.import_module("narwhals")
        found = nw.from_native(x, allow_series=True, pass_through=True)
        columns = found.columns if isinstance(found, nw.DataFrame) else None
    except Exception:  # of any type: not installed, two columns of one name, a library that narwhals does not know
        return None
    if isinstance(found, nw.Series):
        return _values(nw, name, found)
    if columns is None:
        return None
    values = [
        _values(nw, f"{name}, column {column!r}", series)
        for column, series in zip(columns, found.iter_columns(), strict=True)
    ]
    return np.stack(values, axis=1) if values else np.empty((len(found), 0))


def _values(nw: Any, name: str, series: Any) -> np.ndarray:
    """The numbers of one column."""
    try:
        return _numbers(nw, name, series)
    except InputError:
        raise
    except Exception as error:  # of any type: each library has its own for types that NumPy lacks
        reason = str(error).partition("\n")[0][:120] or type(error).__name__
        raise InputError(f"{name} of type {series.dtype} cannot be converted to numbers: {reason}") from error


def _numbers(nw: Any, name: str, series: Any) -> np.ndarray:
    kind = series.dtype
    if kind == nw.String:
        row = int(np.argmin(series.is_null().to_numpy()))
        where = f"{name}, row {row} of 0…{len(series) - 1}"
        raise InputError(f"{where}: holds text ({series[row]!r:.40}); expected real numbers: {_ENCODE}")
    if missing := series.null_count():
        row = int(np.argmax(series.is_null().to_numpy()))
        raise _missing(name, row, missing, len(series))
    host = np.asarray(series.to_numpy())
    if host.dtype.kind == "O":
        host = _of_objects(name, host)
    if host.dtype.kind not in "biuf":
        shown = str(host.dtype if kind == nw.Unknown else kind).partition("(")[0]
        raise InputError(f"{name} holds {shown} values; expected real numbers: convert it, or leave it out")
    if host.dtype.kind == "f" and (gaps := np.isnan(host)).any():
        raise _missing(name, int(np.argmax(gaps)), int(gaps.sum()), len(host))
    return host


_ENCODE = "encode it first, for example one-hot, or leave it out"


def _missing(name: str, row: int, count: int, rows: int) -> InputError:
    return InputError(
        f"{name}, row {row} of 0…{rows - 1}: the value is missing ({count:,} of {rows:,} are); fill it in, or drop "
        "such rows"
    )


def _of_objects(name: str, host: np.ndarray) -> np.ndarray:
    """Python objects, or the values of a category, as numbers."""
    for row, value in enumerate(host):
        if not isinstance(value, (numbers.Real, np.bool_, decimal.Decimal)):
            what = f"text ({value!r:.40})" if isinstance(value, str) else f"{value!r:.40}"
            where = f"{name}, row {row} of 0…{len(host) - 1}"
            raise InputError(f"{where}: holds {what}; expected real numbers: {_ENCODE}")
    plain = np.array(host.tolist())
    return plain if plain.dtype.kind in "biuf" else host.astype(np.float64)
