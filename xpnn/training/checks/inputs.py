"""The door: what a user hands in is looked at once, before anything is uploaded or trained.

The ranges of labels and indices above all: on a GPU nobody tells (CuPy wraps a wrong index, JAX clamps it).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn.arrays.namespace import Array, array_namespace, is_array
from xpnn.devices.place import current, place_of, to_numpy
from xpnn.errors import InputError
from xpnn.nn.protocols import Layer
from xpnn.nn.traits import accepts_integers, check_input


def as_array(name: str, x: Any) -> Array:
    """`x` itself if it is an array; lists and tables become NumPy, floats of 16 bits float32.

    Raises InputError unless it holds real numbers.
    """
    if not is_array(x):
        try:
            x = np.asarray(x)
        except ValueError as error:
            raise InputError(f"{name}: cannot be made an array: {error}") from error
    xp = array_namespace(x)
    if str(x.dtype) == "object" or not xp.isdtype(x.dtype, ("bool", "integral", "real floating")):
        text = isinstance(x, np.ndarray) and x.dtype.kind in "OSU"
        hint = ""
        if text and name.endswith("y"):
            hint = f"; encode text first: classes, {name} = numpy.unique({name}, return_inverse=True)"
        elif text:
            hint = f"; convert it, as {name}.astype(float), and encode columns of text first"
        raise InputError(f"{name} has dtype {x.dtype}; expected real numbers{hint}")
    if str(x.dtype).rpartition(".")[2] in ("float16", "bfloat16"):
        return xp.astype(x, xp.float32)  # exactly; not every library can show bfloat16 to NumPy
    return x


def check_features(name: str, x: Any, model: Layer) -> Array:
    """`x` as an array (rows, features…) of finite real numbers, at least one row. Raises InputError.

    The model's first layer may require more of its values: an Embedding, integers that its table has rows for.
    """
    x = as_array(name, x)
    if x.ndim < 2:
        raise InputError(
            f"{name} has shape {tuple(x.shape)}; expected (rows, features). "
            f"One feature: {name}.reshape(-1, 1); one row: {name}.reshape(1, -1)"
        )
    if 0 in x.shape:
        raise InputError(f"{name} has shape {tuple(x.shape)}: it is empty; expected at least one row and one feature")
    _check_finite(name, x)
    check_input(model, name, x)
    return x


def check_rows(name: str, y: Any, rows: int) -> Array:
    """`y` as an array of finite numbers with one entry a row. Raises InputError."""
    y = as_array(name, y)
    if y.ndim == 0 or y.shape[0] != rows:
        raise InputError(f"{name} has shape {tuple(y.shape)} for {rows} rows of features; expected one a row")
    _check_finite(name, y)
    return y


def check_weight(name: str, weight: Any, rows: int) -> Array | None:
    """`weight` as (rows,) finite numbers of at least 0, not all 0; None stays None. Raises InputError."""
    if weight is None:
        return None
    weight = check_rows(name, weight, rows)
    if weight.ndim != 1:
        raise InputError(f"{name} has shape {tuple(weight.shape)}; expected ({rows},), one weight a row")
    host = to_numpy(weight)
    if (host < 0).any() or not (host > 0).any():
        raise InputError(f"{name}: expected weights of at least 0 that are not all 0")
    return weight


def stays_integer(x: Array, model: Layer) -> bool:
    """Whether x holds integers that go to the model as they are, because its first layer reads or converts them.

    Other layers need floating point: some libraries refuse integers, and the sign of a byte wraps.
    """
    return not array_namespace(x).isdtype(x.dtype, "real floating") and accepts_integers(model) is not False


def all_finite(x: Array) -> bool:
    """Whether no value of `x` is NaN or infinite: a wait for the device.

    Its largest and its smallest value tell, NaN being both: that takes no memory, and 2 ms where torch's isfinite takes
    94 (48 MB on an AMD EPYC, 2026-11-21).
    """
    xp = array_namespace(x)
    if not xp.isdtype(x.dtype, "real floating") or 0 in x.shape:
        return True
    with current(place_of(x)):
        return all(bool(to_numpy(xp.isfinite(extreme(x)))) for extreme in (xp.max, xp.min))


def _check_finite(name: str, x: Array) -> None:
    if all_finite(x):
        return
    bad = ~np.isfinite(to_numpy(x))
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    place = ", ".join(map(str, first))
    raise InputError(
        f"{name}[{place}] is {to_numpy(x)[first]} ({int(bad.sum())} of {bad.size} values are not finite); "
        "drop those rows or fill them in"
    )
