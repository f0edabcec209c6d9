"""The grid of a sweep: the values of each setting, and the settings of each combination of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from xpnn.errors import InputError
from xpnn.experiments import factory
from xpnn.experiments.options import options_of
from xpnn.experiments.settings import Settings
from xpnn.validation import Problems, one_of

Grid: TypeAlias = Mapping[str, Sequence[Any]]

LARGEST = 10_000  # combinations
#: Settings that decide what is learned, from which rows, or how it is measured: with other values, the figures of the
#: runs could not be compared, and a row that is for the test in one run would be trained on in another.
_SAME_IN_ALL = (
    "dataset", "data_dir", "task", "target", "id", "date", "decimal", "encoding", "skip_broken", "recipe",
    "split_seed", "test_fraction", "validation_fraction", "monitor",
)  # fmt: skip
_CHANGE_THE_LOSS = ("loss", "quantile", "reduction", "label_smoothing", "class_weight")
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse_grid(texts: Iterable[str]) -> dict[str, list[Any]]:
    """Return the grid of texts such as "lr=1e-3,1e-2" and "hidden=128,256:128", where ":" stands for a comma.

    "none" is no value, of a setting that may have none. Raises InputError with all problems.
    """
    hints, problems = typing.get_type_hints(Settings), Problems()
    grid: dict[str, list[Any]] = {}
    for text in texts:
        given, separator, values = text.partition("=")
        name = given.strip().replace("-", "_")
        with problems:
            if not separator:
                raise InputError(f"`set` {text!r} has no values; expected NAME=VALUE,VALUE,…, as lr=1e-3,1e-2")
            check_name(name)
            if name in grid:
                raise InputError(f"`set` {name} is given twice; give all of its values at once, as {name}=A,B")
            grid[name] = []  # whatever is wrong with its values
            for value in values.split(","):
                with problems:
                    grid[name].append(_parse(name, value.strip().replace(":", ","), hints[name]))
    problems.raise_found()
    return grid


def _parse(name: str, text: str, hint: Any) -> Any:
    """Return the value of the setting `name` that a text stands for. Raises InputError."""
    kinds = typing.get_args(hint) or (hint,)
    if text == "none" and type(None) in kinds:
        return None
    if bool in kinds:
        if text.lower() not in _TRUTH:
            raise InputError(f"`{name}`: {text!r} is neither true nor false")
        return _TRUTH[text.lower()]
    for kind, what in ((int, "a whole number"), (float, "a number")):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                raise InputError(f"`{name}`: {text!r} is not {what}") from None
    return text


def check_name(name: str) -> None:
    """Raise InputError if a sweep cannot vary the setting `name`."""
    if name in ("seed", "seeds"):
        raise InputError("`set` seed: use `seeds` N, which trains each combination with N seeds")
    one_of("`set`", name, options_of(Settings))
    if name in _SAME_IN_ALL:
        raise InputError(f"`set` {name}: all runs must have the same, so that they can be compared; set `{name}` once")


def combinations(settings: Settings, grid: Grid) -> list[tuple[dict[str, Any], Settings]]:
    """Return the values and the settings of each combination, in order; the last name varies fastest.

    Raises InputError with all problems of all of them.
    """
    problems = Problems()
    for name, values in grid.items():
        with problems:
            check_name(name)
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise InputError(f"`set` {name}: {values!r:.80} is not a list of values")
            if len(set(map(repr, values))) < len(values):
                raise InputError(f"`set` {name}: a value is listed twice")
            if name == "missing" and "drop" in values and len(values) > 1:
                raise InputError("`set` missing: with drop there are fewer rows, and the runs could not be compared")
            if name in _CHANGE_THE_LOSS and len(values) > 1 and settings.monitor == "val_loss":
                raise InputError(
                    f"`set` {name} changes the loss, so that val_loss cannot be compared; set `monitor` to another "
                    "value, as val_accuracy or val_r2_score"
                )
    problems.raise_found()
    number = math.prod(len(values) for values in grid.values())
    if number > LARGEST:
        raise InputError(f"`set`: there are {number:,} combinations; at most {LARGEST:,} can be trained")
    made = []
    for values in itertools.product(*grid.values()):
        changes = dict(zip(grid, values, strict=True))
        with problems:
            changed = replace(settings, **changes)
            factory.check(changed)
            made.append((changes, changed))
    problems.raise_found()
    return made


def folder_name(values: Mapping[str, Any]) -> str:
    """Return a name for the folder of a combination, which depends on nothing else.

    Examples
    --------
    >>> folder_name({"lr": 0.001, "hidden": "256,128"})
    'lr-0.001_hidden-256-128'
    """
    if not values:
        return "default"
    texts = {name: "none" if value in (None, "") else str(value) for name, value in values.items()}
    name = "_".join(f"{name}-{text.replace(',', '-')}" for name, text in texts.items())
    safe = re.sub(r"[^A-Za-z0-9.+_-]", "-", name)[:80]
    if safe == name and not any(value == "" for value in values.values()):
        return name
    return f"{safe}-{hashlib.sha256(json.dumps(dict(values)).encode()).hexdigest()[:8]}"


def described(values: Mapping[str, Any]) -> str:
    """Return the values as text: "lr 0.001, hidden 256,128"."""
    return "  ".join(f"{name} {shown(value)}" for name, value in values.items()) or "as given"


def shown(value: Any) -> str:
    """Return a value as text."""
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value in (None, "") else str(value)
