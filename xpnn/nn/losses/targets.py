"""Checks of the targets of losses, once, on the host, before the data is copied to a device.

On a GPU, labels that are out of range are not reported: CuPy wraps such an index, and JAX clamps it.
"""

from __future__ import annotations

import warnings

import numpy as np

from xpnn.arrays.namespace import Array, array_namespace
from xpnn.devices.place import to_numpy
from xpnn.errors import InputError


def check_classes(name: str, y: Array, outputs: int, ignore_index: int | None) -> Array:
    """Check the target of a classification loss and convert it.

    Parameters
    ----------
    name : str
        The name of the target in error messages.
    y : array
        (rows,) integers 0 … outputs − 1 (floats with whole values are converted), or (rows, outputs) probabilities.
    outputs : int
        The number of outputs of the model, which is the number of classes.
    ignore_index : int or None
        A further label that is allowed.

    Returns
    -------
    array
        Labels as int32 on the host; probabilities as they are, booleans as float32.

    Raises
    ------
    InputError
        If the shape does not fit, or a value is out of range; the message contains the first such value.

    Warns
    -----
    UserWarning
        If `y` is a column, (rows, 1), which is taken as labels.

    Examples
    --------
    >>> import numpy as np
    >>> check_classes("y", np.array([0.0, 2.0]), 3, None)
    array([0, 2], dtype=int32)
    """
    if outputs == 1:
        raise InputError(
            "the model has 1 output, but a classification loss expects one per class, at least 2; give the model 2 "
            "outputs, or use nn.BCEWithLogitsLoss() with targets 0 and 1"
        )
    rows = y.shape[0]
    if y.ndim == 2 and y.shape[1] == 1:
        warnings.warn(f"{name} has shape {tuple(y.shape)}; its single column is taken as the labels", stacklevel=6)
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
        raise InputError(f"{name} holds negative values; expected probabilities, one row per sample")
    return y


def check_values(name: str, y: Array, outputs: int) -> Array:
    """Return `y` as a target of the shape of the predictions.

    Parameters
    ----------
    name : str
        The name of the target in error messages.
    y : array, (rows, outputs)
        For a single output, also (rows,).
    outputs : int
        The number of outputs of the model.

    Returns
    -------
    array, (rows, outputs)

    Raises
    ------
    InputError
        If `y` has another shape.
    """
    if y.ndim == 1 and outputs == 1:
        y = y[:, None]
    if tuple(y.shape) != (y.shape[0], outputs):
        raise InputError(f"{name} has shape {tuple(y.shape)}; expected ({y.shape[0]}, {outputs})")
    return y


def check_range(name: str, y: Array, low: float, high: float, hint: str) -> None:
    """Raise InputError if `y` holds values below `low` or above `high`.

    Parameters
    ----------
    name : str
        The name of the target in the message.
    y : array
    low, high : float
        The range, both included.
    hint : str
        The message is "NAME[i] = VALUE, but HINT", with the first wrong value.
    """
    host = to_numpy(y)
    wrong = (host < low) | (host > high)
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise InputError(f"{name}[{', '.join(map(str, first))}] = {host[first]}, but {hint}")


def _check_labels(name: str, y: np.ndarray, classes: int, ignore_index: int | None) -> np.ndarray:
    """Return the labels as int32. They are compared in their own dtype: int8 could not hold a bound of 300."""
    wrong = (y < 0) | (y > classes - 1)
    if y.dtype.kind == "f":
        wrong |= y != np.floor(y)
    if ignore_index is not None:
        wrong &= y != ignore_index
        if (y == ignore_index).all():
            raise InputError(
                f"{name} holds only {ignore_index}, the ignore_index of the loss; expected at least one other label"
            )
    if wrong.any():
        i = int(np.argmax(wrong))
        hint = f"; to ignore such rows, set ignore_index={y[i]:g}" if y[i] < 0 else ""
        raise InputError(
            f"{name}[{i}] = {y[i]}, but labels must be whole numbers in 0…{classes - 1} "
            f"({classes} classes, one per output of the model){hint}"
        )
    return y.astype(np.int32)
