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
    _check_probabilities(name, to_numpy(y))
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


def check_binary(name: str, y: Array, outputs: int) -> Array:
    """Return `y` as a target (rows, outputs) of probabilities of class 1.

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
        If `y` has another shape, or holds values outside 0…1; the message says how to map its values.
    """
    host = to_numpy(y)
    if ((host < 0) | (host > 1)).any():
        hint = f"map two classes to 0 and 1, for example by {name} == {host.max():g}"
        if set(np.unique(host).tolist()) == {-1, 1}:
            hint = f"map -1 and 1 to 0 and 1: ({name} + 1) / 2"
        elif len(np.unique(host)) > 2 and host.min() >= 0 and host.max() <= 255:
            hint = f"scale them: {name} / {255 if host.max() > 100 else host.max():g}"
        elif len(np.unique(host)) > 2:
            hint = "for other values use a loss for regression, such as nn.MSELoss()"
        check_range(name, y, 0, 1, f"binary targets must be probabilities in 0…1; {hint}")
    return check_values(name, y, outputs)


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


_OFF_BY = 0.01  # allowed: probabilities may be given in half precision, or with two decimals


def _check_probabilities(name: str, y: np.ndarray) -> None:
    """Raise InputError unless all rows are probabilities, which add up to 1."""
    if (y < 0).any():
        row = int(np.argwhere(y < 0)[0, 0])
        raise InputError(
            f"{name}[{row}] holds negative values, {_row_of(y, row)}; expected probabilities that add up to 1 "
            f"in each row; for logits take their softmax, for -1 and 1 use ({name} + 1) / 2"
        )
    sums = y.sum(axis=1, dtype=np.float64)
    wrong = np.abs(sums - 1) > _OFF_BY
    if not wrong.any():
        return
    row = int(np.argmax(wrong))
    if bool((sums == 0).any()):
        hint = "leave out rows without a class, or give them sample_weight 0"
    elif np.isin(y, (0, 1)).all():
        hint = "for several classes in a row use nn.BCEWithLogitsLoss()"
    else:
        hint = f"divide them by their sums: {name} / {name}.sum(1, keepdims=True)"
    raise InputError(
        f"{name}[{row}] adds up to {sums[row]:.4g}, {_row_of(y, row)}; expected probabilities that add up to 1 in each "
        f"row; {hint}"
    )


def _row_of(y: np.ndarray, row: int) -> str:
    """The first values of a row, as text."""
    return "[" + ", ".join(f"{value:g}" for value in y[row, :6].tolist()) + (", …]" if y.shape[1] > 6 else "]")


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
        if y[i] == np.floor(y[i]) and len(np.unique(y)) <= classes and set(np.unique(y)) != {-1, 0}:
            hint += f"; to number the classes from 0: classes, {name} = numpy.unique({name}, return_inverse=True)"
        raise InputError(
            f"{name}[{i}] = {y[i]}, but labels must be whole numbers in 0…{classes - 1} "
            f"({classes} classes, one per output of the model){hint}"
        )
    return y.astype(np.int32)
