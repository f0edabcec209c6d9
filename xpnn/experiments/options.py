"""What one setting is: default, help, choices and check in one place, in the metadata of a dataclass field."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from xpnn import nn
from xpnn.errors import InputError
from xpnn.validation import Problems, has_type, one_of

_KEY = "option"  # of the field's metadata


@dataclass(frozen=True)
class Range:
    """A condition on a number, and its text in a message: "... is not {text}"."""

    holds: Callable[[Any], bool]
    text: str


POSITIVE = Range(lambda v: 0 < v < math.inf, "a number above 0")
LEARNING_RATE = Range(lambda v: 0 < v <= 1e6, "a number above 0, and at most 1e6")
SCALE = Range(lambda v: 1e-30 <= v <= 1e30, "a number from 1e-30 to 1e30")  # in float32, the results are no zeros
NOT_NEGATIVE = Range(lambda v: 0 <= v < math.inf, "a number of at least 0")
FRACTION = Range(lambda v: 0 <= v < 1, "in 0 <= fraction < 1")
POSITIVE_FRACTION = Range(lambda v: 0 < v < 1, "in 0 < fraction < 1")
COUNT = Range(lambda v: _is_whole(v) and v >= 1, "a whole number of at least 1")
EPOCHS = Range(lambda v: _is_whole(v) and 1 <= v <= 10**9, "a whole number of at least 1, and at most 1,000,000,000")
COUNT_OR_0 = Range(lambda v: _is_whole(v) and v >= 0, "a whole number of at least 0")
ROWS = Range(lambda v: _is_whole(v) and v >= 0, "a whole number of at least 1, or 0 for all rows")
WIDTH = Range(lambda v: 1 <= v <= 1_000_000, "a whole number from 1 to 1,000,000")
INSIDE_0_1 = Range(lambda v: 0 < v < 1, "in 0 < quantile < 1")
DECAY = Range(lambda v: 0 <= v < 1, "in 0 <= ema < 1")
BELOW_1 = Range(lambda v: 0 <= v < 1, "a number of at least 0 and below 1")
SHARE = Range(lambda v: 0 <= v <= 1, "a number from 0 to 1")
SEED = Range(lambda v: _is_whole(v) and 0 <= v < 2**64, "an integer from 0 to 2**64 - 1")

REGRESSION_LOSSES = ("mse", "l1", "huber", "quantile", "poisson")
ONLY_REGRESSION = REGRESSION_LOSSES[1:]  # mse also trains classes, as one-hot rows
#: Settings that only some optimizers have.
_OPTIMIZERS_WITH = {"momentum": ("sgd", "rmsprop", "muon"), "betas": ("adam", "adamw", "nadam", "lion")}


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral)


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
        A condition on the value, if it is a number, or on each number of a list.
    numbers : type or None
        int or float, if the value is a text with such numbers and commas between them.
    is_argument : bool
        Whether the command takes the value by position, not as ``--name VALUE``.
    """

    help: str
    choices: tuple[str, ...] = ()
    metavar: str | None = None
    range: Range | None = None
    numbers: type | None = None
    is_argument: bool = False


def option(default: Any, help: str, *, choices: Iterable[str] = (), **more: Any) -> Any:
    """A dataclass field with this default, described by an `Option`."""
    choices = tuple(choices)
    described = Option(help, choices, more.pop("metavar", "|".join(choices) or None), **more)
    return dataclasses.field(default=default, metadata={_KEY: described})


def options_of(settings: Any) -> dict[str, Option]:
    """The `Option` of each field of a dataclass, by name, in order."""
    return {field.name: field.metadata[_KEY] for field in dataclasses.fields(settings)}


def check_settings(settings: Any) -> None:
    """Raise InputError with all values that are not allowed, and all that contradict each other."""
    problems = Problems()
    hints = typing.get_type_hints(type(settings))
    for name, described in options_of(settings).items():
        value = getattr(settings, name)
        with problems:
            if not has_type(value, hints[name]):
                kind = str(getattr(hints[name], "__name__", hints[name]))
                raise InputError(f"`{name}`: {value!r:.80} is a {type(value).__name__}; expected {kind}")
            if value is None:
                continue
            if described.choices:
                one_of(f"`{name}`", value, described.choices)
            for number in [value] if described.numbers is None else parse_numbers(name, value, described.numbers):
                if described.range is not None and not _holds(described.range, number):
                    raise InputError(f"`{name}`: {number!r} is not {described.range.text}")
    for check in (_check_loss, _check_optimizer, _check_schedule, _check_network, _check_data):
        # With a value that is wrong by itself, such as a text for a number, a check can fail in other ways.
        with problems, contextlib.suppress(TypeError, AttributeError) if problems else contextlib.nullcontext():
            check(settings, problems)
    problems.raise_found()


