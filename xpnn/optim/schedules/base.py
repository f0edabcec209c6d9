"""What the schedules share: fractions of a length, interpolation, and the checks of their fields."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpnn.arrays.namespace import Array, Namespace
from xpnn.errors import InputError
from xpnn.validation import Problems, as_float


def fraction(xp: Namespace, part: Array, whole: Array) -> Array:
    """part / whole, at most 1."""
    quotient = part / whole
    return xp.minimum(quotient, xp.ones_like(quotient))


def interpolate(low: float, high: float, share: Array) -> Array:
    """Linear interpolation: exactly low at share 0, and exactly high at share 1."""
    return high * share + low * (1 - share)


def settle_fields(
    schedule: Any, *, rates: tuple[str, ...], lengths: tuple[str, ...] = (), factors: tuple[str, ...] = ()
) -> None:
    """Convert the named fields to Python floats, and raise InputError unless each is in its range."""
    problems = Problems()
    with problems:
        settle_range(schedule, rates, "0 <= {} < inf", lambda value: 0 <= value < math.inf)
    with problems:
        settle_range(schedule, lengths, "0 < {} < inf", lambda value: 0 < value < math.inf)
    with problems:
        settle_range(schedule, factors, "0 < {} <= 1", lambda value: 0 < value <= 1)
    problems.raise_found()


def settle_range(schedule: Any, fields: tuple[str, ...], wanted: str, holds: Callable[[float], bool]) -> None:
    """Convert the named fields to Python floats, and raise InputError with `wanted` unless each of them holds."""
    problems, name = Problems(), type(schedule).__name__
    for field in fields:
        with problems:
            value = as_float(f"{name}: {field}", getattr(schedule, field))
            object.__setattr__(schedule, field, value)
            if not holds(value):
                raise InputError(f"{name}: {field} = {value!r}; expected {wanted.format(field)}")
    problems.raise_found()
