"""Checks of single arguments; each returns the value or raises InputError."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable

from xpnn.errors import InputError


def one_of(what: str, value: str, known: Iterable[str]) -> str:
    """Return `value` if it is among `known`; otherwise raise `InputError` that offers the nearest match."""
    names = list(known)
    if value in names:
        return value
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(f"{what}: {value!r} is not one of {', '.join(names)}{hint}")


def as_float(what: str, value: object) -> float:
    """`value` as a Python float, which never widens the arrays it meets (a NumPy float64 does). Raises InputError."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{what}: {value!r} is not a number")
    return float(value)


def as_count(what: str, value: object) -> int:
    """`value` as a Python int of at least 1. Raises InputError."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise InputError(f"{what}: {value!r} is not a whole number of at least 1")
    return int(value)


def as_nonnegative_count(what: str, value: object) -> int:
    """`value` as a Python int of at least 0. Raises InputError."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
        raise InputError(f"{what}: {value!r} is not a whole number of at least 0")
    return int(value)