def _holds(range: Range, value: Any) -> bool:
    try:
        return bool(range.holds(value))
    except TypeError:  # not a number at all
        return False


def _check_loss(settings: Any, problems: Problems) -> None:
    loss, task = settings.loss, settings.task
    if loss in (None, "cross-entropy") and settings.output_activation != "none":
        with problems:
            raise InputError(
                f"`output_activation` {settings.output_activation}: cross-entropy includes its own softmax; "
                "leave it out, or use `loss` mse"
            )
    for name in ("label_smoothing", "class_weight"):
        with problems:
            if loss not in (None, "cross-entropy") and getattr(settings, name):
                raise InputError(f"`{name}` belongs to `loss` cross-entropy")
    with problems:
        if settings.quantile is not None and loss != "quantile":
            raise InputError("`quantile` belongs to `loss` quantile")
    if task == "classification" and loss in ONLY_REGRESSION:
        raise InputError(f"`loss` {loss} belongs to `task` regression")
    if task == "regression" and loss == "cross-entropy":
        raise InputError(f"`loss` cross-entropy belongs to `task` classification; use {', '.join(REGRESSION_LOSSES)}")


def _check_optimizer(settings: Any, problems: Problems) -> None:
    for name, optimizers in _OPTIMIZERS_WITH.items():
        with problems:
            if getattr(settings, name) is not None and settings.optimizer not in optimizers:
                raise InputError(
                    f"`{name}` belongs to `optimizer` {', '.join(optimizers)}; {settings.optimizer} has none"
                )
    if settings.betas is not None and len(parse_numbers("betas", settings.betas, float)) != 2:
        raise InputError(f"`betas`: {settings.betas!r} is not two numbers, as 0.9,0.999")


def _check_schedule(settings: Any, problems: Problems) -> None:
    with problems:
        if settings.decay is not None and settings.schedule in ("constant", "cosine", "one-cycle"):
            raise InputError(f"`decay`: the schedule {settings.schedule} has none")
    if settings.epochs is not None and _holds(EPOCHS, settings.epochs):
        check_warmup(settings.warmup, settings.epochs)
    if settings.patience is not None and not settings.validation_fraction:
        raise InputError("`patience` watches the validation loss; leave `validation_fraction` above 0")


def check_warmup(warmup: float, epochs: int) -> None:
    """Raise InputError if the rising of the learning rate takes all epochs."""
    if warmup >= epochs:
        raise InputError(f"`warmup` {warmup:g}: there are {epochs} epochs; use more epochs, or a shorter warmup")


def _check_network(settings: Any, _: Problems) -> None:
    hidden = parse_numbers("hidden", settings.hidden, int)
    dropout = parse_numbers("dropout", settings.dropout or "0", float)
    if len(dropout) not in (1, len(hidden)):
        raise InputError(
            f"`dropout`: {len(dropout)} probabilities for {len(hidden)} hidden layers; give one for all, or one each"
        )


def _check_data(settings: Any, problems: Problems) -> None:
    with problems:
        parse_size(settings.image_size)
    if settings.augment:
        distortion(settings.augment)


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
    if not isinstance(text, str):
        raise InputError(f"`{name}`: {text!r} is not a text with commas between the numbers, as '0.1,0.2' or '1,2'")
    try:
        return [kind(part) for part in text.split(",")] if text.strip() else []
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise InputError(f"`{name}`: {text!r} is not a list of {what} with commas between them") from None


def distortion(text: str) -> nn.RandomDistortion:
    """The layer of "degrees=10,alpha=8,…". Raises InputError."""
    values = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        name = one_of("`augment`", name.strip(), [field.name for field in dataclasses.fields(nn.RandomDistortion)])
        numbers = parse_numbers("augment", value, float)
        if len(numbers) != 1:
            raise InputError(f"`augment`: {name} needs a number, as {name}=10")
        values[name] = numbers[0]
    if "scale" in values:  # a share to either side
        values["scale"] = (1 - values["scale"], 1 + values["scale"])
    return nn.RandomDistortion(**values)
