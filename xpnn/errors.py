"""What xpnn raises, each error also the built-in one that a user would expect; and the checks that raise it first."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable


class XpnnError(Exception):
    """The root of every error that xpnn raises on purpose."""


class InputError(XpnnError, ValueError):
    """An argument, an array or an option that cannot be used; the message says what came and what was wanted."""


class DataFormatError(InputError):
    """A file whose content is not what its name, its header or its checksum promises."""


class DownloadError(XpnnError, OSError):
    """A file could not be had from any mirror; the message holds each address with its reason, and the way out."""


class DeviceUnavailableError(XpnnError, RuntimeError):
    """A device or an array library that was asked for by name cannot be used; the message holds reason and cure."""


class DeviceMemoryError(XpnnError, MemoryError):
    """A device has too little memory; the message says how much was wanted, what is free, and what would fit."""


class NonFiniteError(XpnnError, ArithmeticError):
    """A loss or a weight became NaN or infinite; the message names the step and the learning rate."""


class CheckFailedError(XpnnError, AssertionError):
    """A layer, a loss or an optimizer does not compute what it should; the message says what, and where."""


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
