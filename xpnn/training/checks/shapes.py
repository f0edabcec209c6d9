"""Checks of shapes: one row runs through the model on the host, before anything is uploaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.arrays.random import Key
from xpnn.devices.place import to_numpy
from xpnn.errors import InputError
from xpnn.nn import traits
from xpnn.nn.protocols import Layer, Loss, Params
from xpnn.optim.protocol import Optimizer, learning_rate
from xpnn.training.checks.inputs import stays_integer
from xpnn.training.metrics.base import Metric
from xpnn.training.state import State


class ShapeCheck:
    """Run one row through model, loss and metrics on the host, once for each shape and dtype of rows.

    Results are cached, not only to save time: a product on the host wakes the threads of NumPy's BLAS, which keep a
    core busy for a tenth of a second (JAX took 1.3 times as long for its first 200 ms; AMD EPYC, 2026-11-21).
    """

    def __init__(self, model: Layer, loss: Loss, metrics: Sequence[Metric], host: State) -> None:
        self._model, self._loss, self._metrics, self._host = model, loss, metrics, host
        self._outputs: dict[tuple[Any, ...], np.ndarray] = {}
        self._trained: set[tuple[Any, ...]] = set()

    def outputs(self, name: str, x: Array) -> np.ndarray:
        """Return the model's outputs (1, outputs) for a row of zeros with the shape and dtype of the rows of x.

        Raises InputError if the rows do not suit the model; `name` is the name of x in the message.
        """
        kind = _kind_of_rows(x)
        if kind not in self._outputs:
            self._outputs[kind] = self._outputs_for_one(name, x)
        return self._outputs[kind]

    def evaluation(self, outputs: np.ndarray, y: Array) -> str:
        """Run loss and metrics on one row, and return how the loss combines its rows, "mean" or "sum".

        Raises InputError if the shapes do not suit, or if the loss is not a scalar.
        """
        loss, first = self._loss, to_numpy(y[:1, ...])
        with np.errstate(all="ignore"):
            value = loss.forward(self._host.constants, outputs, first)[0]
            for metric in self._metrics:
                metric.update(metric.init(), outputs, first, None)
        if np.shape(value) != ():
            raise InputError(f"the loss {type(loss).__name__} has shape {np.shape(value)}; expected a scalar, ()")
        return traits.reduction(loss) or measured_reduction(loss, self._host.constants, outputs, first)

    def training(self, x: Array, y: Array) -> None:
        """Raise InputError unless backward returns gradients of the types and shapes of the parameters."""
        kind = (*_kind_of_rows(x), *_kind_of_rows(y))
        if kind in self._trained:
            return
        model, loss, host = self._model, self._loss, self._host
        with np.errstate(all="ignore"):
            prediction, residuals = model.forward(host.params, _row(model, x), key=Key(host.key, host.step))
            dprediction = loss.backward(
                host.constants, loss.forward(host.constants, prediction, to_numpy(y[:1, ...]))[1]
            )
            _, grads = model.backward(host.params, residuals, dprediction, need_dx=False)
        came, expected = tree.outline(grads), tree.outline(host.params)
        if came != expected:
            raise InputError(
                f"backward returned gradients {came}; expected the types and shapes of the parameters, {expected}. "
                "xpnn.testing.check_layer checks a single layer"
            )
        self._trained.add(kind)

    def _outputs_for_one(self, name: str, x: Array) -> np.ndarray:
        shape, model = tuple(x.shape), self._model
        try:
            with np.errstate(all="ignore"):
                outputs: Any = model.forward(self._host.params, _row(model, x))[0]
        except InputError as error:
            raise InputError(f"{name} of shape {shape} does not fit the model. One row of it: {error}") from error
        if outputs.ndim != 2:
            came = (shape[0], *outputs.shape[1:])
            raise InputError(f"the model turns {name} of shape {shape} into shape {came}; expected (rows, outputs)")
        return outputs


def measured_reduction(loss: Loss, constants: Params, outputs: np.ndarray, target: np.ndarray) -> str:
    """Return "sum" if the loss doubles when a row is repeated, else "mean": for a loss that does not state it.

    `outputs` and `target` are those of one row.
    """
    prediction = outputs + np.linspace(0.1, 0.9, outputs.size, dtype=outputs.dtype).reshape(outputs.shape)
    values = []
    with np.errstate(all="ignore"):
        for rows in (1, 2):
            twice = [np.repeat(part, rows, axis=0) for part in (prediction, target)]
            values.append(float(loss.forward(constants, *twice)[0]))
    once, doubled = values
    return "sum" if once and math.isclose(doubled, 2 * once, rel_tol=1e-6) else "mean"


def computes_on_numpy(optimizer: Optimizer, params: Params) -> bool:
    """Whether the optimizer and its schedule compute on NumPy arrays; tried on a corner of each parameter.

    A custom optimizer may be written for one library only. Layers and losses have already run on the host.
    """
    corner = tree.map(lambda p: np.array(p[tuple(slice(2) for _ in np.shape(p))], np.float64), tree.trained(params))
    try:
        with np.errstate(all="ignore"):
            lr = np.asarray(1.0) * learning_rate(optimizer.lr, np.zeros(()), np.ones(()))
            after = optimizer.update(corner, corner, optimizer.init(corner), lr)
    except Exception:  # of any type: the functions of another library raise different errors
        return False
    return all(isinstance(leaf, (np.ndarray, np.generic)) for leaf in tree.leaves(after))


def saved_state(ours: State, saved: dict[str, Any], optimizer: Optimizer) -> State:
    """Return the state of a `state_dict`, on the host. Raises InputError unless it fits the trainer's own, `ours`."""
    missing = [name for name in _SAVED if not isinstance(saved, dict) or name not in saved]
    if missing:
        raise InputError(f"state_dict: there is no {missing[0]!r}; expected what `state_dict` of a trainer returns")
    given: State = saved["state"]
    expected = {name: getattr(ours, name) for name in ("params", "constants", "totals", "ema")}
    if given.optimizer != () and computes_on_numpy(optimizer, ours.params):  # (): saved before the first step
        expected["optimizer"] = optimizer.init(tree.trained(ours.params))
    for name, part in expected.items():
        want, came = tree.outline(part), tree.outline(getattr(given, name))
        if came != want:
            raise InputError(
                f"state_dict: {name} has the structure {came}; expected {want}. It belongs to a trainer with other "
                "arguments"
            )
    return given


_SAVED = ("state", "seed", "dtype", "epoch", "steps", "lr_scale", "history", "callbacks")


def _kind_of_rows(x: Array) -> tuple[Any, ...]:
    return tuple(x.shape[1:]), str(x.dtype)


def _row(model: Layer, x: Array) -> np.ndarray:
    return np.zeros((1, *x.shape[1:]), to_numpy(x[:1, ...]).dtype if stays_integer(x, model) else np.float64)
