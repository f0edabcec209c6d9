"""Checks of single arguments. Each returns the valid value or raises `InputError`."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable

from xpnn.errors import InputError

_LISTED = 60  # names that an error lists: more would hide its hint


def one_of(what: str, value: str, known: Iterable[str]) -> str:
    """Return `value` if it is one of `known`.

    Parameters
    ----------
    what
        Name of the argument, for the error message.
    value
        Value to check.
    known
        Valid values.

    Returns
    -------
    str
        `value`, unchanged.

    Raises
    ------
    InputError
        If `value` is not one of `known`. The message suggests the most similar one.

    Examples
    --------
    >>> one_of("device", "cpu", ["cpu", "cuda"])
    'cpu'
    >>> one_of("device", "cdua", ["cpu", "cuda"])
    Traceback (most recent call last):
    xpnn.errors.InputError: device: 'cdua' is not one of cpu, cuda; did you mean 'cuda'?
    """
    names = list(known)
    if value in names:
        return value
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
    raise InputError(f"{what}: {value!r} is not one of {listed}{hint}")


def as_float(what: str, value: object) -> float:
    """Return a real number as a Python float.

    A Python float does not change the dtype of an array in arithmetic, whereas a NumPy float64 does.

    Parameters
    ----------
    what
        Name of the argument, for the error message.
    value
        Value to check.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If `value` is not a real number. Booleans are not accepted.

    Examples
    --------
    >>> as_float("lr", 1)
    1.0
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{what}: {value!r} is not a number")
    return float(value)


def as_count(what: str, value: object) -> int:
    """Return a positive integer as a Python int.

    Parameters
    ----------
    what
        Name of the argument, for the error message.
    value
        Value to check.

    Returns
    -------
    int

    Raises
    ------
    InputError
        If `value` is not an integer of at least 1. Booleans are not accepted.

    Examples
    --------
    >>> as_count("epochs", 3)
    3
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise InputError(f"{what}: {value!r} is not a whole number of at least 1")
    return int(value)


def as_nonnegative_count(what: str, value: object) -> int:
    """Return a non-negative integer as a Python int.

    Parameters
    ----------
    what
        Name of the argument, for the error message.
    value
        Value to check.

    Returns
    -------
    int

    Raises
    ------
    InputError
        If `value` is not an integer of at least 0. Booleans are not accepted.

    Examples
    --------
    >>> as_nonnegative_count("patience", 0)
    0
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
        raise InputError(f"{what}: {value!r} is not a whole number of at least 0")
    return int(value)
