"""Checks of single arguments. Each returns the valid value or raises `InputError`.

`Problems` collects the errors of several checks, so that a user learns of all of them at once.
"""

from __future__ import annotations

import difflib
import math
import numbers
import types
import typing
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from xpnn.errors import InputError

_LISTED = 60  # names that an error lists: more would hide its hint


class Problems:
    """Collect the errors of several checks, and raise one error with all of them.

    It is a context for one check: an `InputError` inside is kept, and the checks after it still run.

    Examples
    --------
    >>> problems = Problems()
    >>> with problems:
    ...     lr = as_float("lr", "fast")
    >>> with problems:
    ...     k = as_count("k", 0)
    >>> problems.raise_found()
    Traceback (most recent call last):
    xpnn.errors.InputError: 2 problems: (1) lr: 'fast' is not a number; (2) k: 0 is not a whole number of at least 1
    """

    def __init__(self) -> None:
        self._found: list[InputError] = []

    def __bool__(self) -> bool:
        """Return whether a problem was found."""
        return bool(self._found)

    def __enter__(self) -> Problems:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> bool:
        if not isinstance(error, InputError):
            return False
        if isinstance(error.__cause__, _Several):  # another collector raised it
            self._found += error.__cause__.errors
        else:
            self._found.append(error)
        return True

    def raise_found(self) -> None:
        """Raise what was found, if anything: the error itself, or one error with the messages of all.

        Raises
        ------
        InputError
            With several problems, its cause is a group of them. Problems with the same message count once.
        """
        found = list({str(error): error for error in self._found}.values())
        if len(found) == 1:
            raise found[0]
        if found:
            listed = "; ".join(f"({i}) {error}" for i, error in enumerate(found, 1))
            raise InputError(f"{len(found)} problems: {listed}") from _Several("all problems", found)


class _Several(ExceptionGroup[InputError]):
    """The problems of one error that `Problems` raised."""

    @property
    def errors(self) -> list[InputError]:
        return [error for error in self.exceptions if isinstance(error, InputError)]


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


def ensure_methods(what: str, part: object, methods: Iterable[str], example: str) -> None:
    """Raise InputError unless `part` has these methods, as an object of another library has not.

    Parameters
    ----------
    what
        What the part is, for the error message.
    part
        Object to check.
    methods
        Names.
    example
        Code that makes such an object.

    Raises
    ------
    InputError
        If a method is missing.

    Examples
    --------
    >>> ensure_methods("a layer", 1j, ("real", "init"), "nn.ReLU()")
    Traceback (most recent call last):
    xpnn.errors.InputError: 1j (builtins.complex) is not a layer: it has no method init; give, for example, nn.ReLU()
    """
    missing = [name for name in methods if not hasattr(part, name)]
    if missing:
        kind = f"{type(part).__module__.partition('.')[0]}.{type(part).__qualname__}"
        shown = repr(part) if len(repr(part)) <= 40 and "\n" not in repr(part) else "the object"
        raise InputError(f"{shown} ({kind}) is not {what}: it has no method {missing[0]}; give, for example, {example}")


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
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"{what}: the number is too large; the largest is 1.8e308") from None


def as_finite(what: str, value: object) -> float:
    """Return a finite real number as a Python float.

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
        If `value` is not a real number, or NaN or infinite.

    Examples
    --------
    >>> as_finite("threshold", 0.5)
    0.5
    """
    number = as_float(what, value)
    if not math.isfinite(number):
        raise InputError(f"{what}: {number!r} is not a finite number")
    return number


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
    return _indexable(what, int(value))


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
    return _indexable(what, int(value))


def _indexable(what: str, count: int) -> int:
    if count >= 2**63:
        raise InputError(f"{what}: the number is too large; the largest is 2**63 - 1")
    return count


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
