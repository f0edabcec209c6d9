"""One row through the host's own copy of the model: mistakes in shapes are found before anything is uploaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.device import to_numpy
from xpnn.arrays.namespace import Array
from xpnn.arrays.random import Key
from xpnn.errors import InputError
from xpnn.nn.protocols import Layer, Loss
from xpnn.training.inputs import stays_whole
from xpnn.training.metrics import Metric
from xpnn.training.step import State


def outputs_for_one(model: Layer, host: State, x: Array) -> np.ndarray:
    """The model's outputs for a row of zeros shaped as those of x, (1, outputs). Raises InputError."""
    shape = tuple(x.shape)
    try:
        with np.errstate(all="ignore"):
            outputs = model.forward(host.params, _row(model, x))[0]
    except InputError as error:
        raise InputError(f"x of shape {shape} does not fit the model. One row of it: {error}") from error
    if outputs.ndim != 2:
        came = (shape[0], *outputs.shape[1:])
        raise InputError(f"the model turns x of shape {shape} into shape {came}; expected (rows, outputs)")
    return outputs


def rehearse_evaluation(loss: Loss, metrics: Sequence[Metric], host: State, outputs: np.ndarray, y: Array) -> None:
    """Let the loss and the metrics say what they have to say of the shapes. Raises InputError."""
    first = to_numpy(y[:1, ...])
    with np.errstate(all="ignore"):
        value = loss.forward(host.constants, outputs, first)[0]
        for metric in metrics:
            metric.update(metric.init(), outputs, first, None)
    if np.shape(value) != ():
        raise InputError(f"the loss {type(loss).__name__} gave shape {np.shape(value)}; expected one number, 0-d")


def rehearse_training(model: Layer, loss: Loss, host: State, x: Array, y: Array) -> None:
    """Raise InputError unless backward gives gradients of the parameters' types and shapes."""
    with np.errstate(all="ignore"):
        prediction, residuals = model.forward(host.params, _row(model, x), key=Key(host.key, host.step))
        slope = loss.backward(host.constants, loss.forward(host.constants, prediction, to_numpy(y[:1, ...]))[1])
        _, grads = model.backward(host.params, residuals, slope, need_dx=False)
    came, wanted = tree.outline(grads), tree.outline(host.params)
    if came != wanted:
        raise InputError(
            f"backward gave gradients {came}; expected the types and shapes of the parameters, {wanted}. "
            "xpnn.testing.check_layer tells more of a layer"
        )


def _row(model: Layer, x: Array) -> np.ndarray:
    return np.zeros((1, *x.shape[1:]), to_numpy(x[:1, ...]).dtype if stays_whole(x, model) else np.float64)
