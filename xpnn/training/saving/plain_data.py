"""Python values as JSON, with their arrays apart, and back.

JSON has no tuples, arrays and numbers that are not finite: they become objects with one key that begins with "$".
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnn.arrays.namespace import is_array
from xpnn.arrays.tree import Carried
from xpnn.devices.place import to_numpy
from xpnn.errors import DataFormatError, InputError


def to_plain(value: Any, name: str, tensors: dict[str, Any]) -> Any:
    """Return a value as plain data for JSON.

    Parameters
    ----------
    value : object
        None, a bool, a number, a text, an array, or a tuple, NamedTuple, list or dict of them.
    name : str
        Where it stands, for the names of its arrays and for messages.
    tensors : dict
        Receives its arrays, on the host.

    Raises
    ------
    InputError
        For any other value.

    Examples
    --------
    >>> tensors = {}
    >>> to_plain({"best": float("inf"), "sizes": (1, 2), "x": np.zeros(2)}, "callback", tensors)
    {'best': {'$float': 'inf'}, 'sizes': {'$tuple': [1, 2]}, 'x': {'$array': 'callback.x'}}
    >>> list(tensors)
    ['callback.x']
    """
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        value = value.item()
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, tuple):
        return _tuple(value, name, tensors)
    if isinstance(value, list):
        return [to_plain(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return _dict(value, name, tensors)
    if is_array(value):
        tensors[name] = to_numpy(value)
        return {"$array": name}
    raise InputError(
        f"{name} is a {type(value).__name__}, which cannot be saved; expected None, bools, numbers, texts, arrays, and "
        "tuples, lists and dicts of them"
    )


def _tuple(value: tuple[Any, ...], name: str, tensors: dict[str, Any]) -> dict[str, Any]:
    fields = getattr(value, "_fields", None)
    names = fields or range(len(value))
    items = [to_plain(item, f"{name}.{part}", tensors) for part, item in zip(names, value, strict=True)]
    if isinstance(value, Carried):
        return {"$carried": items[0]}
    return {"$tuple": items} if fields is None else {"$named": [list(fields), items]}


def _dict(value: Mapping[Any, Any], name: str, tensors: dict[str, Any]) -> Any:
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: to_plain(item, f"{name}.{key}", tensors) for key, item in value.items()}
    pairs = enumerate(value.items())
    return {"$dict": [[to_plain(part, f"{name}.{i}", tensors) for part in pair] for i, pair in pairs]}


def from_plain(value: Any, tensors: Mapping[str, np.ndarray]) -> Any:
    """Undo `to_plain`; a NamedTuple becomes one with the same fields. Raises DataFormatError for other data.

    Examples
    --------
    >>> from_plain({"$named": [["a", "b"], [1, {"$float": "-inf"}]]}, {})
    Values(a=1, b=-inf)
    """
    try:
        return _decoded(value, tensors)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataFormatError(f"the data of the training are not what xpnn writes: {error!s:.200}") from error


def _decoded(value: Any, tensors: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_decoded(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or not next(iter(value)).startswith("$"):
        return {key: _decoded(item, tensors) for key, item in value.items()}
    ((kind, content),) = value.items()
    match kind:
        case "$float":
            return float(content)
        case "$array":
            return tensors[content]
        case "$tuple":
            return tuple(_decoded(content, tensors))
        case "$carried":
            return Carried(_decoded(content, tensors))
        case "$named":
            names, items = content
            return namedtuple("Values", names)(*_decoded(items, tensors))
        case "$dict":
            return {_decoded(key, tensors): _decoded(item, tensors) for key, item in content}
    raise ValueError(f"unknown kind {kind!r:.40}")
