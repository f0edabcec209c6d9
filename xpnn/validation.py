"""Checks of single arguments. Each returns the valid value or raises `InputError`."""

from __future__ import annotations

import difflib
import numbers
import types
import typing
from collections.abc import Iterable
from typing import Any

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
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
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


def has_type(value: Any, hint: Any) -> bool:
    """Return whether a value is of an annotated type.

    Parameters
    ----------
    value : object
    hint : type
        A number, text, bool, None, Literal, tuple or union of them. Any other annotation, such as a protocol, is
        satisfied by whatever is not one of these.

    Examples
    --------
    >>> has_type((1, 2.0), tuple[float, ...]), has_type("1", int | None), has_type(True, int)
    (True, False, False)
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(has_type(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1:] == (...,):
            return all(has_type(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(has_type, value, arguments))
    if hint in (int, float):
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return False
        if isinstance(value, numbers.Integral):
            return abs(int(value)) < 2**1000  # a larger one is no float, and no size
        return hint is float
    if hint in (bool, str, type(None)):
        return isinstance(value, hint)
    return hint is Any or not isinstance(value, (str, numbers.Number, type(None)))
