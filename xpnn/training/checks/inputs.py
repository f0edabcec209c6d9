"""The door: what a user hands in is looked at once, before anything is uploaded or trained.

The ranges of labels and indices above all: on a GPU nobody tells (CuPy wraps a wrong index, JAX clamps it).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from xpnn.arrays.namespace import Array, array_namespace, is_array
from xpnn.devices.place import current, place_of, to_numpy
from xpnn.errors import InputError
from xpnn.nn import Embedding, Flatten, Identity, Linear, Scale, Sequential, Standardize
from xpnn.nn.protocols import Layer
from xpnn.nn.registry import LAYERS


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

    Where an Embedding reads x, it must hold integers that the table has rows for.
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
    first = _reader(model)
    if isinstance(first, Embedding):
        _check_indices(name, x, first)
    return x


def check_target(name: str, y: Any, rows: int, outputs: int, *, labels: bool, ignore: int | None = None) -> Array:
    """`y` as the target of a classification loss (`labels`) or of an elementwise loss: (rows, outputs) predictions.

    labels: (rows,) integers 0 … outputs − 1 (integral floats are converted), which become int32 on the host, or
            (rows, outputs) probabilities; otherwise (rows, outputs) numbers, or (rows,) where outputs = 1.
    ignore: one more label that is allowed, or None.
    Raises InputError, naming the first value that does not fit.
    """
    y = check_rows(name, y, rows)
    if labels and outputs == 1:
        raise InputError(
            "the model has 1 output, but a loss of classes needs one a class, at least 2; give it 2, or take "
            "nn.BCEWithLogitsLoss() with targets of 0 and 1"
        )
    if labels and y.ndim == 2 and y.shape[1] == 1 and outputs != 1:
        warnings.warn(f"{name} has shape {tuple(y.shape)}; its one column is taken as the labels", stacklevel=4)
        y = y[:, 0]
    if not labels and y.ndim == 1 and outputs == 1:
        y = y[:, None]
    if labels and y.ndim == 1:
        return _check_labels(name, to_numpy(y), outputs, ignore)
    if tuple(y.shape) != (rows, outputs):
        wanted = f"({rows},) labels or ({rows}, {outputs}) probabilities" if labels else f"({rows}, {outputs})"
        raise InputError(f"{name} has shape {tuple(y.shape)}; expected {wanted}")
    if labels and (to_numpy(y) < 0).any():
        raise InputError(f"{name} holds negative numbers; expected one row of probabilities a sample")
    return y


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


def stays_whole(x: Array, model: Layer) -> bool:
    """Whether x holds whole numbers that go to the model as they are: its first layer converts them, or reads them.

    Before any other layer of xpnn's own they must become floats: some libraries refuse, and the sign of a byte wraps.
    """
    if array_namespace(x).isdtype(x.dtype, "real floating"):
        return False
    first = _reader(model)
    return isinstance(first, (Embedding, Linear, Scale, Standardize)) or type(first) not in LAYERS.values()


def _reader(model: Layer) -> Layer | None:
    """The first layer that does something with the numbers."""
    return next((layer for layer in _in_turn(model) if not isinstance(layer, (Flatten, Identity))), None)


def _in_turn(model: Layer) -> Iterator[Layer]:
    """The layers that Sequential would run, first to last."""
    if isinstance(model, Sequential):
        for layer in model.layers:
            yield from _in_turn(layer)
    else:
        yield model


def _check_indices(name: str, x: Array, table: Embedding) -> None:
    """On the host, for the same reason as labels."""
    what = f"Embedding({table.num_embeddings}, {table.embedding_dim})"
    if not array_namespace(x).isdtype(x.dtype, "integral"):
        raise InputError(
            f"{name} has dtype {x.dtype}, but the model begins with {what}, which reads integers: "
            f"convert it, as {name}.astype('int32')"
        )
    host = to_numpy(x)
    last = table.num_embeddings - 1
    wrong = (host < 0) | (host > last)
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise InputError(
            f"{name}[{', '.join(map(str, first))}] = {host[first]}, but {what} has the rows 0…{last} "
            f"({int(wrong.sum())} of {wrong.size} values have none)"
        )


def _check_labels(name: str, y: np.ndarray, classes: int, ignore: int | None) -> np.ndarray:
    """On the host: a GPU would wrap or clamp a wrong label, and narrow integers would wrap the bound."""
    wrong = (y < 0) | (y > classes - 1)
    if y.dtype.kind == "f":
        wrong |= y != np.floor(y)
    if ignore is not None:
        wrong &= y != ignore
        if (y == ignore).all():
            raise InputError(f"{name} holds nothing but {ignore}, the ignore_index of the loss; expected some labels")
    if wrong.any():
        i = int(np.argmax(wrong))
        hint = f"; to leave such rows out: ignore_index={y[i]:g}" if y[i] < 0 else ""
        raise InputError(
            f"{name}[{i}] = {y[i]}, but labels must be whole numbers in 0…{classes - 1} "
            f"({classes} classes, as many as the model has outputs){hint}"
        )
    return y.astype(np.int32)


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
