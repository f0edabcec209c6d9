"""What a user gives as data, as an array of numbers: tables, lists, array-likes, and arrays in an unusual form."""

from __future__ import annotations

import decimal
import numbers
from typing import Any

import numpy as np

from xpnn.arrays.frames import frame_values, is_frame
from xpnn.arrays.mapped import MappedRows
from xpnn.arrays.namespace import array_namespace, is_array
from xpnn.devices.driver import one_line
from xpnn.devices.libraries import library_of_array
from xpnn.errors import InputError

_KINDS = ("bool", "integral", "real floating")


def as_numbers(name: str, x: Any) -> Any:
    """Return `x` as an array of real numbers.

    Parameters
    ----------
    name : str
        The name of `x` in messages.
    x : array, table, list or array-like
        Lists, and frames and series of pandas, Polars, PyArrow and xarray, become NumPy arrays; so do NumPy's
        subclasses. Objects that are all numbers are converted. Other arrays stay in their library and on their device.

    Returns
    -------
    array
        With a dtype of booleans, integers or real floating point; 16-bit floats become float32.

    Raises
    ------
    InputError
        If it is something else, if values are missing or masked, or if the array has no values that can be read.

    Examples
    --------
    >>> import numpy as np
    >>> as_numbers("x", np.array([1, 2.5], dtype=object))
    array([1. , 2.5])
    """
    if isinstance(x, MappedRows):
        if x.dtype.kind not in "biuf":
            raise InputError(f"{name} has dtype {x.dtype}; expected real numbers")
        return x
    if isinstance(x, np.ndarray) or not is_array(x):
        return _host_numbers(name, x if isinstance(x, np.ndarray) else _converted(name, x))
    try:
        x = library_of_array(x).plain(name, x)
        xp = array_namespace(x)
        is_numeric = xp.isdtype(x.dtype, _KINDS)
        if _is_half(x.dtype):
            x = xp.astype(x, xp.float32)  # exact; not every library can convert bfloat16 to NumPy
        if is_numeric and x.ndim:
            library_of_array(x).to_numpy(x[:1, ...])
    except InputError:
        raise
    except Exception as error:  # of any type: each library has its own for arrays without values
        raise InputError(f"{name} cannot be read as an array of numbers: {one_line(error)}") from error
    if not is_numeric:
        raise InputError(f"{name} has dtype {x.dtype}; expected real numbers")
    return x


def _converted(name: str, x: Any) -> np.ndarray:
    """A table, a list or another array-like as a NumPy array."""
    dense = next((way for way in ("toarray", "todense") if callable(getattr(x, way, None))), None)
    if dense is not None:
        raise InputError(f"{name} is a sparse {type(x).__name__}; expected a dense array: call its .{dense}()")
    if is_frame(x) and (values := frame_values(name, x)) is not None:
        return values
    try:
        host = np.asarray(x)
    except Exception as error:  # of any type: whatever the conversion of a foreign class raises
        raise InputError(f"{name}: cannot be converted to an array: {one_line(error)}") from error
    if host.ndim == 0 and host.dtype.kind in "OSU":
        hint = ": call its .collect()" if callable(getattr(x, "collect", None)) else ""
        what = "None" if x is None else _article(type(x).__name__)
        raise InputError(f"{name} is {what}; expected an array or a table of numbers{hint}")
    return host


def _host_numbers(name: str, x: np.ndarray) -> np.ndarray:
    """A NumPy array as one of the base class, of numbers, in the byte order of the machine."""
    if isinstance(x, np.ma.MaskedArray):
        masked = int(np.ma.getmaskarray(x).sum())
        if masked:
            raise InputError(
                f"{name} has {masked} masked of {x.size} values; expected none: fill them in with .filled(…), or drop "
                "those rows"
            )
    x = np.asarray(x)
    if x.dtype.kind == "O":
        x = _from_objects(name, x)
    if x.dtype.kind not in "biuf":
        raise InputError(f"{name} has dtype {x.dtype}; expected real numbers{_hint(name, x.dtype)}")
    if _is_half(x.dtype):
        return x.astype(np.float32)
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def _is_half(dtype: Any) -> bool:
    return str(dtype).rpartition(".")[2] in ("float16", "bfloat16", ">f2")


def _from_objects(name: str, x: np.ndarray) -> np.ndarray:
    """Objects as booleans, integers or floats, if all of them are numbers."""
    for place, value in np.ndenumerate(x):
        if isinstance(value, (numbers.Real, np.bool_, decimal.Decimal)):
            continue
        if isinstance(value, str):
            raise InputError(f"{name} has dtype object; expected real numbers{_hint(name, np.dtype(str))}")
        where, shown = f"{name}[{', '.join(map(str, place))}]", str(value)[:40]
        if shown in ("None", "<NA>", "NaT"):
            raise InputError(f"{where} is {shown}, a missing value; fill it in, or drop such rows")
        raise InputError(
            f"{name} has dtype object, and {where} is {_article(type(value).__name__)}; expected real numbers"
        )
    try:
        plain = np.array(x.tolist()) if x.size else np.zeros(x.shape)
        return plain if plain.dtype.kind in "biuf" and plain.shape == x.shape else x.astype(np.float64)
    except (OverflowError, ValueError, TypeError) as error:
        raise InputError(f"{name} has dtype object, and cannot be converted to numbers: {one_line(error)}") from error


def _hint(name: str, dtype: np.dtype) -> str:
    """What to do with values of this dtype, which are not numbers."""
    x = name.rpartition(" ")[2]
    if dtype.kind in "SU" and name.endswith("y"):
        return f"; encode text first: classes, {x} = numpy.unique({x}, return_inverse=True)"
    if dtype.kind in "SU":
        return f"; convert it, for example by {x}.astype(float), and encode columns of text first"
    if dtype.kind in "mM":
        return f"; convert times to seconds since the first: ({x} - {x}.min()) / numpy.timedelta64(1, 's')"
    if dtype.kind == "c":
        return f"; take {x}.real, or both parts as columns"
    return "; make each of its fields a column" if len(dtype.names or ()) > 1 else ""


def _article(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"
