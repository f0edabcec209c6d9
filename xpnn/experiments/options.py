"""What one setting is: default, help, choices and check in one place, in the metadata of a dataclass field."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from xpnn.errors import InputError
from xpnn.validation import has_type, one_of

_KEY = "option"  # of the field's metadata


@dataclass(frozen=True)
class Range:
    """A condition on a number, and its text in a message: "... is not {text}"."""

    holds: Callable[[Any], bool]
    text: str


POSITIVE = Range(lambda v: 0 < v < math.inf, "a number above 0")
NOT_NEGATIVE = Range(lambda v: 0 <= v < math.inf, "a number of at least 0")
FRACTION = Range(lambda v: 0 <= v < 1, "in 0 <= fraction < 1")
POSITIVE_FRACTION = Range(lambda v: 0 < v < 1, "in 0 < fraction < 1")
COUNT = Range(lambda v: v >= 1, "a whole number of at least 1")
COUNT_OR_0 = Range(lambda v: v >= 0, "a whole number of at least 0")
ROWS = Range(lambda v: v >= 0, "a whole number of at least 1, or 0 for all rows")
INSIDE_0_1 = Range(lambda v: 0 < v < 1, "in 0 < quantile < 1")
DECAY = Range(lambda v: 0 <= v < 1, "in 0 <= ema < 1")
SEED = Range(lambda v: 0 <= v < 2**64, "an integer from 0 to 2**64 - 1")


@dataclass(frozen=True)
class Option:
    """The properties of a setting, in addition to its name, type and default.

    Parameters
    ----------
    help : str
        One line for ``xpnn train --help`` and for the documentation of `Settings`.
    choices : tuple of str
        The values that are allowed; empty if any is.
    metavar : str or None
        What the help shows in place of a value; None for the choices, or for the type if there are none.
    range : Range or None
        A condition on the value, if it is a number.
    is_argument : bool
        Whether the command takes the value by position, not as ``--name VALUE``.
    """

    help: str
    choices: tuple[str, ...] = ()
    metavar: str | None = None
    range: Range | None = None
    is_argument: bool = False


def option(default: Any, help: str, *, choices: Iterable[str] = (), **more: Any) -> Any:
    """A dataclass field with this default, described by an `Option`."""
    choices = tuple(choices)
    described = Option(help, choices, more.pop("metavar", "|".join(choices) or None), **more)
    return dataclasses.field(default=default, metadata={_KEY: described})


def options_of(settings: Any) -> dict[str, Option]:
    """The `Option` of each field of a dataclass, by name, in order."""
    return {field.name: field.metadata[_KEY] for field in dataclasses.fields(settings)}


def check_options(settings: Any) -> None:
    """Raise InputError for the first value that has a wrong type, is not among its choices, or is out of its range."""
    hints = typing.get_type_hints(type(settings))
    for name, described in options_of(settings).items():
        value = getattr(settings, name)
        if not has_type(value, hints[name]):
            kind = str(getattr(hints[name], "__name__", hints[name]))
            raise InputError(f"`{name}`: {value!r:.80} is a {type(value).__name__}; expected {kind}")
        if value is None:
            continue
        if described.choices:
            one_of(f"`{name}`", value, described.choices)
        if described.range is not None and not described.range.holds(value):
            raise InputError(f"`{name}`: {value!r} is not {described.range.text}")


def parameters_section(settings: Any, types: dict[str, str]) -> str:
    """The numpydoc section "Parameters" of a dataclass whose fields are options."""
    lines = ["    Parameters", "    ----------"]
    for field in dataclasses.fields(settings):
        described: Option = field.metadata[_KEY]
        shown = described.metavar == "|".join(described.choices)  # a long list of choices has another metavar
        kind = "{" + ", ".join(map(repr, described.choices)) + "}" if shown else types[field.name]
        lines += [f"    {field.name} : {kind}, default {field.default!r}", f"        {described.help}"]
    return "\n".join(lines) + "\n"


def parse_names(text: str) -> tuple[str, ...]:
    """The names between the commas of a setting."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Height and width of the setting `image_size`. Raises InputError."""
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.strip().isdecimal() and width.strip().isdecimal() and int(height) and int(width)):
        raise InputError(f"`image_size`: {text!r} is not height and width, as 28x28")
    return int(height), int(width)


def parse_numbers(name: str, text: str, kind: type) -> list[Any]:
    """The numbers between the commas of the setting `name`. Raises InputError."""
    try:
        return [kind(part) for part in text.split(",")] if text.strip() else []
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise InputError(f"`{name}`: {text!r} is not a list of {what} with commas between them") from None
