"""What the losses require of their targets, checked once, on the host, before anything is uploaded.

The range of labels above all: on a GPU nothing reports a wrong one (CuPy wraps the index, JAX clamps it).
"""

from __future__ import annotations

import warnings

import numpy as np

from xpnn.arrays.namespace import Array, array_namespace
from xpnn.devices.place import to_numpy
from xpnn.errors import InputError


def check_classes(name: str, y: Array, outputs: int, ignore_index: int | None) -> Array:
    """`y` as the target of a classification loss.

    Parameters
    ----------
    name : str
        What the messages call the target.
    y : array
        (rows,) integers 0 … outputs − 1 (floats with whole values are converted), or (rows, outputs) probabilities.
    outputs : int
        How many outputs the model has.
    ignore_index : int or None
        One more label that is allowed.

    Returns
    -------
    array
        Labels as int32 on the host; probabilities as they are, booleans as float32.

    Raises
    ------
    InputError
        If a shape or a value does not fit; the message names the first such value.
    """
    if outputs == 1:
        raise InputError(
            "the model has 1 output, but a classification loss needs one per class, at least 2; give it 2, or use "
            "nn.BCEWithLogitsLoss() with targets of 0 and 1"
        )
    rows = y.shape[0]
    if y.ndim == 2 and y.shape[1] == 1:
        warnings.warn(f"{name} has shape {tuple(y.shape)}; its one column is taken as the labels", stacklevel=6)
        y = y[:, 0]
    if y.ndim == 1:
        return _check_labels(name, to_numpy(y), outputs, ignore_index)
    if tuple(y.shape) != (rows, outputs):
        raise InputError(
            f"{name} has shape {tuple(y.shape)}; expected ({rows},) labels or ({rows}, {outputs}) probabilities"
        )
    xp = array_namespace(y)
    if xp.isdtype(y.dtype, "bool"):  # one-hot rows: the standard has no argmax of booleans
        return xp.astype(y, xp.float32)
    if (to_numpy(y) < 0).any():
        raise InputError(f"{name} holds negative values; expected one row of probabilities per sample")
    return y


def check_values(name: str, y: Array, outputs: int) -> Array:
    """`y` as a target of the shape of the predictions, (rows, outputs), or (rows,) for one output.

    Raises InputError for another shape.
    """
    if y.ndim == 1 and outputs == 1:
        y = y[:, None]
    if tuple(y.shape) != (y.shape[0], outputs):
        raise InputError(f"{name} has shape {tuple(y.shape)}; expected ({y.shape[0]}, {outputs})")
    return y


def check_range(name: str, y: Array, low: float, high: float, hint: str) -> None:
    """Raise InputError if a value of `y` is below `low` or above `high`, naming the first one."""
    host = to_numpy(y)
    wrong = (host < low) | (host > high)
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise InputError(f"{name}[{', '.join(map(str, first))}] = {host[first]}, but {hint}")


def _check_labels(name: str, y: np.ndarray, classes: int, ignore_index: int | None) -> np.ndarray:
    """The labels as int32; compared in their own dtype, since narrow integers would wrap the bound."""
    wrong = (y < 0) | (y > classes - 1)
    if y.dtype.kind == "f":
        wrong |= y != np.floor(y)
    if ignore_index is not None:
        wrong &= y != ignore_index
        if (y == ignore_index).all():
            raise InputError(
                f"{name} holds nothing but {ignore_index}, the ignore_index of the loss; expected some labels"
            )
    if wrong.any():
        i = int(np.argmax(wrong))
        hint = f"; to leave such rows out: ignore_index={y[i]:g}" if y[i] < 0 else ""
        raise InputError(
            f"{name}[{i}] = {y[i]}, but labels must be whole numbers in 0…{classes - 1} "
            f"({classes} classes, as many as the model has outputs){hint}"
        )
    return y.astype(np.int32)
